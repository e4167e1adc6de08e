"""Every system call of the probe fails in every way.

The promise: exit 0 if and only if an answer with status 200 was read, else 1; never by a signal; never later than the
timeout and a second; one line on standard error for each failure, and none else.
"""

import dataclasses
import os
import re
import subprocess
import tempfile
import threading
import time

import answers
import errnos
import tracer
from outcome import Outcome, signal_name

TIMEOUT = 1
GRACE = 1.0
# A probe that is still there so much later is ended by hand, so that the stage ends.
HANGS = 1.0


@dataclasses.dataclass
class Scenario:
    name: str
    port: int
    every_errno: bool
    # Where each case takes as long as the timeout, these errors are enough: one that is to be tried again, one that is not.
    only: tuple = ()


def scenarios(every):
    scripted = {
        "healthy": answers.whole(answers.HEALTHY),
        "unhealthy": answers.whole(answers.UNHEALTHY),
        "dripping": answers.dripping,
        "cut": answers.cut,
        "silent": answers.silent,
    }
    made = [Scenario(name, answers.Server(say).port, every or name == "healthy") for name, say in scripted.items()]
    held, port = answers.closed_port()
    made.append(Scenario("refused", port, every))
    silent = next(scenario for scenario in made if scenario.name == "silent")
    silent.every_errno, silent.only = False, ("error=EINTR", "error=EAGAIN", "error=EIO")
    return made, held


def received_200(calls):
    """Whether the program really read a whole head with status 200: what the tracer made up does not count."""
    text = ""
    for call in calls:
        if call.name in ("recvfrom", "read") and not call.injected:
            data = re.match(r'\d+, "((?:[^"\\]|\\.)*)"', call.text)
            text += data[1] if data else ""
    return text.startswith("HTTP/1.1 200 ") and r"\r\n\r\n" in text


def stderr_failed(calls):
    """Whether the way to standard error is what failed: writing to it, or asking whether it can be written to."""
    way = {"write": "2,", "writev": "2,", "poll": "[{fd=2, events=POLLOUT", "ppoll": "[{fd=2, events=POLLOUT"}
    return any(call.injected and call.name in way and call.text.startswith(way[call.name]) for call in calls)


class Probe:
    """Runs one case after another, from several threads."""

    def __init__(self, program, workdir):
        self.program = program
        self.workdir = workdir

    def run(self, scenario, inject=None):
        descriptor, log = tempfile.mkstemp(dir=self.workdir)
        os.close(descriptor)
        words = [self.program, "health-check", f"--health-check-port={scenario.port}", f"--timeout={TIMEOUT}"]
        begun = time.monotonic()
        traced = subprocess.Popen(
            tracer.command(log, inject) + words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        hanging = threading.Timer(TIMEOUT + GRACE + HANGS, lambda: kill_child(traced))
        hanging.start()
        said, complained = traced.communicate()
        took = time.monotonic() - begun
        hanging.cancel()
        calls = tracer.read(log)
        os.unlink(log)
        return traced.returncode, said.decode(errors="replace"), complained.decode(errors="replace"), took, calls

    def case(self, scenario, inject, again=True):
        code, said, complained, took, calls = self.run(scenario, inject)
        call, fault, when = inject
        what = f"{scenario.name}: {call}:{fault}:when={when}"
        injected = any(c.injected for c in calls)
        outcome = Outcome(what, call, tracer.place(calls), f"exit {code}" if code >= 0 else signal_name(-code))
        if not injected and scenario.name == "dripping":
            # How many bytes one read takes is up to the scheduler: later reads may not happen.
            outcome.seen = "not reached"
            return outcome
        if not injected:
            outcome.breaks("not injected", "the fault was not reached, so nothing was tested")
            return outcome
        late = took > TIMEOUT + GRACE
        if late and again:
            # A machine that is busy can be late by itself, but hardly twice.
            return self.case(scenario, inject, again=False)
        if late:
            outcome.seen = "late"
            outcome.breaks("late", f"took {took:.1f} s with --timeout={TIMEOUT}")
        if code == -9:
            # By the stage's own hand.
            return outcome
        if code < 0:
            outcome.breaks(signal_name(-code), f"died by {signal_name(-code)}: {complained.strip()!r}")
            return outcome
        came = received_200(calls)
        if code == 0 and not came:
            outcome.breaks("false 0", "exit 0, and no 200 came")
        if code != 0 and came:
            outcome.breaks("false 1", f"exit {code} although a 200 came: {complained.strip()!r}")
        if code not in (0, 1):
            outcome.breaks("exit code", f"exit {code}")
        self.judge_lines(outcome, code, said, complained, calls)
        return outcome

    @staticmethod
    def judge_lines(outcome, code, said, complained, calls):
        if stderr_failed(calls):
            return
        lines = complained.splitlines()
        printed = said == "healthy\n"
        # A failure is one line; so is a success whose word could not be printed.
        wanted = 1 if code != 0 or not printed else 0
        if len(lines) != wanted or (lines and not lines[0].startswith("baton-passwd: ")):
            outcome.breaks("lines", f"exit {code}, printed {said!r}, and on standard error {complained!r}")


def kill_child(traced):
    child = tracer.child_of(traced.pid)
    if child:
        os.kill(child, 9)


def plan(probe, made, every):
    """All cases, from one trace of each scenario without a fault."""
    cases, calls_seen = [], set()
    for scenario in made:
        code, said, complained, _, calls = probe.run(scenario)
        healthy = scenario.name in ("healthy", "dripping")
        if code != (0 if healthy else 1):
            raise SystemExit(f"{scenario.name}: the probe without a fault: exit {code}, {said!r}, {complained!r}")
        calls_seen |= {call.name for call in calls}
        counts = tracer.occurrences(calls)
        begun = False
        for name in dict.fromkeys(call.name for call in calls):
            begun = begun or name == "socket"
            if name in errnos.CANNOT_FAIL or (scenario.only and not begun):
                continue
            cases += plan_call(scenario, name, counts[name], every)
    return cases, calls_seen


def plan_call(scenario, name, count, every):
    """Every errno at the first occurrence of each call where that takes no time; else the documented ones."""
    documented = errnos.faults(name)
    for number in tracer.sample(count, every):
        for fault in scenario.only or errnos.faults(name, every or (scenario.every_errno and number == 1)):
            yield scenario, (name, fault, str(number))
        # For good, from this call on.
        if every or number == 1 or scenario.name == "healthy":
            for fault in scenario.only or documented:
                yield scenario, (name, fault, f"{number}+")
