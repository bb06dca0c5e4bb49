#!/usr/bin/env python3
"""Speed beside other programs: `causewayd bench` on a machine that is quiet, beside a process that takes one processor
(kept to the last one, or free to move), and beside another bench. Medians over rounds, in which all take turns, and
what is left of the quiet speed.

  scripts/shared_speed.py --model DIR [--bench PROGRAM]... [--rounds N] [--batch 1,4,16] [-- FLAGS OF BENCH]
"""
import argparse
import collections
import json
import os
import statistics
import subprocess
import sys

BUSY = ["sh", "-c", "while :; do :; done"]


def start(program, options, flags):
    command = [program, "bench", "--model", options.model, "--batch", options.batch, "--prompt", options.prompt,
               "--generate", options.generate, "--format", "json", *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    """{(what, batch): tokens a second}"""
    out, err = process.communicate()
    if process.returncode != 0:
        sys.exit(f"shared_speed: {err.strip()}")
    speeds = {}
    for line in out.splitlines():
        row = json.loads(line)
        for what in ("prefill", "decode"):
            speeds[what, row["batch"]] = row[f"{what}_tokens_per_second"]
    return speeds


def measure(case, program, options, flags):
    last = str(max(os.sched_getaffinity(0)))
    neighbour = {"pinned": ["taskset", "-c", last, *BUSY], "free": BUSY}.get(case)
    busy = subprocess.Popen(neighbour) if neighbour else None
    try:
        if case != "twin":
            return finish(start(program, options, flags))
        both = [start(program, options, flags) for _ in range(2)]
        first, second = (finish(one) for one in both)
        return {key: first[key] + second[key] for key in first}
    finally:
        if busy is not None:
            busy.kill()
            busy.wait()


def main():
    arguments, flags = sys.argv[1:], []
    if "--" in arguments:
        cut = arguments.index("--")
        arguments, flags = arguments[:cut], arguments[cut + 1:]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--bench", action="append",
                        help="causewayd; several are compared (default build/bin/causewayd)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", default="1,4,16")
    parser.add_argument("--prompt", default="128")
    parser.add_argument("--generate", default="32")
    parser.add_argument("--cases", default="quiet,pinned,free,twin")
    options = parser.parse_args(arguments)
    programs = options.bench or ["build/bin/causewayd"]
    speeds = collections.defaultdict(list)
    cases = options.cases.split(",")
    for round_number in range(options.rounds):
        for case in cases:
            for program in programs:
                print(f"[{round_number + 1}/{options.rounds}] {case} {program}", file=sys.stderr)
                for (what, batch), speed in measure(case, program, options, flags).items():
                    speeds[program, what, batch, case].append(speed)
    print(f"{'':32} {'':8} {'batch':>5} " + " ".join(f"{case:>16}" for case in cases))
    for program, what, batch in dict.fromkeys(key[:3] for key in speeds):
        medians = [statistics.median(speeds[program, what, batch, case]) for case in cases]
        cells = [f"{median:10.1f} {median / medians[0]:5.2f}" for median in medians]
        print(f"{program[-32:]:32} {what:8} {batch:5} " + " ".join(cells))


if __name__ == "__main__":
    main()
