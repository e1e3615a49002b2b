#!/usr/bin/env bash
# images.sh IMAGE... [--node NODE]: builds images from their Dockerfiles and imports them to every node (or one).
# No engine and no registry: buildah on the host, containerd's import on the node. What has not changed is not done again.
. "$(dirname "$0")/lib.sh"

BUILDAH=(buildah --storage-driver vfs --root "$CACHE/buildah/root" --runroot "$STATE_ROOT/buildah")

# Every image has a function that fills its build context: what `docker build` would be given.
context_pause() {
  gcc -static -Os -o "$1/pause" "$HERE/images/pause/pause.c"
  cp "$HERE/images/pause/Dockerfile" "$1/"
}
context_coredns() {
  cp "$BIN/coredns" "$HERE/images/coredns/Dockerfile" "$1/"
}
context_gateway() {
  cp "$("$HERE/build-binaries.sh" --where)/gateway" "$REPO/gateway/Dockerfile" "$1/"
}
context_operator() {
  cp "$("$HERE/build-binaries.sh" --where)/operator" "$REPO/operator/Dockerfile" "$1/"
}
# Debian's Redis with the libraries it names, and nothing else.
context_redis() {
  local file
  mkdir -p "$1/root/usr/bin" "$1/root/etc" "$1/root/tmp" "$1/root/data"
  for file in redis-server redis-cli; do
    cp -L "/usr/bin/$file" "$1/root/usr/bin/"
    ldd "/usr/bin/$file" | grep -oE '/[^ ]+' | while read -r library; do
      install -D "$library" "$1/root$library"
    done
  done
  ln -sf redis-server "$1/root/usr/bin/redis-sentinel"
  echo 'redis:x:65532:65532::/data:/sbin/nologin' >"$1/root/etc/passwd"
  chmod 1777 "$1/root/tmp"
  cp "$HERE/images/redis/Dockerfile" "$1/"
}

context_key() { # DIRECTORY: of names, modes and contents, so that an unchanged build is recognised
  (cd "$1" && find . \( -type f -o -type l \) -printf '%m %p %l\n' | sort && find . -type f -print0 | sort -z | xargs -0 sha256sum) |
    sha256sum | cut -c1-16
}

# build IMAGE: prints the archive.
build() {
  local image=$1 context archive aside
  context=$(mktemp -d "$CACHE/context-XXXXXX")
  "context_$image" "$context" >&2
  archive=$CACHE/images/$image-$(context_key "$context").tar
  if [ ! -e "$archive" ]; then
    mkdir -p "$CACHE/images"
    aside=$(mktemp -u "$CACHE/images/$image-XXXXXX.part")
    "${BUILDAH[@]}" build --isolation chroot --layers=false --timestamp 0 -t "docker.io/pushcluster/$image:dev" "$context" >&2
    "${BUILDAH[@]}" push -q "docker.io/pushcluster/$image:dev" "docker-archive:$aside:docker.io/pushcluster/$image:dev" >&2
    "${BUILDAH[@]}" rmi -a -f >&2 || true
    # Only the newest of each: a developer builds hundreds.
    find "$CACHE/images" -name "$image-*.tar" -delete
    mv "$aside" "$archive"
  fi
  rm -rf "$context"
  echo "$archive"
}

import() { # ARCHIVE IMAGE NODE
  local record
  record=$(node_state "$3")/imported-$2
  [ "$(cat "$record" 2>/dev/null)" != "$1" ] || return 0
  ctr -a "$(node_containerd "$3")" -n k8s.io images import "$1"
  echo "$1" >"$record"
}

images=() nodes=("${NODES[@]}")
while [ $# -gt 0 ]; do
  case $1 in
    --node) nodes=("$2"); shift ;;
    *) images+=("$1") ;;
  esac
  shift
done
mkdir -p "$CACHE" "$STATE_ROOT"
for image in "${images[@]}"; do
  # One build at a time: buildah's storage is shared by all clusters of this machine.
  exec 8>"$CACHE/images.lock"
  flock 8
  archive=$(build "$image" 8>&-)
  exec 8>&-
  for node in "${nodes[@]}"; do import "$archive" "$image" "$node"; done
done
