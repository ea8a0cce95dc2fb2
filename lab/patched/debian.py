# SPDX-License-Identifier: Apache-2.0
"""What the code of Debian's kernels was read to do: the kernels of docs/kernels.md."""

from __future__ import annotations

from collections.abc import Iterator

from ghesrace.planning.resolve import resolve
from lab.facts import KERNELS, facts_of
from lab.kernels import kernelfile


def implications() -> Iterator[tuple[str, str, str, str, str]]:
    """Yield (release, symbol, what, state, where) for each implication of each kernel's plans.

    The kernels are those of tests/unit/fixtures/kernels, whose code is the image's. An implication
    that both backends' plans have comes once.
    """
    for path in sorted(KERNELS.glob("*.json")):
        facts = facts_of(kernelfile.load(path))
        plans = (resolve(facts, backend="ftrace"), resolve(facts, backend="bpf"))
        found = (one for plan in plans for one in plan.implications)
        yield from dict.fromkeys(
            (path.stem, one.symbol, one.what, one.state, one.where) for one in found
        )
