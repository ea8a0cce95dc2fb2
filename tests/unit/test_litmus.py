# SPDX-License-Identifier: Apache-2.0
"""The litmus cases: what the CPUs did, what the verdict must be, and why (tests/litmus)."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace.checker.engine import Engine
from ghesrace.checker.model import Class
from tests.litmus.parse import CASES, LitmusError, load, parse

FILES = sorted(CASES.glob("*.litmus"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    """A rule of DESIGN.md, or a published verdict, no longer holds; the file says which."""
    case = load(path)
    engine = Engine(case.plan)
    engine.feed(case.stream)
    engine.finish()
    report = engine.report()
    names = [cls.name.lower().replace("_", "-") for cls in Class]
    classes = {
        slot.name: {name: n for name, n in zip(names, slot.classes, strict=True) if n}
        for slot in report.slots
        if slot.episodes
    }
    assert (report.verdict.word, classes) == (case.expect, case.classes), report.reasons
    for reason in case.reasons:
        assert any(reason in given for given in report.reasons), report.reasons
    found = [(f.pattern, f.severity, f.cpus, f.frames, f.access) for f in report.findings]
    for pattern, severity, cpus, frames, access in case.findings:
        fits = [f for f in found if f[:3] == (pattern, severity, cpus)]
        assert any(frames in (None, f[3]) and access in ("", f[4]) for f in fits), found
    told = {name for name, *_ in case.findings} | {"stale"}
    assert {f.pattern for f in report.findings} <= told, found
    harmless = report.patterns["torn_edit"].harmless
    assert {name: n for name, n in harmless.items() if n} == case.harmless


def test_cases_cover_every_class_and_verdict() -> None:
    """Cases got lost, or a class or verdict is no longer tried by any."""
    cases = [load(path) for path in FILES]
    assert len(cases) >= 40
    tried = {cls for case in cases for slot in case.classes.values() for cls in slot}
    assert tried == {cls.name.lower().replace("_", "-") for cls in Class}
    assert {case.expect for case in cases} == {
        "clean",
        "inconclusive",
        "race-predicted",
        "race-observed",
    }
    assert sum(path.stem.startswith("herd-") for path in FILES) >= 20
    tried = {(name, severity) for case in cases for name, severity, *_ in case.findings}
    patterns = ("stale", "torn_edit", "shootdown")
    assert tried == {
        ("overlap", "observed"),
        *((p, s) for p in patterns for s in ("observed", "predicted")),
    }


HEAD = "about: a\nsource: b\nexpect: clean\n"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "x.litmus:0: no line 'CPU 0 | CPU 1 ...'"),
        ("about: a\nsource: b\nCPU 0\n", "x.litmus:3: the header has no line 'expect'"),
        ("abuot: a\n", "x.litmus:1: 'abuot: a' is no header line"),
        ("about:\n", "x.litmus:1: 'about' says nothing"),
        (HEAD + "expect: clean\n", "x.litmus:4: 'expect' stands here twice"),
        ("about: a\nsource: b\nexpect: maybe\nCPU 0\n", "x.litmus:3: 'maybe' is none of"),
        (HEAD + "CPU 1\n", "x.litmus:4: column head 'CPU 1' should be 'CPU 0'"),
        (HEAD + "slot: irq line\nCPU 0\n", "x.litmus:4: 'line' is none of page, report"),
        (HEAD + "online: two\nCPU 0\nread\n", "x.litmus:4: 'two' is not a number"),
        (HEAD + "classes irq: non 1\nCPU 0\nread\n", "x.litmus:4: 'non' is none of"),
        (HEAD + "classes irq: none\nCPU 0\nread\n", "x.litmus:4: 'none' is not CLASS N"),
        (HEAD + "finding: CPU 0\nCPU 0\nread\n", "x.litmus:4: a finding is"),
        (HEAD + "CPU 0 | CPU 1\nread | read\n", "x.litmus:5: a line has one event"),
        (HEAD + "CPU 0\n | read\n", "x.litmus:5: a line has one event"),
        (HEAD + "CPU 0\nfrob\n", "x.litmus:5: 'frob' is none of notify"),
        (HEAD + "CPU 0\nnmi\n", "x.litmus:5: a context without an event"),
        (HEAD + "CPU 0\n@+5\n", "x.litmus:5: a time without an event"),
        (HEAD + "CPU 0\nmap\n", "x.litmus:5: 'map' takes 1 to 2 words, here are 0"),
        (HEAD + "CPU 0\nmap AB\n", "x.litmus:5: 'AB' is no frame"),
        (HEAD + "CPU 0\nmap A nmi\n", "x.litmus:5: 'nmi' is none of irq"),
        (HEAD + "CPU 0\ninvlpg irq+page\n", "x.litmus:5: '+page' is not a number"),
        (HEAD + "CPU 0\nend\n", "x.litmus:5: no handler runs here"),
        (HEAD + "CPU 0\nread @soon\n", "x.litmus:5: 'soon' is not a number"),
        (HEAD + "CPU 0\n-- lost overrun\n", "x.litmus:5: losses are"),
        (HEAD + "CPU 0\n-- lossy\nread\n-- lost mice\n", "x.litmus:7: 'MICE' is none of"),
        (HEAD + "CPU 0\n-- lossy\nread\n", "x.litmus:6: '-- lossy' without '-- lost'"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, error: str) -> None:
    """Somebody who writes a case would get a traceback, or a case that tests nothing."""
    with pytest.raises(LitmusError) as raised:
        parse(text, Path("x.litmus"))
    assert str(raised.value).startswith(error)
