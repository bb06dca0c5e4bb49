#!/usr/bin/env bash
# Starts the daemon on the bundled model (or CAUSEWAY_MODEL), streams a first completion through the client, and stays
# in the foreground until Ctrl-C. CAUSEWAY_LISTEN and CAUSEWAY_HTTP choose the addresses; CAUSEWAY_LOG_LEVEL=info also
# shows each request.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
model=${CAUSEWAY_MODEL:-models/kjv}
listen=${CAUSEWAY_LISTEN:-127.0.0.1:50051}
http=${CAUSEWAY_HTTP:-127.0.0.1:8090}
export CAUSEWAY_LOG_LEVEL=${CAUSEWAY_LOG_LEVEL:-warning}  # the terminal is for the first completion
state=$(mktemp -d)
daemon=
stop() { [ -z "$daemon" ] || kill -TERM "$daemon" 2>/dev/null || true; }
trap stop INT TERM
trap 'rm -rf "$state"' EXIT

"$build/bin/causewayd" serve --model "$model" --listen "$listen" --http "$http" --ports-file "$state/ports.json" &
daemon=$!
while [ ! -f "$state/ports.json" ]; do
  kill -0 "$daemon" 2>/dev/null || { wait "$daemon"; exit $?; }
  sleep 0.1
done
grpc=$(sed -n 's/.*"grpc": *"\([^"]*\)".*/\1/p' "$state/ports.json")
web=$(sed -n 's/.*"http": *"\([^"]*\)".*/\1/p' "$state/ports.json")
bold=$(printf '\033[1m') plain=$(printf '\033[0m')
echo
echo "${bold}A first completion, streamed through the client:${plain}"
"$build/bin/causeway" --server "$grpc" generate --max-tokens 48 --temperature 0.7 --seed 7 "In the beginning" || { stop; wait "$daemon"; exit 1; }
cat <<TEXT

${bold}Serving.${plain} In another shell, try:
  $build/bin/causeway --server $grpc generate "And the king said"
  $build/bin/causeway --server $grpc chat
  $build/bin/causeway --server $grpc status
  $build/bin/causeway --server $grpc bench --concurrency 8
  curl http://$web/metrics
  grpcurl -plaintext $grpc list
Ctrl-C drains and stops.
TEXT
status=0
wait "$daemon" || status=$?
# A signal interrupts the first wait; the daemon is still draining then.
if kill -0 "$daemon" 2>/dev/null; then status=0; wait "$daemon" || status=$?; fi
exit "$status"
