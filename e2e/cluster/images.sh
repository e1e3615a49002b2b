#!/usr/bin/env bash
# images.sh IMAGE... [--node NODE]: of cluster $CLUSTER. Builds images from their Dockerfiles and imports them to every node (or one).
# No engine and no registry: buildah on the host, containerd's import on the node. What has not changed is not done again.
. "$(dirname "$0")/lib.sh"

PREFIX=docker.io/pushcluster
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
  "$HERE/build-binaries.sh" --copy gateway "$1/gateway"
  cp "$REPO/gateway/Dockerfile" "$1/"
}
context_operator() {
  "$HERE/build-binaries.sh" --copy operator "$1/operator"
  cp "$REPO/operator/Dockerfile" "$1/"
}
# Debian's Redis with the libraries it names; cp, sleep, timeout and sh, with which pods of Redis begin; and nothing else.
context_redis() {
  local file
  mkdir -p "$1/root/usr/bin" "$1/root/etc" "$1/root/tmp" "$1/root/data"
  for file in redis-server redis-cli cp sleep timeout sh; do
    cp -L "$(command -v "$file")" "$1/root/usr/bin/"
    ldd "$1/root/usr/bin/$file" | grep -oE '/[^ ]+' | while read -r library; do
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

# build IMAGE: prints its key; the archive is $CACHE/images/IMAGE-KEY.tar. Run by one at a time (images.lock): a killed
# run's leftovers have fixed names and go first.
build() {
  local image=$1 context=$CACHE/images/context part=$CACHE/images/part.tar name=$PREFIX/$1:dev key archive
  rm -rf "$context" "$part"
  mkdir -p "$context"
  "context_$image" "$context" >&2
  key=$(context_key "$context")
  archive=$CACHE/images/$image-$key.tar
  if [ ! -e "$archive" ]; then
    "${BUILDAH[@]}" build --isolation chroot --layers=false --timestamp 0 -t "$name" "$context" >&2
    "${BUILDAH[@]}" push -q "$name" "docker-archive:$part:$name" >&2
    "${BUILDAH[@]}" rmi -a -f >&2 || true
    # Only the newest of each: a developer builds hundreds.
    find "$CACHE/images" -name "$image-*.tar" -delete
    mv "$part" "$archive"
  fi
  rm -rf "$context"
  echo "$key"
}

# Under two names: `dev`, and one that changes with the contents, so that whoever is given it rolls out what changed.
# A node keeps the last five: a pod that has not been rolled yet may start again.
import() { # IMAGE KEY NODE
  local name=$PREFIX/$1:dev record ctr old
  record=$(node_state "$3")/images-$1
  [ "$(tail -n 1 "$record" 2>/dev/null)" != "$name-$2" ] || return 0
  ctr=(ctr -a "$(node_containerd "$3")" -n k8s.io images)
  "${ctr[@]}" import "$CACHE/images/$1-$2.tar"
  "${ctr[@]}" tag --force "$name" "$name-$2"
  { grep -vxF "$name-$2" "$record" 2>/dev/null || true; echo "$name-$2"; } >"$record.new"
  head -n -5 "$record.new" | while read -r old; do "${ctr[@]}" rm "$old"; done
  tail -n 5 "$record.new" >"$record"
  rm "$record.new"
}

images=() nodes=("${NODES[@]}")
while [ $# -gt 0 ]; do
  case $1 in
    --node) nodes=("$2"); shift ;;
    *) images+=("$1") ;;
  esac
  shift
done
[ -e "$STATE/processes" ] || die "cluster '$CLUSTER' is not up: start it with e2e/cluster/up.sh $CLUSTER"
mkdir -p "$CACHE/images"
for image in "${images[@]}"; do
  # Buildah's storage and the archives are shared by all clusters of this machine. Import before another build may
  # replace the archive.
  exec 8>"$CACHE/images.lock"
  flock 8
  key=$(build "$image" 8>&-)
  for node in "${nodes[@]}"; do import "$image" "$key" "$node" 8>&-; done
  exec 8>&-
done
