# SPDX-License-Identifier: Apache-2.0
"""records.py compiled and uncompiled: the same answers, whatever the bytes are."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghesrace.events import EVENT, NO_SLOT, Kind
from ghesrace.plan import Fetch, Probe
from ghesrace.sources.ring.decode import CONTEXT_OF
from ghesrace.sources.ring.pages import decode
from ghesrace.sources.ring.records import OVERFULL, SHORT, TYPES, UNREADABLE, probe_row
from ghesrace.sources.values import values as values_of
from tests.build import pages
from tests.build.modes import EDGES, both

NAME = "ghesrace.sources.ring.records"
numbers = st.sampled_from(EDGES) | st.integers(0, 2**64 - 1)

FIELDS = ("addr", "phys", "size", "pfn", "end", "delta_ns", "from_phys", "prot", "index")


def of(*names: str):
    """How the values of an event with these fields are made."""
    return values_of(Probe("p", "MAP", "f", "kprobe", {name: Fetch(1) for name in names}))


# Every field of an event, 8 bytes each, behind the common ones.
PLACES = {name: (16 + 8 * n, 8, False) for n, name in enumerate(FIELDS)}
COMMON = np.array([0, 2, 0, 2, 1, 0, 4, 4, 1])


def walked(module, data: bytes, size: int = 4096):
    """What `walk` answers, and the columns that it wrote."""
    count, number = len(data) // 8, len(data) // size
    columns = [np.zeros(count, np.int64) for _ in range(3)] + [np.zeros(count, np.uint64)]
    columns += [np.zeros(number, np.int64), np.zeros(number, np.uint64), np.zeros(number, np.int64)]
    words = np.frombuffer(data, "<u4")
    found = module.walk(words.data, size, 8, 16, *(column.data for column in columns))
    return found, [column.tolist() for column in columns]


def filled(module, data: bytes, cpu: int, seq: int, indices, probe: list[int]):
    """What `fill` answers for the events of type 7 in *data*, and the events."""
    records = decode(data)
    events, before = np.zeros(len(records), EVENT), np.zeros(len(records.missed), np.int64)
    by_type = np.full(TYPES, -1, np.int16)
    by_type[7] = 0
    gaps = np.where(records.missed < 0, 1, records.missed).astype(np.uint64)
    arrays = (
        *(records.raw.view("<u4"), records.page, records.offset, records.size, records.ts, gaps),
        *(COMMON, by_type, np.array(probe), CONTEXT_OF, np.array(indices, np.uint64)),
        *(np.arange(len(indices)), events.view(np.uint64), before),
    )
    views = [array.data for array in arrays]
    found = module.fill(*views, 0, len(records), 0, len(records.missed), cpu, seq, 0)
    return found, events.tolist(), before.tolist()


@given(
    st.lists(
        st.tuples(
            numbers,
            st.integers(0, 4088) | numbers,
            st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 40), max_size=40),
        ),
        min_size=1,
        max_size=3,
    )
)
@settings(deadline=None, max_examples=300)
def test_walks_agree_on_any_bytes(made) -> None:
    """If this fails, damaged or extreme pages are read differently where nothing is compiled."""
    data = b""
    for stamp, commit, words in made:
        head = np.array([stamp, commit], "<u8").tobytes()
        data += head + np.array(words, "<u4").tobytes().ljust(pages.DATA, b"\0")
    compiled, source = both(NAME)
    assert walked(compiled, data) == walked(source, data)


record = st.one_of(
    st.builds(pages.data_event, st.integers(0, 2**27 - 1), st.binary(min_size=1, max_size=150)),
    st.builds(pages.time_extend, st.integers(0, 2**59 - 1)),
    st.builds(pages.time_stamp, numbers),
    st.builds(pages.discarded, st.integers(1, 2**27 - 1), st.integers(1, 20).map(lambda n: 4 * n)),
)


@given(st.lists(st.tuples(numbers, st.lists(record, max_size=20)), max_size=5))
@settings(deadline=None)
def test_walks_agree_on_real_records(made) -> None:
    """If this fails, stamps near 2^64, or after a time extend, differ between the two."""
    data = b"".join(pages.page(ts, *records, missed=9) for ts, records in made)
    compiled, source = both(NAME)
    assert walked(compiled, data) == walked(source, data)


@given(
    st.lists(
        st.tuples(
            st.fixed_dictionaries(dict.fromkeys(FIELDS, numbers)),
            st.integers(0, 255),
            st.integers(-(2**31), 2**31 - 1),
            st.sampled_from((7, 7, 7, 8)),
        ),
        min_size=1,
        max_size=20,
    ),
    st.sets(st.sampled_from(FIELDS)),
    st.lists(numbers, max_size=4, unique=True),
    numbers,
    st.integers(0, 65535),
    st.none() | st.integers(0, 2**62 - 1),
)
@settings(deadline=None, max_examples=300)
def test_fills_agree_and_are_right(made, names, known, seq, cpu, lost) -> None:
    """If this fails, a field at the end of 64 bits wraps in one mode and not in the other."""
    payloads = [
        pages.payload(ident, *(("u64", values[name]) for name in FIELDS), flags=flags, pid=pid)
        for values, flags, pid, ident in made
    ]
    data = pages.page(2**64 - 5, *(pages.data_event(1, body) for body in payloads), missed=lost)
    probe = probe_row(
        Kind.MAP, Kind.UNMAP, 3, 65534, of(*names), {name: PLACES[name] for name in names}
    )
    known = [*known, made[0][0]["index"]]
    compiled, source = both(NAME)
    answer = filled(compiled, data, cpu, seq, known, probe)
    assert answer == filled(source, data, cpu, seq, known, probe)
    events = np.array(answer[1], EVENT)[: answer[0]]
    at = -1
    gap = lost or (lost == 0)
    for number, (values, flags, pid, ident) in enumerate(made):
        given_here = {name: values[name] if name in names else 0 for name in FIELDS}
        if ident != 7 or ("index" in names and values["index"] not in known):
            continue
        at += 1
        event = events[at]
        phys = given_here["pfn"] << 12 & 2**64 - 1 if "pfn" in names else given_here["phys"]
        size = given_here["size"]
        if "end" in names:
            size = given_here["end"] - given_here["addr"] & 2**64 - 1
        if "delta_ns" in names:
            size = given_here["delta_ns"]
        clear = not any(given_here[name] for name in ("phys", "pfn", "prot"))
        write = "from_phys" in names and values["from_phys"] == 0
        slot = known.index(values["index"]) if "index" in names else 3
        assert event["ts"] == (2**64 - 5 + number + 1) % 2**64
        assert (event["addr"], event["phys"], event["size"]) == (given_here["addr"], phys, size)
        assert event["seq"] == (seq + number + gap) % 2**64
        assert (event["pid"], event["point"], event["cpu"]) == (pid % 2**32, 65534, cpu)
        assert (event["slot"], event["kind"]) == (slot, Kind.UNMAP if clear else Kind.MAP)
        assert (event["ctx"], event["flags"]) == (CONTEXT_OF[flags], (flags & 1) | 2 * write)
        assert (event["aux"], event["reserved"]) == (0, 0)
    assert at + 1 == answer[0]


@pytest.mark.parametrize("mode", [0, 1])
def test_a_field_of_any_width_at_any_byte(mode: int) -> None:
    """If this fails, arguments of another alignment than our kernels' are read wrong."""
    module = both(NAME)[mode]
    body = bytes(range(0xF0, 0x100)) + bytes(16)
    words = np.frombuffer(body, "<u4")
    one = np.zeros(1, np.int64)
    for width in (1, 2, 4, 8):
        for at in range(len(body) - width + 1):
            for signed in (False, True):
                values, size = np.zeros(1, np.uint64), np.array([len(body)])
                views = words.data, one.data, size.data, one.data
                assert module.column(*views, at, width, signed, values.data)
                expected = int.from_bytes(body[at : at + width], "little", signed=signed)
                assert int(values[0]) == expected % 2**64
        assert not module.column(*views, len(body) - width + 1, width, False, values.data)


@pytest.mark.parametrize("mode", [0, 1])
def test_refusals_have_their_place(mode: int) -> None:
    """If this fails, an error names another page or record than the one that is damaged."""
    module = both(NAME)[mode]
    good = pages.page(1, pages.data_event(1, pages.payload(7)))
    full = pages.page(1)[:8] + b"\xff\x0f\0\0\0\0\0\0" + bytes(pages.DATA)
    assert walked(module, good + good + full)[0] == OVERFULL - 8
    short = [pages.data_event(1, pages.payload(7, ("u64", 1)))] * 2 + [pages.data_event(1, b"abcd")]
    row = probe_row(1, 0, NO_SLOT, 0, of("addr"), {"addr": PLACES["addr"]})
    assert filled(module, pages.page(1, *short), 0, 0, [], row)[0] == SHORT - 8
    unread = probe_row(1, 0, NO_SLOT, 0, of(), None)
    assert filled(module, pages.page(1, *short), 0, 0, [], unread)[0] == UNREADABLE


def test_uncompiled_values_are_pythons_integers() -> None:
    """If this fails, NumPy's scalars wrap at 64 bits, warn, and make the source slower still."""
    _, source = both(NAME)
    seen = []

    class Spy(list):
        def __setitem__(self, at, value) -> None:
            seen.append(type(value))
            super().__setitem__(at, value)

    words = np.frombuffer(pages.page(2**64 - 1, pages.data_event(1, pages.payload(7))), "<u4")
    spies = [Spy([0] * 512) for _ in range(4)]
    source.walk(words.data, 4096, 8, 16, *spies, *(Spy([0]) for _ in range(3)))
    assert set(seen) == {int}


def test_kept_before_counts_events_by_page() -> None:
    """If this fails, a loss stands between other events than those around it."""
    good, other = pages.payload(7), pages.payload(8)
    row = probe_row(1, 0, NO_SLOT, 0, of(), {})
    sizes = [3, 0, 2, 0]
    data = b"".join(
        pages.page(n, pages.data_event(1, other), *[pages.data_event(1, good)] * size)
        if size
        else pages.page(n)
        for n, size in enumerate(sizes)
    )
    for module in both(NAME):
        before = filled(module, data, 0, 0, [], row)[2]
        assert before == [0, *accumulate(sizes)][:-1]
