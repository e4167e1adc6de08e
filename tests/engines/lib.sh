# Sourced by the scripts beside it. Each runs one engine in process, network and mount namespaces of its own,
# with everything it writes in one directory, and takes all of that away again when it ends.

source "$(dirname "${BASH_SOURCE[0]}")/../../.ci/lib.sh"
cd "$root"
unset DOCKER_HOST DOCKER_CONTEXT

engine=$(basename "$0")
work=$(mktemp -d "${TMPDIR:-/tmp}/baton-$engine.XXXXXX")
cgroup=$(basename "$work")
# Containers run as another user, who has to get to the files that are mounted into them.
chmod 755 "$work"
holder=
passed=0

finish() {
    local code=$? init=
    trap - EXIT
    if [ "$code" != 0 ] && [ -s "$work/engine.log" ]; then
        printf '%s\n' "-- the last lines of $engine's own log:" >&2
        tail -n 6 "$work/engine.log" >&2
    fi
    if [ -n "$holder" ]; then
        init=$(first_child)
        kill -KILL "$holder" 2>/dev/null || true
        within 10 is_gone "$holder" || true
        [ -z "$init" ] || within 10 is_gone "$init" || printf 'process %s does not end\n' "$init" >&2
    fi
    find /sys/fs/cgroup -depth -type d -path "*/$cgroup*" -exec rmdir {} \; 2>/dev/null || true
    rm -rf --one-file-system "$work"
    exit "$code"
}
trap finish EXIT

pass() { passed=$((passed + 1)); printf 'ok %s - %s\n' "$passed" "$*"; }
closing() { printf '%s passed, 0 failed\n' "$passed"; }
same() { [ "$2" = "$3" ] || fail "$1 is '$2', not '$3'"; }
has() { [[ $2 == *"$3"* ]] || fail "$1 has no '$3': $2"; }
is_gone() { ! grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$1/status"; }

# within SECONDS COMMAND...: the command succeeds before the time is over.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.1
    done
}

# last_run FILE ENGINE: say so when the file in examples/ names another version than the one that runs now.
last_run() { grep -qF "Last run with $2" "examples/$1" || printf 'examples/%s could now say: Last run with %s.\n' "$1" "$2"; }

# The static release, as a user builds it; `binary` is its directory.
static_release() {
    local triple
    triple=$(uname -m)-unknown-linux-musl
    target "$triple"
    cargo build --release --locked --target "$triple" --bin baton-passwd || fail "cargo build --target $triple"
    binary=$(cd "${CARGO_TARGET_DIR:-target}/$triple/release" && pwd)
}

first_child() { cat "/proc/$holder/task/$holder/children" 2>/dev/null | tr -d ' '; }
# Namespaces that live as long as this script, however it ends. Their /run and /var/lib are empty, so
# that no engine finds another one's sockets or state.
own_namespaces() {
    setpriv --pdeathsig=KILL unshare --mount --net --pid --fork --kill-child --mount-proc bash -c '
        ip link set lo up && mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib && touch "$1/namespaces" && { sleep infinity & wait; }' \
        init "$work" >>"$work/engine.log" 2>&1 &
    holder=$!
    # So that bash does not report its end.
    disown "$holder"
    within 10 test -e "$work/namespaces" || outside "no namespaces: $(cat "$work/engine.log")"
}
inside() { nsenter --target "$(first_child)" --mount --net --pid -- env --chdir="$root" "$@"; }

# Debian's client: another one may come first in PATH.
docker() { DOCKER_CONFIG=$work/client command /usr/bin/docker --host "unix://$work/docker.sock" "$@"; }
start_dockerd() {
    echo '{}' >"$work/docker.json"
    inside dockerd --config-file="$work/docker.json" --host="unix://$work/docker.sock" --pidfile="$work/docker.pid" \
        --data-root="$work/data" --exec-root="$work/exec" --cgroup-parent="/$cgroup" \
        --bridge=none --iptables=false --ip6tables=false >>"$work/engine.log" 2>&1 &
    answers() { docker info >/dev/null 2>&1; }
    within 30 answers || outside "dockerd does not start"
    docker_version=$(docker version --format '{{.Server.Version}}' | sed 's/+.*//')
}

# A passwd file that the connector reads, and one that it does not. Replaced whole, as useradd does it.
healthy_source() { write_source 'root:x:0:0:root:/root:/bin/sh'; }
broken_source() { write_source 'no colons here'; }
write_source() {
    mkdir -p "$work/etc"
    printf '%s\n' "$1" >"$work/etc/passwd.new"
    printf 'root:x:0:\n' >"$work/etc/group"
    mv "$work/etc/passwd.new" "$work/etc/passwd"
}
