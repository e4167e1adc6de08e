"""What a case came to, and the exceptions that are known."""

import collections
import dataclasses
import signal
import threading


@dataclasses.dataclass
class Outcome:
    """One injection: what was injected, what was seen, and what that breaks."""

    what: str
    call: str
    place: str
    seen: str
    # (kind, text): the kind is what a known exception names.
    broken: list = dataclasses.field(default_factory=list)

    def breaks(self, kind, text):
        self.broken.append((kind, text))


@dataclasses.dataclass(frozen=True)
class Known:
    """A broken promise whose only cause is std or the C library."""

    program: str
    place: str
    calls: str
    kinds: str
    reason: str

    def covers(self, program, outcome, kind):
        return (
            program == self.program
            and outcome.place in self.place.split(", ")
            and outcome.call in self.calls.split()
            and kind in self.kinds.split(", ")
        )


def signal_name(number):
    return signal.Signals(number).name


class Tally:
    """Counts what was seen, call by call, and keeps what breaks a promise."""

    def __init__(self, program, known):
        self.program = program
        self.known = known
        self.lock = threading.Lock()
        self.seen = collections.defaultdict(collections.Counter)
        self.excused = collections.Counter()
        self.violations = []
        self.injections = 0

    def add(self, outcome):
        with self.lock:
            self.injections += 1
            self.seen[outcome.call][outcome.seen] += 1
            for kind, text in outcome.broken:
                excuse = next((known for known in self.known if known.covers(self.program, outcome, kind)), None)
                if excuse:
                    self.excused[excuse] += 1
                else:
                    same = (self.program, outcome.call, outcome.place, kind)
                    self.violations.append((same, f"{outcome.what}: {text}"))

    def report(self):
        for call in sorted(self.seen):
            outcomes = ", ".join(f"{count} x {seen}" for seen, count in self.seen[call].most_common())
            print(f"  {call:16} {sum(self.seen[call].values()):5}  {outcomes}")
        for known in self.known:
            if self.excused[known]:
                print(f"  known, seen {self.excused[known]} times: {known.calls} at {known.place}: {known.kinds}: {known.reason}")
        print(f"  {self.injections} injections, {len(self.violations)} violations")

    def unseen(self):
        return [known for known in self.known if known.program == self.program and not self.excused[known]]


def grouped(violations, examples=3):
    """Violations of one kind by one call, with some of them as examples."""
    groups = collections.defaultdict(list)
    for same, text in violations:
        groups[same].append(text)
    for (program, call, place, kind), texts in sorted(groups.items()):
        yield f"{program}: {call} ({place}): {kind}, {len(texts)} times"
        yield from (f"    {text}" for text in texts[:examples])
