# SPDX-License-Identifier: Apache-2.0
"""`python -m lab.module.run`, without a module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ghesrace.errors import EXIT_OK, HostError, UsageError
from lab.module import device, run
from lab.module.device import TRUTH, Outcome, Parameters


class Module:
    """What the kernel would do, and what was asked of it."""

    def __init__(self) -> None:
        self.inside = False
        self.calls: list[object] = []
        self.records = np.zeros(2, TRUTH)


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Module:
    made = Module()
    monkeypatch.setattr(device, "loaded", lambda: made.inside)
    monkeypatch.setattr(device, "load", lambda _: made.calls.append("load"))
    monkeypatch.setattr(device, "unload", lambda: made.calls.append("unload"))
    monkeypatch.setattr(device, "start", made.calls.append)
    monkeypatch.setattr(device, "wait", lambda _: {"reads": 2})
    monkeypatch.setattr(device, "truth", lambda: made.records)
    monkeypatch.setattr(run, "build", lambda *_: Path("ghes2015.ko"))
    monkeypatch.setattr(run.os, "geteuid", lambda: 0)
    return made


def test_options_are_the_parameters(module: Module) -> None:
    """A run by hand would be another one than the test's of the same words."""
    assert run._parameters(run._parser().parse_args([])) == Parameters()
    said = ["--fix", "flush-on-map", "--rounds", "9", "--walker", "0", "--same-frame", "1"]
    made = run._parameters(run._parser().parse_args([*said, "--turns", "free", "--nmi", "2"]))
    assert made == Parameters(
        fix="flush-on-map", rounds=9, walker=False, same_frame=True, turns="free", nmi=2
    )


def test_the_module_goes_as_it_came(module: Module) -> None:
    """A kernel would keep the race, or lose a module that somebody else loaded."""
    with pytest.raises(ValueError, match="in the midst"), run.inserted():
        raise ValueError("in the midst")
    assert module.calls == ["load", "unload"]
    module.calls.clear()
    module.inside = True
    with run.inserted():
        pass
    assert module.calls == []


def test_it_needs_root(module: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """insmod would be tried, and its refusal be all that is said."""
    monkeypatch.setattr(run.os, "geteuid", lambda: 1000)
    with pytest.raises(HostError, match="needs root"), run.inserted():
        pass
    assert module.calls == []


def test_the_outcome_names_its_parameters_and_is_kept(
    module: Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody would know what a kept truth is the truth of."""
    assert run.main(["--rounds", "5", "--out", str(tmp_path / "new")]) == EXIT_OK
    told = json.loads(capsys.readouterr().out)
    assert (told["reads"], told["parameters"]["rounds"]) == (2, 5)
    assert module.calls == ["load", Parameters(rounds=5), "unload"]
    assert json.loads((tmp_path / "new" / run.SUMMARY_FILE).read_text()) == told
    assert np.array_equal(np.load(tmp_path / "new" / run.TRUTH_FILE), module.records)


def test_time_grows_with_the_rounds(module: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long run would be stopped in its midst, or a hanging one be waited for."""
    waited: list[float] = []

    def wait(timeout_s: float) -> dict[str, Any]:
        waited.append(timeout_s)
        return {}

    monkeypatch.setattr(device, "wait", wait)
    outcomes = [run.run(Parameters(rounds=100)), run.run(Parameters(rounds=1000))]
    outcomes.append(run.run(Parameters(rounds=1000), timeout_s=3))
    assert all(isinstance(outcome, Outcome) for outcome in outcomes)
    assert waited == [60 + 50, 60 + 500, 3]


def test_a_mistake_ends_in_a_sentence(
    module: Module, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rejected parameter would be a traceback."""

    def refuse(_: Parameters) -> None:
        raise UsageError("the control module rejects it", "dmesg says why")

    monkeypatch.setattr(device, "start", refuse)
    assert run.main(["--rounds", "0"]) == UsageError("").exit_code
    assert "control module: the control module rejects it" in capsys.readouterr().err
    assert module.calls == ["load", "unload"]
