# SPDX-License-Identifier: Apache-2.0
"""Raw ring-buffer pages."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghesrace.errors import InputError
from ghesrace.sources.ring.pages import (
    UNCOUNTED,
    Field,
    PageLayout,
    decode,
    parse_format,
    parse_page_layout,
)
from tests.build import pages

HEADER_PAGE = (
    "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
    "\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n"
    "\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n"
    "\tfield: char data;\toffset:16;\tsize:4080;\tsigned:1;\n"
)


def test_page_layout_is_read_from_the_kernel() -> None:
    """If this fails, pages of a kernel with larger ones (arm64, 64K) are cut at wrong places."""
    assert parse_page_layout(HEADER_PAGE) == PageLayout(8, 16, 4096)
    assert parse_page_layout(HEADER_PAGE.replace("4080", "65520")).size == 65536


@pytest.mark.parametrize("text", ["", "hello", HEADER_PAGE.replace("commit", "x"), "\0" * 99])
def test_foreign_page_layout_is_refused(text: str) -> None:
    """If this fails, a kernel with another layout is decoded into nonsense."""
    with pytest.raises(InputError):
        parse_page_layout(text)


def test_format_gives_id_and_offsets() -> None:
    """If this fails, fields of an event are read at wrong offsets."""
    found = parse_format(pages.format_text(1510, index="u32", phys="u64"))
    assert found.id == 1510
    assert found.fields["index"] == Field(16, 4, False)
    assert found.fields["phys"] == Field(20, 8, False)
    assert found.fields["common_pid"] == Field(4, 4, True)
    assert found.size == 28


@pytest.mark.parametrize("text", ["", "name: x\n", "ID: 5\nformat:\n"])
def test_foreign_format_is_refused(text: str) -> None:
    """If this fails, a file that is no event format gives an event without fields."""
    with pytest.raises(InputError):
        parse_format(text)


def test_every_kind_of_record_moves_the_clock() -> None:
    """If this fails, stamps drift after a time extend, an absolute stamp or a discarded event."""
    one = pages.payload(7)
    records = decode(
        pages.page(
            1_000,
            pages.data_event(5, one),
            pages.time_extend(1 << 40),
            pages.data_event(0, one),
            pages.discarded(3, 24),
            pages.data_event(2, one, wide=True),
            pages.time_stamp(1 << 45),
            pages.data_event(0, one),
            pages.data_event(9, one),
            pages.null_padding(),
        )
        + pages.page(77, pages.data_event(1, one))
    )
    base = 1_005 + (1 << 40)
    expected = [1_005, base, base + 5, 1 << 45, (1 << 45) + 9, 78]
    assert records.ts.tolist() == expected
    assert records.page.tolist() == [0, 0, 0, 0, 0, 1]
    assert records.first.tolist() == [0, 5]


def test_absolute_stamp_takes_the_high_bits_of_the_page() -> None:
    """If this fails, stamps of a clock beyond 2**59 ns jump back (rb_fix_abs_ts())."""
    base = (3 << 59) + 100
    page = pages.page(base, pages.time_stamp(base + 50), pages.data_event(1, pages.payload(7)))
    assert decode(page).ts.tolist() == [base + 51]
    wrapped = (4 << 59) + 5
    page = pages.page(base, pages.time_stamp(wrapped), pages.data_event(0, pages.payload(7)))
    assert decode(page).ts.tolist() == [wrapped]


def test_missed_events_are_told_with_their_number() -> None:
    """If this fails, an overrun goes unnoticed or its size is wrong."""
    one = pages.data_event(1, pages.payload(7))
    full = [one] * (pages.DATA // len(one))
    records = decode(
        pages.page(1, one)
        + pages.page(2, one, missed=1234)
        + pages.page(3, *full, missed=9, stored=False)
        + pages.page(4, missed=2)
    )
    assert records.missed.tolist() == [0, 1234, UNCOUNTED, 2]
    assert records.first.tolist() == [0, 1, 2, 2 + len(full)]


def test_no_pages_are_no_records() -> None:
    """If this fails, a quiet CPU ends the recording."""
    assert len(decode(b"")) == 0
    assert len(decode(pages.page(5))) == 0


def test_columns_are_sign_extended_and_unaligned() -> None:
    """If this fails, negative or oddly placed arguments are read wrong."""
    made = pages.make_format(9, size="s32", addr="u64")
    values = [(-1, 0xFFFFFFFFFF57B000), (5, 1)]
    body = [pages.payload(9, ("s32", s), ("u64", a)) for s, a in values]
    records = decode(pages.page(1, *(pages.data_event(1, b) for b in body)))
    rows = np.arange(2)
    assert records.column(made.fields["size"], rows).astype(np.int64).tolist() == [-1, 5]
    assert records.column(made.fields["addr"], rows).tolist() == [0xFFFFFFFFFF57B000, 1]
    with pytest.raises(InputError):
        records.column(Field(24, 8, False), rows)
    with pytest.raises(InputError):
        records.column(Field(0, 3, False), rows)


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 100,
        pages.page(1)[:8] + b"\xff\x0f\0\0\0\0\0\0" + bytes(pages.DATA),
        pages.page(1, pages.data_event(1, bytes(400), wide=True)[:40]),
        pages.page(1, b"\0" * 8),
        pages.page(1, pages.time_extend(5)[:4]),
    ],
)
def test_damage_is_a_typed_error(data: bytes) -> None:
    """If this fails, damaged trace data ends in a traceback or in invented events."""
    with pytest.raises(InputError):
        decode(data)


def reference(data: bytes) -> list[tuple[int, bytes]]:
    """(stamp, payload) of every record, one at a time: what `decode` must agree with."""
    found = []
    for start in range(0, len(data), 4096):
        ts = int.from_bytes(data[start : start + 8], "little")
        used = int.from_bytes(data[start + 8 : start + 12], "little") & (1 << 30) - 1
        at, end = start + 16, start + 16 + used
        while at < end:
            head = int.from_bytes(data[at : at + 4], "little")
            word = int.from_bytes(data[at + 4 : at + 8], "little")
            kind, delta = head & 31, head >> 5
            if kind == 29 and not delta:
                break
            if kind == 30:
                ts, at = ts + delta + (word << 27), at + 8
            elif kind == 31:
                ts, at = delta + (word << 27), at + 8
            elif kind == 29:
                ts, at = ts + delta, at + 4 + word
            elif kind == 0:
                ts += delta
                found.append((ts, data[at + 8 : at + 4 + word]))
                at += 4 + word
            else:
                ts += delta
                found.append((ts, data[at + 4 : at + 4 + 4 * kind]))
                at += 4 + 4 * kind
    return found


record = st.one_of(
    st.builds(pages.data_event, st.integers(0, 2**27 - 1), st.binary(min_size=1, max_size=150)),
    st.builds(pages.time_extend, st.integers(0, 2**50)),
    st.builds(pages.time_stamp, st.integers(2**50, 2**55)),
    st.builds(pages.discarded, st.integers(1, 2**27 - 1), st.integers(1, 20).map(lambda n: 4 * n)),
)


@given(st.lists(st.tuples(st.integers(0, 2**50), st.lists(record, max_size=20)), max_size=5))
@settings(deadline=None)
def test_bulk_decoding_equals_the_walk(made: list[tuple[int, list[bytes]]]) -> None:
    """If this fails, the array walk loses, invents or misdates records."""
    data = b"".join(pages.page(ts, *records) for ts, records in made)
    records = decode(data)
    expected = reference(data)
    assert records.ts.tolist() == [ts for ts, _ in expected]
    got = [
        records.raw[o : o + s].tobytes()
        for o, s in zip(records.offset.tolist(), records.size.tolist(), strict=True)
    ]
    assert got == [body for _, body in expected]


@given(st.integers(0, 2**32), st.integers(0, 4080), st.booleans())
@settings(deadline=None, max_examples=300)
def test_hostile_bytes_end_soon(seed: int, used: int, small: bool) -> None:
    """If this fails, hostile bytes hang the decoder or end in an untyped error."""
    random = np.random.default_rng(seed)
    noise = random.integers(0, 40 if small else 256, 4096, np.uint8).tobytes()
    data = noise[:8] + used.to_bytes(8, "little") + noise[16:]
    begin = time.monotonic()
    try:
        records = decode(data)
        assert bool((records.offset + records.size <= 4096).all())
    except InputError:
        pass
    assert time.monotonic() - begin < 5


def test_longest_page_takes_one_step_per_word() -> None:
    """If this fails, a page of the smallest records is cut short."""
    records = decode(pages.page(0, *[pages.data_event(1, b"abcd")] * (pages.DATA // 8)))
    assert len(records) == pages.DATA // 8
    assert int(records.ts[-1]) == pages.DATA // 8


def test_a_length_word_counts_itself() -> None:
    """If this fails, four bytes of the next record are taken for the end of a large one."""
    body = bytes(range(1, 121))
    wide, after = pages.data_event(1, body, wide=True), pages.data_event(1, b"\xff" * 8)
    records = decode(pages.page(0, wide, after))
    assert records.size.tolist() == [len(body), 8]
    assert records.column(Field(112, 8, False), np.array([0])).tolist() == [
        int.from_bytes(body[112:], "little")
    ]
    with pytest.raises(InputError):
        records.column(Field(116, 8, False), np.array([0]))
