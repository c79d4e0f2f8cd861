#!/usr/bin/env bash
# Go: the program, built with the modules of go.sum.
set -uo pipefail
NAME=go
TOOLS="go"
SOURCES="tests/clients/go/go.mod tests/clients/go/go.sum tests/clients/go/main.go tests/clients/go/shop.go"
LIMIT=6m

build() {
    cd tests/clients/go
    GOWORK=off go build -mod=readonly -buildvcs=false -trimpath -p 2 -o "$1/shop" .
}

source "$(dirname "$0")/environment.sh"
environment "${1:?usage: go.sh DIR}"
