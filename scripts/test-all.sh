#!/usr/bin/env bash
# Runs everything: the tests of `make test`, the tests marked for sanitizers under these, the fuzz target, and the tests
# labelled long. All parts run, whatever fails on the way; a table at the end shows the results.
#   scripts/test-all.sh BUILD     FUZZ_SECONDS (default 600) is how long the fuzz target runs
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
eval "$(scripts/setup.sh --print)"
export CCACHE_DIR CCACHE_BASEDIR CCACHE_NOHASHDIR CARGO_TARGET_DIR
say() { printf '\033[1m[test-all]\033[0m %s\n' "$*"; }
root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

table="" failed=0
part() {  # part WHAT COMMAND...
  local what=$1 began=$SECONDS status=0; shift
  say "$what"
  set +e  # and on again inside: in a condition it would not count there
  ( set -e; "$@" )
  status=$?
  set -e
  [ "$status" = 0 ] || failed=1
  table+=$(printf '%-48s %6d s  %s' "$what" $((SECONDS - began)) "$([ "$status" = 0 ] && echo passed || echo "FAILED ($status)")")$'\n'
}

sanitized() {
  local folder=$build-${1%%,*}
  cmake -G Ninja -S . -B "$folder" -DCAUSEWAY_DEPS="$CAUSEWAY_DEPS" -DCAUSEWAY_SANITIZE="$1" -DCAUSEWAY_TESTS=ON --log-level=WARNING >/dev/null
  ninja -C "$folder"
  local suppressions=$PWD/tests/sanitize/thread.supp
  cd "$folder"
  UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 TSAN_OPTIONS="halt_on_error=1:ignore_noninstrumented_modules=1:suppressions=$suppressions" ctest --output-on-failure -j "$(nproc)" --timeout 1800
}

can_fuzz() {
  echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' |
    clang++ -x c++ -fsanitize=fuzzer,address,undefined -o "$build/can_fuzz" - 2>/dev/null
}

fuzz() {
  if ! can_fuzz; then
    say "installing clang and libclang-rt-14-dev, which libFuzzer needs"
    root apt-get update -qq
    DEBIAN_FRONTEND=noninteractive root apt-get install -y -qq --no-install-recommends clang libclang-rt-14-dev >/dev/null
  fi
  scripts/fuzz.sh "${FUZZ_SECONDS:-600}" "$build"
}

labelled_long() {
  cd "$build"
  ctest --output-on-failure -L long
}

part "tests of make test" make --no-print-directory test BUILD="$build"
part "under address and undefined sanitizers" sanitized address,undefined
part "under the thread sanitizer" sanitized thread
part "fuzzing the safetensors parser" fuzz
part "tests labelled long" labelled_long
say "what ran:"
printf '%s' "$table"
exit "$failed"
