#!/usr/bin/env bash
# Gates a change: plans it, says in words what becomes of machines, and stops what nobody has said yes to.
#
#   gate.sh [FOLDER]        the root module, by default the working directory
#
# Leaves in FOLDER: plan.tfplan (what `apply plan.tfplan` carries out), plan.json (the same for programs), summary.md (for people).
# Exit codes:
#   0  nothing to do, as far as could be seen: a site that doesn't answer alone is 0, and the summary begins with it
#   2  changes, all of them allowed
#   3  changes that are not allowed: see GATE_ALLOW
#   1  the plan failed, or the configuration has a slip that a plan doesn't show
# Environment:
#   TF          the CLI; by default `tofu`, else `terraform`
#   FEDERATE    the command `federate`; by default the one on the PATH. Without it nobody looks for such slips, and the summary says so
#   GATE_ALLOW  what may happen, separated by spaces: any of `move`, `destroy`. In CI: the labels of the pull request.
# Needs bash and jq.
set -euo pipefail

cd "${1:-.}"
tf=${TF:-$(command -v tofu || command -v terraform)}
allowed=" ${GATE_ALLOW:-} "
export TF_IN_AUTOMATION=1 TF_INPUT=0

# A misspelt key inside a nested attribute (`limits = { max_memry = … }`) is dropped by every core without a word: no plan shows it.
federate=${FEDERATE:-$(command -v federate || true)}
if [ -n "$federate" ] && ! "$federate" lint . >lint.txt 2>&1; then
  {
    echo "## The configuration has slips that a plan doesn't show"
    echo
    printf '```text\n%s\n```\n' "$(cat lint.txt)"
  } | tee summary.md
  exit 1
fi

[ -d .terraform/providers ] || "$tf" init -no-color >init.log || { cat init.log; exit 1; }

# 0 nothing to do, 1 error, 2 changes. With -json the warnings, which hold what a move costs, come as data.
code=0
"$tf" plan -json -detailed-exitcode -out=plan.tfplan >plan.jsonl || code=$?
if [ "$code" -ne 0 ] && [ "$code" -ne 2 ]; then
  {
    echo "## The plan failed"
    echo
    jq -rR 'fromjson? | select(.diagnostic.severity == "error") | .diagnostic
            | "**\(.summary)**" + (if .address then " (`\(.address)`)" else "" end) + "\n\n\(.detail)\n"' plan.jsonl
  } | tee summary.md
  exit 1
fi
"$tf" show -json plan.tfplan >plan.json

# One line per machine and kind of change.
changes() {
  jq -r --arg kind "$1" '
    .resource_changes[]? | select(.mode == "managed" and .type == "moxxie_virtual_machine")
    | .address as $address | .change as $c | ($c.actions | join(",")) as $actions
    | if   $kind == "create"  and $actions == "create" then
        "`\($address)` → **\($c.after.cluster // "decided at apply")**: \($c.after.placement // "")"
      elif $kind == "move"    and $actions == "update" and $c.after.cluster != $c.before.cluster then
        "`\($address)` (\($c.before.name)): \($c.before.cluster) → **\($c.after.cluster // "decided at apply")**"
      elif $kind == "change"  and $actions == "update" and $c.after.cluster == $c.before.cluster then
        "`\($address)` on \($c.before.cluster)"
        + (if $c.before.operation then " (finishes: \($c.before.operation))" else "" end)
      elif $kind == "destroy" and ($actions | contains("delete")) then
        "`\($address)` (\($c.before.name)) on **\($c.before.cluster)**"
      else empty end' plan.json
}

# What the provider says of the machines of this plan: downtime, what a move can not carry, unfinished operations.
warnings() {
  jq -rR 'fromjson? | select(.diagnostic.severity == "warning") | .diagnostic
          | "- **\(.summary)**\n" + (.detail | split("\n") | map("  " + .) | join("\n"))' plan.jsonl | awk '!seen[$0]++'
}

# What could not be looked at. A site that is dark makes no difference, so the exit code alone would call that "nothing to do".
unseen() {
  jq -rR 'fromjson? | select(.diagnostic.severity == "warning") | .diagnostic.summary
          | select(test("does not answer|(are|is) not refreshed"))' plan.jsonl | awk '!seen[$0]++'
}

section() { # section TITLE TEXT
  [ -z "$2" ] || printf '### %s\n\n%s\n\n' "$1" "$2"
}
list() { sed 's/^/- /'; }

moves=$(changes move)
blind=$(unseen)
destroys=$(changes destroy)
{
  echo "## What the plan does to machines"
  echo
  if [ -n "$blind" ]; then
    printf '**Not everything could be seen.** What differs there is not in this plan:\n\n%s\n\n' "$(list <<<"$blind")"
  fi
  if [ "$code" -eq 0 ]; then
    [ -n "$blind" ] && echo "Nothing, as far as could be seen." || echo "Nothing: what is configured is what is there."
  fi
  section "Moves (down meanwhile)" "$(changes move | list)"
  section "Destroys" "$(changes destroy | list)"
  section "Creates" "$(changes create | list)"
  section "Changes in place" "$(changes change | list)"
  section "The provider says" "$(warnings)"
  [ -n "$federate" ] || section "Not looked for" "Misspelt keys inside nested attributes: \`federate\` is not on the PATH."
} >summary.md

refused=
[ -z "$moves" ] || [[ $allowed == *" move "* ]] || refused="moves"
[ -z "$destroys" ] || [[ $allowed == *" destroy "* ]] || refused="${refused:+$refused and }destroys"
if [ -n "$refused" ]; then
  printf '**Stopped: this plan %s machines, and nobody has allowed that yet.**\n' "$refused" >>summary.md
  code=3
fi
cat summary.md
exit "$code"
