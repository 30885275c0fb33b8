#!/usr/bin/env bash
# Builds the extension for one PostgreSQL and installs it there, or only builds it, or only runs clippy.
#
#   tools/install.sh PREFIX [install|build|clippy]
#
# PREFIX is 18, 16 or 16.2 (in target/pg), 15 (Debian's, never installed into) or the path of a pg_config.
# Each has a build directory of its own, so that changing between them rebuilds nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
say() { printf 'install: %s\n' "$*" >&2; }
[[ $# -eq 1 || $# -eq 2 ]] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
prefix=$1 action=${2:-install} sudo=()

case $prefix in
    */*) pg_config=$prefix build=target/build/own ;;
    15)
        pg_config=/usr/lib/postgresql/15/bin/pg_config build=target/build/pg15
        [[ -d /usr/include/postgresql/15/server ]] || { say "no PostgreSQL 15 on this machine, left out"; exit 0; }
        [[ $action != install ]] || action=build
        ;;
    *) pg_config="$PWD/target/pg/$prefix/bin/pg_config" build="target/build/pg$prefix" ;;
esac
[[ -x $pg_config ]] || { say "no $pg_config: tools/setup.sh brings 18, 16 and 16.2"; exit 1; }
major=$("$pg_config" --version | sed -nE 's/^PostgreSQL ([0-9]+).*/\1/p')
flags=(--release --no-default-features --features "pg$major")
[[ -w $("$pg_config" --pkglibdir) ]] || sudo=(--sudo)

# cargo-pgrx passes a link flag of its own, which RUSTFLAGS would replace.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET
export PATH="$PWD/target/tools/bin:$PATH" CARGO_TARGET_DIR="$PWD/$build" PGRX_PG_CONFIG_PATH="$pg_config"

case $action in
    install) cargo pgrx install --pg-config "$pg_config" "${sudo[@]}" "${flags[@]}" ;;
    build) cargo build "${flags[@]}" ;;
    clippy) cargo clippy "${flags[@]}" -- -D warnings ;;
    *) say "unknown action $action: install, build or clippy"; exit 2 ;;
esac
