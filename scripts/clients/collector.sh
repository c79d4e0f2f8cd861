#!/usr/bin/env bash
# The OpenTelemetry Collector, built with the modules of go.sum. The first build compiles a few hundred packages.
set -uo pipefail
NAME=collector
TOOLS="go"
SOURCES="tests/clients/collector/go.mod tests/clients/collector/go.sum tests/clients/collector/main.go"
LIMIT=12m

build() {
    cd tests/clients/collector
    GOWORK=off go build -mod=readonly -buildvcs=false -trimpath -ldflags='-s -w' -p 2 -o "$1/collector" .
}

source "$(dirname "$0")/environment.sh"
environment "${1:?usage: collector.sh DIR}"
