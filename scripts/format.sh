#!/usr/bin/env bash
# Lays out every C++ file as .clang-format says, with the pinned clang-format.
#
#   scripts/format.sh            change the files
#   scripts/format.sh --check    change nothing; name what is laid out otherwise, and fail
#
# CAUSEWAY_DEPS  the folder that scripts/setup.sh --tests has filled   default: as scripts/setup.sh --print says
set -euo pipefail
cd "$(dirname "$0")/.."
[ -n "${CAUSEWAY_DEPS:-}" ] || eval "$(scripts/setup.sh --print)"
tool=$CAUSEWAY_DEPS/clang_format/data/bin/clang-format
[ -x "$tool" ] || { echo "format: $tool is not there: run scripts/setup.sh --tests" >&2; exit 2; }
case "${1:-}" in
  --check) how="--dry-run -Werror" ;;
  "") how=-i ;;
  *) echo "format: '$1' is not known; expected --check or nothing" >&2; exit 2 ;;
esac
# shellcheck disable=SC2086
find engine server client tests \( -name '*.h' -o -name '*.cc' -o -name '*.cu' \) -print0 |
  xargs -0 -P "$(nproc)" -n 32 "$tool" $how || { echo "format: run \`make format\`" >&2; exit 1; }
