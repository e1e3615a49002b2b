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
  kubectl get --raw /readyz >/dev/null 2>&1
}

prepare() {
  mkdir -p "$STATE"/{processes,logs}
  # Remembered, so that down can put it back as it was.
  [ -e "$STATE_ROOT/ip_forward" ] || cat /proc/sys/net/ipv4/ip_forward >"$STATE_ROOT/ip_forward"
  echo 1 >/proc/sys/net/ipv4/ip_forward
  "$HERE/pki.sh"
  # A host whose firewall drops what it forwards would cut pods off from each other.
  local direction
  for direction in -s -d; do
    iptables -I FORWARD "$direction" "$POD_RANGE" -m comment --comment "pushcluster-$CLUSTER" -j ACCEPT
    iptables -I FORWARD "$direction" "10.$((112 + INDEX)).0.0/16" -m comment --comment "pushcluster-$CLUSTER" -j ACCEPT
  done
}

start_nodes() {
  local node
  for node in "${NODES[@]}"; do "$HERE/node.sh" "$node"; done
  # Services are reached from the host through the first node, whose kube-proxy knows them.
  ip route add "$SERVICE_RANGE" via "$(node_address "${NODES[0]}")"
}

start_names() {
  sed "s/SERVICE_DNS/$SERVICE_DNS/" "$HERE/manifests/base.yaml" | kubectl apply -f -
  wait_for 90 "both nodes to be Ready" kubectl wait --for=condition=Ready nodes --all --timeout=1s
  wait_for 90 "CoreDNS" kubectl -n kube-system wait --for=condition=Available deployment/coredns --timeout=1s
}

mkdir -p "$STATE_ROOT"
exec 9>"$STATE_ROOT/$CLUSTER.lock"
flock -w 120 9 || die "cluster '$CLUSTER' is being started or stopped by another command"
end_orphaned_step
STEPS=${STEPS:-4}
if healthy; then
  say "cluster '$CLUSTER' is already up"
  exit 0
fi
[ ! -e "$STATE" ] || "$HERE/down.sh" "$CLUSTER" --locked
! ip route get "$SERVICE_DNS" 2>/dev/null | grep -q 'dev pc[0-9]' ||
  die "the addresses of cluster '$CLUSTER' are in use by another cluster: choose another name"
"$HERE/build.sh" --is-built || die "Kubernetes is not built yet: run e2e/cluster/build.sh"
step "network, keys and certificates" prepare
step "control plane (etcd, API server, controllers)" "$HERE/control-plane.sh"
step "two nodes (containerd, kubelet, kube-proxy)" start_nodes
step "names and volumes (CoreDNS)" start_names
build_key >"$STATE/ready"
