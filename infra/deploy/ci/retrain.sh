#!/usr/bin/env bash
# Start a deployment of a recipe and wait for the end of its run. Exits with 1 if the run fails, crashes or is cancelled.
# REASON is in the run's name, in its log and in its record.
#
#   retrain.sh RECIPE REASON
#
# FLOW: `retrain` (default) takes the newest segments as they are; `pipeline` looks at the sources first.
# WATCH_TIMEOUT: seconds to wait for the run; default: six hours. WATCH_INTERVAL: seconds between two looks.
set -euo pipefail
recipe=${1:?usage: retrain.sh RECIPE REASON}
reason=${2:?usage: retrain.sh RECIPE REASON}
flow=${FLOW:-retrain}
name=$(gristmill plan "$recipe" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["recipe"])')
# `prefect` reads a value as JSON first: quoted, a commit of digits stays a string.
reason_json=$(python3 -c 'import json, sys; print(json.dumps(sys.argv[1]))' "$reason")
prefect --no-prompt deployment run "$flow/$name-$flow" --param "reason=$reason_json" \
    --watch --watch-interval "${WATCH_INTERVAL:-10}" --watch-timeout "${WATCH_TIMEOUT:-21600}"
