#!/usr/bin/env bash
# Makes of what the simulator prints the connections to it, so that a configuration can be tried without any Proxmox VE:
#
#   cargo run -p simulator -- --world three-sites --json >sites.jsonl &
#   examples/ci/sites.sh sites.jsonl [FOLDER]      FOLDER: the root module, by default the working directory
#
# Leaves in FOLDER: sites.auto.tfvars.json (the variable `sites` of main.tf), connections.yaml (the same for `federate`), and
# tokens.env, to be read by the shell. The variables are called MOXXIE_TOKEN_ and the cluster's name. ROLE is whose tokens:
# `app` (by default), `platform` or `narrow`. Needs bash and jq.
set -euo pipefail

printed=${1:?usage: sites.sh FILE [FOLDER]}
folder=${2:-.}
# The simulator prints one line per cluster when it serves.
for _ in $(seq 600); do
  [ "$(jq -s length "$printed" 2>/dev/null || echo 0)" -gt 0 ] && break
  sleep 1
done
variable='("MOXXIE_TOKEN_" + (.cluster | ascii_upcase | gsub("[^A-Z0-9]"; "_")))'
jq -s "map({(.cluster): {endpoints: .urls, api_token_env: $variable, fingerprints}}) | add" "$printed" >"$folder/connections.yaml"
jq '{sites: .}' "$folder/connections.yaml" >"$folder/sites.auto.tfvars.json"
jq -r --arg role "${ROLE:-app}" "\"export \" + $variable + \"=\" + (.tokens[\$role] | @sh)" "$printed" >"$folder/tokens.env"
chmod 600 "$folder/tokens.env"
