#!/usr/bin/env bash
# `make down`: removes everything that `make up` made, and nothing else; with CONTEXT=name, from a cluster that you have.
. "$(dirname "$0")/lib.sh"
export CLUSTER

CONTEXT=${CONTEXT:-}
NAMESPACE=${NAMESPACE:-default}
CRD=pushclusters.pushcluster.io

# First the PushCluster, while the operator is still there to take it apart.
remove_push_cluster() {
  if kubectl get crd "$CRD" >/dev/null 2>&1; then
    kubectl -n "$NAMESPACE" delete -f "$REPO/examples/pushcluster.yaml" --ignore-not-found --timeout 2m
  fi
}

remove_operator() {
  helm uninstall "$RELEASE" --namespace "$SYSTEM" --ignore-not-found --wait --timeout 3m
  kubectl delete namespace "$SYSTEM" --ignore-not-found --timeout 2m
}

# The chart leaves its CRD, since with it every PushCluster would go. Where there is none, it is only in the way.
remove_crd() {
  local owner left
  owner=$(kubectl get crd "$CRD" --ignore-not-found -o jsonpath='{.metadata.annotations.meta\.helm\.sh/release-name}')
  [ "$owner" = "$RELEASE" ] || return 0
  left=$(kubectl get "$CRD" --all-namespaces -o name | wc -l)
  [ "$left" = 0 ] || { echo "CRD $CRD stays: $left PushClusters are left"; return 0; }
  kubectl delete crd "$CRD" --timeout 1m
}

if [ -n "$CONTEXT" ]; then
  STEPS=3
  use_context
  step "PushCluster 'demo'" remove_push_cluster
  step "operator (helm uninstall)" remove_operator
  step "its CRD, if nobody has a PushCluster" remove_crd
else
  exec "$HERE/down.sh" "$CLUSTER"
fi
