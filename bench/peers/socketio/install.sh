#!/usr/bin/env bash
# Installs socket.io from npm into the cache, once for each lock file, and says where its modules are.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${PUSHCLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pushcluster}
FOLDER=$CACHE/socketio-$(sha256sum "$HERE/package-lock.json" | cut -c1-16)

if [ ! -d "$FOLDER" ]; then
  mkdir -p "$CACHE"
  # A second one waits for the first and finds its work done; a killed one leaves no half folder.
  exec 8>"$CACHE/socketio.lock"
  flock 8
  if [ ! -d "$FOLDER" ]; then
    rm -rf "$FOLDER.installing"
    mkdir "$FOLDER.installing"
    cp "$HERE/package.json" "$HERE/package-lock.json" "$FOLDER.installing"
    npm ci --prefix "$FOLDER.installing" --ignore-scripts --no-audit --no-fund >&2 8>&-
    mv "$FOLDER.installing" "$FOLDER"
  fi
fi
echo "$FOLDER/node_modules"
