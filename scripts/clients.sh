#!/usr/bin/env bash
# Makes what the tests run as clients, each in a folder of the directory given: OpenTelemetry SDKs in several languages
# and the Collector, with pinned versions, from the package registries. Made once; anew when what it is made from
# changes. Quiet when there is nothing to do. Nothing here stops the tests: a client that could not be made has a file
# that says why, and its test says so.
set -uo pipefail

directory=${1:?usage: clients.sh DIR [NAME...]}
shift
here=$(cd "$(dirname "$0")" && pwd)
if [ $# -eq 0 ]; then
    set -- python node java go collector
fi

mkdir -p "$directory"
directory=$(cd "$directory" && pwd)
# The package managers want a home for what they download.
export HOME=${HOME:-$directory/home}
# Two runs at once would pull the folders from under each other.
exec 9>"$directory/.lock"
if ! flock --wait 1800 9; then
    echo "clients: another run holds $directory/.lock" >&2
    exit 1
fi

for name in "$@"; do
    "$here/clients/$name.sh" "$directory/$name"
done
