#!/usr/bin/env bash
# Python: a virtual environment with the packages of requirements.txt.
set -uo pipefail
NAME=python
TOOLS="python3"
SOURCES="tests/clients/python/requirements.txt"
LIMIT=4m

build() {
    python3 -m venv "$1"
    "$1/bin/python" -m pip install --disable-pip-version-check --no-input --requirement tests/clients/python/requirements.txt
}

# It points to the Python that it was made with.
usable() {
    "$1/bin/python" -c '' 2>/dev/null
}

source "$(dirname "$0")/environment.sh"
environment "${1:?usage: python.sh DIR}"
