#!/usr/bin/env bash
# `make up`: from an empty machine to a push through a real Kubernetes, or, with CONTEXT=name, through one that you have.
# --operator-only ends before the PushCluster: what the e2e tests start from.
. "$(dirname "$0")/lib.sh"
export CLUSTER

CONTEXT=${CONTEXT:-}
NAMESPACE=${NAMESPACE:-default}
# With CONTEXT: where that cluster pulls from, for example registry.example.org/pushcluster. Redis is anybody's.
IMAGES=${IMAGES:-pushcluster}
TAG=${TAG:-dev}
REDIS_IMAGE=${REDIS_IMAGE:-redis:7.2}

first_run_notice() {
  "$HERE/build.sh" --is-built || cat <<'TEXT'
First run: Kubernetes, CoreDNS and Helm are built from their Go modules, once, and kept in a cache.
On two cores that takes 5 to 30 minutes, by the machine's mood; every later run takes seconds.
TEXT
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
  demo_arguments=(--kubeconfig "$KUBECONFIG_ADMIN")
}

use_users_cluster() {
  STEPS=2
  [ -z "$operator_only" ] || STEPS=1
  use_context
  image() {
    case $1 in
      redis) echo "$REDIS_IMAGE" ;;
      *) echo "$IMAGES/$1:$TAG" ;;
    esac
  }
  demo_arguments=(--context "$CONTEXT")
  say "Using your cluster '$CONTEXT'. It pulls $IMAGES/{operator,gateway}:$TAG: build them with 'make images', push them to"
  say "a registry it can reach, and name that with IMAGES=… TAG=…; and $REDIS_IMAGE, unless REDIS_IMAGE=… says otherwise."
}

image() { image_name "$1"; }

# A helm that was killed leaves a release that it will not touch again ("another operation is in progress"). What it had
# done is done again by the next one.
forget_killed_install() {
  kubectl -n "$SYSTEM" delete secret --ignore-not-found \
    -l "owner=helm,name=$RELEASE,status in (pending-install,pending-upgrade,pending-rollback)"
}

install_operator() {
  forget_killed_install
  helm upgrade --install "$RELEASE" "$REPO/charts/pushcluster-operator" --namespace "$SYSTEM" --create-namespace \
    --set "images.operator=$(image operator)" --set "images.gateway=$(image gateway)" --set "images.redis=$(image redis)" \
    --wait --timeout 3m || { explain "$SYSTEM"; return 1; }
}

apply_example() {
  kubectl -n "$NAMESPACE" apply -f "$REPO/examples/pushcluster.yaml"
  kubectl -n "$NAMESPACE" wait --for=condition=Ready pushcluster/demo --timeout 3m || {
    kubectl -n "$NAMESPACE" get pushcluster demo -o jsonpath='{range .status.conditions[*]}{.type}={.status} {.reason}: {.message}{"\n"}{end}'
    explain "$NAMESPACE"
    return 1
  }
}

# What a person would look at first.
explain() { # NAMESPACE
  kubectl -n "$1" get pods -o wide || true
  kubectl -n "$1" get events --sort-by=.lastTimestamp | tail -n 12 || true
}

push() {
  cargo build -q --manifest-path "$REPO/Cargo.toml" --locked -p e2e --bin push-demo
  "${CARGO_TARGET_DIR:-$REPO/target}/debug/push-demo" "${demo_arguments[@]}" --namespace "$NAMESPACE" --name demo
}

finish() {
  say
  if [ -z "$CONTEXT" ]; then
    say "Gateways:  http://$(kubectl -n "$NAMESPACE" get service demo -o jsonpath='{.spec.clusterIP}')/   (WebSocket at /ws, from this machine)"
    say "kubectl:   export KUBECONFIG=$KUBECONFIG_ADMIN PATH=$STATE/bin:\$PATH"
  fi
  say "Try next:  kubectl -n $NAMESPACE get pushcluster demo -o wide"
  say "           kubectl -n $NAMESPACE scale pushcluster demo --replicas 3"
  say "Remove it: make down${CONTEXT:+ CONTEXT=$CONTEXT}"
}

operator_only=
[ "${1:-}" != --operator-only ] || operator_only=yes
demo_arguments=()
if [ -n "$CONTEXT" ]; then
  use_users_cluster
else
  start_cluster
fi
step "operator (helm install)" install_operator
[ -z "$operator_only" ] || exit 0
step "PushCluster 'demo' until it is Ready" apply_example
say
push
finish
