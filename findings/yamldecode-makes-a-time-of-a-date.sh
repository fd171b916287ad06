#!/usr/bin/env bash
# OpenTofu 1.12.6 (needs Go). A plain scalar that looks like a date comes out of `yamldecode` as text with a time of day and a zone
# that nobody wrote; in quotes it stays as it is. A number with an exponent or a last zero changes its spelling on the way into text.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
export CHECKPOINT_DISABLE=1 TF_CLI_CONFIG_FILE=$dir/rc; : > "$dir/rc"
# The compiler's own cache is used; everything that is installed goes into the temporary folder.
cd "$dir"
go mod init finding >/dev/null 2>&1
# OpenTofu's own go.mod puts its fork of HCL in the place of the original.
go mod edit -replace=github.com/hashicorp/hcl/v2=github.com/opentofu/hcl/v2@v2.20.2-0.20251021132045-587d123c2828
go get -tool github.com/opentofu/opentofu/cmd/tofu@v1.12.6 >/dev/null 2>&1
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o tofu github.com/opentofu/opentofu/cmd/tofu
ask() { printf '%s\n' "$1" | ./tofu console; }
seen=$(ask 'yamldecode("2026-12-01")'; ask 'yamldecode("\"2026-12-01\"")'; ask 'tostring(yamldecode("2025.10"))')
expected='"2026-12-01T00:00:00Z"
"2026-12-01"
"2025.1"'
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'changed; it was\n%s\n' "$expected" >&2; exit 1; }
