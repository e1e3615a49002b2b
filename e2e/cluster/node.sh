#!/usr/bin/env bash
# node.sh NODE: one node = one network namespace with its own containerd, kubelet and kube-proxy.
. "$(dirname "$0")/lib.sh"

NODE=$1
DIR=$(node_state "$NODE")
NETNS=$(node_netns "$NODE")
LINK=$(node_link "$NODE")

make_network() {
  ip netns add "$NETNS"
  ip link add "$LINK" type veth peer name uplink netns "$NETNS"
  ip address add "$(node_gateway "$NODE")/30" dev "$LINK"
  ip link set "$LINK" up
  ip -n "$NETNS" link set lo up
  ip -n "$NETNS" address add "$(node_address "$NODE")/30" dev uplink
  ip -n "$NETNS" link set uplink up
  ip -n "$NETNS" route add default via "$(node_gateway "$NODE")"
  in_node "$NODE" sysctl -qw net.ipv4.ip_forward=1
  ip route add "$(node_pods "$NODE")" via "$(node_address "$NODE")"
}

# nothing outside to reach, so no masquerading: a pod's address is seen as it is.
write_cni() {
  mkdir -p "$DIR/cni"
  cat >"$DIR/cni/10-pods.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "pods", "isGateway": true, "ipMasq": false, "hairpinMode": true,
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
  start "$NODE-containerd" nsenter --net="/run/netns/$NETNS" containerd --config "$DIR/containerd.toml" --log-level warn
  answers "$NODE-containerd" 30 ctr -a "$(node_containerd "$NODE")" version
}

# cgroup v1: a kubelet with a root of its own finds it only if it is there in every controller, and a new
# cpuset takes no process before its cpus and mems are set.
make_cgroups() {
  local controller cgroup
  [ ! -e /sys/fs/cgroup/cgroup.controllers ] || {
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
  start "$NODE-kubelet" nsenter --net="/run/netns/$NETNS" "$BIN/kubelet" \
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
  start "$NODE-kube-proxy" nsenter --net="/run/netns/$NETNS" "$BIN/kube-proxy" --config "$DIR/kube-proxy.yaml"
}

mkdir -p "$DIR"
make_network
write_cni
start_containerd
CLUSTER=$CLUSTER "$HERE/images.sh" pause coredns --node "$NODE"
start_kubelet
start_proxy
answers "$NODE-kubelet" 60 kubectl get node "$NODE"
answers "$NODE-kube-proxy" 30 in_node "$NODE" curl -fsS http://127.0.0.1:10249/healthz
