# SPDX-License-Identifier: Apache-2.0
"""Paths are followed to their ends, within bounds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ghesrace.host.code import Blocks
from ghesrace.planning.implied.paths import (
    STACK,
    Act,
    Lost,
    State,
    Surroundings,
    ends,
    is_message,
    on_stack,
    returned,
    signed,
)

NOTHING = Surroundings(Blocks({}))
START = State(1, (None, STACK))


def test_each_way_of_a_branch_has_its_end():
    """If this fails, the path without the flush is not looked at."""

    def step(state: State, _: Surroundings) -> tuple[State, ...]:
        if state.pc == 1:
            return replace(state, pc=2), replace(state, pc=3)
        return (returned(state.does(Act("write", state.pc))),) if state.pc == 2 else ()

    assert ends(START, NOTHING, step) == [(Act("write", 2),)]


def test_a_loop_without_news_ends():
    """If this fails, planning hangs on the first loop over what is not known."""
    assert ends(START, NOTHING, lambda state, _: (state,)) == []


@pytest.mark.parametrize("kind", ["registers", "acts"])
def test_what_goes_on_for_ever_is_lost(kind: str):
    """If this fails, planning as root hangs on a function that counts."""

    def step(state: State, _: Surroundings) -> tuple[State, ...]:
        if kind == "acts":
            return (state.does(Act("call", 1)),)
        return (state.put(0, (state.get(0) or 0) + 1),)

    with pytest.raises(Lost):
        ends(START, NOTHING, step)


def test_the_stack_is_no_page_table():
    """If this fails, a spilt register is taken for the write of the entry."""
    state = START.store(STACK - 16, 7, 8, "push")
    assert (state.load(STACK - 16), state.load(STACK - 8), state.acts) == (7, None, ())
    assert state.store(STACK - 12, 1, 4, "mov").load(STACK - 16) is None
    assert on_stack(STACK - 16)
    assert [a.value for a in state.store(0xFFFF0000, 1, 8, "mov").acts] == [0xFFFF0000]
    assert [a.value for a in state.store(None, 1, 8, "mov").acts] == [None]
    assert state.store(None, 1, 4, "mov").acts == ()


def test_texts_with_a_log_level_are_messages():
    """If this fails, the path on which the kernel only complains counts as one that writes."""
    around = Surroundings(Blocks({0x1000: b"\x013PGD FIXMAP MISSING", 0x2000: b"no level"}))
    assert is_message(around, 0x1000)
    assert not any(is_message(around, at) for at in (0x1001, 0x2000, 0x3000, None, STACK))
    assert (signed(0x1FF, 9), signed(0xFF, 9)) == (-1, 255)
