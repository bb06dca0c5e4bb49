#!/usr/bin/env python3
"""What every CUDA kernel takes on every architecture, read from the compiled library and held against docs/gpu.md.

usage: kernel_resources.py FOLDER_OF_CUOBJDUMP LIBRARY PAGE [--write]

Fails where a kernel spills registers or has a stack, where an architecture lacks a kernel, and where the page's table
says something else: what a kernel takes changes on purpose only. --write puts the table into the page.
"""
import collections
import os
import re
import subprocess
import sys

BEGIN, END = "<!-- kernels -->\n", "<!-- end of kernels -->\n"
USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)")
LOAD = re.compile(r"\bLDG\.E(?:\.[A-Z]+)*?(?:\.(S8|U8|S16|U16|64|128))?(?:\.[A-Z]+)* ")
LOAD_BYTES = {"S8": 1, "U8": 1, "S16": 2, "U16": 2, None: 4, "64": 8, "128": 16}


def run(tools, *arguments):
    environment = dict(os.environ, PATH=tools + os.pathsep + os.environ["PATH"])
    return subprocess.run([os.path.join(tools, "cuobjdump"), *arguments], env=environment, check=True,
                          capture_output=True, text=True).stdout


def readable(symbols):
    """Names without namespaces and arguments: Attend<__half, signed char, 4>."""
    plain = subprocess.run(["c++filt"], input="\n".join(symbols), check=True, capture_output=True, text=True).stdout
    names = [re.sub(r"^void |causeway::|\(anonymous namespace\)::|\(int\)|\([^()]*\)$", "", line)
             for line in plain.splitlines()]
    return dict(zip(symbols, names))


def usages(tools, library):
    """{kernel: {architecture: (registers, stack, shared, local)}}"""
    found, architecture, symbol = collections.defaultdict(dict), None, None
    for line in run(tools, "-res-usage", library).splitlines():
        if line.startswith("arch = "):
            architecture = line.split()[-1]
        elif line.startswith(" Function "):
            symbol = line.split()[1].rstrip(":")
        elif (match := USAGE.search(line)) and symbol:
            found[symbol][architecture] = tuple(map(int, match.groups()))
    names = readable(list(found))
    return {names[symbol]: by_architecture for symbol, by_architecture in found.items()}


def instructions(tools, library, architecture):
    """{kernel: (bytes of its widest load from global memory, number of tensor-core instructions)}"""
    widest, tensor, symbol = collections.Counter(), collections.Counter(), None
    for line in run(tools, "-sass", "-arch", architecture, library).splitlines():
        if "Function : " in line:
            symbol = line.split()[-1]
            widest[symbol] = tensor[symbol] = 0
        elif match := LOAD.search(line):
            widest[symbol] = max(widest[symbol], LOAD_BYTES[match.group(1)])
        elif re.search(r"\b(HMMA|IMMA|QMMA|HGMMA|IGMMA|QGMMA|UTC[A-Z]*MMA)\b", line):
            tensor[symbol] += 1
    names = readable(list(widest))
    return {names[symbol]: (widest[symbol], tensor[symbol]) for symbol in widest}


def table(found, architectures, detail):
    lines = ["| kernel | " + " | ".join(architectures) + " | shared bytes | widest load | tensor cores |",
             "| --- |" + " ---: |" * (len(architectures) + 3)]
    for name in sorted(found):
        registers = [str(found[name][a][0]) for a in architectures]
        shared = sorted({found[name][a][2] for a in architectures})
        load, tensor = detail[name]
        shown = f"{shared[0]} to {shared[-1]}" if len(shared) > 1 else str(shared[0])
        lines.append(f"| `{name}` | " + " | ".join(registers) + f" | {shown} | {load} B | {tensor or 'no'} |")
    return "\n".join(lines) + "\n"


def main():
    tools, library, page = sys.argv[1:4]
    found = usages(tools, library)
    architectures = sorted({a for by in found.values() for a in by}, key=lambda a: int(a[3:]))
    problems = [] if found else [f"{library} has no kernels"]
    for name, by in sorted(found.items()):
        for architecture in architectures:
            if architecture not in by:
                problems.append(f"{name}: not there for {architecture}")
            elif by[architecture][1] or by[architecture][3]:
                _, stack, _, local = by[architecture]
                problems.append(f"{name} for {architecture}: {stack} bytes of stack and {local} of local memory, "
                                "expected none: registers are spilled")
    if not problems:
        made = table(found, architectures, instructions(tools, library, architectures[0]))
        with open(page, encoding="utf-8") as file:
            text = file.read()
        before, rest = text.split(BEGIN)
        kept, after = rest.split(END)
        if "--write" in sys.argv:
            with open(page, "w", encoding="utf-8") as file:
                file.write(before + BEGIN + made + END + after)
        elif kept != made:
            problems.append(f"{page} has another table; if the change is on purpose, run this with --write. "
                            f"Now it would be:\n{made}")
    print("\n".join(problems) or f"{len(found)} kernels for {len(architectures)} architectures: no spills, no stack")
    sys.exit(1 if problems else 0)


main()
