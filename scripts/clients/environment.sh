# Sourced by the scripts beside it. Each says what it needs, what it is made from, and how, and then calls `environment`:
#
#   NAME       of the client
#   TOOLS      commands that must be on this machine
#   SOURCES    files, from the root of the repository, that it is made from
#   LIMIT      of the time that one attempt may take
#   build DIR  a function that makes it in DIR; run with `set -e`, and once more if it fails
#   usable DIR optional: whether what was made before still works
#
# Afterwards the folder has one of: `ready` (with the stamp of what it was made from), `skipped` (a tool is not on this
# machine) or `failed` (with the reason); both say why in one or a few lines.

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1

stamp() {
    # shellcheck disable=SC2086
    cat "scripts/clients/$NAME.sh" $SOURCES | sha256sum | cut -d ' ' -f 1
}

environment() {
    local folder=$1 log tool stamp
    stamp=$(stamp)
    log=$folder.log
    for tool in $TOOLS; do
        if ! command -v "$tool" >/dev/null; then
            rm -rf "$folder" && mkdir -p "$folder"
            echo "$tool is not on this machine" >"$folder/skipped"
            echo "clients: $NAME skipped: $tool is not on this machine" >&2
            return
        fi
    done
    if [ "$(cat "$folder/ready" 2>/dev/null)" = "$stamp" ] && { ! declare -F usable >/dev/null || usable "$folder"; }; then
        return
    fi
    echo "clients: making $NAME in $folder (at most $LIMIT; log in $log)" >&2
    export -f build
    local attempt code
    for attempt in 1 2; do
        rm -rf "$folder" && mkdir -p "$folder"
        timeout --kill-after=10s "$LIMIT" bash -euo pipefail -c 'build "$1"' build "$folder" </dev/null >"$log" 2>&1
        code=$?
        if [ $code -eq 0 ]; then
            echo "$stamp" >"$folder/ready"
            rm -f "$log"
            return
        fi
        echo "attempt $attempt ended with code $code (124 is the limit of $LIMIT)" >>"$log"
        # What hung once is not waited for again.
        [ $code -eq 124 ] && break
    done
    {
        echo "its environment could not be made; the end of $log:"
        tail -n 15 "$log"
    } >"$folder/failed"
    echo "clients: $NAME FAILED: $(cat "$folder/failed")" >&2
}
