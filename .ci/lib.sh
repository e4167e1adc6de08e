# Sourced by .ci/run and by each stage: how to install what a stage needs, and how to say what failed.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
# Most tests wait more than they work, so more of them run at a time than there are processors.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) * 2))}

say() { printf '\n== %s\n' "$*"; }

# The code is at fault.
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

# Something outside this repository is at fault: a mirror, a registry, a toolchain server.
outside() { printf 'FAILED OUTSIDE THIS REPOSITORY (the code is not at fault): %s\n' "$*" >&2; exit 1; }

# Run a command that depends on the network, up to three times.
retry() {
    local try
    for try in 1 2 3; do
        "$@" && return 0
        printf 'attempt %s failed: %s\n' "$try" "$*" >&2
        [ "$try" = 3 ] || sleep $((try * 3))
    done
    return 1
}

# once WHAT COMMAND...: stages run side by side, but what they install, they install one after the other.
once() {
    local lock code=0
    exec {lock}>"/tmp/.baton-health-installs-$1"
    shift
    flock "$lock"
    "$@" {lock}>&- || code=$?
    exec {lock}>&-
    return "$code"
}

# deb PACKAGE...: install those Debian packages that are missing.
deb() { once apt deb_missing "$@"; }
deb_missing() {
    local missing=() name
    for name; do
        dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'ok installed' || missing+=("$name")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    if [ ! -e /tmp/.baton-health-apt-updated ]; then
        retry apt-get update -qq || outside "apt-get update"
        touch /tmp/.baton-health-apt-updated
    fi
    retry apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || outside "apt-get install ${missing[*]}"
}

# python_tools DIR PACKAGE...: a virtual environment in DIR with those PyPI packages.
python_tools() {
    local dir=$1
    shift
    [ -x "$dir/bin/python" ] || python3 -m venv "$dir" || fail "python3 -m venv $dir"
    retry "$dir/bin/pip" install -q "$@" || outside "pip install $*"
}

# cargo_tool NAME VERSION: a program from cargo's registry, on PATH. It is compiled without optimisation, which takes half the
# time, and kept beside cargo's own downloads, so that a fresh clone need not compile it again.
cargo_tool() {
    local dir=${CARGO_HOME:-$HOME/.cargo}/baton-health-tools/$1-$2
    if [ ! -x "$dir/bin/$1" ]; then
        once "$1" retry cargo install -q --debug --locked --root "$dir" --version "$2" "$1" || outside "cargo install $1"
    fi
    PATH=$dir/bin:$PATH
}

# toolchain NAME: installs it when it is missing.
toolchain() {
    rustup run "$1" rustc --version >/dev/null 2>&1 ||
        once rustup retry rustup toolchain install "$1" --profile minimal --no-self-update >/dev/null 2>&1
}

# pinned NAME VERSION CHANNEL: sets `chosen` to a toolchain of that version: the one of that name, the one that is called
# like its channel, or else the channel, whatever its version.
pinned() {
    chosen=$1
    ! rustup run "$1" rustc --version >/dev/null 2>&1 || return 0
    [[ $(rustup run "$3" rustc --version 2>/dev/null) != "rustc $2"* ]] || { chosen=$3; return 0; }
    ! toolchain "$1" || return 0
    chosen=$3
    toolchain "$3" || outside "rustup toolchain install $1"
    printf 'NOT THE PINNED TOOLCHAIN: %s cannot be installed, this is %s\n' "$1" "$(rustup run "$3" rustc --version)" >&2
}

# target NAME...: the standard library for those targets, for the toolchain in use.
target() { once rustup retry rustup target add "$@" >/dev/null 2>&1 || outside "rustup target add $*"; }

# component NAME...: of the toolchain in use.
component() { once rustup retry rustup component add "$@" >/dev/null 2>&1 || outside "rustup component add $*"; }

# with_nightly [COMPONENT...]: sets `nightly` to the pinned one, with these components, for cargo "+$nightly".
with_nightly() {
    pinned "$nightly" "$nightly_version" nightly
    nightly=$chosen
    [ $# -eq 0 ] || RUSTUP_TOOLCHAIN=$nightly component "$@"
}

# The compilers of .ci/toolchain, unless the caller has chosen one.
source "$root/.ci/toolchain"
if [ -z "${RUSTUP_TOOLCHAIN:-}" ] && command -v rustup >/dev/null; then
    pinned "$stable" "$stable " stable
    export RUSTUP_TOOLCHAIN=$chosen
fi
