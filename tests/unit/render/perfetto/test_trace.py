# SPDX-License-Identifier: Apache-2.0
"""Judged files as traces: findings, flows, bounds, redaction."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ghesrace.events import Events, Kind
from ghesrace.render.perfetto import trace as module
from ghesrace.sources.files import open_file
from tests.build.captures import capture, check
from tests.build.paths import EXAMPLES, REPO
from tests.build.perfetto import Decoded, decoded
from tests.build.trace import A, B, Trace, V, bounce

SUMMARY = REPO / "tests/unit/fixtures/captures/0.1.0-summary.arrows"


def made(path: Path, out: Path, *more: str, code: int = 1) -> Decoded:
    assert check(path, "--format", "perfetto", "-o", out, *more) == code
    return decoded(out)


def events_of(path: Path) -> list[Events]:
    return [row for batch in open_file(path).batches() for row in batch if row["kind"] < Kind.LOSS]


def test_the_control_with_all_its_events(tmp_path: Path) -> None:
    """A real race: its findings, one arrow each from x's map to y's read, and every event."""
    path = EXAMPLES / "control.arrows"
    found = made(path, tmp_path / "x.pftrace")
    stamps = {(int(e["ts"]), int(e["kind"])): e for e in events_of(path)}
    here = [s for s in found.slices if s.track[1] == "CPUs"]
    ends = {Kind.NOTIFY_END, Kind.COPY_END, Kind.EDIT_END, Kind.BCAST_END}
    points = {s.begin for s in here} | {s.end for s in here}
    assert {ts for ts, _ in stamps} <= points
    assert len(here) == sum(kind not in ends for _, kind in stamps)
    variants = {s.track[3] for s in found.slices if s.track[1] == "findings"}
    assert len(variants) == 4
    for number in range(1, 5):
        start, finish = found.flow(number)
        assert start.begin < finish.begin
        assert (start.begin, Kind.MAP) in stamps
        assert (finish.begin, Kind.READ) in stamps
        x, y = stamps[start.begin, Kind.MAP], stamps[finish.begin, Kind.READ]
        assert x["cpu"] != y["cpu"]
        assert start.track[1:3] == ("slots", "slot ghes2015:irq")
        assert finish.track[1] == "CPUs"
    assert len(found.flow(5)) == 0
    assert found.primary_clock == 3  # CLOCK_MONOTONIC, which the capture's `mono` is
    assert "'mono'" in next(iter(found.descriptions.values()))


def test_a_witness_has_its_steps_and_when_it_happened_again(tmp_path: Path, observed: Path) -> None:
    """If this fails, the findings' tracks say less than the text."""
    found = made(observed, tmp_path / "x.pftrace")
    [(top, fault, variant, *_)] = {s.track[1:] for s in found.slices if "1.1:" in s.track[-1]}
    assert top == "findings"
    assert fault.startswith("1: stale read at slot irq, observed")
    mine = found.on(top, fault, variant)
    whole = next(s for s in mine if s.end > s.begin)
    assert whole.notes["p"] in (f"{A:#x}", f"{B:#x}")
    assert "No invalidation" in whole.notes["explanation"]
    steps = [s for s in mine if s.begin == s.end and "CPU" in s.name]
    assert {s.name[0] for s in steps} >= set("12568")
    assert all(whole.begin <= s.begin <= whole.end for s in steps)
    assert sum("again" in s.name for s in mine) == 2


def test_another_order_is_told_as_such(tmp_path: Path, predicted: Path) -> None:
    """An arrow between lock holds that did not follow each other would pass for a recording."""
    found = made(predicted, tmp_path / "x.pftrace")
    heads = [s for s in found.slices if s.track[1] == "findings" and s.end > s.begin]
    assert heads
    assert all("in another order than recorded" in s.name for s in heads)


def test_losses_are_there(tmp_path: Path) -> None:
    """A gap in the events must not look like rest."""
    trace = bounce(flush=True)
    trace.lose(trace.now - 50_000, trace.now - 10_000, cause=1, cpu=1, count=9)
    path = capture(tmp_path / "lossy.arrows", trace)
    found = made(path, tmp_path / "x.pftrace", code=3)
    [one] = found.on("losses", "CPU 1: overrun")
    assert one.end - one.begin == 40_000
    assert one.name.startswith("9 events lost")


def test_a_summary_has_its_episodes(tmp_path: Path) -> None:
    """A recording without events would be an empty trace."""
    found = made(SUMMARY, tmp_path / "x.pftrace")
    told = [s for s in found.slices if s.track[1] == "slots"]
    assert any(s.name.startswith("an episode of class none") for s in told)
    assert any(s.name.startswith("the next episode may use") for s in told)
    start, finish = found.flow(1)
    assert start.begin < finish.begin


def test_a_large_file_has_what_is_around_its_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a day's recording makes a trace that no browser opens."""
    monkeypatch.setattr(module, "MOST_EVENTS", 100)
    monkeypatch.setattr(module, "_AROUND", 100_000)
    trace = bounce(60, flush=True)
    for cpu, frame in ((0, A), (1, B)):
        trace.report(cpu, frame)
    begin = trace.now
    bounce(60, into=trace, flush=True)
    path = capture(tmp_path / "large.arrows", trace)
    found = made(path, tmp_path / "x.pftrace")
    here = [s for s in found.slices if s.track[1] in ("CPUs", "slots")]
    assert here
    assert all(abs(s.begin - begin) < 1_000_000 and abs(s.end - begin) < 1_000_000 for s in here)
    assert len(found.flow(1)) == 2
    assert "holds those within" in next(iter(found.descriptions.values()))


def test_a_large_clean_file_has_its_first_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing was found nothing is more worth than the begin; but it is bounded, and said."""
    monkeypatch.setattr(module, "MOST_EVENTS", 100)
    path = capture(tmp_path / "large.arrows", bounce(60, flush=True))
    found = made(path, tmp_path / "x.pftrace", code=0)
    stamps = sorted(int(e["ts"]) for e in events_of(path))
    here = [s for s in found.slices if s.track[1] == "CPUs"]
    assert max(max(s.begin, s.end) for s in here) == stamps[99]
    assert "holds the first" in next(iter(found.descriptions.values()))


def test_stretches_apart_leave_nothing_open_between_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A translation whose unmap was left out would seem live for hours."""
    monkeypatch.setattr(module, "MOST_EVENTS", 100)
    monkeypatch.setattr(module, "_AROUND", 0)
    trace = Trace()
    for frames in ((A, B), (B, A)):
        for cpu, frame in zip((0, 1), frames, strict=True):
            trace.report(cpu, frame)
        bounce(40, into=trace, flush=True)
        trace.now += 10**9
    path = capture(tmp_path / "apart.arrows", trace)
    found = made(path, tmp_path / "x.pftrace")
    here = [s for s in found.slices if s.track[1] in ("CPUs", "slots")]
    assert max(s.begin for s in here) - min(s.begin for s in here) > 10**9
    assert all(s.end - s.begin < 10**8 for s in here)


def test_findings_beyond_the_tracks_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, observed: Path
) -> None:
    """If this fails, who looks only at the trace thinks that it is all."""
    monkeypatch.setattr(module, "MOST_VARIANTS", 1)
    found = made(observed, tmp_path / "x.pftrace")
    assert "1 more variants of findings have no track" in next(iter(found.descriptions.values()))
    assert not found.flow(2)


def test_redacted_ones_hold_no_addresses_and_no_names(tmp_path: Path, everything: Path) -> None:
    """If this fails, who sends a trace hands on where things lie in their kernel."""
    named = everything.rename(tmp_path / "host-of-mine.arrows")
    secrets = [f"{V:#x}"[:12], f"{A:#x}"[:5], "host-of-mine", tmp_path.name]
    plain, redacted = tmp_path / "plain.pftrace", tmp_path / "redacted.pftrace"
    one, other = made(named, plain), made(named, redacted, "--redact")
    assert [s for s in secrets if s.encode() in redacted.read_bytes()] == []
    assert all(s.encode() in plain.read_bytes() for s in secrets)
    assert "Redacted" in next(iter(other.descriptions.values()))
    assert [(s.begin, s.end) for s in one.slices] == [(s.begin, s.end) for s in other.slices]


def test_a_pipe_can_be_read_twice(tmp_path: Path, observed: Path) -> None:
    """It is judged first and written then; what came through a pipe is stored for that."""
    packed = tmp_path / "observed.arrows.gz"
    packed.write_bytes(gzip.compress(observed.read_bytes()))
    one = made(observed, tmp_path / "one.pftrace")
    assert made(packed, tmp_path / "other.pftrace").slices == one.slices
