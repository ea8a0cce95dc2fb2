# SPDX-License-Identifier: Apache-2.0
"""This reads a side from the document that `check --format json` makes, whether that was made just
now or was stored in a file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, TypeVar

from ghesrace.checker.findings import MAX_FINDINGS
from ghesrace.checker.report import Verdict
from ghesrace.errors import InputError
from ghesrace.render.as_json import SCHEMA
from ghesrace.render.faults import wording
from ghesrace.unknowns import UNKNOWNS

from .side import ACCESSES, CLASSES, SEVERITIES, PatternState, Seen, Shape, Side, SlotShare

MAX_DOCUMENT = 256 << 20  # bytes; a document with 1000 findings has some 5 MB
_AGAIN = "make it with `ghesrace check --format json FILE`, or compare the recordings themselves"
_VERDICTS = {verdict.word: verdict for verdict in Verdict}

_Kind = TypeVar("_Kind")


def stored(path: Path) -> Any | None:
    """Return the JSON that is stored in *path*, or None if it is no JSON (or no plain file): then
    it is to be judged. Raises InputError if it begins like JSON and is broken, or is too large.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "report.json"
    >>> _ = path.write_text('{"verdict": "clean"}')
    >>> stored(path)
    {'verdict': 'clean'}
    """
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            begin = b"".join(file.read(64).split())
            if not begin.startswith((b"{", b"[{")):
                return None
            if path.stat().st_size > MAX_DOCUMENT:
                raise InputError(f"{path} is JSON of more than {MAX_DOCUMENT >> 20} MiB", _AGAIN)
            file.seek(0)
            return json.load(file)
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror}", "look at its rights") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} begins like JSON, and is broken: {error}", _AGAIN) from error


def side_of(document: Any, name: str) -> Side:
    """Return the side that a *document* of `check` holds. *name* is the file in error messages.
    Raises InputError if it is none, or one of a file that could not be judged.

    >>> from ghesrace.checker.engine import Engine
    >>> from ghesrace.plan import Plan
    >>> from ghesrace.render.as_json import document
    >>> from ghesrace.render.judgement import Judgement
    >>> plan = Plan("x86_64", "6.12", (), ())
    >>> side_of(document(Judgement("a", Engine(plan).report(), plan)), "a").verdict.word
    'inconclusive'
    """
    try:
        return _side(_a_report(document, name))
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        told = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{name} is no report of `ghesrace check`: {told}", _AGAIN) from error


def _a_report(document: Any, name: str) -> dict[str, Any]:
    """Return *document*, which must be the report on one judged file."""
    if isinstance(document, list):
        raise InputError(f"{name} has {len(document):,} reports", "give a file with one of them")
    whole = _a(dict, document, "it")
    schema = _a(dict, whole["schema"], "schema")["id"]
    if schema != SCHEMA:
        raise InputError(
            f"{name} has the schema {schema!r}, and only {SCHEMA!r} can be compared",
            "judge the recording again with this ghesrace",
        )
    if whole["error"] is not None:
        told = _a(str, _a(dict, whole["error"], "error")["what"], "what")
        raise InputError(f"{name} is the report on a file that could not be judged: {told}", _AGAIN)
    return whole


def _side(whole: dict[str, Any]) -> Side:
    """Return the side in a *whole* report. Raises KeyError, TypeError and ValueError."""
    patterns = {
        key: _pattern(_a(dict, one, key)) for key, one in _a(dict, whole["patterns"], "it").items()
    }
    slots = [_slot(_a(dict, one, "a slot")) for one in _a(list, whole["slots"], "slots")]
    findings = [_a(dict, one, "a finding") for one in _a(list, whole["findings"], "findings")]
    named = {slot.name: slot for slot in slots}
    if len(named) < len(slots):
        raise ValueError("two slots have one name")
    lost = whole["lost"]
    return Side(
        file=_maybe(str, whole["file"], "file"),
        verdict=_VERDICTS[_a(str, whole["verdict"], "verdict")],
        qualified_by=_unknowns(whole),
        truncated=_a(bool, whole["truncated"], "truncated"),
        assumed_clock_ns=_maybe(int, whole["assumed_clock_ns"], "assumed_clock_ns"),
        events=_count(whole["events"]),
        lost=None if lost is None else _count(lost),
        losses={key: _count(n) for key, n in _a(dict, whole["losses"], "losses").items()},
        slots=named,
        patterns=patterns,
        faults=_faults(findings, patterns),
        open=_open(whole, findings, {*named, *patterns}),
        redacted=_a(bool, whole["redacted"], "redacted"),
        host=_a(dict, whole["host"], "host"),
    )


def _unknowns(whole: dict[str, Any]) -> tuple[str, ...]:
    names = [_a(str, one, "qualified_by") for one in _a(list, whole["qualified_by"], "it")]
    for name in names:
        if name not in UNKNOWNS:
            raise ValueError(f"qualified_by has {name!r}")
    return tuple(names)


def _open(
    whole: dict[str, Any], findings: list[dict[str, Any]], known: set[str]
) -> list[tuple[str | None, str]]:
    """Return what a *whole* report leaves open, each with what it is about (`Side.open`)."""
    reasons = [_a(str, one, "a reason") for one in _a(list, whole["reasons"], "reasons")]
    found = [(_subject(reason, known), reason) for reason in reasons]
    if whole["truncated"] and "truncated" not in reasons:
        found.append((None, "truncated"))
    if whole["verdict"] in ("race-observed", "race-predicted") and not findings:
        found.append((None, f"{whole['verdict']} without a finding"))
    return found + _not_kept(whole["patterns"], findings)


def _not_kept(
    patterns: dict[str, Any], findings: list[dict[str, Any]]
) -> list[tuple[str | None, str]]:
    """Return the patterns that counted something of which no finding tells, each with that."""
    found: list[tuple[str | None, str]] = []
    kept = Counter((one["pattern"], one["severity"]) for one in findings)
    for pattern, state in patterns.items():
        if sum(kept[pattern, severity] for severity in SEVERITIES) >= MAX_FINDINGS:
            found.append((pattern, f"{pattern}: only its first {MAX_FINDINGS:,} findings are kept"))
        for severity in SEVERITIES:
            if state[severity] and not kept[pattern, severity]:
                told = f"{pattern}: no finding tells of what was {severity}"
                found.append((pattern, told))
    return found


def _subject(reason: str, known: set[str]) -> str | None:
    """Return what a *reason* is about, if it is about one of the patterns and slots *known*.

    >>> _subject("uncertain: GHES_IRQ: 3 loss", {"GHES_IRQ"}), _subject("losses: overrun", set())
    ('GHES_IRQ', None)
    """
    sort, _, rest = reason.partition(": ")
    if sort not in ("uncertain", "not-checked"):
        return None
    # A slot's name may hold a colon, but none with a blank behind it.
    subject = rest.partition(": ")[0]
    return subject if subject in known else None


def _pattern(one: dict[str, Any]) -> PatternState:
    return PatternState(
        _a(bool, one["checked"], "checked"),
        _count(one["observed"]),
        _count(one["predicted"]),
        _maybe(str, one["not_checked_because"], "not_checked_because"),
    )


def _slot(one: dict[str, Any]) -> SlotShare:
    classes = _a(dict, one["classes"], "classes")
    return SlotShare(
        _a(str, one["name"], "a slot's name"),
        _count(one["episodes"]),
        _count(one["handoffs"]),
        _count(one["latent"]),
        {word: _count(classes[word]) for word in CLASSES},
    )


def _faults(findings: list[dict[str, Any]], patterns: dict[str, PatternState]) -> dict[Shape, Seen]:
    """Return the faults behind *findings*, in their order, which is that of their worst ones."""
    found: dict[Shape, Seen] = {}
    for one in findings:
        pattern, severity, access = one["pattern"], one["severity"], one["access"]
        if pattern not in patterns or severity not in SEVERITIES or access not in ACCESSES:
            raise ValueError(f"a finding is {severity!r}, {access!r}, {pattern!r}")
        slot = _maybe(str, one["slot"], "a finding's slot")
        why = _a(str, one["explanation"], "an explanation")
        shape = pattern, slot, "" if pattern == "stale" else wording(why)
        new = Seen(shape, severity, access, {}, 0, why)
        seen = found.setdefault(shape, new)
        if new.grade > seen.grade:
            seen.severity, seen.access, seen.explanation = severity, access, why
        seen.counts[severity] = seen.counts.get(severity, 0) + _count(one["count"])
        seen.variants += 1
    return found


def _a(kind: type[_Kind], value: Any, name: str) -> _Kind:
    """Return *value*, which must be of that *kind*; a bool is no int. Raises TypeError."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{name} is a {type(value).__name__}, and not a {kind.__name__}")
    return value


def _maybe(kind: type[_Kind], value: Any, name: str) -> _Kind | None:
    return None if value is None else _a(kind, value, name)


def _count(value: Any) -> int:
    number = _a(int, value, "a count")
    if number < 0:
        raise ValueError(f"a count is {number}")
    return number
