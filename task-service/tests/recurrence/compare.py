"""Compares random rules with dateutil, rrule-go and libical, and writes vectors for the engine.

Usage: compare.py COUNT VECTORS LIBICAL RRULE_GO
The occurrences in VECTORS are those of the naive algorithm in `rules.py`. Each difference between it and one of the
three must belong to a class that is explained in task-service/README.md.
"""

import collections
import datetime
import signal
import subprocess
import sys
import time
import types

import dateutil.rrule

import classes
import rules

SEED = 20261130
# The number of rules for each start of a program, which may fail on one of them.
CHUNK = 500
REFUSED, ENDLESS, CRASHED = "refused", "endless", "crashed"
FORMAT = "%Y%m%dT%H%M%S"


def line(parts, anchor, skip):
    """Returns the input of the programs. The end of the rule is given apart, so that no search passes it."""
    naive = rules.Naive(parts, anchor)
    horizon = naive.end() + datetime.timedelta(seconds=1)
    changes = {"SKIP": skip, "RSCALE": skip and "GREGORIAN", "COUNT": None, "UNTIL": None}
    return f"{naive.limit} {horizon:{FORMAT}} {anchor:{FORMAT}} {rules.text(parts, **changes)}"


def by_program(program, lines):
    """Returns the occurrences that a program prints for each line, or why there are none."""
    printed = []
    while len(printed) < len(lines):
        rest = "\n".join(lines[len(printed):len(printed) + CHUNK]) + "\n"
        done = subprocess.run([program], input=rest, stdout=subprocess.PIPE, text=True, check=False)
        printed += done.stdout.splitlines()
        if done.returncode != 0:
            printed.append(ENDLESS if done.returncode == -signal.SIGPROF else CRASHED)
    return [times if times in (REFUSED, ENDLESS, CRASHED) else times.split(",") if times else [] for times in printed]


def by_dateutil(parts, anchor):
    naive = rules.Naive(parts, anchor)
    # The calendar ends early, because a search for an occurrence that does not exist goes to its end.
    last_year = naive.end().year + 1
    dateutil.rrule.datetime = types.SimpleNamespace(**{**vars(datetime), "MAXYEAR": last_year})
    try:
        rule = dateutil.rrule.rrulestr(rules.text(parts, SKIP=None, COUNT=None, UNTIL=None), dtstart=anchor)
    except ValueError:
        return REFUSED
    return [f"{time:{FORMAT}}" for time, _ in zip(rule.between(anchor, naive.end(), inc=True), range(naive.limit))]


def main():
    count, vectors, libical, rrule_go = int(sys.argv[1]), *sys.argv[2:]
    generated = rules.random_rules(SEED, count)
    started = time.monotonic()
    ours = [[f"{time:{FORMAT}}" for time in rules.Naive(parts, anchor).occurrences()] for parts, anchor in generated]
    print(f"naive: {time.monotonic() - started:.0f} s")
    with open(vectors, "w") as file:
        for (parts, anchor), times in zip(generated, ours):
            print(f"{anchor:{FORMAT}}", rules.text(parts), ",".join(times), sep="\t", file=file)

    omitted = [index for index, (parts, _) in enumerate(generated) if parts["SKIP"] == "OMIT"]
    everything = range(count)
    plain = [line(*generated[index], None) for index in omitted]
    results = {
        "dateutil": (omitted, [by_dateutil(*generated[index]) for index in omitted]),
        "rrule-go": (omitted, by_program(rrule_go, plain)),
        "libical": (everything, by_program(libical, [line(*rule, rule[0]["SKIP"]) for rule in generated])),
    }
    unexplained = 0
    for name, (indices, theirs) in results.items():
        found = collections.Counter()
        for index, times in zip(indices, theirs):
            parts, anchor = generated[index]
            difference = classes.classify(name, parts, anchor, ours[index], times)
            found[difference] += 1
            if difference == classes.UNEXPLAINED:
                unexplained += 1
                if found[difference] <= 20:
                    print(name, f"{anchor:{FORMAT}}", rules.text(parts), ours[index], times, sep="\n    ")
        print(f"{name}: {len(indices)} rules")
        for difference, number in found.most_common():
            print(f"    {number:6} {difference}")
    print(f"{time.monotonic() - started:.0f} s")
    sys.exit(unexplained > 0)


if __name__ == "__main__":
    main()
