#!/usr/bin/env bash
# Builds the pinned OpenTofu once into a cached place and prints the binary's path.
#   build.sh [DIR]   DIR defaults to ${MOXXIE_TOFU_CACHE:-${XDG_CACHE_HOME:-~/.cache}/moxxie-acceptance}
# Needs Go and its module proxy; exits 3 where either is missing, so that a caller can tell it from a failed build.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${1:-${MOXXIE_TOFU_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/moxxie-acceptance}}
version=$(sed -n 's#.*github.com/opentofu/opentofu \(v[0-9.]*\).*#\1#p' "$here/go.mod" | head -1)
binary=$cache/tofu-$version/tofu
if [ -x "$binary" ]; then
  echo "$binary"
  exit 0
fi
command -v go >/dev/null || { echo "tofu/build.sh: no Go on this machine" >&2; exit 3; }
(cd "$here" && go mod download >/dev/null 2>&1) || { echo "tofu/build.sh: the Go module proxy can't be reached" >&2; exit 3; }
mkdir -p "$(dirname "$binary")"
part=$binary.$$.part
trap 'rm -f "$part"' EXIT
(cd "$here" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$part" github.com/opentofu/opentofu/cmd/tofu) >&2
mv "$part" "$binary"
echo "$binary"
