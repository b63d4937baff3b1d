#!/usr/bin/env bash
# Create .venv with the versions pinned in constraints.txt. Returns at once if nothing changed.
#
#   PYTHON=python3.12 scripts/setup.sh     use another interpreter (3.11 or newer)
#   PIP_FIND_LINKS=/wheels scripts/setup.sh  use a local wheel folder, for example with a CPU build of torch
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
stamp=$venv/.installed
# Without PYTHON, an existing environment keeps its interpreter.
kept=$venv/bin/python
"$kept" -c '' 2>/dev/null || kept=
python=${PYTHON:-${kept:-python3}}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    echo "setup: $python is missing or older than 3.11; use another one: PYTHON=python3.12 make setup" >&2
    exit 1
}

# What the environment depends on. The folder is part of it, because an editable install contains its path.
want=$({ pwd; "$python" --version; echo "${PIP_FIND_LINKS:-}"; cat pyproject.toml constraints.txt; } | sha256sum)
if [ -x "$venv/bin/gristmill" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then
    exit 0
fi

echo "setup: installing into $venv (some minutes the first time)" >&2
release() { "$1" -c 'import sys; print(sys.implementation.name, *sys.version_info[:2])'; }
[ -n "$kept" ] && [ "$(release "$kept")" = "$(release "$python")" ] || "$python" -m venv --clear "$venv"
[ -x "$venv/bin/uv" ] || "$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv

# uv does not read pip's settings, so a wheel folder that is set for pip is passed explicitly. This is how a
# CPU build of torch is found where one is available; otherwise the package index decides.
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" \
    ${PIP_FIND_LINKS:+--find-links "$PIP_FIND_LINKS"} \
    --constraint constraints.txt --editable '.[dev]'
echo "$want" > "$stamp"
