"""The seccomp profile of examples/: the program needs nothing that is not in it, and it lists nothing without need."""

import os
import signal
import subprocess
import sys
import tempfile

import daemon_cases
import seccomp
import short_transfers
import tracer

PROFILE = os.path.join(os.path.dirname(__file__), "../../examples/seccomp.json")

# In the list although no ordinary run makes them: what calls them.
RARE = {
    "accept": "musl, where accept4 is not there or says EINVAL",
    "getsockopt": "std, to learn why a connection failed",
    "mremap": "musl, for memory that grows",
    "nanosleep": "a line of log that waits for another",
    "restart_syscall": "the kernel, after a stop",
    "rt_sigreturn": "the kernel, after a signal",
    "writev": "musl's last words",
}
# The same calls under the names that other processors and builds know them by.
ELSEWHERE = {"clock_nanosleep", "fcntl64", "futex_time64", "mmap2", "openat", "ppoll", "ppoll_time64"}


def confined(program):
    return [sys.executable, seccomp.__file__, PROFILE, program]


def traced_calls(program, workdir):
    """The names of all calls of a daemon's life and of three probes: one answered, one refused, one told why not."""
    names, lives = set(), daemon_cases.Lives(program, workdir)
    outcome = lives.start()
    if outcome.seen != "exit 0":
        raise SystemExit(f"the daemon under strace: {outcome}")
    names |= {call.name for call in lives.last}
    daemon = lives.running()
    for port, address in (("8081", daemon.address), ("1", daemon.address)):
        log = lives.log()
        words = [program, "health-check", f"--health-check-bind-address={address}", f"--health-check-port={port}"]
        subprocess.run(tracer.command(log) + words, check=False, capture_output=True)
        names |= {call.name for call in tracer.read(log)}
    daemon.signal(signal.SIGTERM)
    daemon.end()
    return names - {"execve"}


def test(program, workdir):
    """The violations, as lines."""
    with open(PROFILE, encoding="utf-8") as text:
        listed = set(seccomp.json.load(text)["syscalls"][0]["names"])
    called = traced_calls(program, workdir)
    print(f"  {len(called)} calls seen, {len(listed)} listed")
    for name in sorted(called - listed):
        yield f"the program calls {name}, which examples/seccomp.json does not list"
    for name in sorted(listed - called - RARE.keys() - ELSEWHERE):
        yield f"examples/seccomp.json lists {name}, which is not called"
    yield from life("under the seccomp profile", confined(program), confined(program))


def life(how, daemon_words, probe_words):
    """A daemon and its probes, each started by these words: right answers, a failure that is told, an orderly end."""
    daemon = daemon_cases.Daemon(daemon_words)
    try:
        if not daemon.until_ready(daemon_cases.RECOVERS_IN):
            yield f"{how}: the daemon does not answer: {daemon.lines}, {daemon.process.poll()}"
            return
        for arguments, wanted in (
            (["--endpoint=live"], (0, "alive\n")),
            (["--endpoint=ready"], (0, "ready\n")),
            (["--endpoint=health"], (0, "healthy\n")),
            (["--health-check-port=1"], (1, "")),
        ):
            words = probe_words + ["health-check", f"--health-check-bind-address={daemon.address}", *arguments]
            probe = subprocess.run(words, check=False, capture_output=True, text=True, timeout=60)
            told = len(probe.stderr.splitlines())
            if (probe.returncode, probe.stdout) != wanted or told != wanted[0]:
                yield f"{how}: {arguments}: {probe}"
    finally:
        daemon.signal(signal.SIGTERM)
        code = daemon.end()
    messages = [daemon_cases.message(line) for line in daemon.lines]
    if code != 0 or "draining" not in messages or None in messages:
        yield f"{how}: the daemon ends with {code}: {daemon.lines}"


def test_short_transfers(program, workdir):
    """The same with every transfer of one byte: nothing that is read or written may be torn."""
    reports = [os.path.join(workdir, name) for name in ("daemon", "probe")]
    words = [[sys.executable, short_transfers.__file__, report, program] for report in reports]
    yield from life("one byte at a time", *words)
    for report in reports:
        with open(report, encoding="ascii") as text:
            shortened = int(text.read())
        print(f"  {shortened} transfers cut to one byte ({os.path.basename(report)})")
        if shortened < 20:
            yield f"one byte at a time: only {shortened} transfers were cut"
