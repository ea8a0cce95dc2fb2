# SPDX-License-Identifier: Apache-2.0
"""trace.dat of both versions, whole, cut and in several buffers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from ghesrace.checker.report import Verdict
from ghesrace.events import ALL_CPUS, Cause, Context, Kind
from ghesrace.sources.files import open_file
from tests.build.paths import CORPUS
from tests.build.texts import judged, losses


def test_trace_dat_of_version_7_has_every_event_and_finding() -> None:
    """A recording made with our own trace-cmd script would be judged wrongly."""
    report, events = judged(CORPUS / "v7-zstd.dat")
    # trace-cmd report prints as many lines, and a live capture of that run has these counts.
    assert report.events == 3671
    assert report.verdict is Verdict.OBSERVED
    slots = {slot.name: slot for slot in report.slots}
    assert slots["ghes2015:irq"].episodes == 80
    assert slots["ghes2015:nmi"].episodes == 77
    assert [slots[f"ghes2015:{name}"].classes[5] for name in ("irq", "nmi")] == [40, 40]
    assert slots["fixmap-645-nmi"].address == 0xFFFFFFFFFF57A000
    assert sum(f.count for f in report.findings) == 80
    nmis = events[(events["kind"] == Kind.NOTIFY) & (events["ctx"] == Context.NMI)]
    assert len(nmis) > 150


def test_trace_dat_of_version_6_is_the_end_of_the_same_recording() -> None:
    """Version 6 keeps instances in an option and page tables inline: another way through."""
    _, old = judged(CORPUS / "v6.dat")
    _, new = judged(CORPUS / "v7-zstd.dat")
    names = ("ts", "addr", "phys", "size", "pid", "kind", "ctx")
    for cpu in (0, 1):
        mine, theirs = (e[(e["cpu"] == cpu) & (e["kind"] < Kind.LOSS)] for e in (old, new))
        assert len(mine) > 400
        for name in names:
            assert np.array_equal(mine[name], theirs[name][-len(mine) :]), name


def test_known_events_in_a_second_buffer_are_never_clean(tmp_path: Path) -> None:
    """Half of the story would be judged as if it were the whole."""
    made = bytearray((CORPUS / "v6.dat").read_bytes())
    first, second = (at for at in range(len(made)) if made.startswith(b"flyrecord\0", at))
    made[first + 10 : first + 26] = made[second + 10 : second + 26]
    path = tmp_path / "two.dat"
    path.write_bytes(made)
    source = open_file(path)
    assert "other runs" in source.plan.not_checked["stale"]
    report, _ = judged(path)
    assert any(reason.startswith("not-checked") for reason in report.reasons)
    for run in (1, 2):
        assert "stale" not in open_file(path, run=run).plan.not_checked


def test_misses_beside_the_file_are_losses(tmp_path: Path) -> None:
    """FILE.missed is the only place that tells of skipped probes."""
    path = tmp_path / "a.dat"
    shutil.copy(CORPUS / "v7-zstd.dat", path)
    (tmp_path / "a.dat.missed").write_text("  p0_fixmap_set_173   10   3\n  p1_copy_173  1  0\n")
    report, events = judged(path)
    (loss,) = losses(events, Cause.MISSED)
    assert (loss["size"], loss["cpu"]) == (3, ALL_CPUS)
    assert any(reason.startswith("losses") for reason in report.reasons)
