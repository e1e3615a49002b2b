#!/usr/bin/env bash
# Installs from Debian what is missing, and nothing that is there. Needs root, Debian 12 or later.
. "$(dirname "$0")/lib.sh"

PACKAGES=(etcd-server containerd runc containernetworking-plugins iptables conntrack socat ethtool
  iproute2 util-linux buildah redis-server openssl gcc libc6-dev make cmake curl ca-certificates jq git shellcheck)
GO_MINIMUM=1.24
RUST_MINIMUM=1.89

missing_packages() {
  local package
  for package in "${PACKAGES[@]}"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
  done
}

at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

check_toolchains() {
  local go_version rust_version
  command -v go >/dev/null || die "Go is not installed: Go $GO_MINIMUM or later builds Kubernetes (https://go.dev/doc/install)"
  command -v cargo >/dev/null || die "Rust is not installed: Rust $RUST_MINIMUM or later builds PushCluster (https://rustup.rs)"
  go_version=$(go env GOVERSION | sed 's/^go//; s/[ -].*//')
  rust_version=$(rustc --version | cut -d' ' -f2 | cut -d- -f1)
  at_least "$GO_MINIMUM" "$go_version" || die "Go $go_version is too old: Go $GO_MINIMUM or later builds Kubernetes"
  at_least "$RUST_MINIMUM" "$rust_version" || die "Rust $rust_version is too old: Rust $RUST_MINIMUM or later builds PushCluster"
}

install_packages() {
  local packages
  mapfile -t packages < <(missing_packages)
  [ "${#packages[@]}" -gt 0 ] || return 0
  echo "installing: ${packages[*]}"
  apt-get update -q
  # Debian starts a service when it installs one (redis-server, containerd): ours are started by us, with our own files.
  local policy=/usr/sbin/policy-rc.d ours=
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    ours=yes
  fi
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${packages[@]}" || {
    [ -z "$ours" ] || rm -f "$policy"
    die "apt-get could not install: ${packages[*]}"
  }
  [ -z "$ours" ] || rm -f "$policy"
}

[ "$(id -u)" = 0 ] || die "a cluster on this machine needs root: network namespaces, mounts and cgroups are its parts"
[ -e /etc/debian_version ] || die "this machine is not Debian: use a cluster that you have, with CONTEXT=name"
install_packages
check_toolchains
