# SPDX-License-Identifier: Apache-2.0
"""This makes the HTML page of one or more judged files."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ghesrace import __version__
from ghesrace.checker.findings import Finding
from ghesrace.checker.model import Class, class_word
from ghesrace.checker.report import SlotCounts
from ghesrace.render.faults import Fault, faults
from ghesrace.render.findings import counts, explained, heads, title
from ghesrace.render.judgement import Failure, Judgement
from ghesrace.render.layout import printable
from ghesrace.render.lines import seconds
from ghesrace.render.names import frame_source
from ghesrace.render.text import head, matter, pattern_text
from ghesrace.render.words import WORDS, meanings
from ghesrace.unknowns import UNKNOWNS

from .picture import Picture, picture
from .timeline import Timeline

_PICTURES = 5  # of one fault, without --all
_MOST_PICTURES = 60  # of one file
_SPAN_WIDTH, _SPAN_HEIGHT = 1000, 90  # of classes over time


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle is a number of episodes of one class in one piece of time."""

    x: float
    y: float
    width: float
    height: float
    cls: str
    number: int
    tip: str


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant is one finding with its name and, if it is drawn, its picture."""

    name: str
    finding: Finding
    sources: list[str]
    heads: tuple[str, str]
    picture: Picture | None


@dataclass(frozen=True, slots=True)
class Shown:
    """A shown file has all that the template says of one judgement."""

    judged: Judgement
    faults: list[tuple[Fault, str, str, list[Variant]]]
    left_out: int
    spans: list[tuple[SlotCounts, list[Rect]]]
    begin: str
    end: str
    facts: list[tuple[str, str]]
    matters: list[Any]
    others: list[Any]
    classes: list[str] = field(default_factory=lambda: [class_word(cls) for cls in Class])


def page(
    judged: Sequence[Judgement | Failure],
    timelines: Sequence[Timeline | None],
    every: bool = False,
    now: datetime | None = None,
) -> str:
    """Return the page of all *judged*, with the timeline of each. With *every* nothing is left out.

    The page is one file: it loads nothing, and says so to the browser. It holds addresses unless
    they were redacted, and says that too. *now* is the date on it.

        page([Judgement("host.arrows", engine.report(), plan)], [timeline])
    """
    style, script = resource("style.css"), resource("script.js")
    shown = [
        one if isinstance(one, Failure) else _shown(one, timeline, every)
        for one, timeline in zip(judged, timelines, strict=True)
    ]
    used = _words(judged)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            shown=shown,
            verdicts=", ".join(dict.fromkeys(_verdict(one) for one in judged)),
            style=Markup(style),
            script=Markup(script),
            style_hash=hash_of(style),
            script_hash=hash_of(script),
            version=__version__,
            now=(now or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC"),
            redacted=any(one.redacted for one in judged),
            unknowns=UNKNOWNS,
            words=used,
            head=head,
            explained=explained,
            pattern_text=pattern_text,
            meaning=lambda word: meanings(word)[0].what,
        )
    )


def _verdict(one: Judgement | Failure) -> str:
    return "not judged" if isinstance(one, Failure) else one.report.verdict.word


def _shown(judged: Judgement, timeline: Timeline | None, every: bool) -> Shown:
    result = judged.report
    found, drawn = [], 0
    most = len(result.findings) if every else _PICTURES
    for fault in faults(result.findings):
        variants = []
        for number, finding in enumerate(fault.variants):
            draw = number < most and drawn < _MOST_PICTURES
            drawn += draw
            error = judged.plan.clock_error_ns
            variants.append(variant(judged.host, error, fault, number, finding, draw=draw))
        found.append((fault, title(fault), counts(fault), variants))
    matters = matter(result.unseen, result.slots)
    return Shown(
        judged,
        found,
        len(result.findings) - drawn,
        _spans(result.slots, timeline),
        *_times(timeline),
        _facts(judged, timeline),
        matters,
        [unseen for unseen in result.unseen if unseen not in matters],
    )


def variant(
    host: dict[str, Any],
    clock_error_ns: int,
    fault: Fault,
    number: int,
    finding: Finding,
    *,
    draw: bool,
) -> Variant:
    """Return the variant *number* (from 0) of *fault*, which is *finding*, with its picture if it
    is to *draw*. *host* and *clock_error_ns* are those of the recording.

        variant(judged.host, judged.plan.clock_error_ns, fault, 0, fault.worst, draw=True)
    """
    sources = [
        f"{letter} = {frame:#x}" + (f" of {source}" if source else "")
        for letter, frame in zip("pq", finding.frames or (), strict=False)
        for source in [frame_source(host, frame)]
    ]
    drawn = picture(finding, clock_error_ns) if draw and finding.steps else None
    return Variant(f"{fault.name}.{number + 1}", finding, sources, heads(finding), drawn)


def _times(timeline: Timeline | None) -> tuple[str, str]:
    if timeline is None or timeline.begin is None or timeline.end is None:
        return "", ""
    return seconds(timeline.begin), seconds(timeline.end)


def _facts(judged: Judgement, timeline: Timeline | None) -> list[tuple[str, str]]:
    """Return the lines about how and where it was recorded."""
    host, plan, result = judged.host, judged.plan, judged.report
    foreign = "source" in host
    hest = host.get("hest")
    sources = [
        f"source {source.get('id')}: {source.get('notification')}"
        for source in (hest if isinstance(hest, list) else [])
        if isinstance(source, dict)
    ]
    name = host.get("nodename")
    duration = ""
    if timeline is not None and timeline.begin is not None and timeline.end is not None:
        duration = f"{(timeline.end - timeline.begin) / 1e9:,.3f} s"
    lost = "an unknown number of" if result.lost is None else f"{result.lost:,}"
    return [
        ("File", printable(judged.file or "judged live")),
        ("Host", str(name) if name else "not recorded"),
        ("Kernel", f"Linux {host.get('release') or plan.release} ({plan.arch})"),
        ("Firmware", "; ".join(sources) or "error sources (HEST) not recorded"),
        ("CPUs", str(len(plan.cpus)) if plan.cpus else "not recorded"),
        ("Backend", "a trace of another tool" if foreign else plan.backend),
        (
            "Clock",
            f"{plan.clock}; CPUs' stamps are taken to differ by at most {plan.clock_error_ns:,} ns",
        ),
        ("Duration", duration or "no events"),
        ("Events", f"{result.events:,}, {lost} lost"),
    ]


def _spans(
    slots: list[SlotCounts], timeline: Timeline | None
) -> list[tuple[SlotCounts, list[Rect]]]:
    """Return the classes over time of each slot that has episodes."""
    found = []
    for number, slot in enumerate(slots):
        if slot.episodes:
            found.append((slot, [] if timeline is None else _span(number, timeline)))
    return found


def _span(slot: int, timeline: Timeline) -> list[Rect]:
    pieces = timeline.pieces(slot)
    if not pieces or timeline.begin is None or timeline.end is None:
        return []
    most = max(sum(classes) for _, classes in pieces)
    whole = max(timeline.end - timeline.begin, timeline.width)
    width = _SPAN_WIDTH * timeline.width / whole
    rects = []
    for begin, classes in pieces:
        top = float(_SPAN_HEIGHT)
        x = min(_SPAN_WIDTH * (begin - timeline.begin) / whole, _SPAN_WIDTH - 1)
        for cls, n in zip(Class, classes, strict=True):
            if n:
                height = _SPAN_HEIGHT * n / most
                top -= height
                tip = f"{n:,} {class_word(cls)} since {seconds(begin)} s"
                wide = max(min(width, _SPAN_WIDTH - x), 2)
                rects.append(Rect(x, top, wide, height, class_word(cls), n, tip))
    return rects


def _words(judged: Iterable[Judgement | Failure]) -> list[Any]:
    """Return the words that these reports use, with what they mean."""
    used = {"episode", "hand-off", "latent", "slot", "steps"}
    for one in judged:
        if isinstance(one, Failure):
            continue
        result = one.report
        used |= {class_word(c) for c in Class for s in result.slots if s.classes[c]}
        used |= {finding.pattern.replace("_", "-") for finding in result.findings}
    return [
        word for word in WORDS if word.name in used and word.sort in ("class", "pattern", "term")
    ]


def environment() -> Environment:
    """Return what renders the templates beside this file, with the filters they use."""
    # Only what this package brings is put in as it is, all else is escaped.
    made = Environment(
        loader=PackageLoader("ghesrace.render.html", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["seconds"] = seconds
    made.filters["printable"] = printable
    return made


def resource(name: str) -> str:
    """Return the text of a file beside this one: resource("style.css")."""
    return resources.files("ghesrace.render.html").joinpath(name).read_text("utf-8")


def hash_of(text: str) -> str:
    """Return what a Content-Security-Policy names an element by: the hash of its text.

    >>> hash_of("")
    'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='
    """
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
