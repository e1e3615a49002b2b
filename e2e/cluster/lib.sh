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
# On a disk: /run may be a small tmpfs, and every node keeps its images here.
STATE_ROOT=/var/lib/pushcluster
STATE=$STATE_ROOT/$CLUSTER
LOGS=$STATE/logs
PKI=$STATE/pki
KUBECONFIG_ADMIN=$STATE/admin.kubeconfig
AUDIT_LOG=$LOGS/audit.log
COMMENT=pushcluster-$CLUSTER # on every firewall rule of ours
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
LINK_RANGE=10.$((112 + INDEX)).0.0/16
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

# A killed script leaves its step running; the next one ends it before it touches anything. A step whose script
# lives is left alone: it is another command's.
end_orphaned_step() {
  local pid started parent parent_started
  { read -r pid started parent parent_started <"$STATE_ROOT/steps/$CLUSTER.running"; } 2>/dev/null || return 0
  [ "$(process_started "$parent")" != "$parent_started" ] || return 0
  if [ "$(process_started "$pid")" = "$started" ]; then
    kill -KILL -- "-$pid" 2>/dev/null || true
    wait_for 5 "the end of a killed run's step" not kill -0 -- "-$pid"
  fi
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
  echo "$pid $(process_started "$pid") $$ $(process_started $$)" >"$STATE_ROOT/steps/$CLUSTER.running"
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

# ---- one command at a time

# Holds the cluster's lock (on descriptor 9) until the script ends. The file is removed with the cluster, so it may have
# gone while we waited for it: then another command holds a newer file.
take_lock() {
  mkdir -p "$STATE_ROOT"
  while true; do
    exec 9>"$STATE_ROOT/$CLUSTER.lock"
    flock -w 300 9 || die "cluster '$CLUSTER' is being started or stopped by another command"
    [ "$STATE_ROOT/$CLUSTER.lock" -ef /dev/fd/9 ] && return
  done
}

# ---- processes: recorded with the time they started, so that a pid that was given to another is never killed

# The boot is part of it: after a reboot a pid and its ticks may return.
process_started() {
  local stat boot
  { read -r stat <"/proc/$1/stat" && read -r boot </proc/sys/kernel/random/boot_id; } 2>/dev/null || return 0
  # The program's name is in parentheses and may hold anything; what follows is fields 3 to 52.
  read -ra stat <<<"${stat##*) }"
  # Dead, and waiting for a parent that takes its time.
  [ "${stat[0]}" != Z ] || return 0
  echo "$boot-${stat[19]}"
}

# start NAME COMMAND...: in a session of its own, output in $LOGS/NAME.log. The process writes its own record before it
# becomes the command, so that no moment exists in which this script could be killed and leave an unknown process.
start() {
  local name=$1 record=$STATE/processes/$1 pid
  shift
  rm -f "$record"
  {
    pid=$BASHPID
    echo "$pid $(process_started "$pid")" >"$record"
    exec setsid "$@"
  } >>"$LOGS/$name.log" 2>&1 </dev/null 9>&- &
  until [ -s "$record" ]; do kill -0 $! || die "could not start $name"; done
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

# end NAME: at once. Everything here is thrown away: nobody needs the API server's minute of draining.
end() {
  local pid _started
  if running "$1"; then
    read -r pid _started <"$STATE/processes/$1"
    kill -KILL "$pid" 2>/dev/null || true
    wait_for 10 "the end of $1" not running "$1"
  fi
  rm -f "$STATE/processes/$1"
}

not() { ! "$@"; }

# ---- programs

kubectl() { "$BIN/kubectl" --kubeconfig "$KUBECONFIG_ADMIN" "$@"; }
helm() { "$BIN/helm" --kubeconfig "$KUBECONFIG_ADMIN" "$@"; }

# Where `make up` installs the operator, and under which name.
RELEASE=pushcluster
SYSTEM=pushcluster-system

# From here on, kubectl and helm are the user's, and work on the cluster of that context.
use_context() {
  command -v kubectl >/dev/null || die "CONTEXT needs kubectl on the PATH"
  command -v helm >/dev/null || die "CONTEXT needs helm on the PATH"
  kubectl() { command kubectl --context "$CONTEXT" "$@"; }
  # shellcheck disable=SC2317  # called by those who source this
  helm() { command helm --kube-context "$CONTEXT" "$@"; }
  kubectl version >/dev/null || die "context '$CONTEXT': it cannot be used"
}

# Inside the node: its network, and its mounts, which the host does not see.
in_node() {
  local pid _started
  read -r pid _started <"$STATE/processes/$1"
  shift
  nsenter --target "$pid" --mount --net -- "$@"
}

# The name of an imported image that changes with its contents.
image_name() { tail -n 1 "$(node_state "${NODES[0]}")/images-$1"; }

# The key of the programs built from Go modules, and where they lie.
programs_key() {
  (cd "$HERE/kubernetes" && { go version || true; cat go.mod go.sum ./*/*.go "$HERE/build.sh"; } 2>/dev/null | sha256sum | cut -c1-16)
}
BIN=$CACHE/kubernetes-$(programs_key)
