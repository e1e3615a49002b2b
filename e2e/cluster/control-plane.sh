#!/usr/bin/env bash
# Starts etcd, the API server, the controller manager, the scheduler and the volume provisioner on the host, in the order that works.
# --api-only: the first two; nothing then acts on what is stored.
. "$(dirname "$0")/lib.sh"

start_etcd() {
  # No fsync: the data is thrown away with the cluster, and every write would wait for the disk.
  start etcd etcd --name "$CLUSTER" --data-dir "$STATE/etcd" --unsafe-no-fsync --logger=zap --log-level warn \
    --listen-client-urls "http://$LOCAL_ADDRESS:2379" --advertise-client-urls "http://$LOCAL_ADDRESS:2379" \
    --listen-peer-urls "http://$LOCAL_ADDRESS:2380" --initial-advertise-peer-urls "http://$LOCAL_ADDRESS:2380" \
    --initial-cluster "$CLUSTER=http://$LOCAL_ADDRESS:2380"
  answers etcd 30 curl -fsS "http://$LOCAL_ADDRESS:2379/health"
}

# Metadata of every finished request, so that tests can count an operator's writes.
audit_policy() {
  cat >"$STATE/audit-policy.yaml" <<'YAML'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
YAML
}

start_apiserver() {
  audit_policy
  start kube-apiserver "$BIN/kube-apiserver" \
    --bind-address "$API_ADDRESS" --advertise-address "$API_ADDRESS" --secure-port 6443 \
    --etcd-servers "http://$LOCAL_ADDRESS:2379" --service-cluster-ip-range "$SERVICE_RANGE" \
    --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction --allow-privileged=true \
    --client-ca-file "$PKI/ca.crt" --tls-cert-file "$PKI/apiserver.crt" --tls-private-key-file "$PKI/apiserver.key" \
    --kubelet-certificate-authority "$PKI/ca.crt" --kubelet-preferred-address-types InternalIP \
    --kubelet-client-certificate "$PKI/apiserver-kubelet-client.crt" --kubelet-client-key "$PKI/apiserver-kubelet-client.key" \
    --service-account-issuer https://kubernetes.default.svc \
    --service-account-key-file "$PKI/service-account.key" --service-account-signing-key-file "$PKI/service-account.key" \
    --enable-aggregator-routing=true \
    --requestheader-client-ca-file "$PKI/front-proxy-ca.crt" --requestheader-allowed-names front-proxy-client \
    --requestheader-extra-headers-prefix X-Remote-Extra- --requestheader-group-headers X-Remote-Group \
    --requestheader-username-headers X-Remote-User \
    --proxy-client-cert-file "$PKI/front-proxy-client.crt" --proxy-client-key-file "$PKI/front-proxy-client.key" \
    --audit-policy-file "$STATE/audit-policy.yaml" --audit-log-path "$AUDIT_LOG" --audit-log-maxsize 1000
  answers kube-apiserver 90 kubectl get --raw /readyz
}

# Started earlier, these two exit: their roles are not there yet.
start_controllers() {
  start kube-controller-manager "$BIN/kube-controller-manager" \
    --kubeconfig "$STATE/kube-controller-manager.kubeconfig" --bind-address "$LOCAL_ADDRESS" --leader-elect=false \
    --authentication-kubeconfig "$STATE/kube-controller-manager.kubeconfig" \
    --authorization-kubeconfig "$STATE/kube-controller-manager.kubeconfig" \
    --service-account-private-key-file "$PKI/service-account.key" --root-ca-file "$PKI/ca.crt" \
    --cluster-signing-cert-file "$PKI/ca.crt" --cluster-signing-key-file "$PKI/ca.key" \
    --use-service-account-credentials=true --flex-volume-plugin-dir "$STATE/volume-plugins" \
    --horizontal-pod-autoscaler-sync-period 5s --node-monitor-grace-period 20s
  start kube-scheduler "$BIN/kube-scheduler" \
    --kubeconfig "$STATE/kube-scheduler.kubeconfig" --bind-address "$LOCAL_ADDRESS" --leader-elect=false \
    --authentication-kubeconfig "$STATE/kube-scheduler.kubeconfig" \
    --authorization-kubeconfig "$STATE/kube-scheduler.kubeconfig"
  answers kube-controller-manager 60 kubectl -n default get serviceaccount default
  mkdir -p "$STATE/volumes"
  start volume-provisioner "$BIN/volume-provisioner" \
    --kubeconfig "$STATE/volume-provisioner.kubeconfig" --directory "$STATE/volumes"
  answers kube-scheduler 30 curl -fsSk "https://$LOCAL_ADDRESS:10259/healthz"
}

ip address add "$API_ADDRESS/32" dev lo
start_etcd
start_apiserver
[ "${1:-}" = --api-only ] || start_controllers
