#!/usr/bin/env python3
"""System call faults, on purpose: each call of probe and daemon fails in each way that it can.

usage: run.py PROGRAM [--all] [--only SECTION] [--call NAME]

The cases come from traces of the program, so a system call that is new is tried as soon as the program makes it.
Without --all, of a call that is made often only some occurrences fail (tracer.sample), and errors beyond the documented
ones are tried where they cost little.
"""

import argparse
import collections
import concurrent.futures
import resource
import tempfile
import time

import allow_list
import crowd
import daemon_cases
import known
import probe_cases
import outcome
from outcome import Tally


def in_parallel(workers, work, cases, tally):
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for seen in pool.map(lambda case: work(*case), cases):
            tally.add(seen)


def section(name):
    print(f"\n-- {name}", flush=True)
    return time.monotonic()


def test_probe(options, workdir):
    begun = section("the probe")
    tally = Tally("probe", known.KNOWN)
    probe = probe_cases.Probe(options.program, workdir)
    made, _held = probe_cases.scenarios(options.all)
    cases, _ = probe_cases.plan(probe, made, options.all)
    cases = [case for case in cases if options.call in (None, case[1][0])]
    fast = [case for case in cases if not case[0].only]
    slow = [case for case in cases if case[0].only]
    in_parallel(2, probe.case, fast, tally)
    # These wait more than they work.
    in_parallel(8, probe.case, slow, tally)
    tally.report()
    counts = collections.Counter(case[0].name for case in cases)
    print("  cases: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    print(f"  {time.monotonic() - begun:.0f} s")
    return tally.violations, tally.unseen()


def test_daemon(options, workdir):
    begun = section("the daemon")
    tally = Tally("daemon", known.KNOWN)
    lives = daemon_cases.Lives(options.program, workdir)
    cases, _ = daemon_cases.plan(lives, options.all)
    cases = [case for case in cases if options.call in (None, case[1][0])]
    # More than there are processors: a case waits more than it works.
    in_parallel(12, lives.case, cases, tally)
    tally.report()
    counts = collections.Counter(case[0] for case in cases)
    print("  cases: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    print(f"  {time.monotonic() - begun:.0f} s")
    return tally.violations, tally.unseen()


def listed(name, test):
    """A section whose violations are lines."""

    def run(options, workdir):
        begun = section(name)
        violations = [((name, "all calls", "program", "life"), line) for line in test(options.program, workdir)]
        print(f"  {time.monotonic() - begun:.0f} s")
        return violations, []

    return run


SECTIONS = {
    "probe": test_probe,
    "daemon": test_daemon,
    "short": listed("transfers of one byte", allow_list.test_short_transfers),
    "seccomp": listed("the seccomp profile", allow_list.test),
    "crowd": listed("a crowd", crowd.test),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("--all", action="store_true", help="every occurrence of every call, and every error: takes long")
    parser.add_argument("--only", choices=SECTIONS)
    parser.add_argument("--call", help="faults in this system call only")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    violations, unseen = [], []
    with tempfile.TemporaryDirectory() as workdir:
        for name in [options.only] if options.only else SECTIONS:
            broken, unneeded = SECTIONS[name](options, workdir)
            violations += broken
            unseen += unneeded
    for exception in unseen if options.call is None else ():
        print(f"known exception that did not occur: {exception.program}: {exception.calls} ({exception.place}): {exception.kinds}")
    for line in outcome.grouped(violations, 3 if options.only is None else 12):
        print(line if line.startswith(" ") else f"VIOLATION: {line}")
    raise SystemExit(1 if violations or (unseen and options.all) else 0)


main()
