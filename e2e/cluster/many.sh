#!/usr/bin/env bash
# many.sh [COUNT]: what one operator takes to look after so many PushClusters (default: 500): memory, the time of its start, and
# requests to the API server at rest. Only etcd and the API server are real; `many` (e2e/src/bin) says for Deployments and
# StatefulSets that they are ready. OPERATOR=path: this program instead of the one that build-binaries.sh builds.
CLUSTER=many
. "$(dirname "$0")/lib.sh"
export CLUSTER
COUNT=${1:-500}
ACCOUNT=operator

remove() {
  local status=$?
  trap - EXIT
  # down.sh takes the lock, which is still ours if a step failed.
  exec 9>&-
  "$HERE/down.sh" "$CLUSTER" || status=1
  exit "$status"
}

prepare() {
  "$HERE/down.sh" "$CLUSTER" --locked
  mkdir -p "$STATE"/{processes,logs}
  ln -sfn "$BIN" "$STATE/bin"
  "$HERE/pki.sh"
}

# An account of its own, so that the audit log tells its requests from ours.
make_account() {
  "$OPERATOR" crds | kubectl apply -f -
  kubectl wait --for=condition=Established crd/pushclusters.pushcluster.io --timeout 30s
  kubectl create namespace many
  kubectl -n many create serviceaccount "$ACCOUNT"
  kubectl create clusterrolebinding many-operator --clusterrole cluster-admin --serviceaccount "many:$ACCOUNT"
  cp "$KUBECONFIG_ADMIN" "$STATE/operator.kubeconfig"
  kubectl config --kubeconfig "$STATE/operator.kubeconfig" set-credentials "$ACCOUNT" \
    --token "$(kubectl -n many create token "$ACCOUNT" --duration 24h)"
  kubectl config --kubeconfig "$STATE/operator.kubeconfig" set-context --current --user "$ACCOUNT"
}

kubectl() {
  if [ "$1" = config ]; then "$BIN/kubectl" "$@"; else "$BIN/kubectl" --kubeconfig "$KUBECONFIG_ADMIN" "$@"; fi
}

take_lock
end_orphaned_step
trap remove EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
STEPS=$([ -n "${OPERATOR:-}" ] && echo 3 || echo 4)
if [ -z "${OPERATOR:-}" ]; then
  step "operator" "$HERE/build-binaries.sh"
  OPERATOR=$("$HERE/build-binaries.sh" --where)/operator
fi
step "network, keys and certificates" prepare
step "etcd and the API server" "$HERE/control-plane.sh" --api-only
step "definition and account" make_account
# Others wait for it to start a cluster of their own.
exec 9>&-
cargo build -q --manifest-path "$REPO/Cargo.toml" --locked -p e2e --bin many
"${CARGO_TARGET_DIR:-$REPO/target}/debug/many" --kubeconfig "$KUBECONFIG_ADMIN" --operator "$OPERATOR" \
  --operator-kubeconfig "$STATE/operator.kubeconfig" --audit-log "$AUDIT_LOG" --count "$COUNT"
