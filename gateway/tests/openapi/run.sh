#!/usr/bin/env bash
# Schemathesis reads /api/openapi.json of a running gateway and sends it requests that fit the document, that nearly
# fit it and that do not; every answer must be one that the document promises. It is installed once into the cache.
# SEED=n sends others, EXAMPLES=n more.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."

CACHE=${PUSHCLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pushcluster}
HERE=$PWD/gateway/tests/openapi
TOOL=$CACHE/schemathesis-$(sha256sum "$HERE/requirements.txt" | cut -c1-16)
OUT=$(realpath -m "${CARGO_TARGET_DIR:-target}")/openapi
KEY=a-key-for-the-openapi-test
SEED=${SEED:-1}

die() { echo "openapi: $*" >&2; exit 1; }

install_tool() {
  [ ! -e "$TOOL/whole" ] || return 0
  echo "installing schemathesis, once: half a minute"
  mkdir -p "$CACHE"
  # A second run waits for the first and finds its work done.
  exec 8>"$CACHE/schemathesis.lock"
  flock 8
  [ ! -e "$TOOL/whole" ] || return 0
  # Its programs hold its path, so it is made in place; a killed run leaves one that is not marked as whole.
  rm -rf "$TOOL"
  python3 -m venv "$TOOL" 8>&- || die "python3 -m venv failed: is python3-venv installed?"
  "$TOOL/bin/pip" install --quiet --disable-pip-version-check --no-deps -r "$HERE/requirements.txt" 8>&- \
    2>"$OUT/pip.log" || die "pip could not install it: $(cat "$OUT/pip.log")"
  touch "$TOOL/whole"
}

start_gateway() {
  local program
  program=$(cargo build -q --locked -p gateway --bin gateway --message-format=json |
    jq -r 'select(.target.name == "gateway" and .executable) | .executable')
  echo "$KEY" >"$OUT/keys"
  # With all that a channel can have, or its endpoints would only refuse.
  echo 'channels: [{prefix: "", presence: true, historyMessages: 100, historySeconds: 60}]' >"$OUT/gateway.yaml"
  "$program" --config "$OUT/gateway.yaml" --listen 127.0.0.1:0 --admin 127.0.0.1:0 --set log.format=json \
    --set "api.keyFile=$OUT/keys" >"$OUT/gateway.log" 2>&1 &
  GATEWAY=$!
  trap 'kill "$GATEWAY" 2>/dev/null || true' EXIT
  local deadline=$((SECONDS + 30))
  until ADDRESS=$(grep -h '"message":"serving"' "$OUT/gateway.log" | jq -er .clients); do
    kill -0 "$GATEWAY" 2>/dev/null || die "the gateway ended: $(cat "$OUT/gateway.log")"
    [ "$SECONDS" -lt "$deadline" ] || die "the gateway does not serve after 30 s: $(cat "$OUT/gateway.log")"
    sleep 0.1
  done
}

rm -rf "$OUT"
mkdir -p "$OUT"
install_tool
start_gateway
cd "$OUT" # where it leaves what it remembers
PYTHONPATH=$HERE PYTHONDONTWRITEBYTECODE=1 SCHEMATHESIS_HOOKS=hooks "$TOOL/bin/st" run \
  "http://$ADDRESS/api/openapi.json" --header "Authorization: Bearer $KEY" \
  --checks all --phases examples,coverage,fuzzing --max-examples "${EXAMPLES:-60}" --seed "$SEED" \
  --no-color --output-truncate false >"$OUT/schemathesis.log" 2>&1 ||
  die "the document and the gateway differ (SEED=$SEED repeats it): $(cat "$OUT/schemathesis.log")"
kill -0 "$GATEWAY" || die "the gateway ended: $(tail "$OUT/gateway.log")"
grep -E "tested|passed|cases" "$OUT/schemathesis.log" | tail -n 3
echo "openapi: passed in $SECONDS s (SEED=$SEED)"
