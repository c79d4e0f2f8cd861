#!/usr/bin/env bash
# Makes the Python environment of the tests in the directory given: pinned packages, made once.
# A file `ready` in it holds the requirements it was made from; any change makes it anew.
set -euo pipefail

venv=${1:?usage: python-env.sh DIR}
requirements=$(cd "$(dirname "$0")/.." && pwd)/tests/python/requirements.txt

if [ -f "$venv/ready" ] && cmp -s "$venv/ready" "$requirements" && "$venv/bin/python" -c '' 2>/dev/null; then
    exit 0
fi
echo "python: making $venv with $(grep -c == "$requirements") pinned packages" >&2
rm -rf "$venv"
python3 -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$requirements"
cp "$requirements" "$venv/ready"
