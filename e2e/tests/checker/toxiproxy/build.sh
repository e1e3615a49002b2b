#!/usr/bin/env bash
# Builds toxiproxy's server from its Go module into the cache, once per version, and says where it is.

set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${PUSHCLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pushcluster}
VERSION=$(sed -n 's|.*github.com/Shopify/toxiproxy/v2 v||p' "$HERE/go.mod" | cut -d' ' -f1)
PROGRAM=$CACHE/toxiproxy-$VERSION

if [ ! -x "$PROGRAM" ]; then
  mkdir -p "$CACHE"
  # A second one waits for the first and finds its work done; a killed one leaves no half program.
  exec 8>"$CACHE/toxiproxy.lock"
  flock 8
  if [ ! -x "$PROGRAM" ]; then
    cd "$HERE"
    CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$PROGRAM.building" github.com/Shopify/toxiproxy/v2/cmd/server 8>&-
    mv "$PROGRAM.building" "$PROGRAM"
  fi
fi
echo "$PROGRAM"
