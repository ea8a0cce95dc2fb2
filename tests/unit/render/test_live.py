# SPDX-License-Identifier: Apache-2.0
"""What a daemon's page says, and the page that needs no template engine."""

from __future__ import annotations

from dataclasses import replace

from ghesrace.render.live import Kept, Told, headline, plain_page
from tests.build.judging import judge
from tests.build.trace import A, B, bounce, plan

EVIL = "<script>alert(1)</script>"


def racing() -> Told:
    report = judge(plan(), bounce().stream())
    return Told(True, report.verdict.word, ("implications",), tuple(report.reasons),
                findings=tuple(report.findings))  # fmt: skip


def test_the_plain_page_says_the_same() -> None:
    """If this fails, a host without Jinja2 hides the race, or what its verdict rests on."""
    text = plain_page(racing())
    assert "race-observed, resting on implications" in text
    assert "stale, observed: 3 times at irq, CPUs 0 and 1" in text
    assert 'href="/runbooks/race-observed"' in text
    assert headline(Told(verdict="clean")) == "clean"


def test_the_plain_page_escapes() -> None:
    """If this fails, the name of a kernel runs as a script."""
    finding = replace(racing().findings[0], slot=EVIL)
    made = Told(
        True,
        EVIL,
        (EVIL,),
        (EVIL,),
        facts=((EVIL, EVIL),),
        health=((EVIL, EVIL, False),),
        findings=(finding,),
        captures=(Kept(EVIL, 1, EVIL),),
    )
    assert EVIL not in plain_page(made)


def test_redacted_holds_no_address() -> None:
    """If this fails, whoever can reach the port learns where error records lie."""
    made = racing()
    told = repr(made)
    assert str(A) in told or f"{A:#x}" in told
    hidden = repr(made.redact())
    for frame in (A, B):
        assert str(frame) not in hidden
        assert f"{frame:#x}" not in hidden
    assert made.redact().redacted
