"""The archive that a bare GPU machine needs: programs without symbols, the libraries that are neither glibc's nor
torch's, models of the tests, and these scripts, laid out as a checkout is."""
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

BYTES_MAX = 64 << 20
# Quick, and with a window wide enough to see that programs of tests are alike.
COMPRESSION = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 64 << 20}]
PROGRAMS = ("bin/causewayd", "bin/causeway", "bin/cuda_ops_test", "tests/parity_test", "tests/quantized_parity_test",
            "tests/kv_cache_test", "lib/libcauseway_cuda.so")
FOLDERS = ("scripts/gpu_check", "tests/golden/models", "tests/golden/quantized", "models/kjv")
FILES = ("engine/plan/catalogue.json", "docs/gpu.md")
# glibc's belong to the machine that runs.
GLIBC = re.compile(r"(ld-linux[\w-]*|libc|libm|libdl|libpthread|librt|libutil|libresolv|libanl)\.so\.\d+$")


def libraries(program, deps):
    """What the program loads that is neither glibc's nor under `deps`."""
    found = set()
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for name, path in re.findall(r"(\S+) => (/\S+)", listed):
        inside = os.path.realpath(path).startswith(os.path.realpath(deps) + "/")
        if not inside and GLIBC.match(name) is None:
            found.add((name, os.path.realpath(path)))
    return found


def unpack_tools(wheels, folder):
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as file:
            for name in file.namelist():
                if "/include/" not in name:
                    path = file.extract(name, folder)
                    os.chmod(path, 0o755 if "/bin/" in name else 0o644)  # which a wheel does not say


def pack(root, build, deps, archive, wheels):
    if deps is None:
        printed = subprocess.run([os.path.join(root, "scripts", "setup.sh"), "--print"], capture_output=True, text=True,
                                 check=True).stdout
        deps = re.search(r"CAUSEWAY_DEPS=(.*)", printed).group(1)
    build = os.path.abspath(build)
    missing = [name for name in PROGRAMS if not os.path.exists(os.path.join(build, name))]
    if missing:
        print(f"gpu_check: {build} has no {', '.join(missing)}: build them first", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        top = os.path.join(folder, "causeway")
        needed = set()
        for name in PROGRAMS:
            needed |= libraries(os.path.join(build, name), deps)
            to = os.path.join(top, "build", name)
            os.makedirs(os.path.dirname(to), exist_ok=True)
            subprocess.run(["strip", "-o", to, os.path.join(build, name)], check=True)
        os.makedirs(os.path.join(top, "libraries"))
        for name, path in sorted(needed):
            shutil.copy(path, os.path.join(top, "libraries", name))
        for name in FOLDERS:
            shutil.copytree(os.path.join(root, name), os.path.join(top, name),
                            ignore=shutil.ignore_patterns("__pycache__"))
        for name in FILES:
            os.makedirs(os.path.dirname(os.path.join(top, name)), exist_ok=True)
            shutil.copy(os.path.join(root, name), os.path.join(top, name))
        unpack_tools(wheels, os.path.join(top, "tools"))
        # Programs name both as they were when they were built.
        with open(os.path.join(top, "links.json"), "w", encoding="utf-8") as file:
            json.dump({"source": root, "deps": deps}, file)
        with lzma.open(archive, "wb", filters=COMPRESSION) as file, tarfile.open(fileobj=file, mode="w") as tar:
            tar.add(top, "causeway")
    size = os.path.getsize(archive)
    print(f"{archive}: {size / 2**20:.1f} MiB of at most {BYTES_MAX >> 20}, {len(needed)} libraries")
    return 0 if size <= BYTES_MAX else 1


def torch_folder(wished):
    if wished:
        return os.path.abspath(wished)
    found = subprocess.run([sys.executable, "-c", "import torch; print(torch.__path__[0])"], capture_output=True,
                           text=True, check=False)
    if found.returncode != 0:
        sys.exit("gpu_check: this Python has no torch: name its folder with --torch")
    return found.stdout.strip()


def make_link(path, to):
    """What is there already stays."""
    if os.path.lexists(path):
        return
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.symlink(to, path)
    except OSError as error:
        sys.exit(f"gpu_check: cannot make {path}, where the programs look for {to}: {error}")


def link(root, torch):
    """In an unpacked archive, puts what the programs look for where they do. Returns folders of libraries to be found
    first; in a checkout there are none."""
    try:
        with open(os.path.join(root, "links.json"), encoding="utf-8") as file:
            links = json.load(file)
    except FileNotFoundError:
        return []
    torch = torch_folder(torch)
    make_link(links["source"], root)
    make_link(os.path.join(links["deps"], "torch"), torch)
    make_link(os.path.join(links["deps"], "nvidia"), os.path.join(os.path.dirname(torch), "nvidia"))
    return [os.path.join(root, "libraries")]
