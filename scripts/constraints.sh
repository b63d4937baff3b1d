#!/usr/bin/env bash
# Update constraints.txt: resolve the project in a temporary environment and write the chosen versions.
# Run `make test` afterwards, because a new version of a dependency may be broken.
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
    # pip and uv are installers, not dependencies; a local build tag would name the wheel of one machine.
    "$work/venv/bin/uv" pip freeze --python "$work/venv/bin/python" --exclude-editable |
        grep -v -E '^(pip|uv)==' | sed 's/+[a-z0-9]*$//'
} > "$work/constraints.txt"
mv "$work/constraints.txt" constraints.txt
