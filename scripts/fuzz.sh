#!/usr/bin/env bash
# Fuzzes the safetensors parser for some seconds (default 600) with libFuzzer, address and undefined-behaviour
# sanitizers. It needs clang with libFuzzer (Debian: clang libclang-rt-14-dev). Findings are written to BUILD/fuzz; the
# corpus in the tree is only read. Usage: scripts/fuzz.sh [seconds] [build folder]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-600}
out=${2:-build}/fuzz
command -v clang++ >/dev/null || { echo "fuzz: clang++ is not installed (Debian: apt-get install clang libclang-rt-14-dev)" >&2; exit 2; }
mkdir -p "$out/corpus" "$out/findings"
# Abseil is linked as it is installed. The fuzzed files are compiled here, with coverage.
abseil="absl_statusor absl_status absl_strings absl_str_format"
# shellcheck disable=SC2086
clang++ -std=c++20 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -I. \
  engine/checkpoint/safetensors_fuzz.cc engine/checkpoint/safetensors.cc engine/checkpoint/json.cc engine/checkpoint/file.cc \
  engine/base/dtype.cc $(pkg-config --cflags --libs $abseil) -o "$out/safetensors_fuzz"
# The timeout is in wall-clock time, and a busy machine may hold the process up. 4096 bytes cost far less than that.
"$out/safetensors_fuzz" -max_total_time="$seconds" -max_len=4096 -timeout=300 -rss_limit_mb=2048 -print_final_stats=1 \
  -dict=engine/checkpoint/safetensors_fuzz.dict -artifact_prefix="$out/findings/" "$out/corpus" engine/checkpoint/fuzz_corpus
