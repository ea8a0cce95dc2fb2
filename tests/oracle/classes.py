# SPDX-License-Identifier: Apache-2.0
"""The table: the class of one episode in one world, and what all worlds together say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .worlds import Invalidation, Question

# In the order of DESIGN's table: the first that matches wins, the lowest row is the worst.
TABLE = ("fresh", "broadcast", "map-flush", "same-frame", "incidental", "none")
SAFE = TABLE[:4]
NEVER = 1 << 30


def judge(asked: Question, at: dict[int, int]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The class in the world in which the nodes are *at* these positions: as it is, and with
    each thing that the CPU may have held before the start. Several, where one world leaves a role
    open."""
    for roles in _roles(asked.invalidations, at):
        plain = _class(asked, at, roles)
        more = {worst(plain, one) for one in _start(asked, at, roles)}
        if any(one.episode.map is None for one in asked.translations):
            other = _class(asked, at, roles, unknown_is_mine=True)
            more |= {other, *(worst(other, one) for one in _start(asked, at, roles))}
        yield plain, tuple(more)


def worst(*classes: str) -> str:
    """The lowest of these rows."""
    return max(classes, key=TABLE.index)


def _roles(
    invalidations: list[Invalidation], at: dict[int, int]
) -> Iterator[list[tuple[str, int]]]:
    """(role, position) of each invalidation; both roles of those that may have either."""
    open_ones = [one for one in invalidations if one.maybe]
    for choice in range(1 << len(open_ones)):
        made = []
        for one in invalidations:
            role = one.role if _fits(one, at) else one.otherwise
            if one.maybe and choice >> open_ones.index(one) & 1:
                role = one.otherwise
            made.append((role, at[one.node]))
        yield made


def _fits(one: Invalidation, at: dict[int, int]) -> bool:
    here = at[one.node]
    end = NEVER if one.before is None else at[one.before]
    if here > end or any(at[node] > here for node in one.behind):
        return False
    begin = max((at[node] for node in one.behind), default=-1)
    return all(any(begin < at[node] < end for node in group) for group in one.each)


def _class(
    asked: Question,
    at: dict[int, int],
    roles: list[tuple[str, int]],
    unknown_is_mine: bool = False,
) -> str:
    """What the translations of the record alone say. Of one from before the start the frame is
    unknown."""
    access = at[asked.access]
    mine = asked.episode.frame
    own = [p for role, p in roles if role == "own" and p < at[asked.begin]]
    last = max(own, default=-1)
    maps = sorted(
        [at[t.begin] for t in asked.translations if t.begin is not None] + [at[asked.begin]]
    )
    found = "fresh"
    for one in asked.translations:
        begin = -1 if one.begin is None else at[one.begin]
        end = NEVER if one.end is None else at[one.end]
        end = min([end, *(other for other in maps if other > begin)])
        if begin < access and end > last:
            same = unknown_is_mine if one.episode.map is None else one.frame == mine
            found = worst(found, _threat(same, end, access, roles))
    return found


def _threat(same: bool, end: int, access: int, roles: list[tuple[str, int]]) -> str:
    """What saved the episode from one threat, which ended at *end*."""
    covering = {role for role, position in roles if end < position < access}
    if "broadcast" in covering:
        return "broadcast"
    if "mine" in covering:
        return "map-flush"
    if same:
        return "same-frame"
    # An own one of another episode is behind this one's begin in no world with a lock.
    return "incidental" if covering else "none"


def _start(asked: Question, at: dict[int, int], roles: list[tuple[str, int]]) -> Iterator[str]:
    """What each thing says that the CPU may have held before the start."""
    if not asked.start or any(role == "own" and p < at[asked.begin] for role, p in roles):
        return
    access = at[asked.access]
    if any(role == "broadcast" and p < at[asked.begin] for role, p in roles):
        return  # It is over: another CPU's structural broadcast has ended it.
    yield _threat(False, -1, access, roles)
    yield _threat(True, -1, access, roles)


def combine(classes: Iterable[str]) -> str:
    """What these classes, one of each world, say together."""
    found = set(classes)
    if found and found <= set(SAFE):
        return worst(*found)
    return found.pop() if len(found) == 1 else "uncertain"
