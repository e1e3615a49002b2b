#!/usr/bin/env bash
# What the gateway and the operator are made of, as CycloneDX in target/sbom: every crate that is linked into the static
# program, with its version, licence and checksum, Rust's library and the C library. Images have nothing else in them.
. "$(dirname "$0")/lib.sh"

CYCLONEDX=${CARGO_CYCLONEDX:?the cargo-cyclonedx program; make sbom sets it}
TO=${SBOM:-$REPO/target/sbom}
TARGET=$(rustc -vV | sed -n 's/^host: //p')

# cargo-cyclonedx asks `cargo metadata`, which joins the features of the whole workspace, those of tests too. What is
# linked, `cargo tree` knows.
linked() { # PROGRAM: a JSON list of "name version"
  cargo tree --manifest-path "$REPO/Cargo.toml" --locked -p "$1" -e normal --target "$TARGET" --prefix none --format '{p}' |
    sed -E 's/^([^ ]+) v([^ ]+).*/\1 \2/' | sort -u | jq -R . | jq -s .
}

libraries() { # of the compiler and of the system
  jq -n --arg rust "$(rustc --version | cut -d' ' -f2)" --arg glibc "$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)" '
    def library(name; version; licence): {type: "library", "bom-ref": "\(name)@\(version)", name: name, version: version,
      scope: "required", licenses: [{expression: licence}], purl: "pkg:generic/\(name)@\(version)"};
    [library("rust-std"; $rust; "MIT OR Apache-2.0"), library("glibc"; $glibc; "LGPL-2.1-or-later")]'
}

mkdir -p "$TO"
for program in gateway operator; do
  # It writes beside each Cargo.toml of the workspace.
  part=pushcluster-sbom-$program
  (cd "$REPO" && "$CYCLONEDX" cyclonedx --manifest-path "$program/Cargo.toml" --target "$TARGET" --format json \
    --spec-version 1.5 --override-filename "$part" --no-build-deps --quiet)
  jq --argjson linked "$(linked "$program")" --argjson libraries "$(libraries)" '
    .components |= map(select("\(.name) \(.version)" | IN($linked[])))
    | ([.metadata.component, .components[]] | map(."bom-ref")) as $refs
    | .dependencies |= map(select(.ref | IN($refs[])) | if .dependsOn then .dependsOn |= map(select(IN($refs[]))) else . end)
    | .components += $libraries' "$REPO/$program/$part.json" >"$TO/$program.cdx.json"
  find "$REPO" -path "$REPO/target" -prune -o -name "$part.json" -exec rm {} +
  # The program itself is no component of its own.
  missing=$(jq --argjson linked "$(linked "$program")" -r \
    '[.metadata.component, .components[]] | map("\(.name) \(.version)") as $told | $linked - $told | join(", ")' "$TO/$program.cdx.json")
  [ -z "$missing" ] || die "$program: $TO/$program.cdx.json lacks $missing"
  unknown=$(jq -r '[.components[] | select((.licenses // []) == []) | .name] | join(", ")' "$TO/$program.cdx.json")
  [ -z "$unknown" ] || die "$program: no licence of $unknown"
  say "$TO/$program.cdx.json: $(jq '.components | length' "$TO/$program.cdx.json") parts"
done
