#!/usr/bin/env python3
"""Checks of the tree that no compiler makes.

  tidy.py [ROOT]       every rule on the tree; prints "path:line: what is wrong" and exits 1 when there is anything
  tidy.py --self-test  every rule on bad samples, each of which it has to find, and on good ones

A rule is a function from a tree ({path: text}, "/" between folders) to findings. Adding one: write it, list it in
RULES, and give it samples in samples.py, without which the self-test fails.
"""
import os
import posixpath
import re
import sys

from doc_rules import check_all_named, check_doc_names, check_doc_paths, check_metrics, check_readmes
from tree import line_of, read_tree

# Who may include and link whom, by folder; what a folder may include, those who may include it may include too. The
# scheduler and the executor are not to know each other, nor the cache sequences: read this table before adding to it.
MAY_USE = {
    "engine/base": [],
    "engine/threads": ["engine/base"],
    "engine/staging": ["engine/base"],
    "engine/checkpoint": ["engine/base"],
    "engine/architecture": ["engine/checkpoint"],
    "engine/plan": ["engine/architecture"],
    "engine/graph": ["engine/plan"],
    "engine/strategy": ["engine/graph"],
    "engine/sampling": ["engine/base"],
    "engine/batch": ["engine/sampling"],
    "engine/cache": ["engine/base"],
    "engine/schedule": ["engine/batch", "engine/cache"],
    "engine/text": ["engine/base"],
    "engine/ops": ["engine/sampling", "engine/threads"],
    "engine/device": ["engine/ops", "engine/plan"],
    "engine/cuda": ["engine/device"],
    "engine/measure": ["engine/device"],
    "engine/weights": ["engine/device", "engine/staging"],
    "engine/model": ["engine/weights"],
    "engine/execution": ["engine/model", "engine/batch"],
    "engine": ["engine/execution", "engine/schedule", "engine/text"],  # engine.h and what stands beside it
    "proto": [],
    "client": ["proto"],
    "server/startup": ["engine", "proto"],
    "server/cluster": ["server/startup", "server/telemetry"],
    "server/telemetry": ["server/startup"],
    "server/rpc": ["server/telemetry"],
    "server/daemon": ["server/cluster", "server/rpc"],
    "server/doctor": ["server/startup", "engine/measure"],
    "server/commands": ["server/daemon", "server/doctor", "engine/strategy"],
    "server": ["server/commands"],  # main.cc
    "tests/support": ["engine", "engine/cuda"],
    "tests/support/cuda_standin": ["engine/cuda"],
    "tests/golden": ["tests/support"],
    "tests/integration": ["server/commands", "client", "tests/golden"],
    "tests/gpu": ["engine/cuda", "tests/support", "tests/support/cuda_standin"],
}
# Files that belong to another folder's target.
BUILT_IN = {"server/version.h": "server/daemon", "server/version.cc": "server/daemon"}
TEST_ONLY = "tests/support"  # tests beside the code may use it wherever they stand
# Folders without torch: they build in seconds and run under sanitizers.
TORCH = re.compile(r"^(ATen|torch|c10|caffe2)/")
TORCH_FOLDERS = ("engine/ops", "engine/device", "engine/cuda", "engine/measure", "engine/weights", "engine/model",
                 "engine/execution", "tests/")
# What the engine knows nothing of.
SERVER_ONLY = re.compile(r"^(grpc|grpcpp|google|prometheus|causeway/v1|yaml-cpp|httplib)\b")
CUDA = re.compile(r"^(c10/cuda|ATen/cuda|cuda)")
CUDA_FOLDERS = ("engine/cuda/", "tests/gpu/", "tests/support/cuda_emulator/", "tests/support/cuda_standin/")
# The same in CMake. IMPORTED: targets of cmake/Dependencies.cmake, which belong to no folder.
IMPORTED = ("causeway_torch", "causeway_openmp")
TORCH_TARGET = re.compile(r"causeway(::|_)torch$|lib(torch|c10)")
SERVER_ONLY_TARGET = re.compile(r"(gRPC|protobuf)::|prometheus-cpp|yaml-cpp|\$\{HTTPLIB\}")

LINES_MAX, TEST_LINES_MAX = 400, 500
LONGER = {"engine/plan/plan_property_test.cc": 510}
COLUMNS_MAX = 120  # clang-format holds C++ to the same (.clang-format)

SOURCE = (".h", ".cc", ".cu", ".rs", ".py", ".proto", ".sh")
CXX = (".h", ".cc", ".cu")
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.M)


def folder_of(path):
    """The key of MAY_USE that a file belongs to: the longest."""
    folder = BUILT_IN.get(path) or posixpath.dirname(path)
    while folder and folder not in MAY_USE:
        folder = posixpath.dirname(folder)
    return folder


def reach(folder, seen=None):
    seen = set() if seen is None else seen
    for other in MAY_USE.get(folder, []):
        if other not in seen:
            seen.add(other)
            reach(other, seen)
    return seen


def is_test(path):
    return path.endswith(("_test.cc", "_benchmark.cc", "/testing.h")) or path.startswith("tests/")


def includes(tree):
    for path, text in tree.items():
        if path.endswith(CXX):
            for match in INCLUDE.finditer(text):
                yield path, line_of(text, match.start()), match.group(1)


def check_include_folders(tree):
    for path, line, name in includes(tree):
        if name in tree:
            other = folder_of(name)
        elif name.startswith("causeway/v1/"):
            other = "proto"
        else:
            if name.startswith(("engine/", "server/", "client/", "tests/")):
                yield path, line, f'"{name}" does not exist'
            continue
        folder = folder_of(path)
        if not folder:
            yield path, line, "the folder is not in MAY_USE of tests/tidy/tidy.py"
        elif other != folder and other not in reach(folder) and not (other == TEST_ONLY and is_test(path)):
            yield path, line, f"{folder} may not include {other} ({name})"


def links(tree):
    """(path, line, command, target, what it links) of every CMake command that links; generated names (${...}) are left
    out."""
    command = re.compile(
        r"\b(causeway_library|causeway_test|causeway_benchmark|target_link_libraries)\s*\(\s*([\w:-]+)([^()]*)\)")
    for path, text in tree.items():
        if posixpath.basename(path) != "CMakeLists.txt" and not path.endswith(".cmake"):
            continue
        text = re.sub(r"#[^\n]*", "", text)
        for match in command.finditer(text):
            words = match.group(3).split()
            if match.group(1) != "target_link_libraries":
                words = words[words.index("DEPS") + 1:] if "DEPS" in words else []
            yield path, line_of(text, match.start()), match.group(1), match.group(2), words


def check_link_graph(tree):
    """CMake's targets link no other folders than their files may include, and torch and gRPC only where those are
    included."""
    targets = {f"causeway_{folder.split('/')[-1]}": folder for folder in MAY_USE if folder != "engine"}
    targets.update(causeway_engine="engine", causeway_commands="client", causeway_bench="server/commands",
                   causeway_daemon_commands="server/commands", causeway_text_rust="engine/text",
                   causeway_test_engine=TEST_ONLY, causeway_test_checkpoint=TEST_ONLY, causeway_test_device=TEST_ONLY,
                   causeway_test_daemon=TEST_ONLY, causeway_cuda_emulator=TEST_ONLY,
                   causeway_emulated_kernels=TEST_ONLY, causeway_faulty_kernels=TEST_ONLY,
                   causeway_standin="tests/support/cuda_standin", causeway_test_schema=TEST_ONLY)
    for path, line, command, target, words in links(tree):
        if target in IMPORTED:
            continue
        folder = targets.get(target) or folder_of(path)
        if target.startswith("causeway_") and target not in targets or not folder:
            yield path, line, f"{target} is not in check_link_graph of tests/tidy/tidy.py"
            continue
        for word in words:
            if word.startswith("causeway_") and word not in targets and word not in IMPORTED:
                yield path, line, f"{word} is not in check_link_graph of tests/tidy/tidy.py"
            other = targets.get(word, folder)
            is_tests = command in ("causeway_test", "causeway_benchmark") and other == TEST_ONLY
            if other != folder and other not in reach(folder) and not is_tests:
                yield path, line, f"{target} may not link {word}"
            if TORCH_TARGET.search(word) and not f"{folder}/".startswith(TORCH_FOLDERS):
                yield path, line, f"{folder} is free of torch ({target} links {word})"
            if SERVER_ONLY_TARGET.match(word) and folder.startswith("engine"):
                yield path, line, (f"the engine knows nothing of gRPC, protobuf, Prometheus and HTTP "
                                   f"({target} links {word})")


def check_foreign_headers(tree):
    for path, line, name in includes(tree):
        if path.startswith("engine/") and SERVER_ONLY.match(name):
            yield path, line, f"the engine knows nothing of gRPC, protobuf, Prometheus and HTTP ({name})"
        if TORCH.match(name) and not path.startswith(TORCH_FOLDERS):
            yield path, line, f"{posixpath.dirname(path)} is free of torch ({name})"
        if CUDA.match(name) and not path.startswith(CUDA_FOLDERS):
            yield path, line, f"only engine/cuda includes CUDA ({name})"


def check_processors(tree):
    """engine/threads alone asks how many processors there are: others would miss what a control group allows."""
    asks = re.compile(r"\b(hardware_concurrency|get_nprocs(?:_conf)?|_SC_NPROCESSORS_\w+|omp_get_num_procs|"
                      r"sched_getaffinity|available_parallelism)\b")
    for path, text in tree.items():
        if path.startswith("engine/threads/") or not path.endswith(CXX + (".rs",)):
            continue
        for match in asks.finditer(text):
            yield path, line_of(text, match.start()), f"{match.group(1)}: ask engine/threads/processors.h"


def check_forward_pass(tree):
    """The forward pass computes by Ops alone: a device that does its work late cannot delay what goes past it."""
    computes = re.compile(r"<ATen/ops/(?!empty\b|zeros\b)\w+\.h>|\.(?:add|sub|mul|div|copy|to|cpu|cuda|item|sum|mean|"
                          r"clone|contiguous|fill|zero|gather|scatter|matmul|index_\w+?|masked_\w+?)_?\(")
    for path, text in tree.items():
        if path.startswith("engine/model/") and path.endswith(CXX) and not is_test(path):
            for match in computes.finditer(text):
                yield path, line_of(text, match.start()), f"{match.group(0)} goes past Ops"


def check_kernels(tree):
    """Kernel files see no torch header, not even through another: .cu compile fast, and those for one instruction set
    must not instantiate inline functions that the linker could share."""
    direct = {}
    for path, line, name in includes(tree):
        direct.setdefault(path, []).append((line, name))
    for start in tree:
        if not start.endswith(".cu") and not re.match(r"engine/ops/cpu/kernels_\w+\.cc$", start):
            continue
        queue, seen = [start], {start}
        while queue:
            path = queue.pop()
            for line, name in direct.get(path, []):
                if TORCH.match(name):
                    yield path, line, f"{name} reaches the kernels of {start}"
                if name in tree and name not in seen:
                    seen.add(name)
                    queue.append(name)


def check_emulated(tree):
    """Every kernel runs in a test, on the CPU: it is launched by the macro, and its file has a test beside it."""
    for path, text in tree.items():
        if path.endswith(CXX) and path.startswith(CUDA_FOLDERS) and path != "engine/cuda/launch.h":
            for match in re.finditer("<<<", text):
                yield path, line_of(text, match.start()), "a launch without CAUSEWAY_LAUNCH (engine/cuda/launch.h)"
        if path.startswith("engine/cuda/") and path.endswith(".cu") and path[:-3] + "_test.cc" not in tree:
            yield path, 1, f"{path[:-3]}_test.cc is missing, which runs it on the CPU"


def lines_max(path):
    return TEST_LINES_MAX if path.endswith("_test.cc") else LINES_MAX


def check_lengths(tree):
    for path, text in tree.items():
        if path.endswith(SOURCE):
            lines, most = text.count("\n"), LONGER.get(path, lines_max(path))
            if lines > most:
                yield path, most, f"{lines} lines, expected at most {most}: divide it"
    for path, most in LONGER.items():
        if path in tree and tree[path].count("\n") <= lines_max(path):
            yield path, 1, "needs no place in LONGER of tests/tidy/tidy.py any more"


def check_widths(tree):
    """Lines of Python and of the docs' prose. Tables, code and drawings in the docs may be wider."""
    for path, text in tree.items():
        if not path.endswith((".py", ".md")):
            continue
        fenced = False
        for number, line in enumerate(text.split("\n"), 1):
            fenced ^= line.startswith("```")
            prose = not fenced and not line.startswith(("|", "    "))
            if len(line.rstrip()) > COLUMNS_MAX and (prose or path.endswith(".py")):
                yield path, number, f"{len(line.rstrip())} columns, expected at most {COLUMNS_MAX}"


def check_guards(tree):
    for path, text in tree.items():
        if not path.endswith(".h") or path.endswith("-inl.h"):  # those are compiled once for each instruction set
            continue
        guard = "CAUSEWAY_" + re.sub(r"[^A-Za-z0-9]", "_", path).upper() + "_"
        found = re.search(r"^#ifndef (\w+)\n#define (\w+)$", text, re.M)
        ends = text.rstrip().endswith(f"#endif  // {guard}")
        if not found or found.group(1) != guard or found.group(2) != guard or not ends:
            yield path, 1, f"expected #ifndef, #define and #endif of {guard}"


def check_machine_paths(tree):
    """No path of the machine that something was written on."""
    # /home/me is a test's made-up home.
    pattern = re.compile(r"(?<![\w.~-])/(?:roo" + "t|wor" + r"k|home)/(?!me/|me\b)[\w.]+")
    for path, text in tree.items():
        for match in pattern.finditer(text):
            yield path, line_of(text, match.start()), f"{match.group(0)} is a path of one machine"


def check_promises(tree):
    marker = re.compile(r"\b(TO" + "DO|FIX" + r"ME|XX" + r"X)\b(.*)")
    for path, text in tree.items():
        if not path.endswith(SOURCE) and not path.endswith((".txt", ".cmake")):
            continue
        for match in marker.finditer(text):
            if len(re.findall(r"\w+", match.group(2))) < 4:
                yield path, line_of(text, match.start()), f"{match.group(1)} without what would resolve it"


def check_built(tree):
    """Every source is named by a CMakeLists.txt above it, or by a script."""
    scripts = "\n".join(text for path, text in tree.items() if path.startswith("scripts/"))
    cmake = "\n".join(text for path, text in tree.items()
                      if posixpath.basename(path) == "CMakeLists.txt" or path.endswith(".cmake"))
    for path in tree:
        if not path.endswith((".cc", ".cu")):
            continue
        folder, named = posixpath.dirname(path), path in scripts or "${CMAKE_SOURCE_DIR}/" + path in cmake
        while not named:
            below = posixpath.relpath(path, folder or ".")
            for name in ("CMakeLists.txt", "engine.cmake"):
                text = tree.get(posixpath.join(folder, name), "")
                named = named or re.search(r"(?<![\w./-])" + re.escape(below) + r"(?![\w.-])", text) is not None
            if not folder:
                break
            folder = posixpath.dirname(folder)
        if not named:
            never = ", and the test never runs" if path.endswith("_test.cc") else ""
            yield path, 1, f"no CMakeLists.txt names it: it is not built{never}"


RULES = [check_include_folders, check_link_graph, check_foreign_headers, check_processors, check_forward_pass,
         check_kernels, check_emulated, check_lengths, check_widths, check_guards, check_machine_paths, check_promises,
         check_built, check_readmes, check_doc_paths, check_doc_names, check_metrics, check_all_named]


def self_test():
    from samples import BAD, GOOD
    failed = 0
    for rule in RULES:
        bad, good = BAD.get(rule.__name__, []), GOOD.get(rule.__name__, [])
        if not bad or not good:
            print(f"{rule.__name__}: no samples")
            failed += 1
        for tree, expected in bad:
            found = [message for _, _, message in rule(tree)]
            if len(found) != 1 or expected not in found[0]:
                print(f"{rule.__name__}: expected one finding with '{expected}' in {list(tree)}, found {found}")
                failed += 1
        for tree in good:
            found = list(rule(tree))
            if found:
                print(f"{rule.__name__}: expected no finding in {list(tree)}, found {found}")
                failed += 1
    print(f"{len(RULES)} rules, {sum(map(len, BAD.values()))} bad samples, {sum(map(len, GOOD.values()))} good ones, "
          f"{failed} failures")
    return failed


def main(arguments):
    if arguments == ["--self-test"]:
        return 1 if self_test() else 0
    here = os.path.dirname(os.path.abspath(__file__))
    tree = read_tree(arguments[0] if arguments else os.path.join(here, "..", ".."))
    findings = sorted({finding for rule in RULES for finding in rule(tree)})
    for path, line, message in findings:
        print(f"{path}:{line}: {message}")
    print(f"{len(tree)} files, {len(RULES)} rules, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
