# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.oracle`: hold the checker to the worlds of many records.

--small  every order of up to 3 episodes on 2 CPUs and one slot
--sample N  N random records up to 4 episodes, 16 events, 3 CPUs and 2 slots, from --first on
--state FILE  where it stood: go on from there, and remember
--cases DIR  write the smallest litmus case of each kind of wrong answer
--records FILE  judge these litmus files instead, and say what each world says
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.litmus.parse import load

from . import programs
from .compare import Tally
from .judge import judge, judged_kinds
from .kernel import every
from .litmus import Unsayable
from .record import Record
from .shrink import case

SAVE_EVERY = 60.0  # seconds
KNOWN = Path(__file__).parent / "known.txt"


def main() -> int:
    """Compare, print, and return 1 if the checker claimed what a world contradicts, in a way that
    is not known."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.oracle",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--sample", type=int, default=0, metavar="N")
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument(
        "--every", type=int, default=1, metavar="N", help="of --small each Nth only"
    )
    parser.add_argument("--cuts", type=int, default=20, metavar="N", help="cut each Nth record")
    parser.add_argument("--seconds", type=float, default=0, help="stop after so long")
    parser.add_argument("--state", type=Path)
    parser.add_argument("--cases", type=Path)
    parser.add_argument("--records", type=Path, nargs="+")
    options = parser.parse_args()
    if options.records:
        return show(options.records)
    tally, skip = _restore(options.state)
    begin = saved = time.monotonic()
    for name, record in _records(options, skip):
        number = tally.records + tally.skipped
        tally.add(name, record, cuts=bool(options.cuts) and number % options.cuts == 0)
        now = time.monotonic()
        if options.state and now - saved > SAVE_EVERY:
            _save(options.state, tally)
            saved = now
            print(f"{tally.records:,} records, {tally.unsound:,} unsound", file=sys.stderr)
        if options.seconds and now - begin > options.seconds:
            break
    if options.state:
        _save(options.state, tally)
    print(tally.table())
    print()
    print(kinds(tally))
    print(
        f"{tally.records:,} records: {tally.unsound:,} unsound, {tally.inexact:,} inexact, "
        f"{tally.skipped:,} with too many worlds; {time.monotonic() - begin:.0f} s"
    )
    if options.cases:
        write_cases(tally, options.cases)
    new = tally.wrong().keys() - known()
    for kind in sorted(new):
        print(f"not in {KNOWN.name}: {kind}")
    return 1 if new else 0


def known() -> set[str]:
    """The kinds of unsound answers that the checker is known to give, of KNOWN."""
    lines = KNOWN.read_text(encoding="utf-8").splitlines()
    return {line.partition("#")[0].strip() for line in lines} - {""}


def _records(options: argparse.Namespace, skip: int) -> Iterator[tuple[str, Record]]:
    """All that is asked for, without the first *skip*."""
    if options.small:
        for number, named in enumerate(programs.small()):
            if number % options.every == 0:
                if not skip:
                    yield named
                skip = max(0, skip - 1)
    for seed in range(options.first + skip, options.first + options.sample):
        if seed % 20 == 19:  # Each is one of the sample, so that a state tells where it stood.
            yield f"broken {seed}", programs.broken(seed)
        else:
            yield f"seed {seed}", programs.sample(seed)


def kinds(tally: Tally) -> str:
    """The kinds of wrong answers, the unsound first: how often, how, with which loss, where."""
    rows = sorted(tally.kinds.items(), key=lambda kv: (kv[1][2], -kv[1][0]))
    return "\n".join(
        f"{count:8,}  {'inexact' if sound else 'UNSOUND'}  {what}"
        f"{'' if lost == '-' else f'  [{lost}]'}  first: {first}"
        for (what, lost), (count, first, sound) in rows
    )


def write_cases(tally: Tally, folder: Path) -> None:
    """A litmus file of each unsound kind."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (kind, (what, first)) in enumerate(sorted(tally.wrong().items())):
        try:
            text = case(record_of(first), what, first)
        except (AssertionError, Unsayable):
            continue  # The checker, or the oracle, says something else of it by now.
        (folder / f"{number:03}.litmus").write_text(f"# {kind}\n{text}", encoding="utf-8")


def record_of(name: str) -> Record:
    """The record that *name* names: "seed 7", "broken 7", "small 3.12" or "few 3"."""
    sort, _, number = name.partition(" ")
    if sort == "seed":
        return programs.sample(int(number))
    if sort == "broken":
        return programs.broken(int(number))
    if sort == "few":
        return dict(programs.few())[name]
    shape, _, order = number.partition(".")
    for at, made in enumerate(programs.small_shapes()):
        if at == int(shape):
            for n, record in enumerate(every(made)):
                if n == int(order):
                    return record
    raise ValueError(f"no record is named {name!r}")


def show(paths: list[Path]) -> int:
    """What the worlds of each litmus file say; 1 if that is not what the file says."""
    wrong = 0
    for path in paths:
        read = load(path)
        record = Record.of(read.plan, read.stream)
        truth = judge(record)
        classes = {read.plan.slots[n].name: counts for n, counts in truth.classes().items()}
        verdict = truth.verdict if judged_kinds(record) else read.expect
        same = (verdict, classes) == (read.expect, read.classes)
        wrong += not same
        print(f"{path.stem}: {'as the file says' if same else 'DISPUTED'}: {truth.verdict}")
        print(f"    {classes} {'; '.join(truth.reasons)}")
        for one in truth.episodes:
            print(f"    CPU {one.cpu}: {one.word}: {', '.join(sorted(one.worlds))}")
    return 1 if wrong else 0


def _save(path: Path, tally: Tally) -> None:
    state = {
        "strata": [[*key, *row] for key, row in tally.strata.items()],
        "kinds": [[*key, *kind] for key, kind in tally.kinds.items()],
        "counts": [tally.records, tally.unsound, tally.inexact, tally.skipped],
    }
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(state), encoding="utf-8")
    fresh.replace(path)


def _restore(path: Path | None) -> tuple[Tally, int]:
    """The tally as it stood, and how many records are done."""
    tally = Tally()
    if path is None or not path.exists():
        return tally, 0
    state = json.loads(path.read_text(encoding="utf-8"))
    tally.strata = {tuple(row[:4]): row[4:] for row in state["strata"]}
    tally.kinds = {(row[0], row[1]): row[2:] for row in state["kinds"]}
    tally.records, tally.unsound, tally.inexact, tally.skipped = state["counts"]
    return tally, tally.records + tally.skipped


if __name__ == "__main__":
    sys.exit(main())
