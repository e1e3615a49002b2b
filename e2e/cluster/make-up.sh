#!/usr/bin/env bash
# `make up`: from an empty machine to a push through a real Kubernetes, or, with CONTEXT=name, through one that you have.
# --operator-only ends before the PushCluster: what the e2e tests start from.
. "$(dirname "$0")/lib.sh"
export CLUSTER

CONTEXT=${CONTEXT:-}
NAMESPACE=${NAMESPACE:-default}
SYSTEM=pushcluster-system
# With CONTEXT: where that cluster pulls from, for example registry.example.org/pushcluster.
IMAGES=${IMAGES:-docker.io/pushcluster}
TAG=${TAG:-dev}

first_run_notice() {
  "$HERE/build.sh" --is-built || cat <<'TEXT'
First run: Kubernetes, CoreDNS and Helm are built from their Go modules, once, and kept in a cache.
On two cores that takes 5 to 30 minutes, by the machine's mood; every later run takes seconds.
TEXT
}

use_context() {
  kubectl() { command kubectl --context "$CONTEXT" "$@"; }
  helm() { command helm --kube-context "$CONTEXT" "$@"; }
  demo_arguments=(--context "$CONTEXT")
  command -v kubectl >/dev/null || die "CONTEXT needs kubectl on the PATH"
  command -v helm >/dev/null || die "CONTEXT needs helm on the PATH"
  kubectl version >/dev/null || die "context '$CONTEXT': the API server does not answer"
  say "Using your cluster '$CONTEXT'. It pulls $IMAGES/{operator,gateway,redis}:$TAG: build them with 'make images',"
  say "push them to a registry it can reach, and name that with IMAGES=… TAG=…"
}

start_cluster() {
  STEPS=10
  [ -z "$operator_only" ] || STEPS=9
  step "Debian packages and toolchains" "$HERE/install.sh"
  first_run_notice
  step "Kubernetes, CoreDNS, Helm" "$HERE/build.sh"
  step "gateway and operator" "$HERE/build-binaries.sh"
  STEPS=$STEPS STEP_NUMBER=$STEP_NUMBER "$HERE/up.sh" "$CLUSTER"
  STEP_NUMBER=$((STEP_NUMBER + 4))
  step "images (operator, gateway, Redis)" "$HERE/images.sh" operator gateway redis
  export KUBECONFIG=$KUBECONFIG_ADMIN
  helm() { "$BIN/helm" "$@"; }
  demo_arguments=(--kubeconfig "$KUBECONFIG_ADMIN")
}

install_operator() {
  helm upgrade --install pushcluster "$REPO/charts/pushcluster-operator" --namespace "$SYSTEM" --create-namespace \
    --set "images.operator=$IMAGES/operator:$TAG" --set "images.gateway=$IMAGES/gateway:$TAG" --set "images.redis=$IMAGES/redis:$TAG" \
    --wait --timeout 3m
  # The same tag with other contents: only a new pod takes them.
  if [ "$(kubectl -n "$SYSTEM" get deployment -o jsonpath='{.items[0].metadata.annotations.pushcluster\.io/image}')" != "$(image_id)" ]; then
    kubectl -n "$SYSTEM" annotate deployment --all --overwrite "pushcluster.io/image=$(image_id)"
    kubectl -n "$SYSTEM" rollout restart deployment
    kubectl -n "$SYSTEM" rollout status deployment --timeout 3m
  fi
}
image_id() { [ -n "$CONTEXT" ] || hash_of "$(node_state "${NODES[0]}")/imported-operator"; }

apply_example() {
  kubectl -n "$NAMESPACE" apply -f "$REPO/examples/pushcluster.yaml"
  kubectl -n "$NAMESPACE" wait --for=condition=Ready pushcluster/demo --timeout 3m
}

push() {
  cargo build -q --manifest-path "$REPO/Cargo.toml" --locked -p e2e --bin push-demo
  "${CARGO_TARGET_DIR:-$REPO/target}/debug/push-demo" "${demo_arguments[@]}" --namespace "$NAMESPACE" --name demo
}

finish() {
  say
  if [ -z "$CONTEXT" ]; then
    say "Gateways:  http://$(kubectl -n "$NAMESPACE" get service demo -o jsonpath='{.spec.clusterIP}')/   (WebSocket at /ws, from this machine)"
    say "kubectl:   export KUBECONFIG=$KUBECONFIG_ADMIN PATH=$BIN:\$PATH"
  fi
  say "Try next:  kubectl -n $NAMESPACE get pushcluster demo -o wide"
  say "           kubectl -n $NAMESPACE scale pushcluster demo --replicas 3"
  [ -n "$CONTEXT" ] || say "Remove it: make down"
}

operator_only=
[ "${1:-}" != --operator-only ] || operator_only=yes
demo_arguments=()
if [ -n "$CONTEXT" ]; then
  STEPS=2
  use_context
else
  start_cluster
fi
step "operator (helm install)" install_operator
[ -z "$operator_only" ] || exit 0
step "PushCluster 'demo' until it is Ready" apply_example
say
push
finish
