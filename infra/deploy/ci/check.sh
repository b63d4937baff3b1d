#!/usr/bin/env bash
# Check a recipe before anything is deployed: it must be valid, and its store must be within reach.
# Prints what a run would do.
#
#   check.sh RECIPE
set -euo pipefail
recipe=${1:?usage: check.sh RECIPE}
gristmill plan "$recipe"
