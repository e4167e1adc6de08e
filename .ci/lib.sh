# Sourced by .ci/run and by each stage: how to install what a stage needs, and how to say what failed.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export DEBIAN_FRONTEND=noninteractive PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

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
        sleep $((try * 3))
    done
    return 1
}

# deb PACKAGE...: install those Debian packages that are missing.
deb() {
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

# target NAME...: the standard library for those targets, for the toolchain in use.
target() {
    retry rustup target add "$@" >/dev/null 2>&1 || outside "rustup target add $*"
}
