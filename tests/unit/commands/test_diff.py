# SPDX-License-Identifier: Apache-2.0
"""`ghesrace diff` as scripts use it: exit codes, stored reports, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ghesrace import cli
from tests.build.captures import check
from tests.build.paths import CORPUS, EXAMPLES
from tests.build.trace import A, V


def diff(*arguments: object) -> int:
    return cli.main(["diff", *map(str, arguments)])


@pytest.mark.slow
@pytest.mark.parametrize("form", ["text", "json", "html"])
def test_exit_codes_whatever_the_format(
    observed: Path, clean: Path, predicted: Path, quiet: Path, tmp_path: Path, form: str
) -> None:
    """Scripts branch on these: a changed code lets a worse kernel pass, or fails a better one."""
    worse = [(clean, observed), (clean, predicted), (predicted, observed)]
    for expected, pairs in {
        0: [(observed, clean), (observed, observed), (clean, clean), (predicted, clean)],
        1: worse,
        2: [(tmp_path / "absent", clean), (clean, tmp_path), (tmp_path / "absent", quiet)],
        3: [(quiet, clean), (clean, quiet), (quiet, observed), (observed, quiet)],
    }.items():
        for a, b in pairs:
            assert diff("--format", form, a, b) == expected, (a, b)


def test_the_lab_with_and_without_the_module() -> None:
    """Real captures: the control's slot is not one of the stock kernel's."""
    stock, control = EXAMPLES / "stock.arrows", EXAMPLES / "control.arrows"
    assert diff(stock, control) == 1
    assert diff(control, stock) == 3  # Nothing drove over the module's slot.
    assert diff(control, control) == 0


def test_a_stored_report_is_what_it_was_made_of(
    observed: Path, clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, CI that keeps reports and no captures gets another answer."""
    stored = {}
    for path in (observed, clean):
        stored[path] = tmp_path / f"{path.stem}.json"
        check(path, "--format", "json", "-o", stored[path])
    capsys.readouterr()
    answers = []
    for a in (clean, stored[clean]):
        for b in (observed, stored[observed]):
            assert diff(a, b, "--format", "json") == 1
            answers.append(json.loads(capsys.readouterr().out))
    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["outcome"] == "worse"


def test_both_files_faults_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, the second mistake shows only when the first is mended; or in a traceback."""
    cut = tmp_path / "cut.json"
    cut.write_text('{"schema": ')
    assert diff(tmp_path / "absent", cut) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "absent: No such file" in captured.err
    assert "cut.json begins like JSON, and is broken" in captured.err
    assert "Traceback" not in captured.err


def test_standard_input_is_one_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Reading it twice would compare a file with nothing."""
    assert diff("-", "-") == 2
    assert "both A and B" in capsys.readouterr().err


def test_neither_input_is_written_over(observed: Path, clean: Path, tmp_path: Path) -> None:
    """If this fails, `-o` costs a recording."""
    size = clean.stat().st_size
    assert diff(observed, clean, "-o", clean) == 2
    assert clean.stat().st_size == size
    assert diff(observed, clean, "-o", tmp_path / "no" / "place") == 2
    assert diff(observed, clean, "-o", tmp_path / "report.txt") == 0
    assert "B is better" in (tmp_path / "report.txt").read_text()


@pytest.mark.slow
def test_runs_of_one_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Two boots in one file are compared with each other."""
    boots = CORPUS / "two-boots.txt"
    assert diff("--run", "9", boots, boots) == 2
    with pytest.raises(SystemExit):
        diff("--run", "1,x", boots, boots)
    capsys.readouterr()
    for run, number in (("1", 1), ("2", 2)):
        diff("--run", run, "--format", "json", boots, boots)
        both = json.loads(capsys.readouterr().out)
        check("--run", number, "--format", "json", boots)
        assert both["a"]["events"] == json.loads(capsys.readouterr().out)["events"]
    diff("--run", "1,2", "--format", "json", boots, boots)
    both = json.loads(capsys.readouterr().out)
    each = []
    for number in (1, 2):
        check("--run", number, "--format", "json", boots)
        each.append(json.loads(capsys.readouterr().out)["events"])
    assert [both["a"]["events"], both["b"]["events"]] == each


def test_what_is_accepted_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, traces of other tools can never be compared, or always."""
    text = CORPUS / "trace.txt"
    check(text, "--format", "json")
    report = json.loads(capsys.readouterr().out)
    assert report["qualified_by"]
    plain = diff(text, text, "-q")
    vouched = diff(text, text, "-q", "--accept-unknown", ",".join(report["qualified_by"]))
    assert plain == 3
    assert (vouched == 0) == (not report["reasons"])


def test_redacted_output_names_neither_host_nor_addresses(
    everything: Path, clean: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, who sends a comparison hands on where things lie in their kernel."""
    named = everything.rename(tmp_path / "host-of-mine.arrows")
    secrets = {f"{V:#x}"[:12], f"{A:#x}"[:5], "host-of-mine", tmp_path.name}
    codes = set()
    for form in ("text", "json", "html"):
        codes.add(diff(clean, named, "--format", form))
        plain = capsys.readouterr().out
        codes.add(diff(clean, named, "--format", form, "--redact"))
        out = capsys.readouterr().out
        assert not [secret for secret in secrets if secret in out], form
        assert any(secret in plain for secret in secrets)
        assert "edacted" in out
    assert codes == {1}


def test_a_stored_report_with_addresses_is_not_redacted(
    observed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, --redact hands on what it was asked to take out."""
    plain, redacted = tmp_path / "plain.json", tmp_path / "redacted.json"
    check(observed, "--format", "json", "-o", plain)
    check(observed, "--format", "json", "--redact", "-o", redacted)
    assert diff(plain, observed, "--redact") == 2
    assert "names addresses" in capsys.readouterr().err
    assert diff(redacted, observed, "--redact") == 0


def test_html_without_jinja2_says_what_to_install(
    observed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, who lacks the extra gets a traceback, after everything was judged."""
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    for name in ("ghesrace.render.html.diff_page", "ghesrace.render.html.page"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    assert diff(observed, observed, "--format", "html") == 3
    assert "[html]" in capsys.readouterr().err
