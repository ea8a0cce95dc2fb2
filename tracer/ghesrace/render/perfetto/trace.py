# SPDX-License-Identifier: Apache-2.0
"""This writes one judged file as a trace: what was found, then the events.

A trace holds all events of a file that has at most MOST_EVENTS. Of a larger one it holds those
around what was found or, if nothing was, the first ones; the first track says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np
import numpy.typing as npt

from ghesrace import __version__
from ghesrace.checker.findings import Finding
from ghesrace.events import Bools, Events, Kind
from ghesrace.render.faults import Fault, faults
from ghesrace.render.findings import counts, explained, times, title
from ghesrace.render.judgement import Judgement
from ghesrace.render.lines import StepKey, plan_to_show, seconds
from ghesrace.render.redact import Redactor
from ghesrace.render.selection import Addresses, Selection, Window, windows_around
from ghesrace.render.sentences import Sentences, rows
from ghesrace.sources import FileSource

from .packets import Packets
from .tracks import Tracks

Stamps = npt.NDArray[np.uint64]

MOST_EVENTS = 500_000  # some 40 MB, which a browser opens in seconds
MOST_VARIANTS = 60  # that have a track
_AROUND = 5_000_000  # ns before and after a finding, in a large file


def write_trace(
    out: IO[bytes], source: FileSource, judged: Judgement, redactor: Redactor | None = None
) -> None:
    """Write to *out* what was *judged* of *source*, whose batches are read again. With a
    *redactor*, with which *judged* was redacted, addresses are relative. Raises OSError.

        write_trace(file, open_file(path), judgement)
    """
    packets = Packets(out, judged.plan.clock)
    shown = variants(judged.report.findings)
    windows = _windows(judged, shown)
    root = packets.track(f"ghesrace: {judged.report.verdict.word}", None, _told(judged, windows))
    _findings(packets, root, judged, shown)
    physical = hex if redactor is None else lambda address: hex(redactor.physical(address))
    virtual = hex if redactor is None else lambda address: hex(redactor.virtual(address))
    addresses = Addresses(source.plan)
    plan = plan_to_show(source.plan, redactor)
    say = Sentences(plan, addresses, virtual, physical, seconds)
    tracks = Tracks(packets, root, plan, say, flows(shown))
    last = stretch = 0
    for events, number in _chosen(source, addresses, windows):
        if number != stretch:
            tracks.close(last)  # What lies between the two was left out.
            stretch = number
        for row in rows(events):
            tracks.draw(row)
        last = max(last, int(events["ts"].max()))
    tracks.close(last)


def variants(findings: Iterable[Finding]) -> list[tuple[Fault, str, Finding]]:
    """Return the findings that get a track, worst first, each with its fault and its name.

    >>> one = Finding("overlap", "observed", None, "a", (0, 1), None, "why", [])
    >>> [name for _, name, _ in variants([one])]
    ['1.1']
    """
    found = [
        (fault, f"{fault.name}.{number}", finding)
        for fault in faults(findings)
        for number, finding in enumerate(fault.variants, 1)
    ]
    return found[:MOST_VARIANTS]


def flows(shown: Iterable[tuple[Fault, str, Finding]]) -> dict[StepKey, list[int]]:
    """Return the flows of the findings *shown*, numbered from 1, by the events that they join: x's
    map and y's access (where that was not traced, y's map), or what comes nearest to those.

    >>> flows([])
    {}
    """
    found: dict[StepKey, list[int]] = {}
    for number, (_, _, finding) in enumerate(shown, 1):
        for key in (_end(finding, "x", ("map",)), _end(finding, "y", ("write", "read", "map"))):
            if key is not None:
                found.setdefault(key, []).append(number)
    return found


def _end(finding: Finding, side: str, events: tuple[str, ...]) -> StepKey | None:
    """Return the step of one *side* that is the first of *events* to have been traced, or else its
    first traced one, or None."""
    traced = [(s.ts, s.cpu, s.event) for s in finding.steps if s.side == side and s.ts is not None]
    for event in events:
        for key in traced:
            if key[2] == event:
                return key
    return traced[0] if traced else None


def _windows(judged: Judgement, shown: list[tuple[Fault, str, Finding]]) -> list[Window] | None:
    """Return the stretches of time (ns) that are written, in order and apart, or None for all."""
    if judged.report.events <= MOST_EVENTS or not shown:
        return None
    wanted = sorted(
        window for _, _, finding in shown for window in windows_around(finding, _AROUND, _AROUND)
    )
    apart: list[Window] = []
    for begin, end in wanted:
        if apart and begin <= apart[-1][1]:
            apart[-1] = apart[-1][0], max(apart[-1][1], end)
        else:
            apart.append((begin, end))
    return apart


def _told(judged: Judgement, windows: list[Window] | None) -> str:
    """Return what the first track says of the whole trace."""
    plan, report = judged.plan, judged.report
    parts = [f"{judged.file or 'live'}, made by ghesrace {__version__}."]
    if judged.redacted:
        parts.append("Redacted: addresses are relative, and names of host and file are left out.")
    parts.append(
        f"Stamps are ns of the kernel's clock {plan.clock!r}; those of two CPUs may differ by "
        f"{plan.clock_error_ns:,} ns."
    )
    if report.events > MOST_EVENTS:
        part = "the first" if windows is None else f"those within 5 ms of {MOST_VARIANTS} findings"
        parts.append(f"Of {report.events:,} events it holds {part}, at most {MOST_EVENTS:,}.")
    left = len(report.findings) - MOST_VARIANTS
    if left > 0:
        parts.append(f"{left:,} more variants of findings have no track.")
    return " ".join(parts)


def _findings(
    packets: Packets, root: int, judged: Judgement, shown: list[tuple[Fault, str, Finding]]
) -> None:
    """Write a track for each of the findings *shown*: its witness, and when it happened again."""
    top = packets.track("findings", root)
    made: dict[str, int] = {}
    for fault, name, finding in shown:
        if fault.name not in made:
            words = f"{fault.name}: {title(fault)}, {counts(fault)}"
            made[fault.name] = packets.track(words, top, explained(fault.worst))
        cpus = ", ".join(map(str, finding.cpus))
        track = packets.track(f"{name}: CPUs {cpus}", made[fault.name], explained(finding))
        _witness(packets, track, name, finding)
        for again in finding.occurrences[1:]:
            packets.instant(track, again.ts, f"{name} again")


def _witness(packets: Packets, track: int, name: str, finding: Finding) -> None:
    notes = {"explanation": explained(finding)}
    if finding.frames is not None:
        notes |= {letter: hex(f) for letter, f in zip("pq", finding.frames, strict=True)}
    what = f"{name}, {finding.severity} {times(finding.count)}"
    if finding.reordered:
        what += ", in another order than recorded"
    windows = windows_around(finding, 0, 0)
    for begin, end in windows:
        packets.begin(track, begin, what, notes)
        for step in finding.steps:
            if step.ts is not None and begin <= step.ts <= end:
                number = f"{step.n} " if step.n else ""
                packets.instant(track, step.ts, f"{number}CPU {step.cpu} {step.text}")
        packets.end(track, end)


def _chosen(
    source: FileSource, addresses: Addresses, windows: list[Window] | None
) -> Iterator[tuple[Events, int]]:
    """Yield the events that are written, at most MOST_EVENTS, each part with the number of its
    stretch of time. Losses are written wherever they are.

    Each CPU's events keep the order of its buffer; CPUs are not merged, as Perfetto sorts by time.
    """
    room = MOST_EVENTS
    ends = np.array([end for _, end in windows or []], np.uint64)
    selection = Selection(windows=windows)
    for events in source.batches():
        addresses.learn(events)
        lost = events["kind"] == Kind.LOSS
        kept = selection.of(events, addresses) & ~lost & (events["kind"] != Kind.MARK)
        kept &= _earliest(events["ts"], kept, room)
        room -= int(kept.sum())
        written = events[kept | lost]
        numbers = np.searchsorted(ends, written["ts"])
        for number in np.unique(numbers).tolist():
            yield written[numbers == number], number


def _earliest(stamps: Stamps, kept: Bools, most: int) -> Bools:
    """Return the mask of those *kept* that are the *most* earliest ones by *stamps* (ns, shape
    (n,)), of equal ones the first in the array."""
    wanted = np.flatnonzero(kept)
    if len(wanted) <= most:
        return kept
    chosen = np.zeros(len(kept), np.bool_)
    chosen[wanted[np.argsort(stamps[wanted], kind="stable")[:most]]] = True
    return chosen
