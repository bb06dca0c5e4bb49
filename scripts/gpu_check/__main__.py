"""The first run of Causeway on a GPU: what has to hold there, in order, each step within its time, with logs kept and a
table at the end (docs/gpu.md). It runs in a checkout that is built with CUDA, or in an unpacked archive, which needs
Python, torch and a GPU alone.

    python3 scripts/gpu_check pack [--archive FILE]          make the archive that a bare GPU machine needs
    python3 scripts/gpu_check run [--out FOLDER] [--minutes N] [STEP...]
    python3 scripts/gpu_check steps                          name the steps
"""
import argparse
import os
import sys

import archive
import steps
from report import Report
from runner import Context

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main():
    parser = argparse.ArgumentParser(prog="gpu_check", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack")
    pack.add_argument("--archive", default="gpu_check.tar.xz")
    pack.add_argument("--wheel", action="append", default=[], metavar="FILE",
                      help="with a tool in it: nvidia-cuda-sanitizer-api, for memcheck and racecheck")
    pack.add_argument("--deps", default=os.environ.get("CAUSEWAY_DEPS"), help="default: CAUSEWAY_DEPS, or setup.sh's")
    run = commands.add_parser("run")
    run.add_argument("--out", default="gpu_check_out", help="a folder for the logs and the table")
    run.add_argument("--minutes", type=float, default=30, help="no step is started later, or goes on for longer")
    run.add_argument("--torch", help="the folder of the torch package; default: the one that Python imports")
    run.add_argument("--work", help="a folder with 25 GB of room for models; default: in --out")
    run.add_argument("--stand-in", metavar="FOLDER", help="of stand-ins for NVIDIA's libraries (build/standin): no GPU")
    run.add_argument("steps", nargs="*", metavar="STEP")
    commands.add_parser("steps")
    for command in (pack, run):
        command.add_argument("--build", default=os.path.join(ROOT, "build"))
    flags = parser.parse_args()
    if flags.command == "steps":
        for step in steps.STEPS:
            print(f"{step.name:12} {step.seconds:4} s  {step.about}")
        return 0
    if flags.command == "pack":
        return archive.pack(ROOT, flags.build, flags.deps, flags.archive, flags.wheel)
    unknown = set(flags.steps) - {step.name for step in steps.STEPS}
    if unknown:
        parser.error(f"no step {', '.join(sorted(unknown))}; `gpu_check steps` names them")
    context = Context(ROOT, flags)
    report = Report(flags.out)
    for step in steps.STEPS:
        if not flags.steps or step.name in flags.steps:
            report.add(step.name, context.perform(step))
    print(report.table())
    return 1 if report.failed() else 0


if __name__ == "__main__":
    sys.exit(main())
