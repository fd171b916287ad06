#!/usr/bin/env bash
# Builds the pinned Terraform once into a cached place and prints the binary's path.
#   build.sh [DIR]   DIR defaults to ${MOXXIE_TOFU_CACHE:-${XDG_CACHE_HOME:-~/.cache}/moxxie-acceptance}
# Needs Go and its module proxy; exits 3 where either is missing, so that a caller can tell it from a failed build.
# Backends that keep state elsewhere are modules that the proxy doesn't have; in their place stand empty ones, which no test uses.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${1:-${MOXXIE_TOFU_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/moxxie-acceptance}}
version=$(sed -n 's#.*github.com/hashicorp/terraform \(v[0-9.]*\).*#\1#p' "$here/go.mod" | head -1)
binary=$cache/terraform-$version/terraform
if [ -x "$binary" ]; then
  echo "$binary"
  exit 0
fi
command -v go >/dev/null || { echo "terraform/build.sh: no Go on this machine" >&2; exit 3; }
mkdir -p "$(dirname "$binary")"
part=$binary.$$.part
work=$(mktemp -d "$(dirname "$binary")/build.XXXXXX")
trap 'rm -rf "$part" "$work"' EXIT
cp "$here/go.mod" "$here/go.sum" "$work/"
sed -n 's#^replace \(.*\) => \./\(.*\)#\1 \2#p' "$here/go.mod" | while read -r module folder; do
  mkdir -p "$work/$folder"
  printf 'module %s\n\ngo 1.26\n' "$module" >"$work/$folder/go.mod"
  printf 'package %s\n\nimport "github.com/hashicorp/terraform/internal/backend"\n\n' "$(basename "$folder")" >"$work/$folder/backend.go"
  printf 'func New() backend.Backend { panic("not in this build") }\n' >>"$work/$folder/backend.go"
done
(cd "$work" && go mod download >/dev/null 2>&1) || { echo "terraform/build.sh: the Go module proxy can't be reached" >&2; exit 3; }
(cd "$work" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X github.com/hashicorp/terraform/version.dev=no" -o "$part" github.com/hashicorp/terraform) >&2
mv "$part" "$binary"
echo "$binary"
