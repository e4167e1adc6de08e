# Sourced by stages that run several things at a time, each within a time limit.

jobs_dir=$(mktemp -d)
declare -A job_of=()

# job SECONDS NAME COMMAND..: starts it as soon as fewer than two are running.
job() {
    local seconds=$1 name=$2
    shift 2
    [ ${#job_of[@]} -lt 2 ] || one_job_ends
    timeout --kill-after=10 "$seconds" "$@" >"$jobs_dir/$name" 2>&1 </dev/null &
    job_of[$!]=$name
}

# The jobs that are left. Fails if one of them fails.
all_jobs_end() {
    while [ ${#job_of[@]} -gt 0 ]; do one_job_ends; done
}

one_job_ends() {
    local pid status=0 name
    wait -n -p pid "${!job_of[@]}" || status=$?
    name=${job_of[$pid]}
    unset "job_of[$pid]"
    say "$name"
    grep -v ' ok$' "$jobs_dir/$name" || true
    case $status in
        0) ;;
        124 | 137) fail "$name: its time is up. $(still_running "$jobs_dir/$name")" ;;
        *) fail "$name" ;;
    esac
}

# still_running FILE: the tests that had not ended, of those that libtest says take long.
still_running() {
    local test
    sed -n 's/.*test \(.*\) has been running for over 60 seconds$/\1/p' "$1" | while read -r test; do
        grep -q "^test $test \.\.\. " "$1" || printf 'still running: %s\n' "$test"
    done
}

# For a trap: ends what is left.
end_jobs() {
    [ ${#job_of[@]} -eq 0 ] || kill "${!job_of[@]}" 2>/dev/null || true
    wait
    rm -rf "$jobs_dir"
}
