"""Tries all mutants of cargo-mutants with one build.

cargo-mutants builds the program once for each mutant. This puts all mutants into one program, each behind an `if` on its
number, so that a variable of the environment chooses one when the tests run. It first runs each test once without a mutant
to learn which mutants the test reaches, and then tries each mutant with those tests only.

Usage: mutants.py TREE ALL CHOSEN TARGETS SECONDS ACCEPTED

TREE is a copy of the repository, which this changes. ALL and CHOSEN are outputs of `cargo mutants --list --json`: all mutants,
and those to try. TARGETS are arguments of `cargo test` that choose the tests, in the order to run them, separated by `;`.
After SECONDS it tries no further mutants. ACCEPTED is a file with two columns, separated by a tab: a mutant that no test
notices, and the reason why that is no gap. It prints a table of what became of the mutants of each file:

`noticed`    a test fails
`hangs`      a test does not end
`survives`   all tests pass
`unreached`  no test gets there
`unviable`   it does not compile
`elsewhere`  it is in code for other systems, or in a test
`untried`    there was no time for it

`accepted`   it survives or is not reached, and ACCEPTED says why that is no gap

It fails if any other mutant survives or is not reached, and if ACCEPTED names one that cannot be made; or, if all are
tried, one that is noticed.
A mutant in a constant cannot be behind an `if`: each of those has a build of its own.
"""

import bisect
import collections
import concurrent.futures
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

import tree_sitter
import tree_sitter_rust

PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_rust.language()))

# Tests that take this many times as long as without a mutant, and so many seconds more, have noticed it by hanging.
SLOWER = 10
LONGER = float(os.environ.get("LONGER", 30))

# How many mutants are tried at once, and how many tests of one run at once: of many that notice it, one is enough.
JOBS = int(os.environ.get("JOBS", 2))
AT_ONCE = 6

# The compiler's code for a match without some arm.
NOT_EXHAUSTIVE = "E0004"

BUILD = dict(os.environ, CARGO_PROFILE_DEV_DEBUG="0", CARGO_PROFILE_TEST_DEBUG="0", RUSTFLAGS="--cap-lints=warn -Awarnings")

# Which mutant is on. A second variable names a file that gets the number of each mutant that is reached. An allocator and a
# handler of signals may have mutants too, so this allocates nothing and takes no lock.
SWITCH = """
#[doc(hidden)]
#[allow(missing_docs, unsafe_code, clippy::all)]
pub mod mutant {
    use std::ffi::{c_char, c_int};
    use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};

    unsafe extern "C" {
        fn getenv(name: *const c_char) -> *const c_char;
        fn open(path: *const c_char, flags: c_int, ...) -> c_int;
        fn write(file: c_int, bytes: *const u8, count: usize) -> isize;
        fn close(file: c_int) -> c_int;
    }

    const UNKNOWN: usize = usize::MAX;
    const NONE: usize = UNKNOWN - 1;
    static CHOSEN: AtomicUsize = AtomicUsize::new(UNKNOWN);
    static REACHED: [AtomicU8; 8192] = [const { AtomicU8::new(0) }; 8192];

    pub fn on(number: usize) -> bool {
        if REACHED[number].load(Relaxed) == 0 && REACHED[number].swap(1, Relaxed) == 0 {
            unsafe { note(number) };
        }
        let chosen = CHOSEN.load(Relaxed);
        if chosen == UNKNOWN {
            CHOSEN.store(unsafe { choose() }, Relaxed);
            return CHOSEN.load(Relaxed) == number;
        }
        chosen == number
    }

    unsafe fn choose() -> usize {
        unsafe {
            let mut text = getenv(c"MUTANT".as_ptr());
            if text.is_null() {
                return NONE;
            }
            let mut number = 0;
            while *text != 0 {
                number = 10 * number + (*text as u8 - 48) as usize;
                text = text.add(1);
            }
            number
        }
    }

    unsafe fn note(mut number: usize) {
        unsafe {
            let path = getenv(c"MUTANTS_REACHED".as_ptr());
            if path.is_null() {
                return;
            }
            let mut line = [b'\\n'; 6];
            for at in (0..5).rev() {
                line[at] = 48 + (number % 10) as u8;
                number /= 10;
            }
            // For writing, at the end, on Linux.
            let file = open(path, 0o2001);
            write(file, line.as_ptr(), line.len());
            close(file);
        }
    }
}
"""


# What no test notices.
LEFT = ("survives", "unreached")


class Mutant:
    def __init__(self, number, entry):
        self.number, self.file, self.genre = number, entry["file"], entry["genre"]
        self.replacement = entry["replacement"]
        # Lines move, so the name is without line and column.
        self.line, self.name = entry["span"]["start"]["line"], re.sub(r":\d+:\d+:", ":", entry["name"], count=1)
        self.start = (entry["span"]["start"]["line"], entry["span"]["start"]["column"])
        self.end = (entry["span"]["end"]["line"], entry["span"]["end"]["column"])
        self.outcome = None
        # What it is when no test notices it.
        self.reached = "unreached"


class File:
    """A source file with its mutants."""

    def __init__(self, tree, name, mutants, crate):
        self.path, self.crate, self.mutants = tree / name, crate, mutants
        self.source = self.path.read_bytes()
        self.lines = self.source.split(b"\n")
        self.offsets = [0]
        for line in self.lines:
            self.offsets.append(self.offsets[-1] + len(line) + 1)
        self.root = PARSER.parse(self.source).root_node
        for mutant in mutants:
            self.place(mutant)

    def offset(self, position):
        line, column = position
        return self.offsets[line - 1] + len(self.lines[line - 1].decode()[: column - 1].encode())

    def place(self, mutant):
        """Finds the node that a mutant changes, or says why it cannot be put behind an `if`."""
        start, end = self.offset(mutant.start), self.offset(mutant.end)
        token = self.root.descendant_for_byte_range(start, end)
        mutant.node = None
        node = token
        while node is not None and not self.fits(mutant, node, start, end):
            node = node.parent
        if node is None:
            mutant.outcome = "alone"
            return
        context = node
        while context is not None:
            if built_elsewhere(context):
                mutant.outcome = "elsewhere"
                return
            context = context.parent
        if is_const(node):
            mutant.outcome = "alone"
            return
        mutant.node = node

    @staticmethod
    def fits(mutant, node, start, end):
        if mutant.genre == "BinaryOperator":
            operator = node.child_by_field_name("operator")
            known = node.type in ("binary_expression", "compound_assignment_expr")
            return known and operator is not None and operator.start_byte == start
        if mutant.genre == "UnaryOperator":
            return node.type == "unary_expression" and node.start_byte == start
        if mutant.genre == "MatchArm":
            return node.type == "match_arm" and node.start_byte <= start and end <= node.end_byte
        if mutant.genre == "MatchArmGuard":
            guard = node.child_by_field_name("condition")
            return node.type == "match_pattern" and guard is not None and (guard.start_byte, guard.end_byte) == (start, end)
        body = node.child_by_field_name("body")
        return node.type == "function_item" and body is not None and body.start_byte < start and end <= body.end_byte

    def weave(self):
        """Writes the file with all mutants that can be built."""
        self.at = collections.defaultdict(list)
        for mutant in self.mutants:
            if mutant.node is not None and mutant.outcome is None:
                self.at[(mutant.node.start_byte, mutant.node.end_byte, mutant.node.type)].append(mutant)
        self.path.write_bytes(self.text(self.root))

    def raw(self, node):
        return self.source[node.start_byte : node.end_byte]

    def text(self, node):
        """The node's text with its mutants and those inside of it."""
        parts, at = [], node.start_byte
        for child in node.children:
            parts.append(self.source[at : child.start_byte])
            parts.append(self.text(child))
            at = child.end_byte
        parts.append(self.source[at : node.end_byte])
        if node.type == "match_expression":
            parts.insert(2 * index_of(node, "value") + 2, self.unguarded(node))
        mutants = self.at.get((node.start_byte, node.end_byte, node.type), [])
        return self.changed(node, parts, mutants) if mutants else b"".join(parts)

    def unguarded(self, match):
        """A mark for a match: without these arms it may not be exhaustive."""
        arms = [arm for arm in match.child_by_field_name("body").children if arm.type == "match_arm"]
        arms = [arm for arm in arms if arm.child_by_field_name("pattern").child_by_field_name("condition") is None]
        numbers = [str(m.number) for arm in arms for m in self.at.get((arm.start_byte, arm.end_byte, arm.type), [])]
        return f" /*arms {' '.join(numbers)}*/\n".encode() if numbers else b""

    def on(self, mutant):
        return f"{self.crate}::mutant::on({mutant.number})".encode()

    def changed(self, node, parts, mutants):
        if node.type == "function_item":
            index = index_of(node, "body")
            block = parts[2 * index + 1]
            returns = [b"\nif " + self.on(m) + b" { return " + m.replacement.encode() + b"; }" + mark(m) for m in mutants]
            parts[2 * index + 1] = b"{" + b"".join(returns) + b"\n" + block[1:]
            return b"".join(parts)
        if node.type == "match_arm":
            pattern = node.child_by_field_name("pattern")
            index = index_of(node, "pattern")
            [mutant] = mutants
            guard = b"!" + self.on(mutant)
            text = parts[2 * index + 1]
            if pattern.child_by_field_name("condition") is not None:
                # The pattern itself has no mutants, so its text before the condition is as long as it was.
                length = pattern.child_by_field_name("condition").start_byte - pattern.start_byte
                before, condition = text[:length][: text[:length].rindex(b"if")], text[length:]
                parts[2 * index + 1] = before + b" if " + guard + mark(mutant) + b"&& (" + condition + b")"
            else:
                parts[2 * index + 1] = text + b" if " + guard + mark(mutant)
            return b"".join(parts)
        if node.type == "match_pattern":
            index = index_of(node, "condition")
            own = parts[2 * index + 1]
            return b"".join(parts[: 2 * index + 1]) + self.chain(mutants, lambda m: m.replacement.encode(), own)
        if node.type == "unary_expression":
            operand = self.source[node.start_byte + 1 : node.end_byte]
            return self.chain(mutants, lambda m: operand, b"".join(parts))
        left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
        if "let_condition" in (left.type, right.type) or "let_chain" in (left.type, right.type):
            for mutant in mutants:
                mutant.outcome, mutant.node = "alone", None
            return b"".join(parts)
        return self.chain(mutants, lambda m: self.raw(left) + b" " + m.replacement.encode() + b" " + self.raw(right), b"".join(parts))

    def chain(self, mutants, change, own):
        cases = [b"if " + self.on(m) + b" {\n" + change(m) + mark(m) + b"} else " for m in mutants]
        return b"(" + b"".join(cases) + b"{\n" + own + b"\n})"


def index_of(node, field):
    """Which of the children is in that field."""
    return [child.id for child in node.children].index(node.child_by_field_name(field).id)


def mark(mutant):
    """Ends the line, so that an error on it tells which mutant cannot be built."""
    return f" /*mutant {mutant.number}*/\n".encode()


def is_const(node):
    while node is not None:
        if node.type in ("const_item", "static_item", "const_block", "array_type", "enum_variant"):
            return True
        if node.type == "function_item":
            return any(child.type == "function_modifiers" and b"const" in child.text for child in node.children)
        node = node.parent
    return False


def built_elsewhere(node):
    """Whether an attribute says that the node is for other systems than this one, or for tests."""
    before = node.prev_named_sibling
    while before is not None and before.type in ("attribute_item", "line_comment", "block_comment"):
        if re.search(rb"cfg\((not\(unix\)|windows|fuzzing|any\(test|not\(feature)", before.text):
            return True
        before = before.prev_named_sibling
    return False


def build(tree, target, files, mutants):
    """Builds the tests of one target, and leaves out what cannot be built. Returns the executables."""
    while True:
        for file in files:
            file.weave()
        crate = tree / "src/lib.rs"
        crate.write_bytes(crate.read_bytes() + SWITCH.encode())
        command = ["cargo", "test", "--locked", "--no-run", "--message-format=json", *target]
        done = subprocess.run(command, cwd=tree, env=BUILD, capture_output=True, text=True)
        messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode == 0:
            built = [m for m in messages if m.get("reason") == "compiler-artifact" and m["executable"] and m["profile"]["test"]]
            return [m["executable"] for m in built]
        errors = [m["message"] for m in messages if m.get("reason") == "compiler-message" and m["message"]["level"] == "error"]
        unviable, alone = set(), set()
        for error in errors:
            for span in error["spans"]:
                path = tree / span["file_name"]
                if span["is_primary"] and path.exists():
                    text = "\n".join(path.read_text().split("\n")[span["line_start"] - 1 : span["line_end"]])
                    unviable |= {int(number) for number in re.findall(r"/\*mutant (\d+)\*/", text)}
                    if (error["code"] or {}).get("code") == NOT_EXHAUSTIVE:
                        alone |= {int(number) for arms in re.findall(r"/\*arms ([\d ]+)\*/", text) for number in arms.split()}
        if not unviable | alone:
            sys.exit("the program with all mutants cannot be built:\n" + "".join(e["rendered"] for e in errors) + done.stderr[-2000:])
        for number in unviable | alone:
            mutants[number].outcome = "alone" if number in alone else "unviable"


def run(executable, tree, arguments, seconds, **variables):
    """The exit code of some tests, or None if they hang."""
    environment = dict(os.environ, CARGO_MANIFEST_DIR=str(tree), RUST_BACKTRACE="0", **variables)
    process = subprocess.Popen(
        [executable, "-q", "--include-ignored", f"--test-threads={AT_ONCE}", *arguments], cwd=tree, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def learn(executable, tree, only):
    """The tests of an executable: what each reaches, and how long it takes."""
    listed = subprocess.run([executable, "--list", "--format=terse"], cwd=tree, capture_output=True, text=True, check=True).stdout
    names = [line.removesuffix(": test") for line in listed.splitlines() if line.endswith(": test")]
    tests = {}

    def once(name):
        with tempfile.NamedTemporaryFile("r", dir=tree) as reached:
            os.chmod(reached.name, 0o666)
            start = time.monotonic()
            code = run(executable, tree, ["--exact", name], 300, MUTANTS_REACHED=reached.name)
            took = time.monotonic() - start
            if code == 0:
                tests[name] = (took, {int(line) for line in reached.read().split() if line.isdigit()} & only)

    with concurrent.futures.ThreadPoolExecutor(JOBS) as workers:
        list(workers.map(once, names))
    # Again, with nothing beside it.
    for name in [name for name in names if name not in tests]:
        once(name)
    for name in [name for name in names if name not in tests]:
        say(f"left out, since it fails without a mutant: {name}")
    return tests


def attempt(mutant, executable, tests, tree, until):
    """Runs the tests that reach a mutant, the quick ones first, until one notices it."""
    names = sorted((took, name) for name, (took, numbers) in tests.items() if mutant.number in numbers)
    while names:
        if time.monotonic() > until:
            return "untried"
        some, names = names[:AT_ONCE], names[AT_ONCE:]
        mutant.reached = mutant.outcome = "survives"
        seconds = LONGER + SLOWER * sum(took for took, _ in some)
        code = run(executable, tree, ["--exact", *(name for _, name in some)], seconds, MUTANT=str(mutant.number))
        if code != 0:
            return "hangs" if code is None else "noticed"
    return mutant.reached


def attempt_alone(mutant, file, tree, targets, until):
    """Builds the program with one mutant, and runs the tests of one target after the other."""
    start, end = file.offset(mutant.start), file.offset(mutant.end)
    file.path.write_bytes(file.source[:start] + mutant.replacement.encode() + file.source[end:])
    try:
        for target in targets:
            if time.monotonic() > until:
                return "untried"
            command = ["cargo", "test", "--locked", "--target-dir", "target/alone", *target]
            for step in (["--no-run"], []):
                done = subprocess.run(command + step, cwd=tree, env=BUILD, capture_output=True, timeout=1200)
                if done.returncode != 0:
                    return "noticed" if not step else "unviable"
        return "survives"
    except subprocess.TimeoutExpired:
        return "hangs"
    finally:
        file.path.write_bytes(file.source)


def main():
    tree, every, chosen, targets, seconds, accepted = sys.argv[1:]
    tree = pathlib.Path(tree)
    targets = [target.split() for target in targets.split(";")]
    until = time.monotonic() + float(seconds)
    mutants = [Mutant(number, entry) for number, entry in enumerate(json.load(open(every)))]
    seen = collections.Counter()
    for mutant in mutants:
        seen[mutant.name] += 1
        if seen[mutant.name] > 1:
            mutant.name += f" #{seen[mutant.name]}"
    places = {(entry["file"], entry["name"], entry["replacement"]) for entry in json.load(open(chosen))}
    entries = json.load(open(every))
    mine = [m for m, entry in zip(mutants, entries) if (entry["file"], entry["name"], entry["replacement"]) in places]

    lines = [line.rstrip("\n").split("\t") for line in open(accepted) if line.strip() and line[0] != "#"]
    wrong = [f"{accepted}: no reason: {line}" for line in lines if len(line) != 2 or not line[1]]
    names = {mutant.name for mutant in mutants}
    reasons = {line[0] for line in lines}
    wrong += [f"{accepted}: cannot be made: {name}" for name in sorted(reasons - names)]
    if wrong:
        sys.exit("\n".join(wrong))

    try_all(tree, mutants, mine, targets, until)
    for mutant in mine:
        if mutant.outcome in LEFT:
            if mutant.name in reasons:
                mutant.outcome = "accepted"
            else:
                wrong.append(f"{mutant.outcome}, line {mutant.line}: {mutant.name}")
        elif mutant.name in reasons and mutant.outcome in ("noticed", "hangs") and len(mine) == len(mutants):
            wrong.append(f"{accepted}: is noticed: {mutant.name}")
    table(mine)
    if wrong:
        sys.exit("\n".join(wrong))


def table(mutants):
    outcomes = ["noticed", "hangs", "accepted", "survives", "unreached", "unviable", "elsewhere", "untried"]
    print("| file | mutants |", " | ".join(outcomes), "|")
    print("|---|" + "---|" * (len(outcomes) + 1))
    counts = collections.defaultdict(collections.Counter)
    for mutant in mutants:
        for row in (mutant.file.removeprefix("src/"), "all"):
            counts[row]["mutants"] += 1
            counts[row][mutant.outcome] += 1
    for row in sorted(counts, key=lambda row: (row == "all", row)):
        print(f"| {row} |", " | ".join(str(counts[row][column]) for column in ["mutants", *outcomes]), "|")


def try_all(tree, mutants, mine, targets, until):
    files = []
    for name in sorted({mutant.file for mutant in mine} | {"src/lib.rs"}):
        crate = "baton_health" if name.startswith("src/bin/") else "crate"
        files.append(File(tree, name, [mutant for mutant in mine if mutant.file == name], crate))
    waiting = [mutant for mutant in mine if mutant.outcome is None]
    for target in targets:
        waiting = [mutant for mutant in waiting if mutant.outcome in (None, *LEFT)]
        if not waiting:
            break
        # The tests that are left might have noticed these.
        if time.monotonic() > until:
            for mutant in waiting:
                mutant.outcome = "untried"
            break
        if target == ["--bins"] and not any(mutant.file.startswith("src/bin/") for mutant in waiting):
            continue
        # What is left must be there again when the next tests are built.
        for mutant in waiting:
            mutant.outcome = None
        if "connectors" in target:
            subprocess.run(["cargo", "build", "--locked", "--quiet", "--examples"], cwd=tree, env=BUILD, check=True)
        start = time.monotonic()
        executables = build(tree, target, files, mutants)
        waiting = [mutant for mutant in waiting if mutant.outcome is None]
        for mutant in waiting:
            mutant.outcome = mutant.reached
        learning = time.monotonic()
        tests = [(executable, learn(executable, tree, {mutant.number for mutant in waiting})) for executable in executables]
        trying = time.monotonic()
        for executable, reached in tests:
            with concurrent.futures.ThreadPoolExecutor(JOBS) as workers:
                some = [mutant for mutant in waiting if mutant.outcome in LEFT]
                for mutant, outcome in zip(some, workers.map(lambda m: attempt(m, executable, reached, tree, until), some)):
                    mutant.outcome = outcome
        left = sum(mutant.outcome in LEFT for mutant in waiting)
        times = f"{learning - start:.0f} s to build, {trying - learning:.0f} s to learn, {time.monotonic() - trying:.0f} s to try"
        say(f"{' '.join(target)}: {left} of {len(waiting)} left; {times}")
    for file in files:
        file.path.write_bytes(file.source)
    for file in files:
        for mutant in file.mutants:
            if mutant.outcome == "alone":
                mutant.outcome = attempt_alone(mutant, file, tree, targets, until)
            elif mutant.outcome is None:
                mutant.outcome = "untried"


def say(text):
    print(text, file=sys.stderr, flush=True)


main()
