#!/usr/bin/env bash
# run.sh: the tests on a real cluster. Starts one, or uses the one of this name that is up; installs the operator;
# runs the tests, or those whose name contains $TEST; removes the cluster if it was started here, whatever happened.
CLUSTER=${CLUSTER:-test} TEST=${TEST:-}
. "$(dirname "$0")/cluster/lib.sh"
export CLUSTER
unset CONTEXT

# Tests at once: each runs two or three gateways and a Redis, and waits most of the time.
THREADS=${THREADS:-4}

begun=$SECONDS
# The cluster `test` belongs to this script: what a killed run left of it goes first. Another, as `dev`, stays
# if it was up.
stays=
if [ "$CLUSTER" = test ]; then
  [ ! -e "$STATE" ] || "$HERE/down.sh" "$CLUSTER"
elif [ -e "$STATE/ready" ]; then
  stays=yes
fi
remove() {
  local status=$?
  trap - EXIT
  [ -n "$stays" ] || "$HERE/down.sh" "$CLUSTER" || status=1
  exit "$status"
}
trap remove EXIT
# Without these, bash ends at once and leaves the cluster.
trap 'exit 130' INT
trap 'exit 143' TERM

"$HERE/make-up.sh" --operator-only
export HELM=$BIN/helm
export PUSHCLUSTER_E2E_KUBECONFIG=$KUBECONFIG_ADMIN PUSHCLUSTER_E2E_AUDIT_LOG=$AUDIT_LOG
tests() {
  cargo test --manifest-path "$REPO/Cargo.toml" --locked -p e2e --test e2e -- "$@"
}
if [ -n "$TEST" ]; then
  tests --test-threads "$THREADS" "$TEST"
else
  tests --test-threads "$THREADS" --skip alone::
  # Each has the cluster for itself; among the others it would wait for them, and they for it.
  tests --test-threads 1 alone::
  # What all of them made the operator do, beside what the chart allows it.
  tests --ignored
fi
say "e2e: done in $((SECONDS - begun)) s on cluster '$CLUSTER'"
