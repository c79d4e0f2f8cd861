#!/usr/bin/env bash
# Coverage-guided fuzzing of one parser with libFuzzer, on the stable toolchain: sancov is a pass of LLVM and needs
# no nightly. Usage: scripts/fuzz.sh TARGET [SECONDS]. New inputs go to a folder below the build's; what covers more
# than the committed corpus is merged into fuzz/corpus/TARGET at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${1:?which target? walker, json, frame, chunks, tables, rows, heads, paths, contexts, minutes, hashes, meta, dictionary, rolled_histograms, rolled_paths, rollup_meta, histogram, exemplars}
seconds=${2:-120}
build=${CARGO_TARGET_DIR:-$PWD/target}/guided
host=$(rustc -vV | sed -n 's/^host: //p')

coverage=(-Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares)
# --target keeps build scripts free of the instrumentation.
RUSTFLAGS="${coverage[*]} -Ccodegen-units=1 --cfg longpole_guided" CARGO_TARGET_DIR=$build \
    cargo build --release --locked --target "$host" --manifest-path fuzz/guided/Cargo.toml
binary=$build/$host/release/longpole-fuzz-guided

found=$build/found/$target
crashes=$build/crashes/$target
mkdir -p "$found" "$crashes" "fuzz/corpus/$target"
export LONGPOLE_FUZZ_TARGET=$target
# The limits on memory are how an input that asks for memory on the word of a number is found.
LONGPOLE_FUZZ_DRAWN=$found "$binary" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=256 -print_final_stats=1 \
    -artifact_prefix="$crashes/" "$found" "fuzz/corpus/$target"

# Small inputs only: the corpus is committed.
merged=$build/merged/$target
rm -rf "$merged" && mkdir -p "$merged"
"$binary" -merge=1 -max_len=512 -rss_limit_mb=1024 "$merged" "fuzz/corpus/$target" "$found" 2>&1 | tail -n 3
rm -f "fuzz/corpus/$target"/*
left=32768
ls -Sr "$merged" | while read -r name; do
    left=$((left - $(stat -c %s "$merged/$name")))
    if [ "$left" -lt 0 ]; then break; fi
    cp "$merged/$name" "fuzz/corpus/$target/"
done
du -sh --apparent-size "fuzz/corpus/$target"
