#!/usr/bin/env bash
# Node: the packages of package-lock.json, and the program beside them, where Node looks for them.
set -uo pipefail
NAME=node
TOOLS="node npm"
SOURCES="tests/clients/node/package.json tests/clients/node/package-lock.json tests/clients/node/shop.mjs"
LIMIT=4m

build() {
    cp tests/clients/node/{package.json,package-lock.json,shop.mjs} "$1"
    npm ci --prefix "$1" --ignore-scripts --no-audit --no-fund
}

source "$(dirname "$0")/environment.sh"
environment "${1:?usage: node.sh DIR}"
