#!/usr/bin/env bash
# Measures decoding under control groups' quotas, with the automatic number of threads and with fixed ones. It needs a
# machine whose control groups of version 1 are writable: it makes one of its own, and removes it at the end.
#
#   scripts/quota_speed.sh [-B BUILD] [-m MODEL] [-t "1 2 4"] [-r ROUNDS] [-f "BENCH FLAGS"] [QUOTA...]
#
# QUOTAs are in processors. A row is one quota. It shows medians of tokens per second over the rounds, in which all take
# turns, and the share of the best that the automatic number reaches. A run has to be long beside the quota's period of
# 100 ms.
set -euo pipefail
cd "$(dirname "$0")/.."
build=build model=models/kjv fixed="1 2 4" rounds=3 flags="--batch 1 --prompt 16 --generate 1000"
while getopts B:m:t:r:f: option; do
  case $option in
    B) build=$OPTARG ;; m) model=$OPTARG ;; t) fixed=$OPTARG ;; r) rounds=$OPTARG ;; f) flags=$OPTARG ;;
    *) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
  esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || set -- 0.5 1 2

# The mount point of the version 1 hierarchy with the controller cpu.
mount=$(awk '$(NF - 2) == "cgroup" && ("," $NF ",") ~ /,cpu,/ { print $5; exit }' /proc/self/mountinfo)
group=$mount/causeway-quota-$$
if [ -z "$mount" ] || ! mkdir "$group"; then
  echo "no control group of version 1 can be made here" >&2
  exit 1
fi
rows=$(mktemp -d)
# A run that a signal ends takes a moment to leave the group.
clean_up() {
  rm -rf "$rows"
  for ((tries = 0; tries < 50; ++tries)); do rmdir "$group" 2>/dev/null && return; sleep 0.1; done
  echo "$group is left: it still has processes" >&2
}
trap clean_up EXIT

# Prints "TOKENS-PER-SECOND THREADS" of one run in the group.
run() {
  # shellcheck disable=SC2086
  if ! (echo "$BASHPID" > "$group/cgroup.procs"
        exec "$build/bin/causewayd" bench --model "$model" --devices cpu --cpu-threads "$1" $flags --format json) \
      > "$rows/out" 2> "$rows/err"; then
    cat "$rows/err" >&2
    exit 1
  fi
  sed -n 's/.*"decode_tokens_per_second":\([0-9.]*\).*"threads":\([0-9]*\).*/\1 \2/p' "$rows/out"
}
median() { sort -n "$1" | awk '{ value[NR] = $1 } END { print value[int((NR + 1) / 2)] }'; }

printf '%8s %8s %10s' quota threads automatic
for threads in $fixed; do printf ' %10s' "$threads"; done
printf ' %12s\n' "of the best"
for quota in "$@"; do
  rm -f "$rows"/*
  echo 100000 > "$group/cpu.cfs_period_us"
  awk -v quota="$quota" 'BEGIN { printf "%d\n", quota * 100000 }' > "$group/cpu.cfs_quota_us"
  for ((round = 0; round < rounds; ++round)); do
    for threads in 0 $fixed; do run "$threads" >> "$rows/$threads"; done
  done
  automatic=$(median "$rows/0") best=$automatic
  printf '%8s %8s %10.0f' "$quota" "$(awk 'NR == 1 { print $2 }' "$rows/0")" "$automatic"
  for threads in $fixed; do
    speed=$(median "$rows/$threads")
    printf ' %10.0f' "$speed"
    best=$(awk -v a="$best" -v b="$speed" 'BEGIN { print (a > b) ? a : b }')
  done
  awk -v a="$automatic" -v b="$best" 'BEGIN { printf " %12.2f\n", a / b }'
done
