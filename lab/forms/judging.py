# SPDX-License-Identifier: Apache-2.0
"""Judge what tools printed of one run, beside the live capture of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ghesrace.checker.engine import Engine
from ghesrace.checker.report import Report
from ghesrace.errors import GhesraceError
from ghesrace.sources.files import open_file
from lab.inside.forms import LIVE, MAP

from .printing import Form

SLOT = ":irq"  # of the control module: all that OTHERS are of


@dataclass(frozen=True, slots=True)
class Judged:
    """What `check` said of a form: a verdict, what it rests on, why it is not clean or a race, and
    whether the findings are those of the live run; or why it refused (`refused`). `mapped` says
    that a map file said what the events are."""

    form: Form
    verdict: str = ""
    rests_on: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    same: bool = False
    refused: str = ""
    mapped: bool = False

    @property
    def honest(self) -> bool:
        """Whether it has the findings of the live run, or says why it has not: what is lost, or
        can't be ordered. That something else is open explains no race that is missing, and that it
        can't be read no refusal."""
        why = any(word in reason for reason in self.reasons for word in ("loss", "lost", "order"))
        refused = bool(self.refused) and "neither a capture nor a trace" not in self.refused
        return self.same or refused or (self.verdict != "clean" and why)


def judge_all(forms: list[Form], folder: Path) -> list[Judged]:
    """Judge *forms*, whose texts are in *folder* with the live capture.

    judge_all(unpack(archive, folder), folder)
    """
    (folder / "map.toml").write_text(MAP)
    live = _report(folder / LIVE, None)
    return [_judged(form, folder, _findings(live, SLOT)) for form in forms]


def _judged(form: Form, folder: Path, live: list[Any]) -> Judged:
    path = folder / form.file
    try:
        report = _report(path, None)
    except GhesraceError as error:
        if not form.tool.startswith("perf"):  # ftrace and trace-cmd say where the probes are.
            return Judged(form, refused=_why(error, path))
        try:
            report = _report(path, folder / "map.toml")
        except GhesraceError as other:
            return Judged(form, refused=_why(other, path), mapped=True)
        return _told(form, report, _findings(report, ""), live, mapped=True)
    return _told(form, report, _findings(report, SLOT), live, mapped=False)


def _told(form: Form, report: Report, found: list[Any], live: list[Any], *, mapped: bool) -> Judged:
    verdict, rests_on = report.verdict.word, tuple(report.qualified_by)
    reasons = list(report.reasons)
    for unseen in report.unseen:
        if unseen.what.partition(", such as:")[1]:
            reasons.append(f"{unseen.what.partition(', such as:')[0]}: {unseen.why}")
    return Judged(form, verdict, rests_on, tuple(reasons), found == live, mapped=mapped)


def _report(path: Path, map_file: Path | None) -> Report:
    source = open_file(path, map_file)
    engine = Engine(source.plan)
    for batch in source.batches():
        engine.feed(batch)
    engine.finish()
    return engine.report()


def _findings(report: Report, slot: str) -> list[Any]:
    """Return what was found at the slots whose name ends in *slot*, whatever else they are
    called."""
    return sorted(
        (f.severity, f.cpus, f.frames, f.count)
        for f in report.findings
        if (f.slot or "").endswith(slot)
    )


def _why(error: GhesraceError, path: Path) -> str:
    """Return why a text was refused, without the path."""
    return (
        error.what.replace(f"{path} can't be judged: ", "")
        .replace(f"{path}: ", "")
        .replace(f"{path} ", "it ")
    )
