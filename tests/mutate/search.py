# SPDX-License-Identifier: Apache-2.0
"""Looks for random records that tell a fault which the suite does not see, and pins them.

python -m tests.mutate.search --sample 400 --seed 3

tries mutants as `make mutate` does; for each that survives, it looks for the first of the pool's
records that is answered otherwise.

What no record of the pool tells either is printed: a fault that makes no difference, or one that
needs a record of another shape.
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .pinned import pin, pinned, told, uncontradicted
from .server import Server
from .targets import RULE, sources

POOL = "GHESRACE_POOL"  # names the file that has the records' names and answers


def checks() -> Iterator[tuple[str, Callable[[], object]]]:
    """Name and check of each record of the pool."""
    path = os.environ.get(POOL)
    pool = pickle.loads(Path(path).read_bytes()) if path else {}
    for name, answer in pool.items():
        yield name, lambda name=name, answer=answer: told(name) != answer


def main(argv: list[str] | None = None) -> int:
    """Exit 1 if the suite fails without any fault."""
    parser = argparse.ArgumentParser("python -m tests.mutate.search", description=__doc__)
    parser.add_argument("--sample", type=int, default=400, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pool", type=int, default=2500, metavar="N", help="records")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first's seed")
    parser.add_argument("--only", default="", metavar="TEXT", help="where MODULE:FUNCTION has it")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(argv)
    end = time.monotonic() + 60 * options.minutes
    found: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        pool = Path(folder, "pool")
        os.environ[POOL] = str(pool)
        server = Server(sources(RULE), "tests.mutate.suite", ("ghesrace", "tests"), 30)
        records = map(str, range(options.first, options.first + options.pool))
        pool.write_bytes(pickle.dumps({name: told(name) for name in records}))
        sound = server.unchanged()
        if sound.outcome != "survived":
            print(f"the suite fails without any fault: {sound.by}")
            return 1
        order = [
            m for m in server.shuffled(options.seed) if options.only in f"{m.module}:{m.function}"
        ][: options.sample]
        for tried in server.attempts(order, options.jobs):
            if tried.outcome == "survived":
                server.suite = "tests.mutate.search"
                (again,) = server.attempts([tried.mutant], 1)
                server.suite = "tests.mutate.suite"
                name = again.by.partition(":")[0]
                m = tried.mutant
                told_by = name if name.isdigit() else again.outcome
                print(f"{told_by}: {m.module}:{m.line} {m.function}: {m.what}", flush=True)
                if name.isdigit():
                    found.add(name)
            if time.monotonic() > end:
                print("time is up")
                break
    new = uncontradicted(sorted(found - pinned().keys(), key=int))
    print(f"{len(new)} records are pinned; {len(found) - len(new)} are not, or were before")
    pin([*(name for name in pinned() if name.isdigit()), *new])
    return 0


if __name__ == "__main__":
    sys.exit(main())
