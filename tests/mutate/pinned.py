# SPDX-License-Identifier: Apache-2.0
"""Random records with the checker's answer to each, where no world contradicts it.

python -m tests.mutate.pinned 450     pin so many anew, of as many kinds as there are

A mutant that answers one of them otherwise says less than the worlds allow, or more. After a change
of the rule that a test shows to be right, pin anew.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.oracle import programs
from tests.oracle.compare import Said, differences, said
from tests.oracle.record import Record

PINNED = Path(__file__).with_name("pinned.txt")
# In two parts, as it is the pins' licence line and not one of this file.
HEAD = "# SPDX-" + "License-Identifier: Apache-2.0\n# Made by `python -m tests.mutate.pinned`.\n"
MOST_OF_A_KIND = 2


def pinned() -> dict[int, str]:
    """The answers by the seeds of their records (tests/oracle/programs.py, `sample`)."""
    lines = [line for line in PINNED.read_text("utf-8").splitlines() if line[:1] != "#"]
    return {int(seed): answer for seed, _, answer in (line.partition(" ") for line in lines)}


def told(seed: int) -> str:
    """What the checker says of a record now."""
    return in_words(said(programs.sample(seed)))


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


def of_many_kinds(count: int) -> Iterator[tuple[int, str]]:
    """Yield so many seeds and answers; few of a kind, which is what the record leaves open, what it
    lost, what was not traced, and what was said of it."""
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
            yield seed, in_words(said(record))
        seed += 1


def _of_plan(record: Record) -> tuple[object, ...]:
    losses = tuple(sorted((str(one.cause), one.count is None) for one in record.losses))
    return losses, len(record.plan.slots), record.plan.slots[0].lock


def main() -> None:
    """Pin anew."""
    parser = argparse.ArgumentParser("python -m tests.mutate.pinned", description=__doc__)
    parser.add_argument("count", type=int, metavar="N")
    found = of_many_kinds(parser.parse_args().count)
    PINNED.write_text(HEAD + "".join(f"{seed} {answer}\n" for seed, answer in found), "utf-8")


if __name__ == "__main__":
    main()
