# SPDX-License-Identifier: Apache-2.0
"""`make kernel-mutants`: what is known is not measured again, and a false clean is never quiet."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ghesrace.errors import HostError
from lab.kernels.fetch import Kernel
from lab.patched import mutants
from lab.patched.build import Built, Recipe
from lab.patched.expected import expected
from lab.patched.verdict import Judged, Recording

pytestmark = pytest.mark.slow

Run = Callable[..., int]


@pytest.fixture
def judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The mutants that were judged, in turn. Each is called what is expected of it."""
    asked: list[str] = []

    def make(_: Path, patches: tuple[Path, ...], arch: str, __: Recipe) -> Built:
        return Built(f"{arch}-{'-'.join(p.name for p in patches)}", tmp_path, "6.1.0-lab", 60.0)

    def kernel(suite: str, arch: str, *, flavour: str) -> Kernel:
        image = tmp_path / "boot" / f"vmlinuz-{flavour}"
        image.parent.mkdir(exist_ok=True)
        image.touch()
        return Kernel(tmp_path, flavour)

    def judge(
        built: Built, arch: str, share: Path, part: float, backends: Sequence[str], removed: str
    ) -> Judged:
        one = next(one for one in expected() if share.name == one.name)
        assert removed == one.removed
        asked.append(one.name)
        found = [[one.finding, "observed", "why"]] if one.finding else []
        recordings = [
            Recording(name, "calm", one.expected, 0, findings=found, capture="calm.arrows")
            for name in backends
        ]
        return Judged(recordings, 1.0)

    monkeypatch.setattr(mutants, "CACHE", tmp_path)
    monkeypatch.setattr(mutants, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(mutants, "PAGE", tmp_path / "mutants.md")
    monkeypatch.setattr(mutants, "debian_source", lambda suite: tmp_path / f"{suite}.deb")
    monkeypatch.setattr(mutants, "make", make)
    monkeypatch.setattr(mutants, "kernel", kernel)
    monkeypatch.setattr(mutants, "judge", judge)
    return asked


def test_what_is_known_is_not_judged_again(tmp_path: Path, judged: list[str]) -> None:
    """If this fails, a run of hours that was ended starts at the beginning."""
    assert mutants.main(["--arch", "amd64"]) == 1  # the others were not run
    assert mutants.main([]) == 0
    assert sorted(judged) == sorted(one.name for one in expected())
    text = (tmp_path / "mutants.md").read_text()
    assert "**no**" not in text
    assert text.count("| yes | stale (observed) |") > 5
    mutants.main(["--only", "x86-no-flush", "--again"])
    assert judged[-1] == "x86-no-flush"
    assert len(judged) == len(expected()) + 1


def test_a_backend_that_is_missing_is_added(tmp_path: Path, judged: list[str]) -> None:
    """If this fails, a mutant that was tried with one backend is never tried with the other, or
    what the first one said is forgotten."""
    only = ["--only", "x86-no-flush"]
    mutants.main([*only, "--backend", "ftrace"])
    mutants.main([*only, "--backend", "ftrace"])
    assert judged == ["x86-no-flush"]
    mutants.main(only)
    assert judged == ["x86-no-flush"] * 2
    kept = json.loads((tmp_path / "results/x86-no-flush.json").read_text())
    assert [one["backend"] for one in kept["judged"]["recordings"]] == ["ftrace", "bpf"]


def test_what_was_not_recorded_is_tried_again(
    tmp_path: Path, judged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a busy host's time-out stays on the page for ever."""
    only = ["--only", "x86-no-flush"]
    good = mutants.judge
    slow = Judged([Recording("bpf", "calm", reasons=["not recorded"])], 9.0, "a time-out")
    monkeypatch.setattr(mutants, "judge", lambda *_: slow)
    mutants.main([*only, "--backend", "bpf"])
    monkeypatch.setattr(mutants, "judge", good)
    mutants.main([*only, "--backend", "bpf"])
    assert judged == ["x86-no-flush"]
    kept = json.loads((tmp_path / "results/x86-no-flush.json").read_text())["judged"]
    assert (kept["failure"], kept["seconds"], len(kept["recordings"])) == ("", 1.0, 1)


def test_another_kernel_is_judged_anew(
    tmp_path: Path, judged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, the page tells of a patch as it was before it was edited."""
    only = ["--only", "x86-no-flush"]
    mutants.main(only)
    monkeypatch.setattr(
        mutants, "make", lambda *_: Built("amd64-other", tmp_path, "6.1.0-lab", 60.0)
    )
    mutants.main(only)
    assert judged == ["x86-no-flush"] * 2


def test_the_page_is_written_of_what_is_known(tmp_path: Path, judged: list[str]) -> None:
    """If this fails, writing the page needs a day, or forgets what was measured."""
    mutants.main(["--only", "x86-no-flush"])
    mutants.main(["--page"])
    assert judged == ["x86-no-flush"]
    text = (tmp_path / "mutants.md").read_text()
    assert "| x86-no-flush | amd64 | no | race-observed | race-observed | yes |" in text
    assert "| x86-unpatched | amd64 | yes | clean | not measured: not run | - |" in text


@pytest.mark.usefixtures("judged")
def test_a_mutant_that_does_not_build_is_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, one build that fails ends a run of hours, or is passed over in silence."""

    def make(*_: object, **__: object) -> Built:
        raise HostError("the kernel does not build:\n  | more")

    monkeypatch.setattr(mutants, "make", make)
    monkeypatch.setattr(mutants, "kernel", make)
    assert mutants.main([]) == 1
    text = (tmp_path / "mutants.md").read_text()
    assert text.count("not measured: the kernel does not build:") == len(expected())


@pytest.mark.usefixtures("judged")
def test_an_interrupt_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, Ctrl-C shows a traceback, or writes a page of what was not measured."""

    def judge(*_: object) -> Judged:
        raise KeyboardInterrupt

    monkeypatch.setattr(mutants, "judge", judge)
    assert mutants.main([]) == 130
    assert not (tmp_path / "mutants.md").exists()


@pytest.mark.usefixtures("judged")
def test_a_false_clean_is_shouted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, the worst bug there is ends in a table that nobody reads."""
    clean = Judged([Recording("bpf", "calm", "clean", 0)])
    monkeypatch.setattr(mutants, "judge", lambda *_: clean)
    assert mutants.main(["--only", "x86-no-flush"]) == 1
    assert "x86-no-flush is unsafe and was called clean" in capsys.readouterr().err


def test_no_two_mutants_are_one_kernel() -> None:
    """If this fails, a row of the page says nothing that another one does not."""
    kernels = [
        (one.arch, one.suite, one.patches, one.configs, one.flavour, one.removed)
        for one in expected()
    ]
    assert len(set(kernels)) == len(kernels)
