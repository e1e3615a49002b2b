#!/usr/bin/env bash
# KEDA's definition of the kind ScaledObject, from its Go module into the cache, once per version. Says where it is.
. "$(dirname "$0")/lib.sh"

VERSION=2.16.1
SUM=3c91c5423e809a456e67fc47a85a095a2ade29dd00dfc96e92a3aa6d8e6a5526
FILE=$CACHE/keda-$VERSION/scaledobjects.yaml

if [ ! -e "$FILE" ]; then
  mkdir -p "${FILE%/*}"
  part=$FILE.part
  module=$(cd / && go mod download -json "github.com/kedacore/keda/v2@v$VERSION" | jq -r .Dir)
  cp "$module/config/crd/bases/keda.sh_scaledobjects.yaml" "$part"
  echo "$SUM  $part" | sha256sum --check --quiet >&2
  mv "$part" "$FILE"
fi
echo "$FILE"
