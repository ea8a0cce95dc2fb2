# SPDX-License-Identifier: Apache-2.0
"""Records with the checker's answer to each: the litmus cases, random ones where no world
contradicts it, worlds of the simulator, and storms, which nothing vouches for.

python -m tests.mutate.pinned           pin what is pinned anew
python -m tests.mutate.pinned 450       ... and of random records so many, of as many kinds as there
                                        are, and those that `search` found to tell faults
python -m tests.mutate.pinned --show NAME    print the whole answer to one

A mutant that answers one of them otherwise says less than the worlds allow, or more, or gives other
counts, findings or witnesses; of a storm, other words of any episode. After a change of the rule,
or of words, that a test shows to be right, pin anew.
"""

from __future__ import annotations

import argparse
import pprint
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from ghesrace.plan import Plan
from tests.litmus.judge import judged
from tests.litmus.parse import CASES, load
from tests.oracle import programs
from tests.oracle.compare import Checker, Said, differences, engine, said, stamps
from tests.oracle.record import Record
from tests.worlds import world
from tests.worlds.judge import ask

from . import storm

PINNED = Path(__file__).with_name("pinned.txt")
# In two parts, as it is the pins' licence line and not one of this file.
HEAD = "# SPDX-" + "License-Identifier: Apache-2.0\n# Made by `python -m tests.mutate.pinned`.\n"
MOST_OF_A_KIND = 2
WORLDS = {"many": 10}  # so many by mode, else 40
STORMS = 400
CUT_AT = 5  # a world is cut at each so many'th of its stamps


def pinned() -> dict[str, str]:
    """The answers by name: of a litmus case its file's, of a random record its seed
    (tests/oracle/programs.py, `sample`), of a world its mode and seed, of a storm its seed."""
    lines = [line for line in PINNED.read_text("utf-8").splitlines() if line[:1] != "#"]
    return {name: answer for name, _, answer in (line.partition(" ") for line in lines)}


def told(name: str) -> str:
    """What the checker says of a record now: of each other one that is no litmus case, cut at its
    stamps, which changes no answer."""
    report, answer = _answer(name, cut=name[-1] in "13579")
    return f"{digest(report)} {answer}"


def _answer(name: str, cut: bool = False) -> tuple[Any, str]:
    if found := re.fullmatch(r"world-(\w+)-(\d+)", name):
        recording = world.play(world.draw(found[1], int(found[2]))).recording
        at = sorted(set(recording.events["ts"].tolist()))[::CUT_AT]
        report = ask(recording.plan, recording.cut(*at) if cut else recording.whole()).report
        return report, report.verdict.word
    if found := re.fullmatch(r"storm-(\d+)", name):
        report, words = storm.answer(int(found[1]))
        return (report, words), report.verdict.word
    if not name.isdigit():
        report = judged(load(CASES / f"{name}.litmus"))
        return report, report.verdict.word
    made: list[Checker] = []

    def make(plan: Plan) -> Checker:
        made.append(engine(plan))
        return made[-1]

    record = programs.sample(int(name))
    answer = in_words(said(record, make, stamps(record) if cut else ()))
    return made[-1].report(), answer


def digest(report: Any) -> str:
    """A report in eight letters, with its counts, findings and witnesses."""
    return sha256(repr(report).encode()).hexdigest()[:8]


def in_words(answer: Said) -> str:
    """An answer in one line.

    >>> in_words(Said("clean", ["losses: no"], {}, {(0, 1, 3): "fresh"}, set(), set(), set()))
    'clean 0.1.3:fresh | losses: no'
    """
    episodes = [
        f"{s}.{cpu}.{seq}:{word}" for (s, cpu, seq), word in sorted(answer.episodes.items())
    ]
    more = [f"stale{one}" for one in sorted(answer.stale)]
    more += [f"overlap{one}" for one in sorted(answer.overlaps)]
    more += [f"torn{one}" for one in sorted(answer.torn)]
    words = " ".join([answer.verdict, *episodes, *(word.replace(" ", "") for word in more)])
    return " | ".join([words, *answer.reasons])


def of_many_kinds(count: int) -> Iterator[str]:
    """Yield the names of so many random records; few of a kind, which is what the record leaves
    open, what it lost, what was not traced, and what was said of it."""
    kinds: Counter[tuple[object, ...]] = Counter()
    seed = made = 0
    while made < count:
        record = programs.sample(seed)
        truth, wrong = differences(record)
        kind = (
            truth.verdict,
            tuple(sorted({(one.word, *sorted(one.causes)) for one in truth.episodes})),
            _of_plan(record),
        )
        if not wrong and kinds[kind] < MOST_OF_A_KIND:
            kinds[kind] += 1
            made += 1
            yield str(seed)
        seed += 1


def _of_plan(record: Record) -> tuple[object, ...]:
    losses = tuple(sorted((str(one.cause), one.count is None) for one in record.losses))
    return losses, len(record.plan.slots), record.plan.slots[0].lock


def uncontradicted(names: Iterable[str]) -> list[str]:
    """Those of random records' *names* whose answer no world contradicts, in order."""
    return [name for name in names if not differences(programs.sample(int(name)))[1]]


def pin(names: Iterable[str]) -> None:
    """Pin all litmus cases, the random records of these *names*, worlds of each mode, storms."""
    cases = [path.stem for path in sorted(CASES.glob("*.litmus"))]
    worlds = [f"world-{mode}-{n}" for mode in world.MODES for n in range(WORLDS.get(mode, 40))]
    storms = [f"storm-{n}" for n in range(STORMS)]
    all_names = (*cases, *sorted(set(names), key=int), *worlds, *storms)
    lines = [f"{name} {told(name)}\n" for name in all_names]
    PINNED.write_text(HEAD + "".join(lines), "utf-8")


def main() -> None:
    """Pin anew, or show."""
    parser = argparse.ArgumentParser("python -m tests.mutate.pinned", description=__doc__)
    parser.add_argument("count", type=int, metavar="N", nargs="?", default=0)
    parser.add_argument("--show", metavar="NAME")
    options = parser.parse_args()
    if options.show:
        pprint.pprint(_answer(options.show))
        return
    names = [name for name in pinned() if name.isdigit()]
    pin([*uncontradicted(names), *of_many_kinds(options.count)])


if __name__ == "__main__":
    main()
