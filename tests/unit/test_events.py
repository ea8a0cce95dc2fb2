# SPDX-License-Identifier: Apache-2.0
"""The record: its bytes are C's, and what each kind says in them has one name."""

from __future__ import annotations

import re
import subprocess
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ghesrace
from ghesrace.events import (
    ALL_CPUS,
    EVENT,
    LOSS,
    NO_POINT,
    NO_SLOT,
    PAGE_MASK,
    PAGE_SIZE,
    SHARED,
    SUMMARY_COUNT,
    SUMMARY_EPISODE,
    SUMMARY_KINDS,
    SUMMARY_SAMPLE,
    Cause,
    Events,
    Kind,
    as_events,
    blank,
    columns_of,
    dtype_of,
    empty,
    from_columns,
    joined,
    loss,
    mark,
    of_kind,
    pick,
    present,
    promised,
    select,
    to_columns,
)
from tests.build.trace import bounce

OVERLAYS = {
    "LOSS": LOSS,
    "SUMMARY_EPISODE": SUMMARY_EPISODE,
    "SUMMARY_SAMPLE": SUMMARY_SAMPLE,
    "SUMMARY_COUNT": SUMMARY_COUNT,
}


def places(dtype: np.dtype) -> dict[str, tuple[int, int]]:
    """Offset and size of each column, bytes."""
    assert dtype.fields is not None
    return {name: (field[1], field[0].itemsize) for name, field in dtype.fields.items()}


def c_text(name: str) -> str:
    return resources.files("ghesrace_probes").joinpath(name).read_text()


@pytest.fixture(scope="module")
def c_places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, int]]:
    """Offset and size of each member of the C struct, as a compiler lays it out."""
    body = re.search(r"^struct event {\n.*?^};", c_text("ghesrace.bpf.c"), re.M | re.S)
    assert body is not None
    members = re.findall(r"^\t\w+ (\w+);", body[0], re.M)
    lines = "".join(
        f'printf("{m} %zu %zu\\n", offsetof(struct event, {m}), sizeof ((struct event *)0)->{m});\n'
        for m in members
    )
    types = "typedef uint64_t u64; typedef uint32_t u32; typedef uint16_t u16; typedef uint8_t u8;"
    text = f"""
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
{types} typedef int16_t s16;
{body[0]}
int main(void) {{ {lines} printf("all 0 %zu\\n", sizeof(struct event)); }}
"""
    program = tmp_path_factory.mktemp("layout") / "layout"
    subprocess.run(["gcc", "-x", "c", "-", "-o", program], input=text, text=True, check=True)
    out = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    return {name: (int(at), int(size)) for name, at, size in map(str.split, out.splitlines())}


def test_an_event_lies_in_memory_as_in_c(c_places: dict[str, tuple[int, int]]) -> None:
    """If this fails, every field that BPF writes is read as another."""
    assert c_places["all"] == (0, EVENT.itemsize) == (0, 56)
    assert {**places(EVENT), "all": (0, 56)} == c_places


@pytest.mark.parametrize("dtype", OVERLAYS.values(), ids=OVERLAYS)
def test_other_records_lie_over_members_of_cs_struct(
    dtype: np.dtype, c_places: dict[str, tuple[int, int]]
) -> None:
    """If this fails, a column of such a record is made of parts of two members."""
    assert dtype.itemsize == c_places["all"][1]
    for name, place in places(dtype).items():
        assert place in c_places.values(), name
        if name in SHARED:
            assert place == c_places[name]
    own = {name: at for name, at in places(dtype).items() if name not in SHARED}
    assert len(set(own.values())) == len(own)  # no two of its own columns are the same bytes
    shared = {c_places[name] for name in SHARED if name != "ts"}
    assert shared.isdisjoint(own.values())


def test_what_c_writes_is_what_the_columns_are_named() -> None:
    """If this fails, an episode's frame, times or CPU are mixed up between C and the checker."""
    text = c_text("summary_state.bpf.c")
    body = re.search(r"^static inline void report\(.*?^}", text, re.M | re.S)
    assert body is not None
    meaning = {"level": "ctx", "cpu": "mapper", "me": "mapper"}
    at = {offset: name for name, (offset, _) in places(SUMMARY_EPISODE).items()}
    written = re.findall(r"e\.(\w+) = \(?(?:\w+->)?(?:last\.|other\.)?(\w+)", body[0])
    told = [(member, what) for member, what in written if member not in ("ts", "point", "cpu")]
    told = [(member, what) for member, what in told if member not in ("slot", "kind")]
    for member, what in told:
        assert at[places(EVENT)[member][0]] == meaning.get(what, what), member
    named = {at[places(EVENT)[member][0]] for member, _ in told}
    assert named == set(SUMMARY_EPISODE.names or ()) - set(SHARED) | {"ctx"}


def test_no_other_module_knows_where_columns_lie() -> None:
    """If this fails, somebody reads a record by the names of another kind's columns."""
    root = Path(ghesrace.__file__).parent
    knows = re.compile(r'"(aux|reserved)"|view\((EVENT|LOSS|SUMMARY)')
    found = [path for path in root.rglob("*.py") if knows.search(path.read_text())]
    assert found == [root / "events.py"]


def some(kind: Kind, n: int, seed: int) -> Events:
    """Records of *kind* with random values in all of their columns."""
    random, made = np.random.default_rng(seed), blank(kind, n)
    for name in made.dtype.names or ():
        if name not in ("kind", "aux", "reserved"):
            made[name] = random.integers(0, 2**62, n).astype(made.dtype[name])
    return as_events(made)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(list(Kind)), st.integers(0, 5)), max_size=12))
def test_columns_and_back(kinds: list[tuple[Kind, int]]) -> None:
    """If this fails, a capture file changes what a record says."""
    batch = joined([empty(), *(some(kind, n, seed) for seed, (kind, n) in enumerate(kinds))])
    other = batch[~np.isin(batch["kind"], SUMMARY_KINDS)]
    for records, summary in ((batch, True), (other, False)):
        read = from_columns(to_columns(records, summary), summary)
        assert read.tobytes() == records.tobytes()


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.name)
def test_a_record_is_0_in_columns_that_it_lacks(kind: Kind) -> None:
    """If this fails, a reader of the file takes one kind's bytes for another's."""
    columns = to_columns(some(kind, 3, 1), summary=True)
    mine = set(dtype_of(kind).names or ())
    for name, values in columns.items():
        assert values.dtype == columns_of(summary=True)[name]
        assert name in mine or not values.any(), name
        assert name not in mine or values.any() or kind == 0, name


def test_records_of_kinds_with_other_columns_are_not_selected_together() -> None:
    """If this fails, a caller reads some of them by the wrong names."""
    with pytest.raises(ValueError, match="unpack"):
        select(mark(1), Kind.LOSS, Kind.COUNT)


def test_a_loss_says_what_it_was_given() -> None:
    """If this fails, a window, a cause or a count is another's."""
    batch = joined([mark(3), loss(5, 9, Cause.MISSED, cpu=2, count=7, point=4), mark(11), mark(6)])
    [lost] = select(batch, Kind.LOSS)
    told = [int(lost[name]) for name in ("begin", "end", "cause", "cpu", "count", "point", "slot")]
    assert told == [5, 9, Cause.MISSED, 2, 7, 4, -1]
    assert lost["ts"] == 9
    assert promised(batch) == 11
    assert promised(empty()) == 0


def test_the_numbers_of_kinds_and_causes_stay() -> None:
    """Captures of earlier releases would say something else: the numbers are in the files."""
    kinds = (Kind.MAP, Kind.UNMAP, Kind.INV_ALL, Kind.READ, Kind.NMI_REF, Kind.LOSS, Kind.MARK)
    assert [int(kind) for kind in kinds] == [1, 3, 7, 13, 17, 30, 31]
    assert [int(cause) for cause in Cause] == list(range(1, 11))
    assert len(set(Kind)) == len(Kind.__members__)  # no number has two names


def test_records_of_the_stream_itself_name_no_cpu_slot_or_probe() -> None:
    """A loss of unknown CPU would be one of CPU 0, a mark an event of slot 0."""
    [lost], [done], [nothing] = loss(3, 7, Cause.OVERRUN), mark(9), empty(1)
    assert (lost["addr"], lost["ts"], lost["size"], lost["cpu"]) == (3, 7, 0, ALL_CPUS)
    assert (done["ts"], done["cpu"], done["kind"]) == (9, ALL_CPUS, Kind.MARK)
    for record in (lost, done, nothing):
        assert (record["slot"], record["point"]) == (NO_SLOT, NO_POINT)
    [named] = loss(3, 7, Cause.MISSED, cpu=1, count=5, point=2)
    assert (named["cpu"], named["size"], named["point"], named["aux"]) == (1, 5, 2, Cause.MISSED)


def stream() -> Events:
    made = bounce().stream()
    made["pid"] = np.arange(len(made))
    return made


@given(st.lists(st.integers(0, len(stream()) - 1), max_size=20))
def test_picking_bytes_is_picking_fields(at: list[int]) -> None:
    """A faster way to pick would pick other records."""
    table, where = stream(), np.array(at, np.int64)
    assert np.array_equal(pick(table, where), table[where])
    mask = np.isin(np.arange(len(table)), where)
    assert np.array_equal(pick(table, mask), table[mask])
    parts = [table[: len(at)], table[len(at) :], table[:0]]
    assert np.array_equal(joined(parts), table)
    assert joined(parts).dtype == EVENT


@given(st.lists(st.sampled_from(Kind), max_size=30), st.sets(st.sampled_from(Kind), max_size=5))
def test_kinds_are_found_and_no_others(kinds: list[Kind], wanted: set[Kind]) -> None:
    """A kind would be forgotten in a question of several."""
    column = np.array(kinds, np.uint8)
    assert of_kind(column, tuple(wanted)).tolist() == [kind in wanted for kind in kinds]
    assert present(column).tolist() == sorted({int(kind) for kind in kinds})


@pytest.mark.parametrize("address", [0, PAGE_SIZE - 1, 2**64 - 1, 0xFFFFFFFFFF57B123])
def test_the_mask_of_a_page_keeps_what_is_above_it(address: int) -> None:
    """A kernel address would lose its upper half, and no slot be known any more."""
    assert address & PAGE_MASK == address // PAGE_SIZE * PAGE_SIZE
