# SPDX-License-Identifier: Apache-2.0
"""What was really safe, and why: the table of DESIGN, asked of effects whose times are known.

`told` reads DESIGN's table. `stale_frames` asks the TLBs themselves, by another way: what may a
CPU hold when it reads? A test holds the two equal: `none` if and only if a TLB may be stale.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import Enum

from .kernel import Does, Part
from .machine import History, Hold


class Truth(Enum):
    """How an episode counts, by DESIGN's table."""

    SAFE = "safe"
    LUCKY = "incidental"
    UNSAFE = "none"


@dataclass(slots=True)
class Episode:
    """One map...unmap in true times (ns). `name` is (task, page).

    `truth` counts all that ever was, `since` only threats whose map came after the recording's
    start: what came before is forgiven where a later episode of the CPU was judged. `also` is
    another class that the rules can be read to give (READINGS.md, "early flush").
    """

    name: tuple[int, int]
    slot: int
    cpu: int
    frame: int
    at: int
    read: int = -1
    clear: int = -1
    hold: Hold | None = None
    truth: Truth = Truth.SAFE
    also: Truth = Truth.SAFE
    why: str = "fresh"
    since: Truth = Truth.SAFE
    exposes: bool = False
    vulnerable: bool = False


@dataclass(slots=True)
class _Slot:
    """A slot's past, as far as it may matter: per CPU its invalidations, and all episodes."""

    episodes: list[Episode] = field(default_factory=list)
    structural: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    lucky: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    broadcasts: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    early: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    own: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))  # it did itself


def episodes(history: History) -> list[Episode]:
    """Every episode of *history* in the order of their maps, not yet judged."""
    made: dict[tuple[int, int], Episode] = {}
    holds: dict[tuple[int, int], list[Hold]] = defaultdict(list)
    for hold in history.holds:
        holds[hold.slot, hold.task].append(hold)
    for e in history.effects:
        name = (e.task, e.page)
        if e.does == Does.SET:
            made[name] = Episode(name, e.slot, e.cpu, e.phys, e.at)
            made[name].hold = next(
                h for h in holds[e.slot, e.task] if h.begin <= e.at and not 0 <= h.end < e.at
            )
        elif e.does == Does.READ:
            made[name].read = e.at
        elif e.does == Does.CLEAR:
            made[name].clear = e.at
    return list(made.values())


def told(history: History, before: frozenset[tuple[int, int]] = frozenset()) -> list[Episode]:
    """Every episode, judged by DESIGN's table. *before*: those whose map came before the start."""
    found = episodes(history)
    slots: dict[int, _Slot] = defaultdict(_Slot)
    for e in history.effects:
        if e.does == Does.FLUSH:
            slot = slots[e.slot]
            mine = e.sender == e.cpu
            if mine:
                slot.own[e.cpu].append(e.at)
            if e.part == Part.EARLY:
                slot.early[e.cpu].append(e.at)
            elif e.part == Part.LUCK:
                slot.lucky[e.cpu].append(e.at)
            else:
                (slot.structural if mine else slot.broadcasts)[e.cpu].append(e.at)
    told_by: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)
    for e in history.effects:
        if e.does == Does.FLUSH and e.part == Part.UNMAP and e.sender != e.cpu:
            told_by[e.task, e.page][e.cpu] = e.at
    for episode in found:
        slot = slots[episode.slot]
        threats = _threats(slot, episode)
        strict, _ = _class(slot, episode, threats, early=False)
        kind, episode.why = _class(slot, episode, threats, early=True)
        episode.truth = episode.also = kind
        if strict != kind:
            episode.also = strict
        recorded = [t for t in threats if t.name not in before]
        episode.since = _class(slot, episode, recorded, early=True)[0]
        episode.vulnerable = _vulnerable(slot, episode)
        slot.episodes.append(episode)
    cpus = range(len(history.buffers))
    for episode in found:
        later = [
            told_by[other.name]
            for other in found
            if other.hold is episode.hold and other.clear >= episode.clear
        ]
        covered = [all(c in t or c == episode.cpu for c in cpus) and bool(t) for t in later]
        episode.exposes = not any(covered)
    return found


def _threats(slot: _Slot, y: Episode) -> list[Episode]:
    """Episodes whose translation was live after y's CPU last invalidated the slot of its own."""
    own = [at for at in slot.structural[y.cpu] if at < y.at]
    last = own[-1] if own else -1
    assert y.hold is not None
    if last >= y.hold.begin and not any(
        y.hold.begin <= x.at for x in slot.episodes if x.cpu == y.cpu
    ):
        # A flush before the first map of the hold is the map's: it protects, it is no past.
        last = max((at for at in own if at < y.hold.begin), default=-1)
    return [x for x in slot.episodes if x.clear > last]


def _class(slot: _Slot, y: Episode, threats: list[Episode], early: bool) -> tuple[Truth, str]:
    """DESIGN's table, first match first. *early*: a flush before the lock, with no other hold
    between it and this one, is the map's."""
    assert y.hold is not None
    if not threats:
        return Truth.SAFE, "fresh"
    left = [x for x in threats if not _between(slot.broadcasts[y.cpu], x.clear, y.read)]
    if not left:
        return Truth.SAFE, "broadcast"
    if _between(slot.structural[y.cpu], y.hold.begin, y.read):
        return Truth.SAFE, "map-flush"
    first = not any(y.hold is x.hold for x in slot.episodes)
    last = max((x.at for x in slot.episodes), default=-1)  # the latest hold's last map
    flush = slot.early[y.cpu]
    if early and first and _between(flush, max(last, max(x.clear for x in left)), y.hold.begin):
        return Truth.SAFE, "map-flush"
    left = [x for x in left if x.frame != y.frame]
    if not left:
        return Truth.SAFE, "same-frame"
    luck = slot.lucky[y.cpu] + flush
    if _between(luck, max(x.clear for x in left), y.read):
        return Truth.LUCKY, "incidental"
    return Truth.UNSAFE, "none"


def _vulnerable(slot: _Slot, y: Episode) -> bool:
    """Whether its CPU invalidates nothing of the slot between its hold's begin and its access.

    What another CPU's broadcast does there is left aside: it may come at any other time.
    """
    assert y.hold is not None
    return not _between(slot.own[y.cpu], y.hold.begin, y.read)


def _between(times: list[int], begin: int, end: int) -> bool:
    return any(begin < at < end for at in times)


def stale_frames(history: History) -> dict[tuple[int, int], set[int]]:
    """Of each episode, the other frames that its CPU's TLB may hold at its read: every fill that
    the page table allows has happened."""
    cpus = range(len(history.buffers))
    live: dict[int, int | None] = defaultdict(lambda: None)
    held: dict[tuple[int, int], set[int]] = defaultdict(set)
    found: dict[tuple[int, int], set[int]] = {}
    frame: dict[tuple[int, int], int] = {}
    for e in history.effects:
        if e.does == Does.SET:
            live[e.slot] = frame[e.task, e.page] = e.phys
            for cpu in cpus:
                held[e.slot, cpu].add(e.phys)
        elif e.does == Does.CLEAR:
            live[e.slot] = None
        elif e.does == Does.FLUSH:
            here = live[e.slot]
            held[e.slot, e.cpu] = set() if here is None else {here}
        elif e.does == Does.READ:
            name = (e.task, e.page)
            found[name] = held[e.slot, e.cpu] - {frame[name]}
    return found


def reorders(judged: list[Episode], slot: int, alone: bool) -> bool:
    """Whether some other order of the slot's holds makes a read unsafe (DESIGN, "Prediction").

    *alone*: one CPU took all of the slot's notifications, and others could have; one notification
    is never on two CPUs.
    """
    exposing = [e for e in judged if e.slot == slot and e.exposes]
    return any(
        x.frame != y.frame and x.name[0] != y.name[0] and (x.cpu != y.cpu or alone)
        for y in judged
        if y.slot == slot and y.vulnerable
        for x in exposing
    )
