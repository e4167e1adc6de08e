"""Prints how much of each file is covered, and each region that is neither covered nor named with a reason.

Fails if there are more than a few of these, since some depend on timing; if the total is below its floor; and if a
named line or function is no longer there.

Usage: coverage.py SOURCE NAMED REGIONS...

SOURCE is the directory of the sources, with a slash at its end. REGIONS are outputs of `llvm-cov export`. NAMED is a file
with three columns, separated by tabs: a file, what it does not cover, and the reason. The second column is the text of the
line where a region starts, or `fn NAME` for all of a function. A file `*` with `?` stands for all question marks. A reason
that begins with `sometimes` is for what depends on timing. Any other entry for which all is covered is printed too.
"""

import collections
import json
import re
import sys

# Percent of all regions, so that not everything can be excused.
FLOOR = 97
# Regions without a reason, which a busy machine may leave out.
MOST_UNNAMED = 12

CODE = 0


def main():
    source, named, *regions = sys.argv[1:]
    texts, of_tests, covered, functions = {}, {}, collections.Counter(), collections.defaultdict(set)
    for function in (function for path in regions for function in json.load(open(path))["data"][0]["functions"]):
        spans = [(function["filenames"][file], *span) for *span, count, file, _, kind in function["regions"] if kind == CODE]
        counts = [region[4] for region in function["regions"] if region[7] == CODE]
        for (path, *span), count in zip(spans, counts):
            name = path.removeprefix(source)
            if not path.startswith(source) or name in TESTS:
                continue
            if name not in texts:
                texts[name] = open(path).read().split("\n")
                of_tests[name] = tests(texts[name])
            if span[0] not in of_tests[name]:
                covered[(name, *span)] += count
        if spans and spans[0][0].startswith(source):
            path, first, _, last, _ = spans[0]
            functions[path.removeprefix(source)].add((first, max(span[3] for span in spans if span[0] == path)))

    entries = [line.rstrip("\n").split("\t") for line in open(named) if line.strip() and line[0] != "#"]
    wrong = [f"{named}: not three columns: {entry}" for entry in entries if len(entry) != 3 or not entry[2]]
    entries = {(entry[0], entry[1]): entry[2] for entry in entries if len(entry) == 3}
    used, unnamed = set(), []
    missed = sorted(region for region, count in covered.items() if count == 0)
    for name, first, start, last, end in missed:
        lines = texts[name]
        line = lines[first - 1]
        possible = [(name, line.strip())]
        if first == last and line[start - 1 : end - 1] == "?":
            possible.append(("*", "?"))
        for begin, finish in functions[name]:
            if begin <= first and last <= finish:
                head = " ".join(lines[begin - 1 : begin + 1])
                possible += [(name, f"fn {function}") for function in re.findall(r"\bfn (\w+)", head)[:1]]
        reasons = [entry for entry in possible if entry in entries]
        used |= set(reasons)
        if not reasons:
            unnamed.append(f"src/{name}:{first}:{start}: no test reaches {line.strip()[:100]}")
    for (file, text), reason in entries.items():
        code = "\n".join(texts.get(file, []))
        if file != "*" and not re.search(rf"\b{text}\b" if text.startswith("fn ") else re.escape(text), code):
            wrong.append(f"{named}: no longer there: {file}: {text}")
        elif (file, text) not in used and not reason.startswith("sometimes"):
            print(f"{named}: all of it is covered: {file}: {text}", file=sys.stderr)

    all_of, missed_of = (collections.Counter(region[0] for region in some) for some in (covered, missed))
    for name in sorted(all_of):
        print(f"{name:<34} {percent(all_of[name], missed_of[name]):6.2f} % of {all_of[name]:5} regions")
    total = percent(len(covered), len(missed))
    print(f"{'all':<34} {total:6.2f} % of {len(covered):5} regions, {len(missed)} not covered, {len(entries)} reasons")
    if total < FLOOR:
        wrong.append(f"less than {FLOOR} % of all regions are covered")
    if len(unnamed) > MOST_UNNAMED:
        wrong.append(f"{len(unnamed)} regions are neither covered nor named")
    for line in unnamed + wrong:
        print(line, file=sys.stderr)
    sys.exit(bool(wrong))


# These are tests, although they are used by fuzz targets too.
TESTS = ("fuzzing.rs", "http/properties.rs")


def tests(lines):
    """The lines of a file that are tests."""
    found = set()
    for at, line in enumerate(lines):
        if re.match(r" *#\[cfg\((test|any\(test, fuzzing\))\)\]", line):
            item = next(item for item in range(at + 1, len(lines)) if not lines[item].lstrip().startswith(("#[", "//")))
            # A block ends with the next brace that is as far to the left.
            brace = " " * (len(line) - len(line.lstrip())) + "}"
            end = item if lines[item].endswith(";") else next(end for end in range(item, len(lines)) if lines[end].startswith(brace))
            found |= set(range(at + 1, end + 2))
    return found


def percent(count, missed):
    return 100 * (count - missed) / count


main()
