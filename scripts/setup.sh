#!/usr/bin/env bash
# Installs what building Causeway needs and is not there yet: Debian packages, LibTorch (the PyPI wheel), CUDA's
# compiler (wheels too, where CUDA is on) and Rust. It is safe to run again: each step first looks whether it is already
# done.
#
#   scripts/setup.sh            install what the two programs need, say what was done
#   scripts/setup.sh --tests    what the tests need, too
#   scripts/setup.sh --print    only print the folders, as NAME=VALUE lines for make
#
# CAUSEWAY_CACHE  where downloads and the compiler cache live      default ~/.cache/causeway
# CAUSEWAY_CUDA   ON, OFF or AUTO (on where a driver is present)   default AUTO
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/pins.sh"
cache=${CAUSEWAY_CACHE:-$HOME/.cache/causeway}
key=$(sha256sum "$here/pins.sh" | cut -c1-12)
deps=$cache/deps-$key
cuda=${CAUSEWAY_CUDA:-AUTO}
driver=no
if [ -e /dev/nvidiactl ] || ldconfig -p 2>/dev/null | grep -q 'libcuda\.so\.1'; then driver=yes; fi
case "$cuda" in
  ON|OFF) ;;
  AUTO) if [ $driver = yes ]; then cuda=ON; else cuda=OFF; fi ;;
  *) echo "setup: CAUSEWAY_CUDA is '$cuda'; expected ON, OFF or AUTO" >&2; exit 2 ;;
esac
# The first of several clones that asks does the work; the others wait for it.
if [ "${1:-}" = --print ]; then
  # Paths inside the clone are left out of the compiler cache's keys, so that a second clone finds what the first
  # compiled.
  printf '%s\n' "CAUSEWAY_DEPS=$deps" "CAUSEWAY_CUDA=$cuda" "CCACHE_DIR=$cache/ccache" "CCACHE_BASEDIR=$(dirname "$here")" \
    CCACHE_NOHASHDIR=1 "CARGO_TARGET_DIR=$cache/cargo-target"
  exit 0
fi
say() { printf '\033[1m[setup]\033[0m %s\n' "$*"; }
root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

packages=(cmake ninja-build g++ make ccache mold pkg-config git ca-certificates python3 python3-pip
  libgrpc++-dev protobuf-compiler-grpc libprotobuf-dev protobuf-compiler libabsl-dev libre2-dev libssl-dev libc-ares-dev zlib1g-dev
  prometheus-cpp-dev libspdlog-dev libyaml-cpp-dev nlohmann-json3-dev libcpp-httplib-dev libcli11-dev)
if [ "${1:-}" = --tests ]; then packages+=(libgtest-dev libgmock-dev libbenchmark-dev libboost-context-dev prometheus bible-kjv-text); fi
missing=()
for p in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true)" = installed ] || missing+=("$p")
done
# cmake, ninja, git and python may come from elsewhere than Debian's packages.
have() { command -v "$1" >/dev/null 2>&1; }
keep=()
for p in "${missing[@]}"; do
  case "$p" in
    cmake) have cmake || keep+=("$p") ;; ninja-build) have ninja || keep+=("$p") ;; git) have git || keep+=("$p") ;;
    python3) have python3 || keep+=("$p") ;; python3-pip) python3 -m pip --version >/dev/null 2>&1 || keep+=("$p") ;;
    *) keep+=("$p") ;;
  esac
done
if [ ${#keep[@]} -gt 0 ]; then
  say "Debian packages: installing ${keep[*]}"
  root apt-get update -qq
  # Only promtool is needed of the package prometheus; its service must not be started.
  DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 root apt-get install -y -qq --no-install-recommends "${keep[@]}" >"${TMPDIR:-/tmp}/causeway-apt.log" 2>&1 ||
    { tail -n 20 "${TMPDIR:-/tmp}/causeway-apt.log" >&2; echo "setup: apt-get failed; the end of its log is above" >&2; exit 1; }
else
  say "Debian packages: all there"
fi

# A wheel set is complete when its stamp is there; a broken download leaves no stamp and starts over.
wheels() {  # wheels STAMP WHAT REQUIREMENT...
  local stamp=$deps/.$1 what=$2; shift 2
  if [ -f "$stamp" ]; then say "$what: in $deps"; return; fi
  say "$what: downloading $*"
  rm -rf "$deps/.new"
  python3 -m pip install --quiet --disable-pip-version-check --no-warn-conflicts --root-user-action=ignore --no-compile \
    --only-binary=:all: --python-version "$TORCH_PYTHON" --implementation cp --platform manylinux_2_28_x86_64 \
    --platform manylinux_2_27_x86_64 --platform manylinux_2_25_x86_64 --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --target "$deps/.new" "$@"
  # pip replaces a whole top-level folder (nvidia/) when it installs into the same place again, so merge here.
  cp -alf "$deps/.new/." "$deps/"; rm -rf "$deps/.new"
  touch "$stamp"
}
mkdir -p "$deps" "$cache/ccache"
# ccache needs this sloppiness before it caches files that use precompiled headers. In depend mode it learns from the
# compiler which headers a file includes, and does not preprocess every file once more.
exec 9>"$cache/lock"; flock 9
settings=$(printf '%s\n' 'sloppiness = pch_defines,time_macros' 'depend_mode = true' 'inode_cache = true' \
  'pch_external_checksum = true')
# Another clone may be compiling: the file is written only where it says something else.
[ "$(cat "$cache/ccache/ccache.conf" 2>/dev/null)" = "$settings" ] || echo "$settings" >"$cache/ccache/ccache.conf"
wheels torch "LibTorch $TORCH" --no-deps "torch==$TORCH" "nvidia-cuda-runtime==$CUDA_RUNTIME" "nvidia-cuda-cupti==$CUDA_CUPTI"
if [ "${1:-}" = --tests ]; then wheels format "clang-format $CLANG_FORMAT" --no-deps "clang-format==$CLANG_FORMAT"; fi
if [ $cuda = ON ]; then
  # shellcheck disable=SC2086
  wheels nvcc "CUDA compiler" $CUDA_TOOLKIT
  # shellcheck disable=SC2086
  if [ "${1:-}" = --tests ]; then wheels disassembler "CUDA disassembler" --no-deps $CUDA_DISASSEMBLER; fi
  cu=$deps/nvidia/cu13
  [ -e "$cu/lib64" ] || ln -s lib "$cu/lib64"
  for lib in "$cu"/lib/lib*.so.*; do plain=${lib%%.so.*}.so; [ -e "$plain" ] || ln -s "$(basename "$lib")" "$plain"; done
  if [ $driver = yes ]; then
    # shellcheck disable=SC2086
    wheels cudarun "CUDA libraries" $CUDA_RUN
  else
    say "CUDA libraries: no driver here, so they are left out (3 GB); CUDA code is compiled but not run"
  fi
fi
# Tests compile kernels as C++ against CUDA's headers, of which the runtime's wheel has most.
if [ "${1:-}" = --tests ] && [ ! -f "$deps/.nvcc" ]; then
  version=${CUDA_RUNTIME%.*}.*
  wheels cudaheaders "CUDA headers" --no-deps "nvidia-cuda-crt==$version" "nvidia-cuda-cccl==$version"
fi

version_at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }
rust=$(rustc --version 2>/dev/null | awk '{print $2}' || true)
if [ -n "$rust" ] && version_at_least "$rust" "$RUST_MIN" && command -v cargo >/dev/null; then
  say "Rust: $rust"
else
  say "Rust: installing Debian's rustc-web and cargo-web (found ${rust:-none}, at least $RUST_MIN is needed)"
  root apt-get update -qq
  DEBIAN_FRONTEND=noninteractive root apt-get install -y -qq --no-install-recommends rustc-web cargo-web >/dev/null
fi
say "ready (CUDA $cuda, cache $cache)"
