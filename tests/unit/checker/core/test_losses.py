# SPDX-License-Identifier: Apache-2.0
"""What a loss may have hidden: each question asked of all losses, one by one, without its
shortcuts, and every tie of a few stamps."""

from __future__ import annotations

from itertools import pairwise, product
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from ghesrace.checker.core import holds, losses, words
from tests.build.uncompiled import uncompiled

HOLDS, LOSSES = uncompiled(holds), uncompiled(losses)
NEVER, NOWHERE = words.NEVER, words.NOWHERE
MAP, UNMAP, READ = 1 << words.K_MAP, 1 << words.K_UNMAP, 1 << words.K_READ
PAGE, BCAST, COPY = 1 << words.K_INV_PAGE, 1 << words.K_BCAST_ALL, 1 << words.K_COPY
KINDS = (MAP, UNMAP, READ, PAGE, BCAST, MAP | UNMAP, UNMAP | PAGE)
ALL, ERROR, WAIT, SECOND = 0xFFFF, 1, 5, words.FORCE_CLOSE_NS
MISSED, UNMATCHED = 3, 4


def some(traced: int = MAP | UNMAP | READ | PAGE | BCAST, **more: Any) -> Any:
    """No losses yet, of a plan whose probe *n* makes KINDS[n]."""
    facts = {"hidden_map": 0, "hidden_unmap": 0, "flush_proven": False} | more
    facts |= {"traced": traced, "error": ERROR, "wait": WAIT, "hides": [*KINDS, traced]}
    return LOSSES.Losses(SimpleNamespace(row=lambda n: min(n, len(KINDS)), **facts))


def storms(number: int, implied: int = 0) -> Any:
    """So many sets of random losses."""
    for seed in range(number):
        dice = Random(seed)
        found = some(dice.choice((MAP | UNMAP | READ | PAGE | BCAST, MAP | UNMAP | PAGE)),
                     hidden_unmap=implied)  # fmt: skip
        for _ in range(dice.randrange(6)):
            begin = dice.randrange(8)
            found.add(begin, begin + dice.choice((0, 1, 3)), dice.choice((0, 1, ALL)),
                      dice.choice((0, 0, 1, 2, 3)), dice.randrange(9), MISSED)  # fmt: skip
        for one in found.all:
            one.spent = dice.choice((0, 0, 1))
            one.idle = dice.choice((one.begin, one.begin, one.end))
            one.late = one.end + dice.choice((0, 2, SECOND))
        LOSSES.reach(found.all, 0)
        yield found


def test_what_may_be_hidden_between_two_stamps() -> None:
    """A loss that is not looked at hides nothing: a false clean; one too many, a false doubt."""
    for found in storms(25):
        for begin, end, cpu, kinds in product(range(9), range(9), (0, 1), (MAP, PAGE, MAP | READ)):
            near = [x for x in found.all if x.kinds & kinds and x.cpu in (-1, cpu)]
            met = [x for x in near if x.begin <= end and begin <= x.end]
            left = [x for x in met if not (x.count and x.spent >= x.count)]
            assert found.hidden_between(kinds, cpu, begin, end) == bool(left)
            assert found.touch(kinds, cpu, begin, end) == bool(met)
            late = [x.end for x in near if x.idle <= end and begin <= x.late]
            assert found.in_flight(kinds, cpu, begin, end) == max(late, default=NOWHERE)


@pytest.mark.parametrize("implied", [0, words.BROADCAST_AFTER_CLEAR])
def test_which_broadcasts_may_be_hidden(implied: int) -> None:
    """One that another CPU sent, or that an unmap contains, would not save anybody."""
    for found in storms(30, implied):
        for begin, end, cpu in product(range(9), range(9), (0, 1)):
            hidden = False
            for x in (*found.all, *found.pages()):
                error = 0 if x.cpu in (-1, cpu) else ERROR
                tells = x.kinds & BCAST or (implied and x.kinds & UNMAP)
                hidden |= bool(tells and x.begin - error <= end and begin <= x.end + error)
            assert found.told_between(cpu, begin, end) == hidden


def hides(found: Any, cpu: int, at: float, page: int) -> bool:
    """Whether the losses at one moment may have hidden so many events of a page."""
    here = [x for x in found.all if x.cpu in (-1, cpu) and x.begin <= at <= x.end]
    shown = [x for x in here if x.kinds & (MAP | UNMAP | READ)]
    kinds = 0
    for x in shown:
        kinds |= x.kinds
    left = {id(x): max(x.count - x.spent, 0) if x.count else page for x in shown}
    pairs = sum(left[id(x)] for x in shown if x.kinds & (MAP | UNMAP))
    return bool(
        any(x.cpu == cpu for x in here)
        and kinds & MAP
        and kinds & UNMAP
        and (page == 2 or kinds & READ)
        and sum(left.values()) >= page
        and pairs >= 2
    )


def windows(found: Any, page: int) -> list[tuple[int, int, int]]:
    """When they may, by CPU: moments are stamps and what lies between them."""
    spans = []
    for cpu in {x.cpu for x in found.all}:
        at = [n / 2 for n in range(30) if hides(found, cpu, n / 2, page)]
        begins = [t for t in at if t - 0.5 not in at]
        ends = [t for t in at if t + 0.5 not in at]
        spans += [(cpu, int(b), int(e)) for b, e in zip(begins, ends, strict=True)]
    return sorted(spans)


def test_when_a_whole_page_may_be_hidden() -> None:
    """An episode that was hidden whole would be told of nobody, or of everybody."""
    for found in storms(80):
        page = 3 if found.facts.traced & READ else 2
        for got, want in ((found.pages(), page), (found.within(), 2)):
            assert sorted((x.cpu, x.begin, x.end) for x in got) == windows(found, want)
            assert all(x.kinds == words.MAPS for x in got)
            assert all(a.begin <= b.begin for a, b in pairwise(got))
            assert [x.reach for x in got] == [
                max(y.end for y in got[: n + 1]) for n in range(len(got))
            ]
        again = found.windows
        assert found.pages() is again


class Counted(list[Any]):
    """Counts what is looked at."""

    looks = 0

    def __getitem__(self, index: Any) -> Any:
        self.looks += 1
        return list.__getitem__(self, index)


def test_old_losses_are_not_looked_at() -> None:
    """Each event of a run that loses events each second would be slower than the last."""
    found = some()
    for n in range(50):
        found.add(n * 10, n * 10 + 2, 0, 0, len(KINDS), UNMATCHED)
    found.add(600, 602, 0, 0, 2, UNMATCHED)
    found.pages()
    found.all, found.windows = Counted(found.all), Counted(found.windows)
    for ask in (found.hidden_between, found.touch, found.in_flight):
        for begin in (493, 495):
            found.all.looks = 0
            ask(PAGE, 0, begin, begin + 1)
            assert found.all.looks <= 2
    found.all.looks = 0
    assert not found.told_between(0, 494, 495)
    assert (found.all.looks, found.windows.looks) == (2, 2)


def test_a_loss_is_what_its_record_says() -> None:
    """A loss of one CPU would be one of another, or of none."""
    found = some()
    found.add(3, 9, 1, 2, 3, MISSED)
    found.add(4, 5, ALL, 2, 3, UNMATCHED)
    one, other = found.all
    assert (one.cpu, one.begin, one.end, one.kinds, one.count) == (1, 3, 9, PAGE, 2)
    assert (one.idle, one.late, one.reach, one.reach_late) == (3, 9 + SECOND, 9, 9 + SECOND)
    assert (other.cpu, other.kinds, other.count, other.late) == (-1, found.facts.traced, 0, 5)
    assert (other.reach, other.reach_late) == (9, 9 + SECOND)
    assert found.open == [one]
    assert found.seen == found.facts.traced
    assert found.changed
    assert not found.pages()[0].count


def gap(kinds: int = MAP, cpu: int = 0, begin: int = 4, end: int = 6, episode: Any = None) -> Any:
    made = HOLDS.Gap(kinds, cpu, begin, end)
    made.episode = episode
    return made


@pytest.mark.parametrize(
    ("begin", "end", "cpu", "count", "hid", "spent"),
    [
        (4, 6, 0, 1, True, 1),
        (0, 9, 0, 2, True, 1),
        (4, 6, ALL, 1, True, 1),
        (4, 6, 1, 1, False, 0),
        (4, 6, 0, 0, True, 0),  # of any number nothing is spent
        (5, 6, 0, 1, True, 0),  # it may lie before the loss
        (4, 5, 0, 1, True, 0),
        (0, 3, 0, 1, False, 0),
        (7, 9, 0, 1, False, 0),
        (0, 4, 0, 1, True, 0),
        (6, 9, 0, 1, True, 0),
    ],
)
def test_which_loss_hid_what_is_missing(
    begin: int, end: int, cpu: int, count: int, hid: bool, spent: int
) -> None:
    """One event that was lost would hide two, or none."""
    found = some()
    found.add(begin, end, cpu, count, 0, MISSED)
    found.pages()
    missing = gap()
    assert found.spend(missing) is hid
    (loss,) = found.all
    assert (loss.spent, missing.by) == (spent, loss if spent else None)
    assert found.changed is bool(spent)


def test_a_loss_hides_no_more_than_it_counted() -> None:
    """Two maps would be hidden by a loss of one; but of flushes nobody knows which it hid."""
    found = some()
    found.add(0, 9, 0, 1, 0, MISSED)
    assert [found.spend(gap()), found.spend(gap())] == [True, False]
    assert found.spend(gap(episode=object()))
    assert found.all[0].spent == 3
    found = some()
    found.add(0, 9, 0, 1, 0, MISSED)
    found.add(0, 9, 0, 1, 5, MISSED)
    assert found.spend(gap())  # either may have
    assert [x.spent for x in found.all] == [0, 0]
    assert not found.spend(gap(READ))


@pytest.mark.parametrize(
    ("mark", "gaps", "hold", "settled", "anywhere"),
    [
        (15, [], None, False, False),  # its end, and what is waited for, are not over
        (16, [], None, True, True),
        (NEVER, [gap(begin=0)], None, True, True),
        (16, [gap(begin=10)], None, False, False),
        (16, [gap(begin=11)], None, True, True),
        (16, [gap(begin=10, cpu=1)], None, True, False),
        (16, [], (0, 10, False), False, False),
        (16, [], (0, 11, False), True, True),
        (16, [], (0, 10, True), True, True),
        (16, [], (1, 10, False), True, False),
    ],
)
def test_when_all_is_known_that_may_be_missing(
    mark: int, gaps: list[Any], hold: tuple[int, int, bool] | None, settled: bool, anywhere: bool
) -> None:
    """A hidden episode would be told before its half is seen, or never. A loss on CPU 0, and one
    on any."""
    state = SimpleNamespace(holds=[])
    if hold is not None:
        state.holds = [SimpleNamespace(cpu=hold[0], map_first=hold[1], closed=hold[2])]
    for cpu, known in ((0, settled), (ALL, anywhere)):
        found = some()
        found.add(5, 10, cpu, 0, 5, MISSED)
        assert found.is_settled(found.all[0], [state], gaps, mark) is known
        found.conclude([state], gaps, mark)
        assert found.all[0].concluded is known


def test_a_whole_episode_is_told_when_its_losses_are_known() -> None:
    """One that only two losses together can hide would be told when the first is known."""
    found = some(MAP | UNMAP)
    found.add(0, 9, 0, 1, 0, MISSED)
    found.add(0, 30, 0, 1, 1, MISSED)
    found.conclude([], [], 20)
    assert [x.concluded for x in found.all] == [True, False]
    assert not found.hid_episodes
    assert found.may_have_hidden_one()
    found.conclude([], [], 40)
    assert found.hid_episodes
    assert not found.may_have_hidden_one()
    safe = some(MAP | UNMAP, hidden_map=words.PAGE_AFTER_SET)
    safe.add(0, 9, 0, 0, 5, MISSED)
    assert not safe.may_have_hidden_one()
    safe.conclude([], [], NEVER)
    assert not safe.hid_episodes


@pytest.mark.parametrize(
    ("at", "late", "kept"),
    [([], 10 + SECOND, True), ([10], 10 + SECOND, True), ([9, 11, 12], 11, False)],
)
def test_what_a_loss_hid_is_over_when_a_task_goes_on(at: list[int], late: int, kept: bool) -> None:
    """A flush that an interruption delays would be over before it is, or a second later."""
    found = some()
    found.add(5, 10, 0, 0, 5, MISSED)
    cpu = SimpleNamespace(tasks=list(at))
    found.settle({0: cpu}, [], 20)
    (loss,) = found.all
    assert (loss.late, loss.reach_late) == (late, late)
    assert found.open == ([loss] if kept else [])
    found.settle({0: cpu}, [], 10 + SECOND)
    assert found.open == []
    found.settle({0: cpu}, [], 12 + SECOND)
    assert cpu.tasks == [x for x in at if x >= 12]
    everywhere = some()
    everywhere.add(5, 10, ALL, 0, 5, MISSED)
    everywhere.settle({0: cpu}, [], 20)
    assert everywhere.open == []


@pytest.mark.parametrize(
    ("count", "point", "end", "proven", "holds"),
    [
        (1, 0, 15, False, True),  # it ends when the mark has just not passed it
        (1, 0, 14, False, False),
        (1, 0, 14 + SECOND, False, True),
        (1, 0, 15 + SECOND, False, False),  # a counter that is told a second later
        (0, 0, 15, False, False),
        (1, 3, 15, False, False),
        (1, 3, 15, True, True),
        (1, 2, 15, True, False),
    ],
)
def test_holds_wait_for_what_a_counted_loss_hid(
    count: int, point: int, end: int, proven: bool, holds: bool
) -> None:
    """An episode would be judged before it is known that its unmap was lost."""
    found = some(flush_proven=proven)
    found.add(3, end, 0, count, point, MISSED)
    found.settle({}, [], 20)
    assert found.hold_back == (3 if holds else NEVER)


def mapped(cpu: int, ctx: int, **fields: Any) -> Any:
    """A slot with one hold of one page."""
    hold = HOLDS.Hold(cpu, ctx, 0)
    hold.close = 20
    episode = HOLDS.Episode(hold, 0, 0)
    hold.add(episode)
    for name, value in fields.items():
        setattr(episode, name, value)
    return SimpleNamespace(holds=[hold])


IRQ, TASK = words.IRQ, words.TASK


@pytest.mark.parametrize(
    ("state", "count", "point", "idle"),
    [
        (mapped(0, IRQ, map_first=5, unmapped=True, unmap_first=8), 1, 0, 8),
        (mapped(0, IRQ, map_first=4, unmapped=True, unmap_first=8), 1, 0, 8),
        (mapped(0, IRQ, map_first=6, unmapped=True, unmap_first=8), 1, 0, 5),
        (mapped(0, IRQ, map_first=4, unmapped=True, unmap_first=5), 1, 0, 5),
        (mapped(0, IRQ, map_first=4, unmapped=True, unmap_first=10), 1, 0, NEVER),
        (mapped(0, IRQ, map_first=4, unmapped=True, unmap_first=9), 1, 0, 9),
        (mapped(0, IRQ, map_first=4), 1, 0, NEVER),
        (mapped(0, IRQ, map_first=4, left_open=True), 1, 0, NEVER),
        (mapped(0, TASK, map_first=4, unmapped=True, unmap_first=8), 1, 0, 5),
        (mapped(1, IRQ, map_first=4, unmapped=True, unmap_first=8), 1, 0, 5),
        (mapped(0, IRQ, map_first=4, unmapped=True, unmap_first=8), 2, 0, 5),
        (mapped(0, IRQ, map_first=4, unmapped=True, unmap_first=8), 0, 0, 5),
        (mapped(0, IRQ, map_first=4, unmapped=True, unmap_first=8), 0, 3, 8),  # of flushes
    ],
)
def test_a_page_that_is_mapped_keeps_tasks_away(
    state: Any, count: int, point: int, idle: int
) -> None:
    """What a task did would be hidden where an interrupt ran, or not where none did."""
    found = some()
    found.add(5, 10, 0, count, point, MISSED)
    found.leaves(found.all[0], [state])
    assert found.all[0].idle == idle


def test_losses_that_become_one_are_concluded_if_all_of_them_were() -> None:
    """An episode that the oldest may have hidden would never be told, or at each step again; or
    what they may have hidden late would be forgotten."""
    most, half = LOSSES.MOST, LOSSES.MOST // 2
    for concluded in product((False, True), repeat=2):
        found = some()
        for begin in range(most + 1):
            found.forget(NEVER)  # of so few none is
            assert len(found.all) == begin
            found.add(begin, begin, 0, 1, 0, MISSED)
            found.all[-1].late, found.all[-1].concluded = begin, True
        LOSSES.reach(found.all, 0)
        found.all[0].concluded, found.all[half - 1].concluded = concluded
        found.changed = False
        found.forget(half - 1)  # the last of them is not old enough
        assert (len(found.all), found.changed) == (most + 1, False)
        found.forget(half)
        one, following = found.all[:2]
        assert (one.begin, one.end, following.begin, found.changed) == (0, half - 1, half, True)
        assert one.concluded is all(concluded)
        assert following.reach_late == one.late > following.late
