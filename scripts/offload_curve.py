#!/usr/bin/env python3
"""Serves a model with ever less of it on its device, and shows what that costs.

For each fraction the daemon runs on one simulated device whose whole budget (weights, KV cache, activations) is that
fraction of the weights' bytes; the rest comes from disk, from CPU memory in place, or from CPU memory copied to the
device. Each run generates the same tokens greedily, which must be those of the run that holds all. Resident memory is
the kernel's.

    python3 scripts/offload_curve.py --model DIR [--bin build/bin] [--folder DIR] [--csv FILE] [--plot FILE.svg]

--plot needs matplotlib (pip install matplotlib).
"""
import argparse
import csv
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time

PROMPTS = [[5 + 7 * i + j for j in range(24 + 8 * i)] for i in range(4)]


def weight_bytes(program, model):
    plan = subprocess.run([program, "plan", "--model", model, "--devices", "simulated:1x1024GB", "--kv-cache", "0",
                           "--format", "json"],
                          capture_output=True, text=True, check=True)
    return json.loads(plan.stdout)["devices"][0]["weights"]


def status_kib(pid, field):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise KeyError(field)


class Daemon:
    def __init__(self, args, model, budget, more, folder):
        self.ports_file = pathlib.Path(folder) / "ports.json"
        self.ports_file.unlink(missing_ok=True)
        self.log = open(pathlib.Path(folder) / "daemon.log", "w")
        self.process = subprocess.Popen(
            [args.bin / "causewayd", "serve", "--model", model, "--devices", f"simulated:1x{budget}B",
             "--max-model-len", "256", "--max-num-seqs", "4", "--max-num-batched-tokens", "128",
             "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ports-file", self.ports_file, *more],
            stdout=subprocess.DEVNULL, stderr=self.log)
        while not self.ports_file.exists():
            if self.process.poll() is not None:
                self.log.close()
                sys.exit(f"the daemon did not start: {pathlib.Path(self.log.name).read_text()[-2000:]}")
            time.sleep(0.2)
        self.address = json.loads(self.ports_file.read_text())["grpc"]

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()


def generate(args, address, prompt, tokens):
    done = subprocess.run([args.bin / "causeway", "--server", address, "generate",
                           "--tokens", ",".join(map(str, prompt)), "--format", "json", "--max-tokens", str(tokens),
                           "--ignore-eos", "--temperature", "0", "-q"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"generate failed: {done.stderr}")
    return json.loads(done.stdout)["choices"][0]["token_ids"]


def together(args, address, tokens):
    answers = [None] * len(PROMPTS)

    def one(i):
        answers[i] = generate(args, address, PROMPTS[i], tokens)

    start = time.monotonic()
    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(PROMPTS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers, len(PROMPTS) * tokens / (time.monotonic() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--bin", type=pathlib.Path, default=pathlib.Path("build/bin"))
    parser.add_argument("--folder", help="where packed weights go; default: a temporary folder")
    parser.add_argument("--fractions", default="1.15,0.8,0.6,0.45,0.3")
    parser.add_argument("--tiers", default="disk,cpu,cpu-stream")
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--csv", type=pathlib.Path)
    parser.add_argument("--plot", type=pathlib.Path)
    args = parser.parse_args()
    total = weight_bytes(args.bin / "causewayd", args.model)
    rows, expected, beside = [], None, None
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or temporary
        print(f"{'tier':<11}{'budget':>9}{'resident':>10}{'of CPU':>9}{'RSS':>9}{'beside':>9}"
              f"{'tokens/s':>10}{'of whole':>9}  tokens")
        for fraction in [float(f) for f in args.fractions.split(",")]:
            for tier in ["none"] if fraction >= 1 else args.tiers.split(","):
                budget = int(total * fraction)
                more = {"none": [], "disk": ["--offload-folder", folder],
                        "cpu": ["--max-memory", f"0:{budget}B,cpu:{total}B"],
                        "cpu-stream": ["--max-memory", f"0:{budget}B,cpu:{total}B",
                                       "--offload-compute", "stream"]}[tier]
                daemon = Daemon(args, args.model, budget, more, temporary)
                together(args, daemon.address, 2)
                tokens, rate = together(args, daemon.address, args.tokens)
                rss = status_kib(daemon.process.pid, "VmHWM") * 1024
                client = [args.bin / "causeway", "--server", daemon.address]
                status = json.loads(subprocess.run([*client, "status", "--format", "json"],
                                                   capture_output=True, text=True, check=True).stdout)
                memory = status["devices"][0]["memory"]
                held = sum(int(memory.get(owner, 0))
                           for owner in ("weights", "kvCache", "activationsPeak", "workspace"))
                plan = json.loads(subprocess.run([*client, "plan", "--format", "json"],
                                                 capture_output=True, text=True, check=True).stdout)
                daemon.stop()
                on_cpu = plan["offloaded"]["cpu"]
                expected = expected or tokens
                same = tokens == expected
                rows.append({"tier": tier, "fraction": fraction, "budget": budget, "held": held, "cpu": on_cpu,
                             "rss": rss, "beside": rss - held - on_cpu, "tokens_per_second": round(rate, 3),
                             "same_tokens": same})
                base = rows[0]["tokens_per_second"]
                mb = 1e6
                print(f"{tier:<11}{budget / mb:>6.0f} MB{held / mb:>7.0f} MB{on_cpu / mb:>6.0f} MB{rss / mb:>6.0f} MB"
                      f"{(rss - held - on_cpu) / mb:>6.0f} MB"
                      f"{rate:>10.2f}{rate / base:>9.2f}  {'equal' if same else 'DIFFERENT'}", flush=True)
    if args.csv:
        with open(args.csv, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
    if args.plot:
        plot(rows, args.plot)
    if not all(row["same_tokens"] for row in rows):
        sys.exit("some tokens differ from those of the whole model")


def plot(rows, path):
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(7, 4))
    whole = rows[0]
    for tier, label in (("cpu", "in CPU memory, computed there"), ("cpu-stream", "in CPU memory, copied"),
                        ("disk", "on disk")):
        points = sorted([whole] + [row for row in rows if row["tier"] == tier], key=lambda row: row["fraction"])
        if len(points) > 1:
            axes.plot([100 * row["fraction"] for row in points], [row["tokens_per_second"] for row in points],
                      marker="o", label=f"the rest {label}")
    axes.set_xlabel("budget of the device, % of the weights' bytes")
    axes.set_ylabel("tokens/s, 4 sequences")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main()
