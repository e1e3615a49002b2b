#!/usr/bin/env bash
# node.sh NODE: one node = one network namespace and one mount namespace with its own containerd, kubelet and kube-proxy.
. "$(dirname "$0")/lib.sh"

NODE=$1
DIR=$(node_state "$NODE")
NETNS=$(node_netns "$NODE")
LINK=$(node_link "$NODE")

make_network() {
  ip netns add "$NETNS"
  ip link add "$LINK" type veth peer name uplink netns "$NETNS"
  ip address add "$(node_gateway "$NODE")/30" dev "$LINK"
  # What comes in on this link is forwarded; the switch goes with the link, and the host's own stays as it is.
  sysctl -qw "net.ipv4.conf.$LINK.forwarding=1"
  ip link set "$LINK" up
  ip -n "$NETNS" link set lo up
  ip -n "$NETNS" address add "$(node_address "$NODE")/30" dev uplink
  ip -n "$NETNS" link set uplink up
  ip -n "$NETNS" route add default via "$(node_gateway "$NODE")"
  # Not `ip netns exec`: it mounts another /sys, in which kubelet finds no cgroups.
  nsenter --net="/run/netns/$NETNS" sysctl -qw net.ipv4.ip_forward=1
  ip route add "$(node_pods "$NODE")" via "$(node_address "$NODE")"
}

# The process that is the node: it holds the namespaces that everything else of it is started in. Mounts of pods and
# containers are seen only in there and end with its processes, and programs that insist on a fixed path (the shims'
# sockets, CNI's results, links to pods' logs) find a folder of this node under it.
start_holder() {
  local script
  mkdir -p "$DIR/private/var-lib/pushcluster" "$DIR/private/var-log" "$DIR/private/run"
  # shellcheck disable=SC2016  # expanded by the shell inside the namespaces
  script='set -e
    mount --make-rshared /
    mount --bind "$2" "$1/private/var-lib/pushcluster"
    mount --rbind "$1/private/var-lib" /var/lib
    mount --bind "$1/private/var-log" /var/log
    mount --bind "$1/private/run" /run
    touch "$1/private/is-mounted"
    exec sleep infinity'
  start "$NODE" nsenter --net="/run/netns/$NETNS" unshare --mount --propagation slave \
    bash -c "$script" "$NODE" "$DIR" "$STATE_ROOT"
  answers "$NODE" 10 test -e "$DIR/private/is-mounted"
}

start_in_node() { # NAME COMMAND...
  local name=$1 pid _started
  shift
  read -r pid _started <"$STATE/processes/$NODE"
  start "$NODE-$name" nsenter --target "$pid" --mount --net -- "$@"
}

# There is nothing outside to reach, so no masquerading: a pod's address is seen as it is. `ptp`, not `bridge`: pods of one
# node reach each other over the node's routing, where kube-proxy's rules are, whatever br_netfilter is set to.
write_cni() {
  mkdir -p "$DIR/cni"
  cat >"$DIR/cni/10-pods.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "ptp", "ipMasq": false,
   "ipam": {"type": "host-local", "dataDir": "$DIR/addresses",
            "ranges": [[{"subnet": "$(node_pods "$NODE")"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}
]}
JSON
}

start_containerd() {
  cat >"$DIR/containerd.toml" <<TOML
version = 2
root = "$DIR/containerd"
state = "$DIR/containerd-state"
[grpc]
  address = "$(node_containerd "$NODE")"
[plugins."io.containerd.internal.v1.opt"]
  path = "$DIR/containerd-opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/pushcluster/pause:dev"
  # Where root lacks CAP_SYS_RESOURCE, asking for a lower score than our own would fail every container.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$DIR/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
TOML
  start_in_node containerd containerd --config "$DIR/containerd.toml" --log-level warn
  answers "$NODE-containerd" 30 ctr -a "$(node_containerd "$NODE")" version
}

# cgroup v1: a kubelet with a root of its own finds it only if it is there in every controller, and a new
# cpuset takes no process before its cpus and mems are set.
make_cgroups() {
  local controller cgroup
  [ ! -e /sys/fs/cgroup/cgroup.controllers ] || {
    # cgroup v2: a child has the controllers that its parent passes on.
    for controller in cpuset cpu io memory pids; do
      echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || true
    done
    mkdir -p "/sys/fs/cgroup/$(node_cgroup "$NODE")"
    return
  }
  for controller in /sys/fs/cgroup/*/; do
    controller=${controller%/}
    if [ -L "$controller" ] || [ ! -e "$controller/cgroup.procs" ]; then continue; fi
    cgroup=$controller/$(node_cgroup "$NODE")
    mkdir -p "$cgroup"
    [ ! -e "$controller/cpuset.cpus" ] || {
      cat "$controller/cpuset.cpus" >"$cgroup/cpuset.cpus"
      cat "$controller/cpuset.mems" >"$cgroup/cpuset.mems"
    }
  done
}

write_kubelet() {
  echo "# nothing outside this cluster has a name" >"$DIR/resolv.conf"
  cat >"$DIR/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $(node_address "$NODE")
containerRuntimeEndpoint: unix://$(node_containerd "$NODE")
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $PKI/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $PKI/$NODE.crt
tlsPrivateKeyFile: $PKI/$NODE.key
clusterDomain: cluster.local
clusterDNS: [$SERVICE_DNS]
resolvConf: $DIR/resolv.conf
podLogsDir: $DIR/pod-logs
volumePluginDir: $DIR/volume-plugins
cgroupDriver: cgroupfs
cgroupRoot: /$(node_cgroup "$NODE")
failSwapOn: false
failCgroupV1: false
oomScoreAdj: 0
maxPods: 100
# The disk is the developer's: a nearly full one must not evict pods, and an image once imported cannot be pulled again.
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
nodeStatusUpdateFrequency: 5s
syncFrequency: 10s
YAML
}

start_kubelet() {
  make_cgroups
  write_kubelet
  start_in_node kubelet "$BIN/kubelet" \
    --config "$DIR/kubelet.yaml" --kubeconfig "$DIR/kubelet.kubeconfig" --root-dir "$DIR/kubelet" \
    --hostname-override "$NODE" --node-ip "$(node_address "$NODE")"
}

start_proxy() {
  cat >"$DIR/kube-proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clientConnection: {kubeconfig: $DIR/kube-proxy.kubeconfig}
clusterCIDR: $POD_RANGE
hostnameOverride: $NODE
oomScoreAdj: 0
# These are the host's to set, not a namespace's.
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
YAML
  start_in_node kube-proxy "$BIN/kube-proxy" --config "$DIR/kube-proxy.yaml"
}

mkdir -p "$DIR"
make_network
start_holder
write_cni
start_containerd
CLUSTER=$CLUSTER "$HERE/images.sh" pause coredns --node "$NODE"
start_kubelet
start_proxy
answers "$NODE-kubelet" 60 kubectl get node "$NODE"
answers "$NODE-kube-proxy" 30 in_node "$NODE" curl -fsS http://127.0.0.1:10249/healthz
