# SPDX-License-Identifier: Apache-2.0
"""Strict partial orders, and all total orders that agree with one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


class Order:
    """A strict partial order of numbered nodes. `later[n]` has a bit for each node behind n."""

    def __init__(self) -> None:
        self.edges: list[list[int]] = []
        self.later: list[int] = []

    def node(self) -> int:
        """A new node, ordered with no other yet."""
        self.edges.append([])
        return len(self.edges) - 1

    def put(self, first: int | None, second: int | None) -> None:
        """The node *first* comes before *second*; None is no node."""
        if first is not None and second is not None:
            self.edges[first].append(second)

    def close(self) -> bool:
        """Follow all that was put to its consequences; False if it contradicts itself."""
        count = len(self.edges)
        incoming = [0] * count
        for targets in self.edges:
            for target in targets:
                incoming[target] += 1
        ready = [n for n in range(count) if not incoming[n]]
        for node in ready:  # It grows while it is walked.
            for target in self.edges[node]:
                incoming[target] -= 1
                if not incoming[target]:
                    ready.append(target)
        if len(ready) < count:
            return False
        self.later = [0] * count
        for node in reversed(ready):
            bits = 0
            for target in self.edges[node]:
                bits |= self.later[target] | (1 << target)
            self.later[node] = bits
        return True

    def before(self, first: int, second: int) -> bool:
        """Whether *first* is before *second* in every total order."""
        return bool(self.later[first] >> second & 1)

    def copy(self) -> Order:
        """A copy, to be closed again."""
        made = Order()
        made.edges = [list(targets) for targets in self.edges]
        return made

    def with_chain(self, chain: Sequence[tuple[int, int]]) -> Order | None:
        """A closed copy with each pair of *chain* put; None if that contradicts the order."""
        made = self.copy()
        for first, second in chain:
            made.edges[first].append(second)
        return made if made.close() else None

    def totals(self, nodes: Sequence[int]) -> Iterator[list[int]]:
        """Every total order of *nodes* that agrees with this order."""
        mask = 0
        for node in nodes:
            mask |= 1 << node
        waits = dict.fromkeys(nodes, 0)
        for node in nodes:
            for other in nodes:
                if self.later[node] >> other & 1:
                    waits[other] |= 1 << node
        yield from _extend([], mask, waits)


def _extend(done: list[int], left: int, waits: dict[int, int]) -> Iterator[list[int]]:
    if not left:
        yield done
        return
    for node, before in waits.items():
        if left >> node & 1 and not before & left:
            yield from _extend([*done, node], left & ~(1 << node), waits)
