#!/usr/bin/env python3
"""Starts a daemon several times and prints the time from exec to SERVING, and where it went: the least and the median
in milliseconds.

    scripts/start_time.py --model models/kjv [--runs 5] [--program build/bin/causewayd] [-- FLAG ...]

Phases follow one another; the daemon's own log tells them (--log-format json). SERVING is when it says so on standard
output, which is right after health and /readyz have turned; the latter is asked.
"""

import argparse
import datetime
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
import urllib.request

PHASES = {
    "link": "exec to the first line of the log: libraries, their initialisers, configuration",
    "place": "the model's folder, the plan",
    "listen": "ports open, health says NOT_SERVING",
    "weights": "memory asked for, weights read and packed",
    "memory": "pages of the KV cache and of activations",
    "warm_up": "the worst step",
    "rest": "threads, tokenizer where weights did not hide it, announcing",
    "total": "exec to SERVING",
}


def seconds_of(event):
    return datetime.datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()


def start(program, model, flags):
    with tempfile.TemporaryDirectory() as folder:
        log = os.path.join(folder, "log")
        ports = os.path.join(folder, "ports.json")
        command = [program, "serve", "--model", model, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0",
                   "--log-format", "json", "--ports-file", ports, *flags]
        with open(log, "w") as err:
            begun = time.time()
            daemon = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True)
            for line in daemon.stdout:
                if line.startswith("Serving "):
                    break
            total = time.time() - begun
        try:
            if daemon.poll() is not None:
                raise SystemExit(f"the daemon ended with {daemon.returncode}: {open(log).read()}")
            http = json.load(open(ports))["http"]
            ready = urllib.request.urlopen(f"http://{http}/readyz").status
            if ready != 200:
                raise SystemExit(f"/readyz says {ready} once serving")
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.stdout.read()
            daemon.wait()
        events = {event["event"]: event for event in map(json.loads, open(log))}
    loaded = events["loaded"]
    times = {
        "link": seconds_of(events["starting"]) - begun,
        "place": seconds_of(events["processors"]) - seconds_of(events["starting"]),
        "listen": seconds_of(events["listening, not serving yet"]) - seconds_of(events["processors"]),
        "weights": loaded["weights_seconds"],
        "memory": loaded["memory_seconds"],
        "warm_up": loaded["warm_up_seconds"],
    }
    times["rest"] = total - sum(times.values())
    times["total"] = total
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--program", default="build/bin/causewayd")
    parser.add_argument("flags", nargs="*", help="of causewayd serve, behind --")
    arguments = parser.parse_args()
    runs = [start(arguments.program, arguments.model, arguments.flags) for _ in range(arguments.runs)]
    print(f"{'ms':8} {'least':>8} {'median':>8}")
    for phase, what in PHASES.items():
        times = [1000 * run[phase] for run in runs]
        print(f"{phase:8} {min(times):8.1f} {statistics.median(times):8.1f}  {what}")


if __name__ == "__main__":
    main()
