#!/usr/bin/env bash
# Show what the run of this job trained, and check conditions on its models. Exits with 4 if one does not hold.
#
#   gate.sh RECIPE REASON [CONDITION...]      gate.sh recipe.yaml "commit abc" 'bits_per_byte <= previous * 1.005'
#
# The tables are appended to GITHUB_STEP_SUMMARY where it is set, and written to models.md.
set -euo pipefail
recipe=${1:?usage: gate.sh RECIPE REASON [CONDITION...]}
reason=${2:?usage: gate.sh RECIPE REASON [CONDITION...]}
shift 2
requirements=()
for condition in "$@"; do requirements+=(--require "$condition"); done
status=0
gristmill models "$recipe" --reason "$reason" --markdown ${requirements[@]+"${requirements[@]}"} > models.md || status=$?
cat models.md
[ -z "${GITHUB_STEP_SUMMARY:-}" ] || cat models.md >> "$GITHUB_STEP_SUMMARY"
exit "$status"
