#!/usr/bin/env bash
# `make down`: removes everything that `make up` made, and nothing else; with CONTEXT=name, from a cluster that you have.
. "$(dirname "$0")/lib.sh"
export CLUSTER

CONTEXT=${CONTEXT:-}
NAMESPACE=${NAMESPACE:-default}

# First the PushCluster, while the operator is still there to take it apart.
remove_push_cluster() {
  if kubectl get crd pushclusters.pushcluster.io >/dev/null 2>&1; then
    kubectl -n "$NAMESPACE" delete -f "$REPO/examples/pushcluster.yaml" --ignore-not-found --timeout 2m
  fi
}

remove_operator() {
  helm uninstall "$RELEASE" --namespace "$SYSTEM" --ignore-not-found --wait --timeout 3m
  kubectl delete namespace "$SYSTEM" --ignore-not-found --timeout 2m
}

if [ -n "$CONTEXT" ]; then
  STEPS=2
  use_context
  step "PushCluster 'demo'" remove_push_cluster
  step "operator (helm uninstall)" remove_operator
else
  exec "$HERE/down.sh" "$CLUSTER"
fi
