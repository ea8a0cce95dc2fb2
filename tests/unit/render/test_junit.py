# SPDX-License-Identifier: Apache-2.0
"""JUnit XML, as CI systems read it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as xml

import pytest

from ghesrace.render.judgement import Failure, Judgement
from ghesrace.render.junit import junit
from tests.build.captures import check
from tests.build.judging import judge
from tests.build.trace import bounce, plan


def suites(text: str) -> dict[str, xml.Element]:
    return {suite.get("name") or "": suite for suite in xml.fromstring(text)}


def bad(element: xml.Element) -> int:
    return len(list(element.iter("failure"))) + len(list(element.iter("error")))


@pytest.mark.parametrize("fail_on", ["observed", "predicted"])
def test_a_suite_is_green_exactly_if_the_exit_code_is_0(
    observed: Path,
    clean: Path,
    predicted: Path,
    quiet: Path,
    everything: Path,
    tmp_path: Path,
    fail_on: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """If this fails, CI is green on a race, or red on a clean host."""
    files = [observed, clean, predicted, quiet, everything, tmp_path / "absent"]
    for path in files:
        code = check(path, "--format", "junit", "--fail-on", fail_on)
        [suite] = suites(capsys.readouterr().out).values()
        assert (bad(suite) > 0) == (code != 0), path
        assert int(suite.get("failures") or 0) == len(list(suite.iter("failure")))
        assert int(suite.get("errors") or 0) == len(list(suite.iter("error")))
        assert int(suite.get("tests") or 0) == len(list(suite.iter("testcase")))
        assert (len(list(suite.iter("failure"))) > 0) == (code == 1)
    check(*files, "--format", "junit")
    assert list(suites(capsys.readouterr().out)) == [str(path) for path in files]


def test_each_pattern_is_a_test(everything: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, nobody sees in CI which pattern was found, or that one was not checked."""
    check(everything, "--format", "junit")
    [suite] = suites(capsys.readouterr().out).values()
    cases = {case.get("name"): case for case in suite}
    assert set(cases) == {"stale", "torn_edit", "shootdown", "overlap", "verdict"}
    for name in ("torn_edit", "shootdown", "overlap"):
        [failure] = cases[name]
        assert "finding" in (failure.get("message") or "")
        assert failure.text
    blind = replace(plan(), not_checked={"overlap": "nothing tells"})
    result = judge(blind, bounce(flush=True).stream())
    [suite] = suites(junit([Judgement(None, result, blind)], "predicted")).values()
    [skipped] = suite.iter("skipped")
    assert skipped.get("message") == "nothing tells"
    assert suite.get("name") == "live"


def test_what_xml_cannot_hold_is_escaped() -> None:
    """If this fails, a file with a strange name makes a document that no CI system reads."""
    name = "a\x1b\x00<b>&\ud800\ufffe"
    [suite] = suites(junit([Failure(name, name, name, 2)], "predicted")).values()
    assert suite.get("name") == "a\\x1b\\x00<b>&\\xd800\\xfffe"
