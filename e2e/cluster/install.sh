#!/usr/bin/env bash
# Installs from Debian what is missing, and nothing that is there. Needs root, Debian 12 or later.
. "$(dirname "$0")/lib.sh"

PACKAGES=(etcd-server containerd runc containernetworking-plugins iptables conntrack socat ethtool
  iproute2 util-linux buildah redis-server openssl gcc libc6-dev make cmake curl ca-certificates jq git shellcheck
  python3-pip python3-venv faketime prometheus)
# Those that Debian does not bring have npm with them.
command -v npm >/dev/null || PACKAGES+=(nodejs npm)
GO_MINIMUM=1.24
RUST_MINIMUM=1.89

missing_packages() {
  local installed
  installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${PACKAGES[@]}" 2>/dev/null | sed -n 's/^installed //p' || true)
  printf '%s\n' "${PACKAGES[@]}" | grep -vxF "$installed" || true
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

# Debian starts a service when it installs one (redis-server, containerd); ours are started by us, with our own files.
# This is Debian's own way to forbid it, and goes again, also when a killed run left it.
POLICY=/usr/sbin/policy-rc.d
POLICY_TEXT='#!/bin/sh
# Put here by e2e/cluster/install.sh of PushCluster for the time of an installation.
exit 101'
forbid_services() { [ -e "$POLICY" ] || { echo "$POLICY_TEXT" >"$POLICY" && chmod +x "$POLICY"; }; }
allow_services() { [ "$(cat "$POLICY" 2>/dev/null)" != "$POLICY_TEXT" ] || rm -f "$POLICY"; }

install_packages() {
  local packages
  mapfile -t packages < <(missing_packages)
  [ "${#packages[@]}" -gt 0 ] || return 0
  echo "installing: ${packages[*]}"
  trap allow_services EXIT
  forbid_services
  export DEBIAN_FRONTEND=noninteractive
  # Another apt (a machine's daily update) may hold the lock for a while.
  apt-get -o DPkg::Lock::Timeout=300 update -q || die "apt-get update failed: is Debian's archive reachable?"
  apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends "${packages[@]}" ||
    die "apt-get could not install: ${packages[*]}"
}

[ "$(id -u)" = 0 ] || die "a cluster on this machine needs root: network namespaces, mounts and cgroups are its parts"
[ -e /etc/debian_version ] || die "this machine is not Debian: use a cluster that you have, with CONTEXT=name"
allow_services
install_packages
check_toolchains
