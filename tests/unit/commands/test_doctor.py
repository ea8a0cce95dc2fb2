# SPDX-License-Identifier: Apache-2.0
"""`ghesrace doctor`: its exit code, and the same answers in both forms."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ghesrace import backends, cli
from ghesrace.commands import doctor
from ghesrace.doctor import checks
from ghesrace.doctor.check import Check
from ghesrace.doctor.pack import GivenPack
from ghesrace.host import facts
from ghesrace.host.facts import Facts
from tests.build.trace import bounce, plan
from tests.unit.commands.test_capture import Live

GOOD = Check("tracefs", "ok", "mounted")
BAD = Check("GHES driver", "missing", "no ACPI APEI GHES code", needed=True)
EXTRA = Check("bcc", "missing", "not installed", needed=False)


@pytest.mark.parametrize(
    ("made", "code", "last"),
    [
        ([GOOD, EXTRA], 0, "A capture can run here."),
        ([GOOD, BAD], 3, "No capture can run here: see what is missing above."),
    ],
)
def test_both_forms_give_the_same_answer(
    made: list[Check],
    code: int,
    last: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A script that asks for JSON would be told that a host is ready which is not."""
    monkeypatch.setattr(checks, "run", lambda **_: iter(made))
    assert cli.main(["doctor"]) == code
    text = capsys.readouterr().out
    assert text.splitlines()[-1] == last
    assert cli.main(["doctor", "--format", "json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert document["ready"] == (code == 0)
    assert [check["name"] for check in document["checks"]] == [check.name for check in made]
    assert all(check.name in text and check.found in text for check in made)


@pytest.fixture
def no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host called node7.example.test that has no GHES, and checks that name it."""
    said = replace(BAD, found="no GHES on node7 at 0xffffffff81234560")
    monkeypatch.setattr(checks, "run", lambda **_: iter([GOOD, said]))
    monkeypatch.setattr(facts, "read_facts", lambda: Facts("x86_64", "6.12"))
    monkeypatch.setattr(doctor, "host_names", lambda: frozenset({"node7", "node7.example.test"}))


def test_report_is_written_where_nothing_can_be_traced(
    no_host: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who has the odd host that does not work could not tell us why."""
    path = tmp_path / "host.json"
    assert cli.main(["doctor", "--report", str(path)]) == 3
    captured = capsys.readouterr()
    assert "node7" in captured.out
    assert f"wrote {path}" in captured.err.replace("\n", "")
    text = path.read_text()
    report = json.loads(text)
    assert not report["ready"]
    assert report["plan"]["problem"]["what"] == report["counted"]["problem"]["what"]
    assert "node7" not in text
    assert "81234560" not in text
    assert "no GHES on (this host)" in report["checks"][1]["found"]


def test_report_counts_what_the_source_sees(
    no_host: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The minute of counters would be missing, or be another source's than a capture's."""
    monkeypatch.setattr(backends, "make_plan", lambda *_, **__: plan())
    monkeypatch.setattr(backends, "attach", lambda *_, **__: Live(bounce()))
    path = tmp_path / "host.json"
    cli.main(["doctor", "--report", str(path), "--seconds", "5"])
    counted = json.loads(path.read_text())["counted"]
    assert counted["problem"] is None
    assert counted["events"]["MAP"] > 0
    assert counted["judged"]["verdict"] == "race-observed"


def test_usage_of_the_report_is_checked_before_anything_is_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A minute would be counted for a file that can't be written, or --seconds do nothing."""
    monkeypatch.setattr(checks, "run", lambda **_: pytest.fail("tried"))
    assert cli.main(["doctor", "--seconds", "5"]) == 2
    assert "add --report FILE" in capsys.readouterr().err
    assert cli.main(["doctor", "--report", str(tmp_path / "none/host.json")]) == 2
    assert "can't write" in capsys.readouterr().err


def test_the_pack_is_the_one_of_the_command_line_or_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, another pack is tried than the one that will be loaded, or none in silence."""
    asked: list[object] = []

    def run(pack: object) -> Iterator[Check]:
        asked.append(pack)
        return iter([GOOD])

    monkeypatch.setattr(checks, "run", run)
    file = tmp_path / "ghesrace.toml"
    file.write_text('[source]\nbackend = "bpf"\npack = "/a.pack"\npack_sha256 = "00"\n')
    by_key = ["--pack", "/b.pack", "--pack-key", "/b.pem"]
    assert cli.main(["doctor"]) == 0
    assert cli.main(["doctor", *by_key]) == 0
    assert cli.main(["doctor", "--config", str(file)]) == 0
    file.write_text("")
    assert cli.main(["doctor", "--config", str(file)]) == 0
    of_line = GivenPack(Path("/b.pack"), "", Path("/b.pem"))
    assert asked == [None, of_line, GivenPack(Path("/a.pack"), "00", None, "bpf"), None]
    capsys.readouterr()
    assert cli.main(["doctor", "--pack-sha256", "00"]) == 2
    assert "add --pack PACK" in capsys.readouterr().err
    assert cli.main(["doctor", "--config", str(file), *by_key]) == 2
    assert "leave out --config or --pack" in capsys.readouterr().err
    assert cli.main(["doctor", "--config", str(tmp_path / "none")]) == 2
    assert "can't read the configuration" in capsys.readouterr().err
    assert len(asked) == 4


def test_names_of_a_host_are_those_with_and_without_its_domain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of the name would stay in the report."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hostname").write_text("db1.hall.example.test\n")
    monkeypatch.chdir(tmp_path)
    names = doctor.host_names(tmp_path)
    assert {"db1", "db1.hall.example.test", "hall.example.test", os.uname().nodename} <= names
    assert str(tmp_path) in names
    assert not names & {"", "/", "localhost"}
