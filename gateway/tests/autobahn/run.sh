#!/usr/bin/env bash
# The Autobahn test suite's client against the gateway (gateway/examples/echo.rs). Fails with the names of the cases
# that are not passed by the book. CASES='["5.*"]' runs some of them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

CACHE=${PUSHCLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pushcluster}
HERE=gateway/tests/autobahn
SUITE=$CACHE/autobahn-$("$HERE/install.sh" --version)
OUT=${CARGO_TARGET_DIR:-target}/autobahn
CASES=${CASES:-'["*"]'}
# Of the 1,000 that every one of the 216 compression cases sends as published: all of them take half an hour.
MESSAGES=${MESSAGES:-50}
# Larger than any message of the suite (16 MiB) and than what it sends before it reads.
LIMITS=(limits.maxMessageBytes=33554432 limits.maxRequestBytes=33554432 limits.maxOutboxBytes=268435456)
# Every message that shrinks is to be compressed.
COMPRESSION=(compression.enabled=true compression.minMessageBytes=0)

die() { echo "autobahn: $*" >&2; exit 1; }

install_suite() {
  [ ! -d "$SUITE" ] || return 0
  echo "installing the Autobahn test suite, once: half a minute"
  mkdir -p "$CACHE"
  # A second run waits for the first and finds its work done.
  exec 8>"$CACHE/autobahn.lock"
  flock 8
  [ -d "$SUITE" ] || "$HERE/install.sh" "$SUITE" 8>&-
}

start_gateway() {
  local program set=()
  for setting in "${LIMITS[@]}" "${COMPRESSION[@]}"; do set+=(--set "$setting"); done
  program=$(cargo build -q --locked -p gateway --example echo --message-format=json |
    jq -r 'select(.target.name == "echo" and .executable) | .executable')
  "$program" --listen 127.0.0.1:0 --admin 127.0.0.1:0 "${set[@]}" >"$OUT/gateway.log" 2>&1 &
  GATEWAY=$!
  trap 'kill "$GATEWAY" 2>/dev/null || true' EXIT
  local deadline=$((SECONDS + 30))
  until ADDRESS=$(grep -h '"message":"serving"' "$OUT/gateway.log" | jq -er .clients); do
    kill -0 "$GATEWAY" 2>/dev/null || die "the gateway ended: $(cat "$OUT/gateway.log")"
    [ "$SECONDS" -lt "$deadline" ] || die "the gateway does not serve after 30 s: $(cat "$OUT/gateway.log")"
    sleep 0.1
  done
}

run_suite() {
  jq -n --arg url "ws://$ADDRESS/ws" --arg out "$OUT/report" --argjson cases "$CASES" '{
    outdir: $out, servers: [{agent: "gateway", url: $url}],
    cases: $cases, "exclude-cases": [], "exclude-agent-cases": {}
  }' >"$OUT/spec.json"
  "$SUITE/python2" "$HERE/suite.py" "$SUITE/suite" "$MESSAGES" --mode fuzzingclient --spec "$OUT/spec.json" >"$OUT/suite.log" 2>&1 ||
    die "the suite did not run: $(tail -n 20 "$OUT/suite.log")"
}

judge() {
  local asked run failed
  asked=$(sed -n 's/^Ok, will run \([0-9]*\) test cases.*/\1/p' "$OUT/suite.log")
  run=$(jq '.gateway | length' "$OUT/report/index.json")
  # Only these two are by the book: NON-STRICT and UNIMPLEMENTED are not. INFORMATIONAL: the RFC leaves it open.
  failed=$(jq -r '.gateway | to_entries[]
    | select([.value.behavior, .value.behaviorClose] | all(. == "OK" or . == "INFORMATIONAL") | not)
    | "  \(.key): \(.value.behavior), close \(.value.behaviorClose)"' "$OUT/report/index.json")
  [ -z "$failed" ] || die "cases that failed (reports in $OUT/report):"$'\n'"$failed"
  if [ "${asked:-0}" = 0 ] || [ "$run" != "$asked" ]; then
    die "$run of ${asked:-no} cases ran: $(tail -n 20 "$OUT/suite.log")"
  fi
  echo "autobahn: $run cases passed in $SECONDS s"
}

rm -rf "$OUT"
mkdir -p "$OUT"
install_suite
start_gateway
run_suite
judge
