# SPDX-License-Identifier: Apache-2.0
"""A summary's plan as C; what that C does is in test_c.py."""

from __future__ import annotations

import pytest

from ghesrace.errors import HostError
from ghesrace.host.btf import Btf
from ghesrace.plan import Fetch, Fetched, Plan, Probe, Slot
from ghesrace.sources.bpf.summary.program import source
from tests.build import trees

BTF = Btf(trees.btf(functions={"f": ("a", "b", "c")}))
SLOTS = (Slot("irq", 644, 0x1000, "report"), Slot("nmi", 645, None, "report"))


def text(kind: str, fields: dict[str, Fetched], clear: str | None = None) -> str:
    """The program of one probe of *kind*."""
    plan = Plan(
        "x86_64",
        "t",
        SLOTS,
        (Probe("p", kind, "f", "fentry", fields, clear),),
        backend="bpf",
        summary=True,
    )
    whole = source(plan, BTF, records=16, cpus=2, preempt_count="0")
    return whole[whole.index("int p0(u64 *ctx)\n") :]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("MAP", "the frame"),
        ("INV_RANGE", "the end of the range"),
        ("BCAST_RANGE", "the end of the range"),
        ("NMI_REF", "how long it took"),
    ],
)
def test_what_nothing_tells_is_refused(kind: str, words: str) -> None:
    """If this fails, all frames of a slot pass for one, and every hand-off is called safe."""
    with pytest.raises(HostError, match=words):
        text(kind, {"index": Fetch(1, 32)})


def test_values_are_those_of_an_event() -> None:
    """If this fails, a summary takes another frame, slot, or range than the full stream has."""
    setter = {"index": Fetch(1, 32), "phys": Fetch(2), "prot": Fetch(3)}
    body = text("MAP", dict(setter), "UNMAP")
    assert "u64 at = (u32)index == 644 ? 0 : (u32)index == 645 ? 1 : SLOTS;" in body
    assert "u64 unmaps = !phys && !prot;" in body
    assert "map(me, level, st, k, s, phys & 0xfffffffffffff000ULL," in body
    assert "map(me, level, st, k, s, pfn << 12," in text("MAP", {"pfn": Fetch(1)})
    assert " < end)) " in text("INV_RANGE", {"addr": Fetch(1), "end": Fetch(2)})
    assert " < addr + size)) " in text("INV_RANGE", {"addr": Fetch(1), "size": Fetch(2)})


def test_a_range_of_the_page_alone_is_told_from_a_wider_one() -> None:
    """If this fails, a purge of a large range is taken for the flush of a slot's page."""
    fields: dict[str, Fetched] = {"addr": Fetch(1), "size": Fetch(2)}
    page = "(addr & 0xfffffffffffff000ULL)"
    for kind, call in (("INV_RANGE", "inv_range"), ("BCAST_RANGE", "broadcast")):
        body = text(kind, fields)
        exact = f"{page} == 0x1000ULL && addr + size - {page} <= 4096, direct)"
        assert f"{call}(level, st, k, s, {exact}" in body
        assert f"{page} == s->address &&" in body
    assert "inv_range(level, st, k, s, 0, direct)" in text("INV_ALL", {})
    assert "broadcast(level, st, k, s, 0, direct)" in text("BCAST_ALL", {})
