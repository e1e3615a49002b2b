#!/usr/bin/env bash
# down.sh [NAME]: removes everything that up.sh made for this cluster, and nothing else. Safe to run twice, and after a killed up.
CLUSTER=${1:-${CLUSTER:-dev}}
. "$(dirname "$0")/lib.sh"
export CLUSTER

# Whatever runs in the nodes' control groups was started by their containerd.
kill_containers() {
  local node file pid
  for node in "${NODES[@]}"; do
    find /sys/fs/cgroup -path "*/$(node_cgroup "$node")/*" -name cgroup.procs 2>/dev/null | while read -r file; do
      while read -r pid; do kill -KILL "$pid" 2>/dev/null || true; done <"$file"
    done
  done
}

# A shim outlives its containerd on purpose; ours are those that name our socket.
kill_shims() {
  local node file pid
  for node in "${NODES[@]}"; do
    for file in /proc/[0-9]*/cmdline; do
      tr '\0' ' ' <"$file" 2>/dev/null | grep -q "^/usr/bin/containerd-shim-runc-v2 .*-address $(node_containerd "$node") " || continue
      pid=${file#/proc/}
      kill -KILL "${pid%/cmdline}" 2>/dev/null || true
    done
  done
}

stop_processes() {
  local name node
  # The reverse of the start: nothing restarts what the next line kills.
  for node in "${NODES[@]}"; do
    for name in kube-proxy kubelet; do stop "$node-$name"; done
  done
  kill_containers
  for node in "${NODES[@]}"; do stop "$node-containerd"; done
  kill_shims
  kill_containers
  for name in kube-scheduler kube-controller-manager kube-apiserver etcd; do stop "$name"; done
}

unmount_all() {
  # Deepest first; lazily, since a process that is just ending may still be inside.
  awk -v state="$STATE/" 'index($2, state) == 1 {print $2}' /proc/self/mounts | sort -r | while read -r mount; do
    umount -l "$mount" 2>/dev/null || true
  done
}

# The kernel keeps a control group until its last process is gone.
remove_cgroups() {
  local node directory
  for node in "${NODES[@]}"; do
    find /sys/fs/cgroup -depth -type d -path "*/$(node_cgroup "$node")*" 2>/dev/null | while read -r directory; do
      wait_for 5 "the end of $directory" remove_cgroup "$directory" || true
    done
  done
}
remove_cgroup() { [ ! -d "$1" ] || rmdir "$1"; }

remove_network() {
  local node rule
  ip route del "$SERVICE_RANGE" via "$(node_address "${NODES[0]}")" 2>/dev/null || true
  for node in "${NODES[@]}"; do
    ip route del "$(node_pods "$node")" via "$(node_address "$node")" 2>/dev/null || true
    ip link del "$(node_link "$node")" 2>/dev/null || true
    ip netns del "$(node_netns "$node")" 2>/dev/null || true
  done
  ip address del "$API_ADDRESS/32" dev lo 2>/dev/null || true
  iptables -S FORWARD 2>/dev/null | grep -- "--comment pushcluster-$CLUSTER " | sed 's/^-A/-D/' | while read -r rule; do
    # The rule is words that iptables printed itself.
    # shellcheck disable=SC2086
    iptables $rule
  done
}

# The pods' network namespaces are named by CNI under /run/netns, each mounted; ours are those no living pod holds:
# containerd's records of them are in our state directory.
pod_netns() {
  grep -rhoaE '/(var/)?run/netns/cni-[0-9a-f-]+' "$STATE"/node-*/containerd-netns 2>/dev/null | sort -u
}

remove_pod_netns() {
  local path
  while read -r path; do
    umount -l "$path" 2>/dev/null || true
    rm -f "$path"
  done < <(pod_netns)
}

# Before containerd stops it can still be asked which network namespaces its sandboxes use.
remember_pod_netns() {
  local node
  for node in "${NODES[@]}"; do
    [ -S "$(node_containerd "$node")" ] || continue
    timeout 10 ctr -a "$(node_containerd "$node")" -n k8s.io containers ls -q 2>/dev/null | while read -r id; do
      timeout 10 ctr -a "$(node_containerd "$node")" -n k8s.io containers info "$id" 2>/dev/null |
        grep -oE '/(var/)?run/netns/cni-[0-9a-f-]+' || true
    done | sort -u >"$(node_state "$node")/containerd-netns" || true
  done
}

take_down() {
  remember_pod_netns
  stop_processes
  unmount_all
  remove_pod_netns
  remove_cgroups
  remove_network
  rm -rf "$STATE"
  # The last cluster gives forwarding back.
  if [ -e "$STATE_ROOT/ip_forward" ] && ! compgen -G "$STATE_ROOT/*/processes" >/dev/null; then
    cat "$STATE_ROOT/ip_forward" >/proc/sys/net/ipv4/ip_forward
    rm -rf "$STATE_ROOT/ip_forward" "$STATE_ROOT/buildah"
  fi
}

if [ "${2:-}" != --locked ]; then
  mkdir -p "$STATE_ROOT"
  exec 9>"$STATE_ROOT/$CLUSTER.lock"
  flock -w 120 9 || die "cluster '$CLUSTER' is being started or stopped by another command"
  end_orphaned_step
fi
if [ ! -e "$STATE" ]; then
  say "cluster '$CLUSTER' is not there"
  exit 0
fi
STEPS=${STEPS:-1}
step "removing cluster '$CLUSTER'" take_down
