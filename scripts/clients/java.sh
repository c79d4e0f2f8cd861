#!/usr/bin/env bash
# Java: the OpenTelemetry agent and API of pom.xml, and the program, compiled.
set -uo pipefail
NAME=java
TOOLS="java javac mvn"
SOURCES="tests/clients/java/pom.xml tests/clients/java/Shop.java"
LIMIT=4m

build() {
    mvn --batch-mode --file tests/clients/java/pom.xml dependency:copy-dependencies "-DoutputDirectory=$1"
    javac -encoding UTF-8 --release 17 -cp "$1/*" -d "$1" tests/clients/java/Shop.java
}

source "$(dirname "$0")/environment.sh"
environment "${1:?usage: java.sh DIR}"
