# SPDX-License-Identifier: Apache-2.0
"""The page of a running daemon: whole, without a script, and only text where text is meant."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace

from ghesrace.render.html.live import live_page, policy
from ghesrace.render.live import Kept, Told
from tests.build.judging import judge
from tests.build.trace import bounce, plan
from tests.unit.render.html.test_page import EVIL, Reader


def racing() -> Told:
    report = judge(plan(), bounce().stream())
    return Told(
        True,
        report.verdict.word,
        ("implications",),
        ("losses: 3",),
        since="2026-01-01",
        now="2026-01-02",
        facts=(("Kernel", "6.12"),),
        health=(("Probes", "9 attached", True), ("Evidence", "can't write", False)),
        findings=tuple(report.findings),
        latest=("noon",),
        captures=(Kept("ghesrace-20260101T000000Z-stale-1.arrows", 2049, "noon"),),
        clock_error_ns=1000,
    )


def test_it_says_what_is_the_matter_and_draws_it() -> None:
    """If this fails, a person who opens the page learns less than Prometheus."""
    read = Reader(live_page(racing()))
    assert read.open == []
    words = " ".join(" ".join(read.words).split())
    for wanted in (
        "race-observed, resting on implications",
        "stale read at slot irq, observed 5 times",
        "Last seen noon",
        "losses: 3",
        "can't write (!)",
        "9 attached",
        "window since 2026-01-01",
    ):
        assert wanted in words, wanted
    assert ("circle", "dot access") in [(tag, had.get("class")) for tag, had in read.tags]
    links = [had["href"] for tag, had in read.tags if tag == "a"]
    assert "/captures/ghesrace-20260101T000000Z-stale-1.arrows" in links
    assert "/runbooks/race-observed" in links
    assert all(link is not None and link.startswith("/") for link in links)


def test_it_has_no_script_and_its_style_is_the_policys() -> None:
    """If this fails, the page is unstyled, or its policy lets a script in."""
    read = Reader(live_page(racing()))
    tags = {tag for tag, _ in read.tags}
    assert not tags & {"script", "img", "iframe", "object", "form", "link", "base"}
    assert not any(name.startswith("on") or name == "style" for _, had in read.tags for name in had)
    digest = base64.b64encode(hashlib.sha256(read.scripts["style"].encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy()
    assert policy().startswith("default-src 'none'")
    assert "unsafe" not in policy()


def test_hostile_names_are_only_text() -> None:
    """If this fails, a module's name runs as a script in an operator's browser."""
    made = racing()
    finding = replace(made.findings[0], slot=EVIL, explanation=EVIL)
    text = live_page(
        replace(
            made,
            reasons=(EVIL,),
            facts=((EVIL, EVIL),),
            health=((EVIL, EVIL, False),),
            findings=(finding,),
            captures=(Kept(EVIL, 1, EVIL),),
            since=EVIL,
        )
    )
    read = Reader(text)
    assert read.open == []
    assert {tag for tag, _ in read.tags} & {"script", "img"} == set()


def test_who_is_not_known_is_told_why_there_is_no_capture() -> None:
    """If this fails, an operator searches for captures that the page will never list."""
    text = live_page(replace(racing(), captures=None, captures_refused="Set a password."))
    assert "Set a password." in text
    assert "/captures/" not in text
    assert "None is kept." in live_page(replace(racing(), captures=()))


def test_a_host_that_is_not_watched_has_no_verdict() -> None:
    """If this fails, "nothing unsafe was seen" is said of a host where nothing can be seen."""
    text = live_page(Told(watched=False, reasons=("not-checked: no kprobes",)))
    assert "not watching</h1>" in text
    assert "not-checked: no kprobes" in text
    assert "Nothing unsafe" not in text


def test_many_faults_are_bounded_and_the_rest_counted() -> None:
    """If this fails, a storm makes a page that no browser opens."""
    finding = racing().findings[0]
    many = tuple(replace(finding, slot=f"slot {n}") for n in range(200))
    text = live_page(replace(racing(), findings=many, latest=()))
    assert "188 more faults" in text
    assert len(text) < 400_000
