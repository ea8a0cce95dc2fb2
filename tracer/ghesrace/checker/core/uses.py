# SPDX-License-Identifier: Apache-2.0
"""Two uses of one slot at once (docs/rules.md, "overlap"): no lock is assumed.

Two that surely overlap can't stand one behind the other, so the judge finds their holds. Two that
only the clock leaves open are many where a lock is contended, and say nothing of it.
"""

from __future__ import annotations

from ghesrace.checker.core import words as w
from ghesrace.checker.core.holds import Episode


def lasts(use: Episode) -> int:
    """Until when (ns) a use surely lasts. Where the slot's next map ended it, its unmap was not
    recorded, and lies anywhere behind its access."""
    if use.replaced:
        return use.read_first if use.read_seen else use.map_first
    if use.unmapped:
        return use.unmap_first
    return use.last_first


def over(use: Episode) -> int:
    """Until when (ns) a use lasts at most: an unmap goes on to its flush and its return, where the
    record shows these; what was not unmapped, until it was given up."""
    if not use.unmapped:
        return use.clear_last
    found = use.unmap_first
    if use.flush_first != w.NEVER:
        found = max(found, use.flush_first)
    if use.told_first != w.NEVER:
        found = max(found, use.told_first)
    if use.unmap_over != w.NEVER:
        found = max(found, use.unmap_over)
    return found


def last_stamp(episode: Episode) -> int:
    """The latest begin of an episode's effects."""
    found = max(episode.map_first, episode.read_first)
    for t in (episode.unmap_first, episode.flush_first, episode.told_first):
        if t != w.NEVER:
            found = max(found, t)
    return found


def meet(one: Episode, other: Episode, error: int) -> int:
    """SURE if the uses overlap, MAYBE if that is open, else NO."""
    a, b = one.hold, other.hold
    if a.cpu == b.cpu:
        nested = one.outer is other or other.outer is one
        return inside(one, other) if a.ctx != b.ctx or nested else w.NO
    if other.map_first + error < lasts(one) and one.map_first + error < lasts(other):
        return w.SURE
    if over(one) + error < other.map_first or over(other) + error < one.map_first:
        return w.NO
    return w.MAYBE


def inside(one: Episode, other: Episode) -> int:
    """The same of two contexts of one CPU: one interrupted the other."""
    low, high = (one, other) if one.map_pos < other.map_pos else (other, one)
    if high.outer is low:
        return w.SURE
    if low.hold.ctx > high.hold.ctx:
        return w.NO
    if not low.unmapped:
        return w.SURE if high.map_pos < low.last_pos else w.MAYBE
    if high.map_pos < low.clear_pos_first:
        return w.SURE
    if high.hold.ctx < w.NMI:
        return w.NO  # It found the lock free.
    if high.map_first < over(low):
        return w.SURE  # It lies inside the unmap, whose flush or return lies behind it.
    return w.NO if high.map_pos >= low.clear_pos_last else w.MAYBE
