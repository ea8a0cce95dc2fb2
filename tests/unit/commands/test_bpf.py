# SPDX-License-Identifier: Apache-2.0
"""`ghesrace bpf`: build, facts, show."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from ghesrace import cli, packs
from ghesrace.host import taken
from ghesrace.sources.bpf.pack import Pack
from tests.build.plans import bpf_facts_of
from tests.unit.sources.bpf.test_pack import PACK


def bpf(*arguments: object) -> int:
    return cli.main(["bpf", *map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("build",), "where `bpf build` writes is not said"),
        (("facts",), "where `bpf facts` writes is not said"),
        (("build", "x", "-o", "y"), "takes no pack: x"),
        (("show",), "prints one pack"),
        (("show", "x", "-o", "y"), "prints one pack"),
        (("show", "x", "--summary"), "are for `bpf build`"),
        (("facts", "-o", "y", "--for", "z"), "are for `bpf build`"),
        (("show", "/nowhere"), "can't read /nowhere: No such file"),
        (("build", "--for", "/nowhere", "-o", "/y"), "/nowhere holds no facts"),
    ],
)
def test_bad_usage(
    arguments: tuple[object, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, something else is done than was asked, or a file is overwritten."""
    assert bpf(*arguments) == 2
    assert words in capsys.readouterr().err


def test_what_is_in_a_pack_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, nobody can tell what a pack would load, or configure its SHA-256."""
    (tmp_path / "a.pack").write_text(PACK.to_json())
    assert bpf("show", tmp_path / "a.pack") == 0
    said = capsys.readouterr().out
    assert f"SHA-256 {hashlib.sha256(PACK.to_json().encode()).hexdigest()}\n" in said
    assert "made by bcc 0.26.0" in said
    assert f"x86_64 Linux 6.1.0-1, BTF {'b' * 64}: events; maps: cpus, records" in said
    assert "p0   tracing        fentry on ghes_copy, 4 instructions" in said
    (tmp_path / "a.pack").write_text("{}")
    assert bpf("show", tmp_path / "a.pack") == 2


def test_a_pack_is_written_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, the SHA-256 that is printed is not the file's; or the kernels that were named
    are not those that the pack is for."""
    seen: list[tuple[list[str], bool]] = []

    def build(roots: list[Path], *, summary: bool) -> Pack:
        names = [(root / "proc/sys/kernel/osrelease").read_text().strip() for root in roots]
        seen.append((names, summary))
        return PACK

    monkeypatch.setattr(packs, "pack_of", build)
    facts = bpf_facts_of(tmp_path / "host")
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(taken.take(facts, tmp_path / "host"))
    out = tmp_path / "fleet.pack"
    assert bpf("build", "--for", tmp_path / "a", tmp_path / "b", "--summary", "-o", out) == 0
    assert seen == [(["6.1.0-test", "6.1.0-test"], True)]
    assert hashlib.sha256(out.read_bytes()).hexdigest() in capsys.readouterr().err
    assert Pack.read(out.read_bytes(), "x") == PACK
    assert bpf("build", "--for", tmp_path / "a", "-o", tmp_path / "a") == 2
    assert bpf("build", "--for", tmp_path / "a", "-o", tmp_path / "none/x") == 2


@pytest.mark.slow
def test_facts_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, no facts of a host can be had, or what lacks in them is not said."""
    assert bpf("facts", "-o", tmp_path / "facts") == 0
    assert "not taken: " in capsys.readouterr().err  # This host has no HEST.
    with taken.planted(tmp_path / "facts") as root:
        assert (root / "proc/sys/kernel/osrelease").exists()
    assert bpf("facts", "-o", tmp_path / "none/x") == 2
