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
cargo test --manifest-path "$REPO/Cargo.toml" --locked -p e2e --test e2e -- --test-threads "$THREADS" ${TEST:+"$TEST"}
# What all of them made the operator do, beside what the chart allows it.
[ -n "$TEST" ] || cargo test --manifest-path "$REPO/Cargo.toml" --locked -p e2e --test e2e -- --ignored
say "e2e: done in $((SECONDS - begun)) s on cluster '$CLUSTER'"
