#!/usr/bin/env bash
# Builds the gateway and the operator as static binaries: they run in an image that holds nothing else.
# --where prints the directory they are in. --copy PROGRAM TO: as images have it, without debug information, which is three
# quarters of it; names of functions stay, for backtraces.
. "$(dirname "$0")/lib.sh"

TARGET=$(rustc -vV | sed -n 's/^host: //p')
DIRECTORY=${CARGO_TARGET_DIR:-$REPO/target}/$TARGET/release

if [ "${1:-}" = --where ]; then
  echo "$DIRECTORY"
  exit
fi
if [ "${1:-}" = --copy ]; then
  strip --strip-debug -o "$3" "$DIRECTORY/$2"
  exit
fi
cd "$REPO"
# The target is named although it is the host: only then do the flags spare build scripts and procedural macros.
RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked --target "$TARGET" -p gateway -p operator
