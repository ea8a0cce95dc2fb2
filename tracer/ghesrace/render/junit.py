# SPDX-License-Identifier: Apache-2.0
"""This writes reports as JUnit XML, which CI systems read: a suite per file, a test per pattern,
and one for the verdict."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree as xml

from ghesrace.checker.report import PatternResult
from ghesrace.errors import EXIT_FINDING, EXIT_OK

from .faults import Fault, faults
from .findings import counts, title
from .judgement import Failure, Judgement
from .layout import printable
from .words import meanings


def junit(judged: Iterable[Judgement | Failure], fail_on: str) -> str:
    """Return the XML text of all *judged*. *fail_on* is the least severity that fails: "observed"
    or "predicted". A suite fails, or has an error, exactly if its file's exit code is not 0.

    >>> print(junit([Failure("a.txt", "a.txt is empty", "record again", 2)], "predicted"))
    <?xml version='1.0' encoding='utf-8'?>
    <testsuites tests="1" failures="0" errors="1">
      <testsuite name="a.txt" tests="1" failures="0" errors="1" skipped="0">
        <testcase classname="ghesrace" name="input">
          <error message="a.txt is empty">record again</error>
        </testcase>
      </testsuite>
    </testsuites>
    """
    top = xml.Element("testsuites")
    for one in judged:
        suite = xml.SubElement(top, "testsuite", name=_plain(one.file or "live"))
        if isinstance(one, Failure):
            _told(_case(suite, "input"), "error", one.what, one.hint)
        else:
            _judgement(suite, one, fail_on)
        _count(suite, ("failure", "error", "skipped"))
    _count(top, ("failure", "error"))
    xml.indent(top)
    return "<?xml version='1.0' encoding='utf-8'?>\n" + xml.tostring(top, encoding="unicode")


def _judgement(suite: xml.Element, one: Judgement, fail_on: str) -> None:
    report = one.report
    found = faults(report.findings)
    for name, pattern in report.patterns.items():
        _pattern(
            _case(suite, name), pattern, [f for f in found if f.worst.pattern == name], fail_on
        )
    case = _case(suite, "verdict")
    told = [meanings(report.verdict.word)[0].what, *report.reasons]
    if report.qualified_by:
        told.append(f"It rests on {', '.join(report.qualified_by)}.")
    if one.code == EXIT_FINDING:
        _told(case, "failure", report.verdict.word, "\n".join(told))
    elif one.code != EXIT_OK:
        _told(case, "error", report.verdict.word, "\n".join(told))


def _pattern(case: xml.Element, pattern: PatternResult, found: list[Fault], fail_on: str) -> None:
    if not pattern.checked:
        _told(case, "skipped", pattern.not_checked_because or "not checked", "")
        return
    failed = [fault for fault in found if fail_on == "predicted" or "observed" in fault.counts]
    if not failed:
        return
    messages = [f"finding {fault.name}: {title(fault)}, {counts(fault)}" for fault in failed]
    # Some readers take the first failure of a test only, so there is one.
    texts = [
        "\n".join([f"{message}: {fault.worst.explanation}.", *(s.text for s in fault.worst.steps)])
        for message, fault in zip(messages, failed, strict=True)
    ]
    _told(case, "failure", "; ".join(messages), "\n\n".join(texts))


def _case(suite: xml.Element, name: str) -> xml.Element:
    return xml.SubElement(suite, "testcase", classname="ghesrace", name=name)


def _told(case: xml.Element, what: str, message: str, text: str) -> None:
    element = xml.SubElement(case, what, message=_plain(message))
    element.text = _plain(text)


def _count(element: xml.Element, whats: tuple[str, ...]) -> None:
    """Say how many tests below *element* there are, and how many have each of *whats*."""
    cases = list(element.iter("testcase"))
    element.set("tests", str(len(cases)))
    names = {"failure": "failures", "error": "errors", "skipped": "skipped"}
    for what in whats:
        element.set(names[what], str(sum(case.find(what) is not None for case in cases)))


def _plain(text: str) -> str:
    """Return *text* without the characters that XML 1.0 can't hold."""
    return "\n".join(printable(line) for line in text.split("\n"))
