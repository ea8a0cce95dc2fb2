# SPDX-License-Identifier: Apache-2.0
"""The commands as scripts use them: exit codes, JSON by its schema, text in 80 columns."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from ghesrace import backends, cli
from ghesrace.events import PAGE_SIZE, Context, Events, Flag, Kind
from ghesrace.host import facts
from ghesrace.host.facts import Facts
from ghesrace.plan import Plan
from ghesrace.sources.capture.file import CaptureWriter
from tests.build.trace import A, B, Trace, V, plan

HOST = {
    "arch": "x86_64",
    "release": "6.1.0-test",
    "hest": [
        {"id": 3, "notification": "external interrupt", "block": A, "length": 4096},
        {"id": 1, "notification": "NMI", "block": B + 64, "length": 128},
    ],
}


def capture(path: Path, trace: Trace, p: Plan | None = None) -> Path:
    with CaptureWriter(path, p or plan(), HOST) as writer:
        writer.write(trace.stream())
    return path


def bounce(**how: object) -> Trace:
    trace = Trace()
    for i in range(6):
        trace.report(i % 2, (A, B)[i % 2], **how)
    return trace


@pytest.fixture
def observed(tmp_path: Path) -> Path:
    return capture(tmp_path / "observed.arrows", bounce())


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    return capture(tmp_path / "clean.arrows", bounce(flush=True))


@pytest.fixture
def predicted(tmp_path: Path) -> Path:
    trace = Trace()
    for frame in (A, B, A, B):
        trace.report(0, frame)
    return capture(tmp_path / "predicted.arrows", trace)


@pytest.fixture
def quiet(tmp_path: Path) -> Path:
    return capture(tmp_path / "quiet.arrows", Trace())


def check(*arguments: object) -> int:
    return cli.main(["check", *map(str, arguments)])


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
    """2 before 1 before 3 before 0, and JSON is an array of what could be read."""
    assert check(clean, quiet) == 3
    assert check(clean, quiet, observed) == 1
    capsys.readouterr()
    assert check(observed, tmp_path / "absent", clean, "--format", "json") == 2
    answer = json.loads(capsys.readouterr().out)
    assert [r["verdict"] for r in answer] == ["race-observed", "clean"]


def test_truncated_is_never_0(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A capture cut short may lack the very race: its prefix alone can't be clean."""
    data = clean.read_bytes()
    clean.write_bytes(data[: len(data) - 4])
    assert check(clean, "--format", "json") == 3
    report = json.loads(capsys.readouterr().out)
    assert report["truncated"]
    assert report["verdict"] == "inconclusive"


def test_json_keeps_its_schema(
    observed: Path, clean: Path, predicted: Path, quiet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The JSON is a contract; so is the schema that documents it."""
    text = resources.files("ghesrace").joinpath("check.schema.json").read_text()
    validator = jsonschema.Draft202012Validator(json.loads(text))
    for path in (observed, clean, predicted, quiet):
        check(path, "--format", "json")
        validator.validate(json.loads(capsys.readouterr().out))


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    """One of each neighbour of the race, all on CPU 0, and harmless ones."""
    trace = Trace()
    trace.report(0, A, flush=True)
    trace.add(0, Kind.NOTIFY)
    trace.add(0, Kind.MAP, phys=A, slot=0)
    trace.page(0, B, ctx=Context.NMI, flush=True)  # in the irq's use of the slot
    trace.add(0, Kind.UNMAP, slot=0)
    trace.add(0, Kind.SHOOTDOWN, flags=Flag.IRQS_OFF)
    trace.add(0, Kind.NOTIFY_END)
    for begin in (V, V + PAGE_SIZE, V + (4 << 20)):
        trace.add(0, Kind.EDIT, Context.TASK, addr=begin, size=PAGE_SIZE)
        trace.page(0, A, ctx=Context.NMI, flush=True)
        trace.add(0, Kind.EDIT_END, Context.TASK)
    trace.add(0, Kind.SHOOTDOWN, Context.TASK, flags=Flag.IRQS_OFF)
    return capture(tmp_path / "everything.arrows", trace)


def test_json_of_every_pattern_keeps_the_schema(
    everything: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A finding without frames or slot would break who reads the JSON by its schema."""
    text = resources.files("ghesrace").joinpath("check.schema.json").read_text()
    check(everything, "--format", "json")
    report = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator(json.loads(text)).validate(report)
    assert set(report["patterns"]) == {"stale", "torn_edit", "shootdown", "overlap"}
    found = {(f["pattern"], f["severity"]): f for f in report["findings"]}
    assert set(found) >= {
        ("overlap", "observed"),
        ("torn_edit", "observed"),
        ("shootdown", "observed"),
        ("shootdown", "predicted"),
    }
    assert found["shootdown", "predicted"]["slot"] is None
    assert found["shootdown", "predicted"]["frames"] is None
    assert found["torn_edit", "observed"]["frames"] is None
    assert report["patterns"]["torn_edit"]["harmless"] == {
        "same table, single entries": 2,
        "other tables": 2,
    }


def test_two_contexts_of_one_cpu_are_two_columns(
    everything: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who interrupted whom is the whole point, and must fit an 80-column terminal."""
    check(everything)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    heads = [line for line in out.splitlines() if "CPU 0 = x, task" in line]
    assert any("CPU 0 = y, nmi" in line.partition("= x")[2] for line in heads)
    assert "CPU 0 = x, irq" in out
    assert "any other CPU = y" in out
    assert "overlaps that are no hazard: 2 of same table" in " ".join(out.split())


def test_json_counts(observed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The figures that dashboards and scripts read."""
    check(observed, "--format", "json")
    report = json.loads(capsys.readouterr().out)
    assert report["patterns"]["stale"] == {
        "checked": True,
        "observed": 5,
        "predicted": 0,
        "not_checked_because": None,
        "harmless": {},
        "uncertain": [],
    }
    assert report["slots"][0]["classes"]["none"] == 5
    assert (report["events"], report["lost"]) == (54, 0)
    finding = report["findings"][0]
    assert finding["frames"] == [hex(A), hex(B)]
    assert finding["sources"] == ["HEST source 3 (external interrupt)", "HEST source 1 (NMI)"]
    assert [s["n"] for s in finding["steps"] if s["n"]] == [1, 2, 3, 4, 5, 6, 7, 8]


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


def test_text_fits_80_columns(
    observed: Path, predicted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """People read this in a terminal and paste it into mails; no colour codes in a file."""
    for path in (observed, predicted):
        check(path)
        out = capsys.readouterr().out
        assert max(len(line) for line in out.splitlines()) <= 80
        assert "\x1b" not in out
    target = tmp_path / "report.txt"
    check(observed, "-o", target)
    text = target.read_text()
    assert text.startswith("race-observed")
    assert "does not prove" in " ".join(text.split())
    assert "CPU 0 = x" in text


def test_unseen_and_unchecked_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was not seen stands in the report, or the reader takes silence for safety."""
    blind = replace(plan(), not_checked={"stale": "no symbol unmaps a slot"})
    path = capture(tmp_path / "blind.arrows", bounce(flush=True), blind)
    assert check(path) == 3
    assert "stale: not checked: no symbol unmaps a slot" in capsys.readouterr().out


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The first two things that anybody types."""
    for option in ("--version", "--help"):
        with pytest.raises(SystemExit) as stop:
            cli.main([option])
        assert stop.value.code == 0
    assert "exit codes" in capsys.readouterr().out


class Live:
    """A source that is attached, and whose stream ends by itself."""

    def __init__(self, trace: Trace) -> None:
        self.plan, self.counters, self.trace = plan(), Counter[str](), trace

    def batches(self) -> Iterator[Events]:
        yield self.trace.stream()

    def stop(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked for, `capture` records the race."""
    monkeypatch.setattr(facts, "read_facts", lambda: Facts("x86_64", "6.1.0-test"))
    monkeypatch.setattr(backends, "make_plan", lambda *_, **__: plan())
    monkeypatch.setattr(backends, "attach", lambda *_, **__: Live(bounce()))


def test_capture_leaves_metrics(
    host: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a cron job's capture says nothing to node_exporter, or another verdict."""
    assert cli.main(["capture", "--textfile", str(tmp_path), "--format", "json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert cli.main(["capture", "--check", "--format", "json"]) == 1
    assert json.loads(capsys.readouterr().out) == told
    assert [path.name for path in tmp_path.iterdir()] == ["ghesrace_capture.prom"]
    text = (tmp_path / "ghesrace_capture.prom").read_text()
    count = told["patterns"]["stale"]["observed"]
    assert count > 0
    assert f'ghesrace_findings_total{{pattern="stale",severity="observed"}} {count}.0' in text
    assert 'ghesrace_window_verdict{verdict="race-observed"} 1.0' in text
    assert "ghesrace_watching 0.0" in text


def test_capture_asks_for_the_textfiles_folder_first(host: None, tmp_path: Path) -> None:
    """If this fails, an hour is recorded before a typing error shows."""
    assert cli.main(["capture", "--textfile", str(tmp_path / "none")]) == 2
