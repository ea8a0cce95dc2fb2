# SPDX-License-Identifier: Apache-2.0
"""`python -m lab patched`: what it takes, and what it exits with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ghesrace.errors import HostError, UsageError
from lab import __main__ as main
from lab.patched import command
from lab.patched.build import Built, Recipe
from lab.patched.verdict import Judged, Recording
from lab.patched.workshop import Workshop


@pytest.fixture
def linux(tmp_path: Path) -> Path:
    """A git work tree that looks like Linux's."""
    tree = tmp_path / "linux"
    tree.mkdir()
    (tree / "Kconfig").write_text("one\n")
    for words in (("init", "-q"), ("add", "-A")):
        subprocess.run(["git", "-C", str(tree), *words], check=True)
    return tree


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Recipe]]:
    """What would have been built: the text of Kconfig, and the recipe. All of it is clean."""
    seen: list[tuple[str, Recipe]] = []

    def build(cache: Path, workshop: Workshop, number: str, wanted: Recipe) -> Built:
        seen.append(((workshop.tree / "Kconfig").read_text(), wanted))
        return Built(number, tmp_path, "6.1.0-lab", refused=["CONFIG_FPROBE=y"])

    monkeypatch.setattr(command, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(command.make, "__defaults__", (None, tmp_path / "cache"))
    monkeypatch.setattr(command, "build", build)
    monkeypatch.setattr(command, "key", lambda number, wanted: number)
    clean = [Recording("bpf", "calm", "clean", 0)]
    monkeypatch.setattr(command, "judge", lambda *_: Judged(clean))
    return seen


def patch(tmp_path: Path, old: str = "one") -> Path:
    path = tmp_path / "fix.patch"
    path.write_text(f"--- a/Kconfig\n+++ b/Kconfig\n@@ -1 +1 @@\n-{old}\n+two\n")
    return path


def test_a_patch_is_built_and_judged(
    tmp_path: Path,
    linux: Path,
    asked: list[tuple[str, Recipe]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """If this fails, the kernel without the patch is judged."""
    fragment = tmp_path / "more.config"
    fragment.write_text("CONFIG_MORE=y\n")
    share = tmp_path / "share"
    line = ["patched", "--source", str(linux), "--config", str(fragment), "--share", str(share)]
    assert main.main([*line, str(patch(tmp_path))]) == 0
    ((text, wanted),) = asked
    assert text == "two\n"
    assert wanted.configuration().endswith("CONFIG_MORE=y\n")
    out = capsys.readouterr()
    assert out.out.splitlines()[-1] == "verdict: clean"
    assert "does not take CONFIG_FPROBE=y" in out.err
    assert (linux / "Kconfig").read_text() == "one\n"


@pytest.mark.parametrize(
    ("judged", "code"),
    [
        ([Recording("bpf", "calm", "race-observed", 1)], 1),
        ([Recording("bpf", "calm", "inconclusive", 3)], 3),
        ([], 3),
    ],
)
def test_the_exit_code_is_that_of_check(
    linux: Path,
    asked: list[tuple[str, Recipe]],
    monkeypatch: pytest.MonkeyPatch,
    judged: list[Recording],
    code: int,
) -> None:
    """If this fails, a gate lets a race pass."""
    monkeypatch.setattr(command, "judge", lambda *_: Judged(judged))
    assert main.main(["patched", "--source", str(linux)]) == code
    assert len(asked) == 1


@pytest.mark.usefixtures("asked")
def test_a_mistake_is_told_and_never_passes(
    tmp_path: Path, linux: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a patch that does not fit lets a merge pass, or shows a traceback."""
    source = ["patched", "--source", str(linux)]
    for words, why in (
        ([*source, str(patch(tmp_path, "zero"))], "fix.patch does not fit the source"),
        ([*source, "missing.patch"], "there is no patch missing.patch"),
        ([*source, "--config", "missing.config"], "there is no configuration"),
        ([*source, "--part", "0"], "more than 0"),
        (["patched", "--source", "../missing"], "there is no ../missing"),
    ):
        assert main.main(words) == 2
        assert why in capsys.readouterr().err


def test_a_build_that_fails_is_inconclusive(
    linux: Path, asked: list[tuple[str, Recipe]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a kernel that does not compile looks like a race, or like none."""

    def build(*_: object) -> Built:
        raise HostError("the kernel does not build")

    monkeypatch.setattr(command, "build", build)
    assert main.main(["patched", "--source", str(linux)]) == 3
    assert asked == []


def test_a_source_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, each run downloads 140 MB, or builds another kernel than the last one."""
    place = tmp_path / "sources" / "bookworm"
    place.mkdir(parents=True)
    (place / "linux-source-6.1_1_all.deb").touch()
    assert command.debian_source("bookworm", tmp_path).name == "linux-source-6.1_1_all.deb"

    class Apt:
        def __init__(self, *words: object) -> None:
            assert words[1:] == ("trixie", "amd64")

        def kernel_source(self) -> Path:
            path = tmp_path / "linux-source-6.12_1_all.deb"
            path.touch()
            return path

    monkeypatch.setattr(command, "Apt", Apt)
    for _ in range(2):
        fetched = command.debian_source("trixie", tmp_path)
        assert fetched == tmp_path / "sources/trixie/linux-source-6.12_1_all.deb"
        monkeypatch.delattr(Apt, "kernel_source", raising=False)
    with pytest.raises(UsageError, match="name a linux-source"):
        command.source("no/such.deb")
