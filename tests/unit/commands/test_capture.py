# SPDX-License-Identifier: Apache-2.0
"""`ghesrace capture`, on a source that is made up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from ghesrace import backends, cli, packs
from ghesrace.events import Events
from ghesrace.host import facts
from ghesrace.host.facts import Facts
from tests.build.trace import Trace, bounce, plan


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
    labels = 'certainty="observed",mode="capture",pattern="stale"'
    assert f"ghesrace_findings_total{{{labels}}} {count}.0" in text
    assert 'ghesrace_window_verdict{mode="capture",verdict="race-observed"} 1.0' in text
    assert 'ghesrace_watching{mode="capture"} 0.0' in text


def test_capture_asks_for_the_textfiles_folder_first(host: None, tmp_path: Path) -> None:
    """If this fails, an hour is recorded before a typing error shows."""
    assert cli.main(["capture", "--textfile", str(tmp_path / "none")]) == 2


def test_a_folder_keeps_what_was_recorded_before(
    host: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second `systemctl start ghesrace-capture@60` would destroy the first one's evidence."""
    pids = iter((17, 18))
    monkeypatch.setattr("os.getpid", lambda: next(pids))
    monkeypatch.setattr("time.gmtime", lambda: (2026, 1, 1, 0, 0, 0, 3, 1, 0))
    for _ in range(2):
        assert cli.main(["capture", "--output", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "capture-20260101T000000Z-17.arrows",
        "capture-20260101T000000Z-18.arrows",
    ]


def test_a_pack_reaches_the_backend(
    host: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, bcc is asked for all the same; or a pack that is named is not used, and nobody
    says so."""
    seen: list[object] = []
    monkeypatch.setattr(packs, "given", lambda *given: given)
    monkeypatch.setattr(
        backends, "attach", lambda *_, pack, **__: seen.append(pack) or Live(bounce())
    )
    words = ["capture", "--check", "--pack", "/a.pack", "--pack-sha256", "00", "--pack-key", "/k"]
    assert cli.main(words) == 1
    assert seen == [(Path("/a.pack"), "00", Path("/k"))]
    assert cli.main([*words, "--backend", "ftrace"]) == 2
    assert "takes no program pack" in capsys.readouterr().err
    monkeypatch.undo()
    assert cli.main(["capture", "--pack", "/none", "--pack-sha256", "0" * 64]) == 2
    assert "can't read /none" in capsys.readouterr().err
    assert cli.main(["capture", "--pack-key", "/k"]) == 2
