#!/usr/bin/env bash
# Builds Kubernetes (one binary), CoreDNS and Helm from Go modules into the cache, once per set of versions.
. "$(dirname "$0")/lib.sh"

KUBE_PROGRAMS=(kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl volume-provisioner)

# Without these the server calls itself v0.0.0 and clients refuse it.
kube_ldflags() {
  local version package
  version=$(cd "$HERE/kubernetes" && go list -m -f '{{.Version}}' k8s.io/kubernetes)
  printf -- '-s -w'
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    printf -- ' -X %s.%s' \
      "$package" "gitVersion=$version" \
      "$package" "gitMajor=$(cut -d. -f1 <<<"${version#v}")" \
      "$package" "gitMinor=$(cut -d. -f2 <<<"$version")" \
      "$package" "gitTreeState=clean"
  done
}

build() {
  local out=$1
  cd "$HERE/kubernetes"
  export CGO_ENABLED=0
  go build -v -trimpath -ldflags "$(kube_ldflags)" -o "$out/" ./kube
  go build -v -trimpath -ldflags '-s -w' -o "$out/" ./coredns
  go build -v -trimpath -ldflags '-s -w' -o "$out/" helm.sh/helm/v3/cmd/helm
  local program
  for program in "${KUBE_PROGRAMS[@]}"; do ln -s kube "$out/$program"; done
}

if [ "${1:-}" = --is-built ]; then
  [ -x "$BIN/helm" ]
  exit
fi
[ ! -x "$BIN/helm" ] || exit 0
mkdir -p "$CACHE"
# A second one waits for the first and finds its work done.
exec 8>"$CACHE/build.lock"
flock 8
[ ! -x "$BIN/helm" ] || exit 0
# Built aside and moved into place whole: a killed build leaves no half entry, and the next one removes what it left.
aside=$CACHE/building
rm -rf "$aside" "$BIN"
mkdir "$aside"
build "$aside" 8>&-
mv -T "$aside" "$BIN"
