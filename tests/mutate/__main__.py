# SPDX-License-Identifier: Apache-2.0
"""`make mutate`: puts faults into the rule, one at a time, and tells which ones nobody notices.

python -m tests.mutate --list               how many mutants each function has
python -m tests.mutate --sample 400         a fair sample, seeded; run it again to go on
python -m tests.mutate                      all of them
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from . import results
from .server import Server
from .targets import RULE, sources

TESTS = Path(__file__).resolve().parents[1]


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser("python -m tests.mutate", description=__doc__.split("\n")[0])
    parser.add_argument("--list", action="store_true", help="count the mutants, try none")
    parser.add_argument("--sample", type=int, metavar="N", help="the first N of the seed's order")
    parser.add_argument("--seed", type=int, default=1, help="the order (default: 1)")
    parser.add_argument("--jobs", type=int, default=2, help="at a time (default: 2)")
    parser.add_argument("--minutes", type=float, default=180, help="stop then (default: 180)")
    parser.add_argument("--only", default="", metavar="TEXT", help="where MODULE:FUNCTION has it")
    parser.add_argument("--results", type=Path, default=Path("build/mutate.jsonl"))
    return parser


def main(argv: list[str] | None = None) -> int:
    """Exit 1 if a function of the rule has no mutant, or the suite fails without any fault; 2 if
    the file of results is of other sources. Don't edit tests meanwhile: each mutant reads them.
    """
    options = arguments().parse_args(argv)
    paths = sources(RULE)
    server = Server(paths, "tests.mutate.suite", ("ghesrace", "tests"))
    missed = results.untouched(server.modules.values())
    if missed:
        print("no mutant in:", *missed, sep="\n  ")
        return 1
    if options.list:
        print(results.table(server.modules.values(), []))
        print(f"{len(server.mutants):,} mutants")
        return 0
    begin = time.monotonic()
    sound = server.unchanged()
    if sound.outcome != "survived":
        print(f"the suite fails without any fault: {sound.by}")
        return 1
    server.budget = max(10, round(5 * sound.seconds))
    print(f"the suite takes {sound.seconds:.1f} s of CPU time")
    suite = [p for part in ("litmus", "mutate", "worlds") for p in (TESTS / part).rglob("*.*")]
    files = [*paths.values(), *sorted(p for p in suite if p.suffix in (".py", ".litmus", ".txt"))]
    try:
        kept = results.Results(options.results, results.fingerprint(files))
    except results.StaleError as error:
        print(error)
        return 2
    order = [
        m for m in server.shuffled(options.seed) if options.only in f"{m.module}:{m.function}"
    ][: options.sample]
    left = [mutant for mutant in order if mutant.name not in kept.tried]
    print(f"{len(order) - len(left):,} of {len(order):,} were tried before")
    for tried in server.attempts(left, options.jobs):
        if tried.outcome == "undecided":
            print(f"undecided: {tried.mutant.name}; this host is too busy", flush=True)
            continue
        kept.add(tried)
        if tried.outcome == "survived":
            m = tried.mutant
            print(f"survived: {m.module}:{m.line} {m.function}: {m.what}", flush=True)
        if time.monotonic() - begin > options.minutes * 60:
            print("time is up; run it again to go on")
            break
    tried_now = [kept.tried[m.name] for m in order if m.name in kept.tried]
    print(results.table(server.modules.values(), tried_now))
    print(results.summary(len(server.mutants), tried_now))
    spent = sum(one.seconds for one in tried_now)
    mean = spent / max(len(tried_now), 1)
    print(f"{spent / 60:.1f} minutes of CPU time, {mean:.2f} s a mutant")
    return 0


if __name__ == "__main__":
    sys.exit(main())
