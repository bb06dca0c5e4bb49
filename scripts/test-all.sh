#!/usr/bin/env bash
# What takes too long for `make test`: the torch-free part under sanitizers, the fuzz target, and the tests labelled long.
#   scripts/test-all.sh BUILD     FUZZ_SECONDS (default 600) is how long the fuzz target runs
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
eval "$(scripts/setup.sh --print)"
export CCACHE_DIR CCACHE_BASEDIR CCACHE_NOHASHDIR CARGO_TARGET_DIR
say() { printf '\033[1m[test-all]\033[0m %s\n' "$*"; }

for sanitizer in address,undefined thread; do
  say "unit tests of the torch-free part under $sanitizer sanitizer"
  folder=$build-${sanitizer%%,*}
  cmake -G Ninja -S . -B "$folder" -DCAUSEWAY_DEPS="$CAUSEWAY_DEPS" -DCAUSEWAY_SANITIZE=$sanitizer --log-level=WARNING >/dev/null
  ninja -C "$folder"
  (cd "$folder" && UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 TSAN_OPTIONS=halt_on_error=1 \
    ctest --output-on-failure -j "$(nproc)" --timeout 1800)
done

say "fuzzing the safetensors parser"
scripts/fuzz.sh "${FUZZ_SECONDS:-600}"

say "tests labelled long"
(cd "$build" && ctest --output-on-failure -L long)
