"""The steps, in the order in which a fault should be found: what everything rests on first, speed last."""
import dataclasses
import json
import os
import re
import typing

import speed
from runner import Failed, Skipped

# A stand-in computes with the reference operations alone, on the bundled model.
STAND_IN_FLAGS = ["--reference-ops", "--dtype", "fp32", "--max-num-batched-tokens", "64"]
PROMPT = ",".join(str(token) for token in range(5, 37))
OWNERS = ("weights", "kv_cache", "activations")


@dataclasses.dataclass
class Step:
    name: str
    seconds: int
    about: str
    run: typing.Callable
    needs_gpu: bool = True  # a stand-in cannot tell


def doctor(c):
    out = c.output([c.program("causewayd"), "doctor", "--format", "json", "--listen", "127.0.0.1:0", "--http",
                    "127.0.0.1:0"])
    findings = {finding["what"]: finding for finding in json.loads(out)["findings"]}
    if "cuda:0" not in findings:
        raise Failed(findings.get("GPUs", findings.get("CUDA", {"found": "doctor names no GPU"}))["found"])
    c.device = speed.of_catalogue(c.root, findings["cuda:0"]["found"].split(", ")[0])
    figures = []
    for what in ("CUDA", "cuda:0", "GPU links", "locked memory"):
        if what in findings:
            figures.append((f"{what}: {findings[what]['found']}", speed.text(c.device) if what == "cuda:0" else ""))
    return figures


def tests(name, filter_text="*", stand_in_filter=""):
    """A program of tests passes."""
    def run(c):
        wanted = stand_in_filter if c.stand_in else filter_text
        out = c.output([c.program(name), f"--gtest_filter={wanted}", "--gtest_brief=1"])
        passed = re.search(r"\[  PASSED  \] (\d+) test", out)
        if passed is None or passed.group(1) == "0":
            raise Failed(f"{name} ran no test of {wanted}")
        return [(f"{passed.group(1)} tests", "")]
    return run


def sanitizer(tool):
    def run(c):
        out = c.output([c.tool("compute-sanitizer"), "--tool", tool, "--error-exitcode", "1",
                        c.program("cuda_ops_test")], CAUSEWAY_ROUNDS="4")
        return [(re.findall(r"ERROR SUMMARY.*|RACECHECK SUMMARY.*", out)[-1], "0 errors")]
    return run


def flags_of(c, kind):
    """The model on device 0: the bundled one, or a random one where kernels compute."""
    if c.stand_in:
        return ["--model", os.path.join(c.root, "models", "kjv"), "--devices", "cuda", *STAND_IN_FLAGS]
    return ["--model", c.model(kind), "--devices", "cuda:0"]


def generate(c, daemon):
    out = c.output([c.program("causeway"), "--server", daemon["grpc"], "generate", "--tokens", PROMPT, "--max-tokens",
                    "16", "--temperature", "0", "--ignore-eos", "--format", "json"])
    return json.loads(out)


def tokens_of(answer):
    """A text, or ids where the model has no tokenizer."""
    choice = answer["choices"][0]
    if not choice["text"] and not choice["token_ids"]:
        raise Failed("no token was generated")
    return choice["text"] or choice["token_ids"]


def start(c):
    """With everything left open, the KV cache fills the device's budget."""
    with c.daemon(*flags_of(c, "llama-7b")) as daemon:
        tokens_of(generate(c, daemon))
        samples = c.metrics(daemon)
    first = {name: value for (name, labels), value in samples.items() if 'device="cuda:0"' in labels}
    figures = [(f"loaded in {value:.1f} s", "") for (name, _), value in samples.items()
               if name == "causeway_model_load_seconds"]
    for (name, labels), value in samples.items():
        if name == "causeway_plan_memory_error_bytes":
            owner = re.search('owner="([^"]*)"', labels).group(1)
            if owner in OWNERS and value < -1 << 20:
                raise Failed(f"{owner} takes {-value / 2**20:.0f} MiB more than planned")
    used, capacity = first.get("causeway_device_memory_used_bytes"), first["causeway_device_memory_capacity_bytes"]
    if used is not None:
        figures.append((f"{used / 2**30:.1f} GiB in use", f"{capacity / 2**30:.1f} GiB"))
    if "causeway_device_info" not in first:
        raise Failed("NVML does not tell of the GPU")
    for name, unit, limit in (("utilization_ratio", "", ""), ("power_watts", " W", "power_limit_watts"),
                              ("temperature_celsius", " °C", "")):
        value, most = first.get(f"causeway_device_{name}"), first.get(f"causeway_device_{limit}")
        figures.append((f"NVML: {name} {'not supported' if value is None else f'{value:g}{unit}'}",
                        "" if most is None else f"{most:g}{unit}"))
    return figures


def offload(c):
    """The same tokens, wherever the weights are."""
    flags = flags_of(c, "llama-7b") + ["--max-model-len", "256", "--max-num-seqs", "2", "--kv-cache", "1024"]
    gpu, cpu = ("750MiB", "1GiB") if c.stand_in else ("9GiB", "16GiB")
    cases = {"resident": [], "CPU memory": ["--max-memory", f"0:{gpu},cpu:{cpu}", "--offload-compute", "stream"],
             "disk": ["--max-memory", f"0:{gpu}", "--offload-folder", os.path.join(c.work, "offload")]}
    os.makedirs(os.path.join(c.work, "offload"), exist_ok=True)
    answers, figures = {}, []
    for case, more in cases.items():
        with c.daemon(*flags, *more) as daemon:
            answers[case] = tokens_of(generate(c, daemon))
            offloaded = sum(value for (name, _), value in c.metrics(daemon).items() if name == "causeway_offload_bytes")
        if case != "resident" and offloaded == 0:
            raise Failed(f"nothing was offloaded to {case}")
        if answers[case] != answers["resident"]:
            raise Failed(f"weights in {case} give other tokens: {answers[case]}, resident {answers['resident']}")
        figures.append((f"{case}: {offloaded / 2**20:.0f} MiB away, tokens equal", ""))
    return figures[1:]


def bench(kind, *shapes):
    """Each of `shapes` is (batches, prompts), and has room for its largest on 80 GB."""
    def run(c):
        model, rows = flags_of(c, kind), []
        for batches, prompts in [("1,4", "16")] if c.stand_in else shapes:
            out = c.output([c.program("causewayd"), "bench", *model, "--batch", batches, "--prompt", prompts,
                            "--generate", "4" if c.stand_in else "32", "--format", "json"])
            rows += [json.loads(line) for line in out.splitlines()]
        with open(os.path.join(model[1], "config.json"), encoding="utf-8") as file:
            return speed.bench_figures(rows, json.load(file), c.device)
    return run


def attention(c):
    command = [c.tool("ncu"), "--kernel-name", "regex:Attend", "--launch-skip", "64", "--launch-count", "3",
               "--metrics", "gpu__time_duration.sum,dram__throughput.avg.pct_of_peak_sustained_elapsed",
               c.program("causewayd"), "bench", *flags_of(c, "llama-7b"), "--batch", "16", "--prompt", "1024",
               "--generate", "4"]
    found = re.findall(r"(gpu__time_duration\S*|dram__throughput\S*)\s+(\S+)\s+([\d.,]+)", c.output(command))
    if not found:
        raise Failed("ncu saw no launch of Attend")
    return [(f"{name}: {value} {unit}", "100 %" if unit == "%" else "") for name, unit, value in found]


def peer(c):
    out = c.python("peer.py", c.model("llama-7b"))
    if "not installed" in out:
        raise Skipped(out.strip())
    return [(f"transformers: {line}", "") for line in out.splitlines()]


STEPS = [
    Step("doctor", 60, "what is here, and what the driver says of it", doctor, needs_gpu=False),
    Step("operations", 120, "kernels against the reference", tests("cuda_ops_test")),
    Step("memcheck", 240, "no access out of bounds (compute-sanitizer)", sanitizer("memcheck")),
    Step("racecheck", 240, "no race in shared memory (compute-sanitizer)", sanitizer("racecheck")),
    Step("parity", 300, "transformers' tokens, in fp32", needs_gpu=False, run=tests(
        "parity_test", "-*Split*:*Offloaded*:*AnotherDevice*", "*ParityTest.ReferenceOperations*base")),
    Step("quantized", 120, "the same of quantized checkpoints", needs_gpu=False, run=tests(
        "quantized_parity_test", "-*Split*:*Offloaded*", "*ReferenceOperations*awq")),
    Step("kv_cache", 120, "an int8 KV cache beside an exact one", tests("kv_cache_test")),
    Step("start", 180, "serving with everything left open", start, needs_gpu=False),
    Step("offload", 300, "equal tokens with weights in CPU memory and on disk", offload, needs_gpu=False),
    Step("bench", 240, "speed of a 7B", needs_gpu=False,
         run=bench("llama-7b", ("1,16,64", "128,1024"), ("1,16", "2048"))),
    Step("bench_moe", 180, "speed of a mixture of experts", bench("moe", ("1,16,64", "128,1024"))),
    Step("attention", 120, "how near attention comes to the memory's speed (ncu)", attention),
    Step("peer", 180, "speed of transformers on the same model", peer),
]
