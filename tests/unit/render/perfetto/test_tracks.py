# SPDX-License-Identifier: Apache-2.0
"""Events on their tracks."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghesrace.events import Cause, Context, Kind
from ghesrace.plan import Plan, Probe
from ghesrace.render.lines import StepKey
from ghesrace.render.perfetto.packets import Packets
from ghesrace.render.perfetto.tracks import Tracks
from ghesrace.render.selection import Addresses
from ghesrace.render.sentences import Sentences, rows
from tests.build.perfetto import Decoded, decoded
from tests.build.trace import A, B, Trace, V, plan


def drawn(
    path: Path, trace: Trace, flows: dict[StepKey, list[int]] | None = None, p: Plan | None = None
) -> Decoded:
    p = p or plan()
    with path.open("wb") as file:
        packets = Packets(file, "mono")
        say = Sentences(p, Addresses(p), hex, hex, str)
        tracks = Tracks(packets, packets.track("root"), p, say, flows or {})
        events = trace.stream()[:-1]
        for row in rows(events):
            tracks.draw(row)
        tracks.close(int(events["ts"].max()))
    return decoded(path)


def test_a_report_is_a_slice_with_its_copy_inside(tmp_path: Path) -> None:
    """If this fails, it can't be seen that a map belongs to a notification."""
    trace = Trace()
    trace.report(0, A, flush=True)
    found = drawn(tmp_path / "x", trace)
    here = found.on("CPUs", "CPU 0", "CPU 0 irq")
    stretch = {one.name: (one.begin, one.end) for one in here if one.end > one.begin}
    outer = stretch["takes a GHES notification"]
    [inner] = [at for name, at in stretch.items() if name.startswith("enters the copy")]
    assert outer[0] < inner[0] < inner[1] < outer[1]


def test_a_slot_has_its_translations(tmp_path: Path) -> None:
    """If this fails, the slots' tracks show no episodes, or on a wrong CPU."""
    trace = Trace()
    trace.report(0, A)
    trace.report(1, B, ctx=Context.NMI)
    found = drawn(tmp_path / "x", trace)
    name = plan().slots[0].name
    [one] = found.on("slots", f"slot {name}", f"{name}: CPU 0 irq")
    [other] = found.on("slots", f"slot {name}", f"{name}: CPU 1 nmi")
    kinds = {(int(e["kind"]), int(e["cpu"])): int(e["ts"]) for e in trace.stream()}
    assert (one.begin, one.end) == (kinds[Kind.MAP, 0], kinds[Kind.UNMAP, 0])
    assert (other.begin, other.end) == (kinds[Kind.MAP, 1], kinds[Kind.UNMAP, 1])
    assert f"{A:#x}" in one.name
    assert f"{B:#x}" in other.name


def test_missed_ends_leave_no_slice_inside_itself(tmp_path: Path) -> None:
    """A skipped return probe would push all later slices one level down, for ever."""
    trace = Trace()
    for _ in range(3):
        trace.add(0, Kind.NOTIFY)
        trace.add(0, Kind.COPY, phys=A, size=8)
    trace.add(0, Kind.NOTIFY_END)
    trace.add(0, Kind.NOTIFY_END)  # nothing is open
    found = drawn(tmp_path / "x", trace)
    taken = [s for s in found.slices if s.name == "takes a GHES notification"]
    assert len(taken) == 3
    assert all(one.end <= other.begin for one, other in pairwise(taken))
    assert [s.begin == s.end for s in found.slices if s.name == "leaves the GHES handler"] == [True]


def test_a_handler_inside_another_is_a_slice_inside(tmp_path: Path) -> None:
    """The interrupt's handler calls ghes_proc, and both are probed: neither ends the other."""
    p = plan()
    both = (Probe("a", "NOTIFY", "outer", "kprobe"), Probe("b", "NOTIFY", "inner", "kprobe"))
    trace = Trace()
    for kind, point in (
        (Kind.NOTIFY, 0),
        (Kind.NOTIFY, 1),
        (Kind.NOTIFY_END, 1),
        (Kind.NOTIFY_END, 0),
    ):
        trace.add(0, kind, point=point)
    found = drawn(tmp_path / "x", trace, p=replace(p, probes=both))
    inner, outer = found.slices
    assert outer.begin < inner.begin < inner.end < outer.end
    assert (outer.notes["symbol"], inner.notes["symbol"]) == ("outer", "inner")


def test_ends_of_another_name_end_what_began(tmp_path: Path) -> None:
    """Traces of other tools have two events of different names for the two ends: unpaired, each
    slice would last until the next one."""
    names = (Probe("a", "COPY", "copy", "kprobe"), Probe("b", "COPY_END", "copy_ret", "kprobe"))
    trace = Trace()
    trace.add(0, Kind.COPY, point=0, phys=A, size=8)
    trace.add(0, Kind.COPY_END, point=1)
    trace.add(0, Kind.READ, addr=V, size=4)
    found = drawn(tmp_path / "x", trace, p=replace(plan(), probes=names))
    assert [s.end - s.begin > 0 for s in found.slices] == [True, False]


def test_a_map_ends_the_one_before(tmp_path: Path) -> None:
    """A missed unmap would keep a translation open to the end of the trace."""
    trace = Trace()
    trace.add(0, Kind.MAP, phys=A, slot=0)
    trace.add(0, Kind.MAP, phys=B, slot=0)
    trace.add(0, Kind.UNMAP, slot=0)
    found = drawn(tmp_path / "x", trace)
    ends = [(s.begin, s.end) for s in found.slices if s.track[1] == "slots"]
    stamps = [int(ts) for ts in trace.stream()["ts"][:-1]]
    assert sorted(ends) == [(stamps[0], stamps[1]), (stamps[1], stamps[2])]


def test_flows_join_the_translation_and_the_read(tmp_path: Path) -> None:
    """If this fails, an arrow ends beside the events that it is about."""
    trace = Trace()
    trace.add(0, Kind.MAP, phys=A, slot=0)
    trace.add(0, Kind.UNMAP, slot=0)
    trace.add(1, Kind.READ, addr=V, size=4)
    stamps = [int(ts) for ts in trace.stream()["ts"]]
    flows = {(stamps[0], 0, "map"): [7], (stamps[2], 1, "read"): [7, 8]}
    found = drawn(tmp_path / "x", trace, flows)
    first, second = found.flow(7)
    assert first.track[1] == "slots"
    assert second.track[1:] == ("CPUs", "CPU 1", "CPU 1 irq")
    assert found.flow(8) == [second]


def test_losses_are_slices_that_do_not_cross(tmp_path: Path) -> None:
    """Two overlapping losses on one track would end each other."""
    trace = Trace()
    trace.lose(1000, 5000, cause=Cause.OVERRUN, cpu=1, count=3)
    trace.lose(2000, 6000, cause=Cause.OVERRUN, cpu=1)
    trace.lose(2000, 6000, cause=Cause.MISSED)
    found = drawn(tmp_path / "x", trace)
    losses = [s for s in found.slices if s.track[1] == "losses"]
    at = sorted((s.track[2], s.begin, s.end) for s in losses)
    begins = sorted(int(ts) for ts in (1000, 2000, 2000))
    assert [b for _, b, _ in sorted(at, key=lambda one: one[1])] == begins
    assert {name for name, _, _ in at} == {"CPU 1: overrun", "any CPU: missed"}
    assert sum(name == ("root", "losses", "CPU 1: overrun") for name in found.tracks) == 2


KINDS = [k for k in Kind if k < Kind.EPISODE]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 1), st.sampled_from(Context))))
def test_any_events_make_a_whole_trace(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[Kind, int, Context]]
) -> None:
    """Whatever a damaged recording holds, each slice ends, and each event is there once."""
    path = tmp_path_factory.getbasetemp() / "any.pftrace"
    trace = Trace()
    for kind, cpu, context in events:
        slot = 0 if kind <= Kind.UNMAP_END else -1
        trace.add(cpu, kind, context, slot=slot, size=8)
    if not events:
        return
    found = drawn(path, trace)
    closes = {Kind.NOTIFY_END, Kind.COPY_END, Kind.EDIT_END, Kind.BCAST_END}
    begun = [kind for kind, _, _ in events if kind not in closes]
    here = [s for s in found.slices if s.track[1] == "CPUs"]
    assert len(begun) <= len(here) <= len(events)
    maps = sum(kind == Kind.MAP for kind, _, _ in events)
    assert sum(s.track[1] == "slots" for s in found.slices) == maps
