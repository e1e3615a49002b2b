# shellcheck shell=bash
# shellcheck disable=SC2034  # used by the scripts that source this file
# What every script here needs: names and addresses of one cluster, progress, processes, waiting.
# Source it with CLUSTER set (default: dev). Nothing happens at source time but assignments.

set -euo pipefail

CLUSTER=${CLUSTER:-dev}
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
REPO=$(cd "$HERE/../.." && pwd)
# Outside the tree, keyed by what each entry was built from, never required: deleting it only costs time.
CACHE=${PUSHCLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pushcluster}
STATE_ROOT=/run/pushcluster
STATE=$STATE_ROOT/$CLUSTER
LOGS=$STATE/logs
PKI=$STATE/pki
KUBECONFIG_ADMIN=$STATE/admin.kubeconfig
AUDIT_LOG=$LOGS/audit.log
NODES=(node-1 node-2)

case $CLUSTER in
  dev) INDEX=0 ;;
  test) INDEX=1 ;;
  *[!a-z0-9-]* | '') echo "cluster name '$CLUSTER': only a-z, 0-9 and - are allowed" >&2; exit 2 ;;
  # Other names share the rest of the address plan; up.sh refuses one whose addresses are taken.
  *) INDEX=$((2 + $(printf %s "$CLUSTER" | cksum | cut -d' ' -f1) % 14)) ;;
esac

# The address plan. Every cluster has its own second octets, so that several run side by side.
#   10.64+i.N.0/24    pods of node N            10.80+i.0.0/16   Services
#   10.112+i.0.1      the API server (on lo)    10.112+i.N.0/30  the link to node N: host .1, node .2
#   127.0.64+i.1      etcd and the control plane's own ports
POD_RANGE=10.$((64 + INDEX)).0.0/16
SERVICE_RANGE=10.$((80 + INDEX)).0.0/16
SERVICE_API=10.$((80 + INDEX)).0.1
SERVICE_DNS=10.$((80 + INDEX)).0.10
API_ADDRESS=10.$((112 + INDEX)).0.1
API_URL=https://$API_ADDRESS:6443
LOCAL_ADDRESS=127.0.$((64 + INDEX)).1

node_number() { echo "${1#node-}"; }
node_pods() { echo "10.$((64 + INDEX)).$(node_number "$1").0/24"; }
node_address() { echo "10.$((112 + INDEX)).$(node_number "$1").2"; }
node_gateway() { echo "10.$((112 + INDEX)).$(node_number "$1").1"; }
node_netns() { echo "pushcluster-$CLUSTER-$1"; }
node_link() { echo "pc${INDEX}n$(node_number "$1")"; }
node_state() { echo "$STATE/$1"; }
node_cgroup() { echo "pushcluster-$CLUSTER-$1"; }
node_containerd() { echo "$(node_state "$1")/containerd.sock"; }

# ---- progress

STEP_NUMBER=${STEP_NUMBER:-0}
STEPS=${STEPS:-}

say() { printf '%s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

now_ms() { date +%s%3N; }

# A killed script leaves its step running; the next one ends it before it touches anything.
end_orphaned_step() {
  local pid started
  { read -r pid started <"$STATE_ROOT/steps/$CLUSTER.running"; } 2>/dev/null || return 0
  [ "$(process_started "$pid")" != "$started" ] || kill -KILL -- "-$pid" 2>/dev/null || true
  rm -f "$STATE_ROOT/steps/$CLUSTER.running"
}

# What a long step is doing, on one line that is written over; every minute a line where nobody can overwrite.
show_progress() { # TITLE BEGUN LOG
  local seconds=$((($(now_ms) - $2) / 1000)) doing
  if [ -t 1 ]; then
    doing=$(tail -c 300 "$3" | tr '\r' '\n' | grep -v '^ *$' | tail -n 1 | tr -dc '[:print:]' | cut -c1-40)
    printf '\r[%2d/%d] %-46s %5d s  %-40s' "$STEP_NUMBER" "$STEPS" "$1" "$seconds" "$doing"
  elif [ $((seconds / 60)) -gt "$MINUTES_SHOWN" ]; then
    MINUTES_SHOWN=$((seconds / 60))
    printf '\n        … %d min' "$MINUTES_SHOWN"
  fi
}

# step TITLE COMMAND...: runs it with its output in a log, and says how long it took; on failure shows the log's end.
step() {
  local title=$1 log begun status=0 ms pid
  shift
  STEP_NUMBER=$((STEP_NUMBER + 1)) MINUTES_SHOWN=0
  mkdir -p "$STATE_ROOT/steps"
  log=$STATE_ROOT/steps/$CLUSTER-$(printf %02d "$STEP_NUMBER").log
  begun=$(now_ms)
  [ -t 1 ] || printf '[%2d/%d] %-46s' "$STEP_NUMBER" "$STEPS" "$title"
  # A process group of its own, so that all of it can be ended together.
  set -m
  (set -e; "$@") >"$log" 2>&1 </dev/null 9>&- &
  pid=$!
  set +m
  # shellcheck disable=SC2064  # this step's group, not that of the last one
  trap "kill -TERM -- -$pid 2>/dev/null; exit 130" INT TERM
  echo "$pid $(process_started "$pid")" >"$STATE_ROOT/steps/$CLUSTER.running"
  while kill -0 "$pid" 2>/dev/null; do
    pause
    show_progress "$title" "$begun" "$log"
  done
  wait "$pid" || status=$?
  trap - INT TERM
  rm -f "$STATE_ROOT/steps/$CLUSTER.running"
  ms=$(($(now_ms) - begun))
  [ ! -t 1 ] || printf '\r[%2d/%d] %-46s' "$STEP_NUMBER" "$STEPS" "$title"
  if [ "$status" -ne 0 ]; then
    printf ' failed after %d.%d s\n' $((ms / 1000)) $((ms % 1000 / 100))
    tail -n 30 "$log" >&2
    printf 'error: %s failed; its whole output: %s; logs of the cluster: %s\n' "$title" "$log" "$LOGS" >&2
    exit "$status"
  fi
  printf ' %4d.%d s%-42s\n' $((ms / 1000)) $((ms % 1000 / 100)) ''
}

# The time between two looks at a fact; never a wait by itself.
pause() { read -rt 0.2 <> <(:) || true; }

# wait_for SECONDS WHAT COMMAND...: until the command succeeds; the deadline is an error that names WHAT.
wait_for() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || {
      echo "waited too long for: $what; the last try said:" >&2
      "$@" >&2 || true
      return 1
    }
    pause
  done
}

# ---- processes: recorded with the time they started, so that a pid that was given to another is never killed

process_started() { awk '{print $22}' "/proc/$1/stat" 2>/dev/null; }

# start NAME COMMAND...: in a session of its own, output in $LOGS/NAME.log.
start() {
  local name=$1 pid
  shift
  setsid "$@" >>"$LOGS/$name.log" 2>&1 </dev/null 9>&- &
  pid=$!
  echo "$pid $(process_started "$pid")" >"$STATE/processes/$name"
}

running() {
  local pid started
  { read -r pid started <"$STATE/processes/$1"; } 2>/dev/null || return 1
  [ -n "$started" ] && [ "$(process_started "$pid")" = "$started" ]
}

# answers NAME SECONDS COMMAND...: waits until the started process does; one that ended is told at once.
answers() {
  local name=$1 seconds=$2
  shift 2
  wait_for "$seconds" "$name to answer" ended_or "$name" "$@" && running "$name" && return
  tail -n 20 "$LOGS/$name.log" >&2
  die "$name did not start; its log: $LOGS/$name.log"
}
ended_or() {
  local name=$1
  shift
  ! running "$name" || "$@"
}

# stop NAME: asks, waits a little (everything here is thrown away: nobody needs the API server's minute of draining), insists.
stop() {
  local pid _started
  if running "$1"; then
    read -r pid _started <"$STATE/processes/$1"
    kill -TERM "$pid" 2>/dev/null || true
    wait_for 2 "the end of $1" not running "$1" 2>/dev/null || kill -KILL "$pid" 2>/dev/null || true
    wait_for 5 "the end of $1" not running "$1"
  fi
  rm -f "$STATE/processes/$1"
}

not() { ! "$@"; }

# ---- programs

kubectl() { "$BIN/kubectl" --kubeconfig "$KUBECONFIG_ADMIN" "$@"; }
in_node() {
  local node=$1
  shift
  nsenter --net="/run/netns/$(node_netns "$node")" "$@"
}

hash_of() { sha256sum "$@" | sha256sum | cut -c1-16; }

# The key of the programs built from Go modules, and where they lie.
programs_key() {
  (cd "$HERE/kubernetes" && { go version; cat go.mod go.sum ./*/main.go "$HERE/build.sh"; } | sha256sum | cut -c1-16)
}
BIN=$CACHE/kubernetes-$(programs_key)
