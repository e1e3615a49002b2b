#!/usr/bin/env bash
# ramp.sh [CLIENTS] [ARGUMENTS]: clients on a real cluster (default: 10,000), and everything that moves them; bench/src/ramp.rs.
# Starts the cluster $CLUSTER and removes it, or uses one that is up. Figures and charts: $OUT.
CLUSTER=${CLUSTER:-ramp} OUT=${OUT:-target/ramp}
. "$(dirname "$0")/../e2e/cluster/lib.sh"
export CLUSTER
unset CONTEXT
clients=${1:-10000}
shift || true

cd "$REPO"
if [ ! -e "$STATE/ready" ]; then
  remove() {
    local status=$?
    trap - EXIT
    "$HERE/down.sh" "$CLUSTER" || status=1
    exit "$status"
  }
  trap remove EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  "$HERE/make-up.sh" --operator-only
fi
cargo build -q --release --locked -p bench --bin pushbench --bin ramp
# The clients are in the first node's network, where Services are; it stays when the node's pods go.
"${CARGO_TARGET_DIR:-target}/release/ramp" --kubectl "$BIN/kubectl" --kubeconfig "$KUBECONFIG_ADMIN" \
  --network-namespace "/run/netns/$(node_netns "${NODES[0]}")" --system "$SYSTEM" --chart charts/pushcluster-operator \
  --gateway-image "$(image_name gateway)" --redis-image "$(image_name redis)" --clients "$clients" --out "$OUT" "$@"
