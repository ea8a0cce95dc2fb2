# SPDX-License-Identifier: Apache-2.0
"""What a probe fetches, as data; most of what is refused is in test_plan.py."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghesrace.errors import InputError
from ghesrace.plan.fetch import (
    FIELDS,
    HEXADECIMAL,
    Constant,
    Fetch,
    Fetched,
    FieldOf,
    Text,
    read_fetch,
)

FETCHES: st.SearchStrategy[Fetched] = st.one_of(
    st.builds(
        Fetch,
        st.integers(1, 12) | st.just("return"),
        st.sampled_from((8, 16, 32, 64)),
        st.booleans(),
        st.none() | st.integers(0, (1 << 16) - 1),
    ),
    st.builds(Constant, st.integers(0, 2**64 - 1)),
    st.builds(FieldOf, st.sampled_from(("handler", "common_pid"))),
    st.builds(Text, st.just("$arg1:u32")),
)


@given(FETCHES)
def test_reading_gives_the_fetch_that_was_written(fetch: Fetched) -> None:
    """If this fails, a plan that was read back fetches another argument."""
    assert read_fetch(asdict(fetch)) == fetch


def test_what_is_left_out_is_the_usual() -> None:
    """If this fails, a probe file that leaves out `bits` reads a part of an address."""
    assert read_fetch({"argument": 2}) == Fetch(2, bits=64, signed=False, offset=None)


@pytest.mark.parametrize("data", [None, 1, [], "$arg1:x64", {"bits": 8}, {1: 2}])
def test_a_mistake_is_named(data: object) -> None:
    """If this fails, whoever writes a probe file has to guess what is wrong with it."""
    with pytest.raises(InputError, match="one of argument, constant, field, text is needed"):
        read_fetch(data)


def test_hexadecimal_fields_are_fields() -> None:
    """If this fails, a misspelt name makes addresses decimal in filters."""
    assert set(FIELDS) >= HEXADECIMAL
