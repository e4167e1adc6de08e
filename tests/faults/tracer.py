"""Runs programs under strace, and reads what it wrote."""

import collections
import os
import re
import signal
import subprocess
import time

Call = collections.namedtuple("Call", "thread name text injected")

LINE = re.compile(r"^(?:(\d+) +)?(\w+)\((.*)$")
RESUMED = re.compile(r"^(?:(\d+) +)?<\.\.\. (\w+) resumed>(.*)$")


def command(log, inject=None, attach=None):
    """The strace command that writes to `log` and injects the fault `(call, fault, when)`, if there is one."""
    words = ["strace", "-f", "-qq", "-s", "4096", "-o", log]
    if inject:
        call, fault, when = inject
        words += ["-e", f"inject={call}:{fault}:when={when}"]
    return words + (["-p", str(attach)] if attach else [])


def read(log):
    """All system calls of a log in the order of their beginning. One that was interrupted by another thread's is put together."""
    calls, open_calls = [], {}
    with open(log, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            resumed = RESUMED.match(line)
            if resumed:
                thread, _, rest = resumed.groups()
                place = open_calls.pop(thread, None)
                if place is not None:
                    begun = calls[place]
                    calls[place] = begun._replace(text=begun.text + rest, injected="INJECTED" in rest)
                continue
            started = LINE.match(line)
            if started:
                thread, name, rest = started.groups()
                if rest.rstrip().endswith("<unfinished ...>"):
                    open_calls[thread] = len(calls)
                calls.append(Call(thread, name, rest.rstrip().removesuffix("<unfinished ...>"), "INJECTED" in rest))
    return calls


def occurrences(calls):
    """For each call's name: the most times that one thread made it, which is how strace counts."""
    by_thread = collections.Counter((call.thread, call.name) for call in calls)
    most = {}
    for (_, name), count in by_thread.items():
        most[name] = max(most.get(name, 0), count)
    return most


def sample(count, every=False):
    """Which of `count` occurrences are tried: all up to four; of more the first three, the middle one and the last."""
    if every or count <= 4:
        return list(range(1, count + 1))
    return sorted({1, 2, 3, (count + 1) // 2, count})


# What a thread does before its own code runs.
THREAD_START = {"rt_sigprocmask", "prctl", "gettid", "sigaltstack", "mmap", "mprotect", "set_robust_list", "rseq"}


def place(calls):
    """Where the last injected fault was: in the start-up of the C library and of std, in that of a thread, or in the program."""
    at = next((number for number, call in reversed(list(enumerate(calls))) if call.injected), None)
    if at is None:
        return "nowhere"
    before = calls[:at]
    if any(call.name == "execve" for call in before) and not any(call.name in ("socket", "socketpair", "bind") for call in before):
        return "start-up"
    thread = calls[at].thread
    own = [call.name for call in before if call.thread == thread] + [calls[at].name]
    born_here = any(call.name.startswith("clone") and re.search(rf"= {thread}\b", call.text) for call in calls)
    return "thread start" if born_here and set(own) <= THREAD_START else "program"


def child_of(pid):
    """The only child of a process: the program that strace runs."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
        words = children.read().split()
    return int(words[0]) if words else None


def attached(pid, tracer):
    """Whether the tracer has every thread of the process."""
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/status", encoding="ascii") as status:
                if f"TracerPid:\t{tracer}\n" not in status.read():
                    return False
        except FileNotFoundError:
            pass
    return True


class Attached:
    """strace on a running process, from entry to exit of the block; the faults are over at its end."""

    def __init__(self, pid, log, inject=None):
        self.pid = pid
        self.words = command(log, inject, attach=pid)

    def __enter__(self):
        self.strace = subprocess.Popen(self.words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 10
        while self.strace.poll() is None and time.monotonic() < deadline:
            try:
                if attached(self.pid, self.strace.pid):
                    return self
            except (FileNotFoundError, ProcessLookupError):
                # It has ended, perhaps of the fault.
                return self
            time.sleep(0.002)
        return self

    def __exit__(self, *_):
        if self.strace.poll() is None:
            self.strace.send_signal(signal.SIGTERM)
        try:
            self.strace.wait(10)
        except subprocess.TimeoutExpired:
            self.strace.kill()
            self.strace.wait()
        self.strace.stderr.close()
