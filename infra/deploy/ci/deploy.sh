#!/usr/bin/env bash
# Register the deployments of a recipe, as it is in this commit, with the server at PREFECT_API_URL.
#
#   deploy.sh RECIPE
set -euo pipefail
recipe=${1:?usage: deploy.sh RECIPE}
: "${PREFECT_API_URL:?set it to the URL of the Prefect server API, for example https://prefect.example.org/api}"
gristmill deploy "$recipe"
