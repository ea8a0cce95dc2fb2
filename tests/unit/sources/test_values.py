# SPDX-License-Identifier: Apache-2.0
"""What a probe fetches becomes the same event, whichever backend does it."""

from __future__ import annotations

import ctypes
import subprocess
from collections import Counter
from itertools import chain, combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghesrace.events import NO_SLOT, Flag, Kind
from ghesrace.host.btf import Btf
from ghesrace.plan import Fetch, Plan, Probe, Slot
from ghesrace.sources.bpf.program import ProgramText
from ghesrace.sources.ring.decode import Attached, Decoder, SlotTable
from ghesrace.sources.ring.pages import PageLayout
from ghesrace.sources.values import Value, slots_by_index, values
from tests.build import pages, trees

NAMES = ("addr", "phys", "pfn", "size", "end", "delta_ns", "prot", "from_phys", "index")
SLOTS = (
    Slot("irq", 644, None, "report"),
    Slot("page", None, None, "page", "vmarea"),
    Slot("nmi", 645, None, "report"),
)
_PRELUDE = """
#include <stdint.h>
typedef uint64_t u64; typedef uint32_t u32; typedef int16_t s16; typedef int64_t s64;
s64 made[6];
#define ENTER()
#define SKIP() return 0
#define EMIT(point, kind, slot, flags, addr, phys, size) do { \\
    const u64 all[] = { kind, (s64)(slot), flags, addr, phys, size }; \\
    for (int i = 0; i < 6; i++) made[i] = all[i]; \\
    return 1; } while (0)
"""


def subsets() -> list[tuple[str, ...]]:
    """Every choice of at most four fields."""
    return list(chain.from_iterable(combinations(NAMES, n) for n in range(5)))


def probe(names: tuple[str, ...], *, clears: bool) -> Probe:
    fields = {name: Fetch(number) for number, name in enumerate(names, 1)}
    clear = "UNMAP" if clears else None
    return Probe("p", "MAP", "t:t", "raw-tracepoint", dict(fields), clear, slot=1)


PROBES = tuple(probe(names, clears=clears) for names in subsets() for clears in (False, True))
PLAN = Plan("x86_64", "t", SLOTS, PROBES, backend="bpf")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The programs of all PROBES, for this machine."""
    folder = tmp_path_factory.mktemp("c")
    btf = Btf(trees.btf())
    programs = [ProgramText(PLAN, number, btf).text() for number in range(len(PROBES))]
    (folder / "p.c").write_text(_PRELUDE + "\n".join(programs))
    command = ["gcc", "-O0", "-w", "-shared", "-fPIC", f"{folder}/p.c", "-o", f"{folder}/p.so"]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(folder / "p.so"))


def decoded(probe: Probe, given: tuple[int, ...]) -> tuple[int, ...] | None:
    """The event that the decoder makes of one record."""
    names = tuple(probe.fields)
    form = pages.make_format(1, **dict.fromkeys(names, "u64"))
    attached = [Attached(0, probe, form)]
    decoder = Decoder(SlotTable(PLAN), attached, PageLayout(), 0, Counter())
    body = pages.payload(1, *(("u64", value) for value in given))
    events = decoder.feed({0: bytearray(pages.page(100, pages.data_event(10, body)))})
    if not len(events):
        return None
    return tuple(int(events[c][0]) for c in ("kind", "slot", "flags", "addr", "phys", "size"))


VALUES = st.sampled_from((0, 1, 644, 645, 4096, 2**63)) | st.integers(0, 2**51)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(PROBES) - 1), st.tuples(VALUES, VALUES, VALUES, VALUES))
def test_the_programs_and_the_decoder_agree(
    library: ctypes.CDLL, number: int, drawn: tuple[int, ...]
) -> None:
    """If this fails, one backend's event says something else than the other's about one hit."""
    names = PROBES[number].fields  # index is an int of 32 bits
    given = tuple(v % 2**32 if n == "index" else v for n, v in zip(names, drawn, strict=False))
    arguments = (ctypes.c_uint64 * 4)(*given)
    emitted = getattr(library, f"p{number}")(arguments)
    made = tuple((ctypes.c_int64 * 6).in_dll(library, "made"))
    expected = decoded(PROBES[number], given)
    assert bool(emitted) is (expected is not None)
    if expected is not None:
        unsigned = (*made[:3], *(value % 2**64 for value in made[3:]))
        assert unsigned == expected


def test_which_field_counts() -> None:
    """If this fails, both backends agree on the wrong value."""
    assert values(probe(("pfn", "phys"), clears=False)).phys == Value("pfn", shift=12)
    found = values(probe(("addr", "end", "size"), clears=False))
    assert (found.size, found.end) == (Value("end", minus="addr"), Value("end"))
    found = values(probe(("addr", "size"), clears=False))
    assert (found.size, found.end) == (Value("size"), Value("addr", plus="size"))
    assert values(probe(("delta_ns", "handler"), clears=False)).size == Value("delta_ns")
    nothing = values(probe((), clears=False))
    assert {nothing.addr, nothing.phys, nothing.size, nothing.end, nothing.index} == {None}
    assert values(probe(("phys", "prot", "index"), clears=True)).clears == ("phys", "prot")


@pytest.mark.parametrize(
    ("names", "given", "expected"),
    [
        (("index", "phys", "prot"), (645, 0, 0), (Kind.UNMAP, 2, 0, 0, 0, 0)),
        (("index", "phys", "prot"), (644, 0, 0x63), (Kind.MAP, 0, 0, 0, 0, 0)),
        (("index", "phys"), (646, 0), None),
        (("addr", "end"), (0x1000, 0x3000), (Kind.MAP, 1, 0, 0x1000, 0, 0x2000)),
        (("pfn",), (3,), (Kind.MAP, 1, 0, 0, 0x3000, 0)),
        (("phys", "from_phys"), (1, 0), (Kind.MAP, 1, Flag.WRITE, 0, 1, 0)),
    ],
)
def test_values_by_hand(
    names: tuple[str, ...], given: tuple[int, ...], expected: tuple[int, ...] | None
) -> None:
    """If this fails, an unmap passes for a map, a write for a read, or a slot for another."""
    assert decoded(probe(names, clears="index" in names), given) == expected


def test_slots_without_an_index_have_none() -> None:
    """If this fails, index 0 is taken for the page of a vm area."""
    assert slots_by_index(PLAN) == {644: 0, 645: 2}
    assert NO_SLOT not in slots_by_index(PLAN).values()
