#!/usr/bin/env bash
# OpenTofu 1.12.6 (needs Go). `yamldecode` reads YAML 1.1's words for yes and no, also where they are keys of a map, and writes them back
# as "true" and "false". So the keys `y` and `no` are gone, and `y` and `yes` are one key, of which the last wins without a word.
# In the same text numbers follow YAML 1.2: `010` is ten, `0o17` is fifteen.
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
seen=$(ask 'jsonencode(yamldecode("{x: 1, y: 2, no: 3}"))'; ask 'jsonencode(yamldecode("{y: first, yes: second}"))'; ask 'jsonencode(yamldecode("[010, 0o17]"))')
expected='"{\"false\":3,\"true\":2,\"x\":1}"
"{\"true\":\"second\"}"
"[10,15]"'
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'changed; it was\n%s\n' "$expected" >&2; exit 1; }
