# SPDX-License-Identifier: Apache-2.0
"""Stamps that are later than the next one in their buffer."""

from __future__ import annotations

from unittest.mock import patch

from ghesrace.checker.core import holds, late, reader, run, state, words
from ghesrace.events import Kind
from tests.build.trace import Trace, V, plan
from tests.build.uncompiled import all_uncompiled

CORE, HOLDS, STATE = all_uncompiled(run), all_uncompiled(holds), all_uncompiled(state)
READER, LATE = all_uncompiled(reader), all_uncompiled(late)
NEVER = words.NEVER


def test_no_stamp_is_later_than_the_next_in_its_buffer() -> None:
    """What an NMI in the clock's read stamped too late would lie behind what came after it."""
    slot, cpu = STATE.SlotState(0, False, V), STATE.Cpu(0, 1)
    hold, other = HOLDS.Hold(0, 2, 0), HOLDS.Hold(1, 2, 0)
    for one in (hold, other):
        one.add(HOLDS.Episode(one, 0, 0))
        one.map_first = one.begin_last = one.end_first = one.entry = one.first.map_first = 50
        one.first.read_first = one.first.pre_since = one.first.luck_first = 50
    slot.holds = [hold, other]
    slot.shots = [HOLDS.Shot(0, 50), HOLDS.Shot(1, 50)]
    slot.tells = [HOLDS.Tell(0, 50), HOLDS.Tell(1, 50)]
    slot.tells[0].last = slot.shots[0].last = 45
    cpu.tasks = [45, 50]
    cpu.cells[0].inv_first = cpu.cells[0].inv_last = 50
    level = cpu.levels[2]
    level.edge_t = level.copy_t = level.last_t = level.call_t = 50
    level.places[0].pre_first = level.places[0].inv_first = level.places[0].tell_first = 50
    LATE.pull_back([slot], cpu, 40)
    assert (hold.map_first, hold.begin_last, hold.end_first, hold.entry) == (40, 40, 40, 40)
    assert (hold.close, hold.first.unmap_first) == (NEVER, NEVER)
    first = hold.first
    assert (first.map_first, first.read_first, first.pre_since, first.luck_first) == (40,) * 4
    assert (other.map_first, other.first.map_first) == (50, 50)
    for pulled, left in (slot.shots, slot.tells):
        assert (pulled.first, pulled.last, left.first, left.last) == (40, 40, 50, NEVER)
    assert cpu.tasks == [40, 40]
    assert (cpu.cells[0].inv_first, cpu.cells[0].inv_last) == (40, 40)
    assert (level.edge_t, level.copy_t, level.last_t, level.call_t) == (40,) * 4
    place = level.places[0]
    assert (place.pre_first, place.pre_last, place.inv_first, place.tell_first) == (
        40,
        NEVER,
        40,
        40,
    )
    cpu.tasks = [30, 35]
    LATE.pull_back([slot], cpu, 35)
    assert cpu.tasks == [30, 35]


def test_stamps_that_are_in_order_pull_nothing_back() -> None:
    """All that is remembered would be walked through at each event that ties with the last."""
    asked = []
    with patch.object(READER, "pull_back", lambda *what: asked.append(what[2])):
        core = CORE.Core(plan())
        for ts in (10, 10, 11, 10, 10, 12):
            trace = Trace()
            trace.add(0, Kind.SHOOTDOWN)
            trace.records[0]["ts"] = ts
            core.feed(trace.records[0])
    assert asked == [10]
