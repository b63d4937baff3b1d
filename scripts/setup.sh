#!/usr/bin/env bash
# Makes .venv with everything pinned by constraints.txt. Fast when nothing changed since the last time.
#
#   PYTHON=python3.12 scripts/setup.sh     another interpreter (3.11 or newer)
#   PIP_FIND_LINKS=/wheels scripts/setup.sh  a local wheel folder, for example with a CPU build of torch
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv
stamp=$venv/.installed
# Without PYTHON, an environment keeps the interpreter it was made with.
kept=$venv/bin/python
"$kept" -c '' 2>/dev/null || kept=
python=${PYTHON:-${kept:-python3}}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
    echo "setup: $python is missing or older than 3.11; name another one: PYTHON=python3.12 make setup" >&2
    exit 1
}

# What the environment is made from. The folder is part of it, since an editable install names it.
want=$({ pwd; "$python" --version; echo "${PIP_FIND_LINKS:-}"; cat pyproject.toml constraints.txt; } | sha256sum)
if [ -x "$venv/bin/gristmill" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then
    exit 0
fi

echo "setup: installing into $venv (some minutes the first time)" >&2
release() { "$1" -c 'import sys; print(sys.implementation.name, *sys.version_info[:2])'; }
[ -n "$kept" ] && [ "$(release "$kept")" = "$(release "$python")" ] || "$python" -m venv --clear "$venv"
[ -x "$venv/bin/uv" ] || "$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv

# uv does not read pip's settings, so a wheel folder meant for pip is passed on by hand. That is how a
# CPU build of torch is found where one is offered; elsewhere the package index decides.
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" \
    ${PIP_FIND_LINKS:+--find-links "$PIP_FIND_LINKS"} \
    --constraint constraints.txt --editable '.[dev]'
echo "$want" > "$stamp"
