#!/usr/bin/env bash
# up.sh [NAME]: a Kubernetes of two nodes on this machine. One that already runs, of the same build, is kept.
CLUSTER=${1:-${CLUSTER:-dev}}
. "$(dirname "$0")/lib.sh"
export CLUSTER

# What the running cluster must have been made from, for it to be kept.
build_key() { { echo "$BIN"; cat "$HERE"/{lib,pki,control-plane,node,up}.sh "$HERE/manifests/base.yaml"; } | sha256sum | cut -c1-16; }

healthy() {
  local process
  [ "$(cat "$STATE/ready" 2>/dev/null)" = "$(build_key)" ] || return 1
  for process in "$STATE"/processes/*; do running "$(basename "$process")" || return 1; done
  {
    kubectl get --raw /readyz --request-timeout 5s
    kubectl wait --for=condition=Ready nodes --all --timeout 10s
    kubectl -n kube-system wait --for=condition=Available deployment/coredns --timeout 10s
  } >/dev/null 2>&1
}

# Another network that this machine can reach by these addresses would be cut off.
refuse_taken_addresses() {
  local range route
  for range in "$POD_RANGE" "$SERVICE_RANGE" "$LINK_RANGE"; do
    route=$(ip -4 route show root "$range"; ip -4 route show match "$range" | grep -v '^default' || true)
    [ -z "$route" ] || die "cluster '$CLUSTER' needs the addresses $range, and this machine has a route there (${route%%$'\n'*}): choose another name"
  done
}

prepare() {
  "$HERE/down.sh" "$CLUSTER" --locked
  refuse_taken_addresses
  mkdir -p "$STATE"/{processes,logs}
  ln -sfn "$BIN" "$STATE/bin"
  "$HERE/pki.sh"
  # A host whose firewall drops what it forwards would cut the nodes off from each other.
  local range
  for range in "$POD_RANGE" "$LINK_RANGE"; do
    iptables -w -I FORWARD -s "$range" -m comment --comment "$COMMENT" -j ACCEPT
    iptables -w -I FORWARD -d "$range" -m comment --comment "$COMMENT" -j ACCEPT
  done
}

start_nodes() {
  local node pids=() pid
  for node in "${NODES[@]}"; do
    "$HERE/node.sh" "$node" &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid"; done
  # Services are reached from the host through the first node, whose kube-proxy knows them.
  ip route add "$SERVICE_RANGE" via "$(node_address "${NODES[0]}")"
}

start_names() {
  sed "s/SERVICE_DNS/$SERVICE_DNS/" "$HERE/manifests/base.yaml" | kubectl apply -f -
  wait_for 90 "both nodes to be Ready" kubectl wait --for=condition=Ready nodes --all --timeout=1s
  wait_for 90 "CoreDNS" kubectl -n kube-system wait --for=condition=Available deployment/coredns --timeout=1s
}

take_lock
end_orphaned_step
STEPS=${STEPS:-4}
if healthy; then
  say "cluster '$CLUSTER' is already up"
  exit 0
fi
"$HERE/build.sh" --is-built || die "Kubernetes is not built yet: run e2e/cluster/build.sh"
step "network, keys and certificates" prepare
step "control plane (etcd, API server, controllers)" "$HERE/control-plane.sh"
step "two nodes (containerd, kubelet, kube-proxy)" start_nodes
step "names and volumes (CoreDNS)" start_names
build_key >"$STATE/ready"
