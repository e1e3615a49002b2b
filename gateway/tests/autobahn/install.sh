#!/usr/bin/env bash
# Installs the Autobahn test suite into the folder $1, which a failure leaves absent. The suite is Python 2.7, which
# Debian had until its release 11: that interpreter and its libraries are unpacked beside the suite and touch nothing
# of the system. They come from the mirror that this system's own packages come from.
set -euo pipefail

SUITE_VERSION=25.10.1
# The last ones for Python 2.7; the suite's setup needs the last two.
PIP=pip==20.3.4
SETUP=(setuptools==44.1.1 wheel==0.37.1)
# The headers, in the last one, are for the parts of the suite that are compiled here.
DEBS=(python2.7-minimal libpython2.7-minimal libpython2.7-stdlib libssl1.1 libffi7 libpython2.7-dev)

die() { echo "autobahn: $*" >&2; exit 1; }

if [ "${1:-}" = --version ]; then
  echo "$SUITE_VERSION-debian11"
  exit
fi
target=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# From Debian 11, with lists and cache of our own.
debian_11() {
  apt-get -qq -o APT::Sandbox::User=root -o Dir::Etc::SourceList="$work/sources" -o Dir::Etc::SourceParts=/dev/null \
    -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/cache" "$@"
}

unpack_python() {
  local release mirror
  release=$(. /etc/os-release && echo "$VERSION_CODENAME")
  # shellcheck disable=SC2016 # apt fills these in
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' |
    awk -v release="$release" '$2 == release && $3 == "main" { print $1; exit }')
  [ -n "$mirror" ] || die "apt has no source for Debian $release, beside whose packages those of Debian 11 would be"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bullseye main" >"$work/sources"
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs"
  debian_11 update
  (cd "$work/debs" && debian_11 download "${DEBS[@]}")
  local deb
  for deb in "$work"/debs/*.deb; do dpkg -x "$deb" "$work/whole/python"; done
}

unpack_pip() {
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --dest "$work/wheels" "$PIP" "${SETUP[@]}"
  local wheel
  for wheel in "$work"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$work/pip"; done
}

mkdir -p "$work/whole"
cat >"$work/whole/python2" <<'WRAPPER'
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")/python/usr
LD_LIBRARY_PATH=$here/lib/$(uname -m)-linux-gnu exec "$here/bin/python2.7" "$@"
WRAPPER
chmod +x "$work/whole/python2"
unpack_python
unpack_pip
include=$work/whole/python/usr/include
# Without pip's cache: what another Python 2 once built is on no other machine.
CPATH=$include:$include/python2.7 PYTHONPATH=$work/pip "$work/whole/python2" -m pip install --no-cache-dir \
  --quiet --disable-pip-version-check --no-warn-script-location --target "$work/whole/suite" \
  "autobahntestsuite==$SUITE_VERSION" 2>"$work/log" ||
  die "pip could not install the suite: $(cat "$work/log")"
# Into place whole, so that a killed run leaves no half suite.
rm -rf "$target.aside"
mkdir -p "$(dirname "$target")"
cp -a "$work/whole" "$target.aside"
mv -T "$target.aside" "$target"
