# SPDX-License-Identifier: Apache-2.0
"""The HTML report: whole, self-contained, and only text where text is meant."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ghesrace import cli
from ghesrace.plan import UNPROVEN_NS, Slot, Unseen
from ghesrace.render.html.page import page
from ghesrace.render.judgement import Failure, Judgement
from tests.build.captures import check
from tests.build.judging import judge
from tests.build.paths import CORPUS, EXAMPLES, FIXTURES
from tests.build.trace import A, V, bounce, plan

EVIL = "</title></style></script><script>document.title='x'</script><img src=x>\"'>{{7*7}}<svg>"
_VOID = {"meta", "img"}


class Reader(HTMLParser):
    """The elements, attributes and text of a page; it notes what is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: dict[str, str] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            self.scripts[self.open[-1]] = self.scripts.get(self.open[-1], "") + data
        else:
            self.words.append(data)


def made(path: Path, *more: str, out: Path) -> str:
    check(path, "--format", "html", "-o", out, *more)
    return out.read_text()


@pytest.mark.parametrize(
    "path", [EXAMPLES / "control.arrows", EXAMPLES / "stock.arrows", CORPUS / "v7-zstd.dat"]
)
def test_a_page_is_one_small_file_that_loads_nothing(path: Path, tmp_path: Path) -> None:
    """If this fails, a bug report's attachment asks a network, or is too large to send."""
    text = made(path, out=tmp_path / "report.html")
    assert len(text.encode()) < 1_000_000
    reader = Reader(text)
    assert reader.open == []
    for tag, attributes in reader.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form", "image", "use")
        assert not {"src", "srcset", "href", "xlink:href", "action", "style"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
    assert not re.search(r"https?://|@import|url\((?!#)", text)


def test_its_policy_allows_its_own_style_and_script_alone(tmp_path: Path) -> None:
    """If this fails, the page has no style in a browser, or would run what slipped in."""
    reader = Reader(made(EXAMPLES / "control.arrows", out=tmp_path / "report.html"))
    policy = next(
        attributes["content"] or ""
        for tag, attributes in reader.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for name in ("script", "style"):
        digest = hashlib.sha256(reader.scripts[name].encode()).digest()
        assert f"{name}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy
        assert sum(tag == name for tag, _ in reader.tags) == 1


def test_hostile_names_are_only_text() -> None:
    """If this fails, whoever wrote a trace runs a script where its report is read."""
    unseen = (Unseen(EVIL, EVIL, ("stale",), (EVIL,)),)
    the_plan = replace(plan(Slot(EVIL, 644, V, "report")), unseen=unseen)
    the_plan = replace(the_plan, not_checked={"overlap": EVIL}, release=EVIL)
    report = judge(the_plan, bounce().stream())
    report.reasons = [EVIL]
    report.findings[0].explanation = EVIL
    host = {"release": EVIL, "nodename": EVIL}
    host["hest"] = [{"id": EVIL, "notification": EVIL, "block": A, "length": 9}]  # type: ignore[assignment]
    text = page(
        [Judgement(EVIL, report, the_plan, host), Failure(EVIL, EVIL, EVIL, 2)], [None, None]
    )
    reader = Reader(text)
    tags = [tag for tag, _ in reader.tags]
    assert (tags.count("script"), tags.count("img"), tags.count("title") > 1) == (1, 0, True)
    assert "".join(reader.words).count(EVIL) > 10


def test_what_a_page_says(tmp_path: Path) -> None:
    """If this fails, the vendor who gets it has to ask for kernel, clock or version."""
    text = made(EXAMPLES / "control.arrows", out=tmp_path / "report.html")
    words = " ".join(" ".join(Reader(text).words).split())
    for expected in (
        "race-observed: ",
        "does not prove that junk was read",
        "Linux 6.1.0-56-amd64 (x86_64)",
        "source 2: polled",
        "ftrace",
        "CPUs' stamps are taken to differ by at most 1,000 ns",
        "1.504 s",
        "284, 0 lost",
        "Finding 1 of 1: stale read at slot ghes2015:irq, observed 10 times",
        "93.488574",
        "Could change this verdict",
        "What this file contains",
        "physical addresses of error records",
    ):
        assert expected in words, expected
    assert text.count('<figure class="picture">') == 4
    now = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    assert "2026-01-02 03:04 UTC" in page([Failure("a", "b", "c", 2)], [None], now=now)


def test_what_is_assumed_of_the_clocks_is_told() -> None:
    """If this fails, the page says as proven what rests on clocks that nobody could measure."""
    busy = replace(plan(), clock_proven_ns=UNPROVEN_NS)
    text = page([Judgement("a", judge(busy, bounce().stream()), busy)], [None])
    assert "race-observed, assuming that clocks agree within 1,000 ns: a" in text
    assert "It assumes that the clocks of two CPUs agree within 1,000 ns." in text


def test_a_redacted_page_says_so_and_has_no_addresses(tmp_path: Path) -> None:
    """If this fails, somebody sends addresses to a vendor who believes to have removed them."""
    name = EXAMPLES / "control.arrows"
    plain = made(name, out=tmp_path / "plain.html")
    text = made(name, "--redact", out=tmp_path / "redacted.html")
    for secret in ("0x1446000", "ff580cb3803e7000", "control.arrows"):
        assert secret in plain
        assert secret not in text
    assert "Redacted: addresses are relative" in text


def test_several_files_and_one_that_failed(
    tmp_path: Path, clean: Path, quiet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a file that can't be read takes the others' page away, or is left out."""
    code = check(clean, tmp_path / "absent", quiet, "--format", "html")
    text = capsys.readouterr().out
    assert code == 2
    assert text.count("<article>") == 3
    assert "not judged: " in text
    assert "No episode was judged." in text
    assert "<title>ghesrace: clean, not judged, inconclusive</title>" in text


def test_what_a_summary_only_counted_is_told(tmp_path: Path) -> None:
    """If this fails, the bars of a summary look as if they were all of its episodes."""
    text = made(FIXTURES / "captures/0.1.0-summary.arrows", out=tmp_path / "report.html")
    assert re.search(
        r"episodes by the time of their map, from .*; \d+ more were only counted", text
    )


def test_many_findings_are_listed_and_few_drawn() -> None:
    """If this fails, a storm's page is too large to open, or --all draws no more than without."""
    report = judge(plan(), bounce().stream())
    [first, *_] = report.findings
    many = [replace(first, frames=(A + 4096 * i, A), cpus=(i % 7, 8)) for i in range(200)]
    judged = Judgement("many.arrows", replace(report, findings=many), plan())
    short, full = page([judged], [None]), page([judged], [None], every=True)
    assert short.count('<figure class="picture">') == 5
    assert full.count('<figure class="picture">') == 60
    assert "195 variants are listed and not drawn" in short
    assert "1.200" in short
    assert len(full.encode()) < 2_000_000


def test_without_jinja2_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], clean: Path
) -> None:
    """If this fails, somebody without the extra gets a traceback."""
    import sys

    monkeypatch.delitem(sys.modules, "ghesrace.render.html.page", raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert cli.main(["check", "--format", "html", str(clean)]) == 3
    assert "pip install '.[html]'" in capsys.readouterr().err
