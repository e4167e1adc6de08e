"""Every system call of the daemon fails in every way: while it starts, while it serves, while it ends.

The promise: it never dies by a signal, never spins, answers again when the fault is over or exits 1 with a line that says
why, and ends on SIGTERM.
"""

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time

import errnos
import tracer
from outcome import Outcome, signal_name

# How long after the fault the daemon may take to answer everything again, and how long after SIGTERM to end. The drain
# takes at most 5 s.
RECOVERS_IN = 10
ENDS_IN = 8
# Of the processor, while nothing is asked; and system calls: a life without a fault makes 300, and 30 for each request.
MOST_LOAD = 0.5
MOST_CALLS = 3000
MOST_CALLS_A_REQUEST = 100
WATCHED_FOR = 0.4
TICK = 1 / os.sysconf("SC_CLK_TCK")
PATHS = ("/live", "/ready", "/health")


def request(address, path, timeout=1.0):
    """The status of an answer, or None where none came."""
    text = b""
    with contextlib.suppress(OSError), socket.create_connection((address, 8081), timeout) as connection:
        connection.settimeout(timeout)
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        while b"\r\n\r\n" not in text:
            piece = connection.recv(4096)
            if not piece:
                break
            text += piece
    head = text.split(b"\r\n")[0].split(b" ")
    return int(head[1]) if head[0] == b"HTTP/1.1" and b"\r\n\r\n" in text else None


def message(line):
    """What a line of the log says, or None if it is torn."""
    try:
        return json.loads(line)["msg"]
    except (ValueError, KeyError, TypeError):
        return None


class Daemon:
    """One life of the program, on a loopback address of its own, so that any number live side by side."""

    numbers = itertools.count(1)

    def __init__(self, words, traced=False):
        number = next(Daemon.numbers)
        self.address = f"127.77.{number // 250}.{number % 250 + 1}"
        self.lines = []
        self.requests = 0
        arguments = ["--health-check", f"--health-check-bind-address={self.address}", "--health-check-port=8081"]
        self.process = subprocess.Popen(
            words + arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self.reader = threading.Thread(target=self.read_lines, daemon=True)
        self.reader.start()
        self.pid = self.child() if traced else self.process.pid

    def read_lines(self):
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def child(self):
        while self.process.poll() is None:
            with contextlib.suppress(OSError):
                child = tracer.child_of(self.process.pid)
                if child and "baton-passwd" in os.readlink(f"/proc/{child}/exe"):
                    return child
            time.sleep(0.002)
        return None

    def ended(self):
        return self.process.poll() is not None

    def ends_by_itself(self):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(RECOVERS_IN)
        return self.ended()

    def signal(self, number):
        if self.pid and not self.ended():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def asked(self):
        """Each endpoint once."""
        return [self.request(path) for path in PATHS]

    def request(self, path):
        self.requests += 1
        return request(self.address, path)

    def until_ready(self, seconds, paths=PATHS):
        """Asks until each endpoint says 200; False if the time is over first, or it has ended."""
        deadline = time.monotonic() + seconds
        waiting = list(paths)
        while waiting and time.monotonic() < deadline and not self.ended():
            waiting = [path for path in waiting if self.request(path) != 200]
            if waiting:
                time.sleep(0.005)
        return not waiting

    def processor_time(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) * TICK

    def load(self):
        """The share of a processor that it takes while nothing is asked."""
        try:
            before, begun = self.processor_time(), time.monotonic()
            time.sleep(WATCHED_FOR)
            return (self.processor_time() - before) / (time.monotonic() - begun)
        except OSError:
            return 0.0

    def end(self):
        """Waits for the end: the exit code, or None if it had to be killed."""
        code = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self.process.wait(ENDS_IN)
        if code is None:
            self.signal(signal.SIGKILL)
            self.process.wait()
        self.reader.join(5)
        self.process.stderr.close()
        return code

    def says_why(self):
        return any('"level":"error"' in line or line.startswith("baton-passwd: ") for line in self.lines)


class Lives:
    def __init__(self, program, workdir):
        self.program = program
        self.workdir = workdir
        # The calls of the life that ended last: for the plan, which has one at a time.
        self.last = []

    def log(self):
        descriptor, log = tempfile.mkstemp(dir=self.workdir)
        os.close(descriptor)
        return log

    def running(self):
        daemon = Daemon([self.program])
        # Not /health: its verdict would be remembered, and the next one has to be found under the fault.
        if not daemon.until_ready(RECOVERS_IN, ("/live", "/ready")):
            daemon.signal(signal.SIGKILL)
            raise SystemExit(f"the daemon without a fault does not start: {daemon.lines}")
        return daemon

    def start(self, inject=None):
        """A whole life under the tracer."""
        log = self.log()
        daemon = Daemon(tracer.command(log, inject) + [self.program], traced=True)
        for_good = inject is not None and "+" in inject[2]
        ready = daemon.until_ready(1.0 if for_good else RECOVERS_IN)
        broken = []
        if not ready and not for_good and not daemon.ended():
            broken.append(("mute", f"does not answer within {RECOVERS_IN} s"))
        if for_good and not daemon.ended():
            load = daemon.load()
            if load > MOST_LOAD:
                broken.append(("spins", f"takes {load:.2f} of a processor while nothing is asked"))
        if inject == ("accept4", "error=EPERM", "1+") and not daemon.ends_by_itself():
            broken.append(("mute", "lives on although it can never accept a connection"))
        return self.judge(daemon, inject, [log], broken)

    def serve(self, inject=None):
        """The fault begins when the daemon serves, and is over before it ends; one for good then comes back for the end."""
        daemon, logs, broken = self.running(), [self.log()], []
        for_good = inject is not None and "+" in inject[2]
        with tracer.Attached(daemon.pid, logs[0], inject):
            seen = daemon.asked()
            if for_good:
                load = daemon.load()
                if load > MOST_LOAD:
                    broken.append(("spins", f"takes {load:.2f} of a processor while nothing is asked"))
        if any(status not in (None, 200, 503) for status in seen):
            broken.append(("answer", f"answers {seen}"))
        if not daemon.until_ready(RECOVERS_IN) and not daemon.ended():
            broken.append(("mute", f"does not answer within {RECOVERS_IN} s after the fault"))
        if for_good and not daemon.ended():
            logs.append(self.log())
            with tracer.Attached(daemon.pid, logs[1], inject):
                return self.judge(daemon, inject, logs, broken)
        return self.judge(daemon, inject, logs, broken)

    def stop(self, inject=None):
        """The fault begins when the daemon is asked to end."""
        daemon, log = self.running(), self.log()
        with tracer.Attached(daemon.pid, log, inject):
            return self.judge(daemon, inject, [log], [])

    def judge(self, daemon, inject, logs, broken):
        """Ends the daemon, and says what the whole life came to."""
        ended_by_itself = daemon.ended()
        daemon.signal(signal.SIGTERM)
        code = daemon.end()
        calls = [call for log in logs for call in tracer.read(log)]
        if len(calls) > MOST_CALLS + MOST_CALLS_A_REQUEST * daemon.requests and not any(kind == "spins" for kind, _ in broken):
            broken.append(("spins", f"made {len(calls)} system calls"))
        for log in logs:
            os.unlink(log)
        self.last = calls
        outcome = Outcome("", inject[0] if inject else "", tracer.place(calls), "", broken)
        outcome.seen = "killed" if code is None else signal_name(-code) if code < 0 else f"exit {code}"
        if ended_by_itself and code is not None and code >= 0:
            outcome.seen += " by itself"
        said = " | ".join(daemon.lines[-3:])
        if code is None:
            outcome.breaks("hangs", f"does not end within {ENDS_IN} s of SIGTERM: {said}")
        elif code < 0:
            outcome.breaks(signal_name(-code), f"died by {signal_name(-code)}: {said}")
        elif code not in self.codes(inject, daemon) or (ended_by_itself and code != 1):
            outcome.breaks("exit code", f"exit {code}: {said}")
        elif code == 1 and not daemon.says_why() and inject[0] not in ("write", "poll"):
            outcome.breaks("lines", f"exit 1 without a line that says why: {said}")
        return outcome

    @staticmethod
    def codes(inject, daemon):
        """The exit codes that say what happened. A signal may end the daemon there and then where it cannot be
        passed on, or where the daemon is ending already, and has said why."""
        at_once = inject is not None and (inject[0] in ("write", "sendto") or daemon.says_why())
        return (0, 1, 128 + signal.SIGTERM) if at_once else (0, 1)

    def case(self, phase, inject):
        outcome = getattr(self, phase)(inject)
        # A busy machine can make it slow once, but hardly twice.
        if any(kind in ("mute", "hangs") for kind, _ in outcome.broken):
            outcome = getattr(self, phase)(inject)
        call, fault, when = inject
        outcome.what = f"{phase}: {call}:{fault}:when={when}"
        if outcome.place == "nowhere":
            outcome.broken = [(kind, text) for kind, text in outcome.broken if "strace:" in text]
            outcome.seen = "not reached"
        return outcome


def until_connected(calls):
    """The calls before the line that says so: what comes after them belongs to another phase."""
    at = next((number for number, call in enumerate(calls) if '"msg\\":\\"connected' in call.text), len(calls))
    return calls[: at + 1]


def plan(lives, every):
    """All cases, from a trace of each phase without a fault."""
    traces = {}
    for phase in ("start", "serve", "stop"):
        outcome = getattr(lives, phase)()
        if outcome.broken or outcome.seen != "exit 0":
            raise SystemExit(f"{phase}: the daemon without a fault: {outcome}")
        traces[phase] = lives.last
    calls_seen = {call.name for calls in traces.values() for call in calls}
    counts = {phase: tracer.occurrences(until_connected(calls) if phase == "start" else calls) for phase, calls in traces.items()}
    cases = []
    for phase, names in counts.items():
        for name in names.keys() - errnos.CANNOT_FAIL:
            cases += [(phase, inject) for inject in plan_once(name, names[name], every)]
    for phase, inject in plan_lasting(counts, every):
        cases.append((phase, inject))
    return cases, calls_seen


def plan_once(name, count, every):
    """Every error at the first occurrence; at a later one every third error, a different third each time."""
    for number in tracer.sample(count, every):
        for place, fault in enumerate(errnos.faults(name, every)):
            if every or number == 1 or place % 3 == number % 3:
                yield name, fault, str(number)


def plan_lasting(counts, every):
    """For good: a filter's errors from the start; the documented ones while it serves, or from the start where it is not
    made later. At every second occurrence: one error of three."""
    for phase in ("start", "serve"):
        for name in counts[phase].keys() - errnos.CANNOT_FAIL:
            for place, fault in enumerate(errnos.faults(name, every)):
                denied = fault in ("error=EPERM", "error=ENOSYS")
                if phase == "start" and name in counts["serve"] and not denied and not every:
                    continue
                if errnos.lasts(name, fault):
                    yield phase, (name, fault, "1+")
                if every or (phase == "serve" and place % 3 == 0):
                    yield phase, (name, fault, "1+2")
