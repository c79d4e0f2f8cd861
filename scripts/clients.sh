#!/usr/bin/env bash
# Makes what the tests run as clients, each in a folder of the directory given: OpenTelemetry SDKs in several languages
# and the Collector, with pinned versions, from the package registries. Made once; anew when what it is made from
# changes. Quiet when there is nothing to do. Nothing here stops the tests: a client that could not be made has a file
# that says why, and its test says so. If all of them are there the directory has a file `complete`.
set -uo pipefail

directory=${1:?usage: clients.sh DIR [NAME...]}
shift
here=$(cd "$(dirname "$0")" && pwd)
all=
if [ $# -eq 0 ]; then
    all=1
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

rm -f "$directory/complete"
ready=1
for name in "$@"; do
    "$here/clients/$name.sh" "$directory/$name"
    [ -f "$directory/$name/ready" ] || ready=
done
if [ -n "$all" ] && [ -n "$ready" ]; then
    touch "$directory/complete"
fi
