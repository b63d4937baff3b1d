#!/usr/bin/env bash
# Renews constraints.txt: resolves the project afresh in a throw-away environment and writes what was chosen.
# Run `make test` afterwards: a fresh resolve is how a broken release of a dependency shows itself.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check uv
"$work/venv/bin/uv" pip install --quiet --python "$work/venv/bin/python" \
    ${PIP_FIND_LINKS:+--find-links "$PIP_FIND_LINKS"} --editable '.[dev]'
{
    sed -n '/^#/p' constraints.txt
    # pip and uv are the installers, not part of the project; a local build tag would name one machine's wheel.
    "$work/venv/bin/uv" pip freeze --python "$work/venv/bin/python" --exclude-editable |
        grep -v -E '^(pip|uv)==' | sed 's/+[a-z0-9]*$//'
} > "$work/constraints.txt"
mv "$work/constraints.txt" constraints.txt
