#!/usr/bin/env bash
# down.sh [NAME]: removes everything that up.sh made for this cluster, and nothing else. Safe to run twice, and after a
# killed up. --locked is up.sh's: it holds the cluster's lock and shows the progress.
CLUSTER=${1:-${CLUSTER:-dev}}
. "$(dirname "$0")/lib.sh"
export CLUSTER

# Whatever runs in the nodes' control groups was started by their containerd.
kill_containers() {
  local node file pid
  for node in "${NODES[@]}"; do
    while read -r file; do
      while read -r pid; do kill -KILL "$pid" 2>/dev/null || true; done < <(cat "$file" 2>/dev/null)
    done < <(find /sys/fs/cgroup -path "*/$(node_cgroup "$node")/*" -name cgroup.procs 2>/dev/null)
  done
}

# A shim outlives its containerd on purpose; ours are those that were given our socket.
shims() {
  local node file words word
  for file in /proc/[0-9]*/cmdline; do
    mapfile -d '' -t words 2>/dev/null <"$file" || continue
    [[ ${words[0]-} == *containerd-shim-runc-v2 ]] || continue
    for node in "${NODES[@]}"; do
      for word in "${words[@]}"; do
        [ "$word" != "$(node_containerd "$node")" ] || basename "$(dirname "$file")"
      done
    done
  done
}
kill_shims() { shims | while read -r pid; do kill -KILL "$pid" 2>/dev/null || true; done; }
no_shims() { [ -z "$(shims)" ]; }

# The reverse of the start: nothing is left that would start again what the next line ends.
end_processes() {
  local node
  for node in "${NODES[@]}"; do
    end "$node-kube-proxy"
    end "$node-kubelet"
    end "$node-containerd"
  done
  kill_shims
  wait_for 10 "the end of the containers' shims" no_shims
  kill_containers
  # The nodes' mounts are in namespaces of their own, which end here with their last process.
  for node in "${NODES[@]}"; do end "$node"; done
  for node in volume-provisioner kube-scheduler kube-controller-manager kube-apiserver etcd; do end "$node"; done
}

# The kernel keeps a control group until its last process is gone, and takes a tenth of a second to remove one: every
# hierarchy of cgroup v1 at the same time.
remove_cgroups() {
  local node top pids=() pid
  for node in "${NODES[@]}"; do
    for top in /sys/fs/cgroup/"$(node_cgroup "$node")" /sys/fs/cgroup/*/"$(node_cgroup "$node")"; do
      [ -d "$top" ] || continue
      wait_for 20 "the end of what runs in $top" remove_cgroup "$top" &
      pids+=($!)
    done
  done
  for pid in "${pids[@]}"; do wait "$pid"; done
}
remove_cgroup() {
  find "$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
  [ ! -d "$1" ]
}

remove_network() {
  local node rule
  ip route del "$SERVICE_RANGE" via "$(node_address "${NODES[0]}")" 2>/dev/null || true
  for node in "${NODES[@]}"; do
    ip route del "$(node_pods "$node")" via "$(node_address "$node")" 2>/dev/null || true
    ip link del "$(node_link "$node")" 2>/dev/null || true
    ip netns del "$(node_netns "$node")" 2>/dev/null || true
  done
  ip address del "$API_ADDRESS/32" dev lo 2>/dev/null || true
  { iptables -w -S FORWARD 2>/dev/null || true; } | { grep -- "--comment $COMMENT " || true; } | sed 's/^-A/-D/' |
    while read -r rule; do
      # The rule is words that iptables printed itself.
      # shellcheck disable=SC2086
      iptables -w $rule
    done
}

take_down() {
  end_processes
  remove_cgroups
  remove_network
  # A mount that somebody made in here is not ours to empty.
  rm -rf --one-file-system "$STATE"
}

remove_traces() {
  rm -rf "$STATE_ROOT/steps/$CLUSTER"[-.]* "$STATE_ROOT/$CLUSTER.lock"
  [ -e "$STATE_ROOT/buildah" ] && ! compgen -G "$STATE_ROOT/*.lock" >/dev/null && rm -rf "$STATE_ROOT/buildah"
  rmdir "$STATE_ROOT/steps" "$STATE_ROOT" 2>/dev/null || true
}

if [ "${2:-}" = --locked ]; then
  [ ! -e "$STATE" ] || take_down
  exit 0
fi
take_lock
end_orphaned_step
if [ ! -e "$STATE" ]; then
  say "cluster '$CLUSTER' is not there"
else
  STEPS=${STEPS:-1}
  step "removing cluster '$CLUSTER'" take_down
fi
remove_traces
