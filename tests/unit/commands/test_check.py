# SPDX-License-Identifier: Apache-2.0
"""`ghesrace check` as scripts use it: exit codes, several files, bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ghesrace import cli
from tests.build.captures import capture, check
from tests.build.trace import A, B, Trace, V


def test_exit_codes(observed: Path, clean: Path, predicted: Path, quiet: Path) -> None:
    """Scripts branch on these: a changed code lets a race pass, or fails a clean host."""
    assert check(observed) == 1
    assert check(clean) == 0
    assert check(predicted) == 1
    assert check(predicted, "--fail-on", "observed") == 0
    assert check(observed, "--fail-on", "observed") == 1
    assert check(quiet) == 3


def test_bad_input_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A user's mistake ends in a sentence, not in a traceback."""
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"not a capture at all" * 50)
    for path in (foreign, tmp_path / "absent", tmp_path):
        assert check(path) == 2
        error = capsys.readouterr().err
        assert str(path) in error
        assert "Traceback" not in error
    with pytest.raises(SystemExit) as stop:
        cli.main(["check"])
    assert stop.value.code == 2


def test_several_files_take_the_worst_code(
    observed: Path, clean: Path, quiet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """2 before 1 before 3 before 0, and JSON is an array with an entry for each file."""
    assert check(clean, quiet) == 3
    assert check(clean, quiet, observed) == 1
    capsys.readouterr()
    assert check(observed, tmp_path / "absent", clean, "--format", "json") == 2
    answer = json.loads(capsys.readouterr().out)
    assert [r.get("verdict") for r in answer] == ["race-observed", None, "clean"]
    assert [r["exit_code"] for r in answer] == [1, 2, 0]
    assert answer[1]["file"] == str(tmp_path / "absent")
    assert "No such file" in answer[1]["error"]["what"]
    assert check(tmp_path / "absent", "--format", "json") == 2
    assert json.loads(capsys.readouterr().out)["exit_code"] == 2


@pytest.mark.parametrize("form", ["text", "json", "junit"])
@pytest.mark.parametrize("more", [(), ("--fail-on", "observed"), ("--redact", "--all", "-q")])
def test_exit_codes_do_not_depend_on_the_format(
    observed: Path,
    clean: Path,
    predicted: Path,
    quiet: Path,
    tmp_path: Path,
    form: str,
    more: tuple[str, ...],
) -> None:
    """If this fails, a job that changes the format passes where it failed, or fails where not."""
    expected = {observed: 1, clean: 0, quiet: 3, tmp_path / "absent": 2}
    expected[predicted] = 0 if "observed" in more else 1
    for path, code in expected.items():
        assert check(path, "--format", form, *more) == code


def test_redacted_output_names_neither_host_nor_addresses(
    tmp_path: Path, everything: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, somebody who sends a report hands on where things lie in their kernel."""
    named = everything.rename(tmp_path / "host-of-mine.arrows")
    secrets = {f"{V:#x}"[:12], f"{A:#x}"[:5], str(A), "host-of-mine", tmp_path.name}
    for command in (
        ["check", "--format", "text", "--all"],
        ["check", "--format", "json", "--all"],
        ["check", "--format", "junit"],
        ["show", "--format", "text"],
        ["show", "--format", "json"],
        ["show", "--format", "csv", "--around", "1"],
    ):
        cli.main([*command, str(named)])
        plain = capsys.readouterr().out
        cli.main([*command, "--redact", str(named)])
        out = capsys.readouterr().out
        assert not [secret for secret in secrets if secret in out]
        assert any(secret in plain for secret in secrets)
    assert check(tmp_path / "host-of-mine.txt", "--format", "json", "--redact") == 2
    answer = json.loads(capsys.readouterr().out)
    assert answer["error"]["what"].startswith("can't read file 1: ")
    assert "host-of-mine" not in json.dumps(answer)


def test_perfetto_says_what_it_needs(
    observed: Path,
    clean: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A user's mistake, or a package that is not there, ends in a sentence that says what to do."""
    out = tmp_path / "x.pftrace"
    assert check(observed, "--format", "perfetto") == 2
    assert "-o" in capsys.readouterr().err
    assert check(observed, clean, "--format", "perfetto", "-o", out) == 2
    assert "one FILE" in capsys.readouterr().err
    assert check(observed, "--format", "perfetto", "-o", observed) == 2
    assert observed.stat().st_size
    assert check(observed, "--format", "perfetto", "-o", tmp_path / "no" / "place") == 2
    assert "can't write" in capsys.readouterr().err
    assert check(observed, "--format", "perfetto", "-o", "/dev/full") == 2
    assert "can't write /dev/full: No space left" in capsys.readouterr().err
    assert check(tmp_path / "absent", "--format", "perfetto", "-o", out) == 2
    assert not out.exists()
    for name in [name for name in sys.modules if name.startswith("ghesrace.render.perfetto")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "perfetto", None)
    for name in [name for name in sys.modules if name.startswith("perfetto.")]:
        monkeypatch.delitem(sys.modules, name)
    assert check(observed, "--format", "perfetto", "-o", out) == 3
    assert "pip install '.[perfetto]'" in capsys.readouterr().err
    assert not out.exists()


def test_perfettos_exit_codes_are_those_of_text(
    observed: Path, clean: Path, predicted: Path, quiet: Path, tmp_path: Path
) -> None:
    """If this fails, a job that asks for a trace passes where it failed."""
    for path, code in {observed: 1, clean: 0, predicted: 1, quiet: 3}.items():
        assert check(path, "--format", "perfetto", "-o", tmp_path / "x.pftrace") == code
    more = ("--fail-on", "observed", "-o", tmp_path / "x.pftrace")
    assert check(predicted, "--format", "perfetto", *more) == 0


def test_truncated_is_never_0(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A capture cut short may lack the very race: its prefix alone can't be clean."""
    data = clean.read_bytes()
    clean.write_bytes(data[: len(data) - 4])
    assert check(clean, "--format", "json") == 3
    report = json.loads(capsys.readouterr().out)
    assert report["truncated"]
    assert report["verdict"] == "inconclusive"


def test_ten_occurrences_or_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A storm's report stays readable; --all loses nothing."""
    trace = Trace()
    for i in range(60):
        trace.report(i % 2, (A, B)[i % 2])
    path = capture(tmp_path / "many.arrows", trace)
    check(path, "--format", "json")
    short = json.loads(capsys.readouterr().out)["findings"][0]
    check(path, "--format", "json", "--all")
    full = json.loads(capsys.readouterr().out)["findings"][0]
    assert short["count"] == full["count"] == 30
    assert (len(short["occurrences"]), len(full["occurrences"])) == (10, 30)


# What is imported is printed when all is done.
START = """
import os, sys
from ghesrace import cli
code = cli.main(sys.argv[1:])
print(code, os.environ["OPENBLAS_NUM_THREADS"], *sys.modules, file=sys.stderr)
"""


@pytest.mark.slow
def test_a_text_report_loads_no_more_than_it_needs(clean: Path) -> None:
    """If this fails, starting takes as long as judging 100,000 events more."""
    done = subprocess.run(
        [sys.executable, "-c", START, "check", str(clean)],
        capture_output=True,
        text=True,
        check=True,
    )
    code, threads, *loaded = done.stderr.split()
    assert (code, threads) == ("0", "1")
    assert "ghesrace.render.text" in loaded
    spared = {"rich.progress", "xml.etree", "jinja2", "perfetto", "ghesrace.render.html.timeline"}
    assert not spared & set(loaded)
