# SPDX-License-Identifier: Apache-2.0
"""Slots that other events tell: both modes, against the definition in words."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ghesrace.events import NO_SLOT, Context, Kind
from ghesrace.sources.foreign import telling
from ghesrace.sources.ring.decode import CONTEXT_OF
from tests.build.modes import both

# Kind, context, slot.
Event = tuple[int, int, int]
EVENTS = st.lists(
    st.tuples(
        st.sampled_from([Kind.MAP, Kind.MAP_END, Kind.UNMAP, Kind.INV_PAGE, Kind.LOSS]),
        st.sampled_from([Context.TASK, Context.NMI]),
        st.integers(NO_SLOT, 2),
    ),
    max_size=12,
)
LAST = st.lists(st.integers(NO_SLOT, 2), min_size=len(Context), max_size=len(Context))


def told(events: list[Event], last: int, waits: bool) -> tuple[list[int], int, int]:
    """The slots of *events*, which are of one context, the last map's, and how many are ready."""
    maps = [at for at, (kind, _, _) in enumerate(events) if kind == Kind.MAP]
    slots = [slot for _, _, slot in events]
    for at, end in zip(maps, [*maps, len(events)][1:], strict=True):
        following = [slot for slot in slots[at + 1 : end] if slot != NO_SLOT]
        if slots[at] == NO_SLOT and following:
            slots[at] = following[0]
    for at, (kind, _, slot) in enumerate(events):
        if kind != Kind.MAP and slot == NO_SLOT:
            before = [slots[number] for number in maps if number < at]
            slots[at] = before[-1] if before else last
    if maps and waits and slots[maps[-1]] == NO_SLOT:
        return slots, last, maps[-1]
    return slots, slots[maps[-1]] if maps else last, len(events)


def test_the_words_are_those_of_events() -> None:
    """A kind that has another number there would be taken for a map."""
    assert (telling.MAP, telling.UNMAP_END) == (Kind.MAP, Kind.UNMAP_END)
    assert (NO_SLOT, len(Context)) == (telling.NO_SLOT, telling.CONTEXTS)


@given(events=EVENTS, last=LAST, waits=st.booleans())
def test_each_event_gets_the_slot_that_its_context_tells(
    events: list[Event], last: list[int], waits: bool
) -> None:
    """A map or an unmap of another slot makes a race where none is, or hides one."""
    slots, newest, cut = [slot for _, _, slot in events], list(last), len(events)
    for ctx in Context:
        rows = [
            at
            for at, (kind, level, _) in enumerate(events)
            if level == ctx and kind <= Kind.UNMAP_END
        ]
        made, newest[ctx], ready = told([events[row] for row in rows], last[ctx], waits)
        for row, slot in zip(rows, made, strict=True):
            slots[row] = slot
        cut = min([cut, *rows[ready : ready + 1]])
    for module in both(telling.__name__):
        kind, ctx, slot = (np.array([one[n] for one in events], np.int64) for n in range(3))
        after, scratch = np.array(last, np.int64), np.zeros(8, np.int64)
        columns = (kind.astype(np.uint8).data, ctx.astype(np.uint8).data, slot.data)
        assert module.tell(*columns, after.data, scratch.data, waits) == cut
        assert (slot.tolist(), after.tolist()) == (slots, newest)


def test_no_context_of_a_file_lies_outside_of_the_room_for_contexts() -> None:
    """The compiled loop looks at no bounds: a file could make it write anywhere."""
    assert CONTEXT_OF.max() < telling.CONTEXTS == len(Context)
