#!/usr/bin/env bash
# Checks for what the build needs and installs what is missing with apt-get. Silent when nothing is.
set -euo pipefail

say() { printf 'deps: %s\n' "$*" >&2; }

have_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return 0
    compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null && return 0
    ldconfig -p 2>/dev/null | grep -q libclang
}

have_python_venv() { python3 -c 'import venv, ensurepip' >/dev/null 2>&1; }

missing=()
command -v g++ >/dev/null || missing+=(g++)
command -v clang >/dev/null || missing+=(clang)
have_libclang || missing+=(libclang-dev)
command -v make >/dev/null || missing+=(make)
command -v cmake >/dev/null || missing+=(cmake)
command -v pkg-config >/dev/null || missing+=(pkg-config)
command -v python3 >/dev/null || missing+=(python3)
have_python_venv || missing+=(python3-venv)

if [ ${#missing[@]} -gt 0 ]; then
    say "missing: ${missing[*]}"
    if ! command -v apt-get >/dev/null; then
        say "this system has no apt-get; install these with its own package manager and try again"
        exit 1
    fi
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            say "not root and there is no sudo; as root run: apt-get install ${missing[*]}"
            exit 1
        fi
        as_root=(sudo)
    fi
    say "installing them with ${as_root[*]:+sudo }apt-get"
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

if ! command -v "${CARGO:-cargo}" >/dev/null; then
    say "cargo was not found. Install Rust 1.95 or later from https://rustup.rs:"
    say "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
    say "then open a new shell (or: . \"\$HOME/.cargo/env\") and run make again"
    exit 1
fi
