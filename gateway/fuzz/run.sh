#!/usr/bin/env bash
# Feeds mutated input to the functions of gateway/src/fuzzing.rs, with cargo-fuzz (libFuzzer, AddressSanitizer), until a
# finding or the end of the time. What it learns stays in the cache, so that the next run goes on from there.
# FUZZ_SECONDS for each target (60); names of targets as arguments, all without.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

CACHE=${PUSHCLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pushcluster}
VERSION=0.13.2
TOOL=$CACHE/cargo-fuzz-$VERSION
SEEDS=gateway/fuzz/seeds
OUT=$(realpath -m "${CARGO_TARGET_DIR:-target}")/fuzz
SECONDS_EACH=${FUZZ_SECONDS:-60}

die() { echo "fuzz: $*" >&2; exit 1; }

# Coverage and sanitizers are for nightly compilers only.
rustc +nightly --version >/dev/null 2>&1 || die "needs a nightly compiler: rustup toolchain install nightly --profile minimal"
export RUSTUP_TOOLCHAIN=nightly
# Beside the workspace's own output: every flag differs. Without LTO: it takes minutes, and finds nothing.
# The panic's own words are enough: whoever wants more runs the input in a test.
export RUST_BACKTRACE=0
# Where memory was taken matters when it is misused, which safe code does not do; keeping it takes a tenth of the time.
export ASAN_OPTIONS=malloc_context_size=3
export CARGO_TARGET_DIR=$OUT/build CARGO_PROFILE_RELEASE_LTO=off CARGO_INCREMENTAL=0

install_tool() {
  [ ! -x "$TOOL/bin/cargo-fuzz" ] || return 0
  echo "building cargo-fuzz, once: a minute or two"
  cargo install cargo-fuzz --version "$VERSION" --locked --debug --quiet --root "$TOOL" ||
    die "cargo-fuzz could not be built"
}

fuzz() { "$TOOL/bin/cargo-fuzz" fuzz "$1" --fuzz-dir gateway/fuzz "${@:2}"; }

# How it goes, once a second where somebody watches, and how it was at the end; the rest is in the log.
progress() {
  local runs=0 edges=0 pace=0 shown=$SECONDS line='\r%-9s %10s inputs, %6s a second, %5s edges  '
  while read -r runs edges pace; do
    { [ -t 1 ] && [ "$SECONDS" != "$shown" ]; } || continue
    shown=$SECONDS
    # shellcheck disable=SC2059 # it is the format
    printf "$line" "$1" "$runs" "$pace" "$edges"
  done < <(sed -un 's/^#\([0-9]*\)\t.*cov: \([0-9]*\) .*exec\/s: \([0-9]*\).*/\1 \2 \3/p' | tee "$OUT/$1.pace")
  read -r runs edges pace < <(tail -n 1 "$OUT/$1.pace") || true
  # shellcheck disable=SC2059
  printf "$line" "$1" "$runs" "$pace" "$edges"
}

run() {
  local target=$1 corpus=$CACHE/fuzz/$1 log=$OUT/$1.log began=$OUT/$1.began
  mkdir -p "$corpus"
  touch "$began"
  # The timeout is of the clock: on a busy machine 10 s passed over an input of 20 ms. Leaks are looked for with ptrace,
  # which containers refuse, and safe code makes one only with a cycle or a `forget`.
  if fuzz run "$target" "$corpus" "$SEEDS/$target" -- -max_total_time="$SECONDS_EACH" -timeout=60 -rss_limit_mb=2048 \
    -detect_leaks=0 -use_value_profile=1 -print_final_stats=1 2>&1 | tee "$log" | progress "$target"; then
    echo "no finding"
    return 0
  fi
  echo
  grep -a -A 5 -E 'panicked at|ERROR: |SUMMARY: ' "$log" | head -n 20 || true
  local input
  input=$(find "gateway/fuzz/artifacts/$target" -type f -newer "$began" | head -n 1)
  [ -n "$input" ] || die "$target ended, and no input is to blame; all it said is in $log"
  cat <<END
fuzz: $target failed on $input
  1. make it smaller: RUSTUP_TOOLCHAIN=nightly CARGO_TARGET_DIR=$CARGO_TARGET_DIR CARGO_PROFILE_RELEASE_LTO=off \\
       $TOOL/bin/cargo-fuzz fuzz tmin --fuzz-dir gateway/fuzz $target $input
  2. keep it: copy what is left to $SEEDS/$target/<what is wrong with it>
  3. see it fail: cargo test -p gateway fuzzing
  4. mend the gateway, with a row in a table test beside the code; commit both
END
  return 1
}

mapfile -t known < <(cd "$SEEDS" && ls)
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=("${known[@]}")
for target in "${targets[@]}"; do
  [ -d "$SEEDS/$target" ] || die "there is no target $target; there are ${known[*]}"
done
mkdir -p "$OUT"
install_tool
echo "building the targets; the first time takes a few minutes"
fuzz build >"$OUT/build.log" 2>&1 || die "the targets do not compile: $(tail -n 60 "$OUT/build.log")"
failed=()
for target in "${targets[@]}"; do
  run "$target" || failed+=("$target")
done
[ ${#failed[@]} -eq 0 ] || die "findings in ${failed[*]}; what to do is above"
echo "fuzz: ${#targets[@]} targets, $SECONDS_EACH s each, nothing found; FUZZ_SECONDS=600 looks longer"
