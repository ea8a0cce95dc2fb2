# SPDX-License-Identifier: Apache-2.0
"""Building the control module once per kernel and source, with a make that is made up."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ghesrace.errors import HostError
from lab.module import build as module
from lab.module.build import NAME, build

MAKE = """#!/bin/sh
for word in "$@"; do case $word in M=*) folder=${word#M=};; esac; done
echo "$@" >>"$LOG"
[ ! -e "$BROKEN" ] || { echo "storm.c:7: error: no such field" >&2; exit 2; }
cat "$folder"/*.c "$folder"/Makefile >"$folder/ghes2015.ko"
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What make was called with, a line each."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("ghes.c", "storm.c", "ghes2015.h", "Makefile"):
        (source / name).write_text(name)
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "make").write_text(MAKE)
    (tools / "make").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.setenv("BROKEN", str(tmp_path / "broken"))
    monkeypatch.setattr(module, "SOURCE", source)
    return tmp_path / "log"


def test_it_is_built_once_per_kernel_and_source(made: Path, tmp_path: Path) -> None:
    """A test would run last week's module, or each run wait for a compiler."""
    cache, kdir = tmp_path / "cache", tmp_path / "kdir"
    first = build("6.1", cache, kdir=kdir, variables=("ARCH=arm64",))
    assert build("6.1", cache, kdir=kdir) == first
    [line] = made.read_text().splitlines()
    assert line.startswith(f"-C {kdir} M=")
    assert line.endswith("ARCH=arm64 modules")
    assert build("6.12", cache, kdir=kdir) != first
    (module.SOURCE / "ghes2015.h").write_text("another")
    assert build("6.1", cache, kdir=kdir) != first
    assert len(made.read_text().splitlines()) == 3
    assert not list(cache.rglob(".build-*"))


def test_a_failure_tells_what_the_compiler_said(made: Path, tmp_path: Path) -> None:
    """Whoever changes the module would see an exit code only; or the next build be skipped."""
    cache, broken = tmp_path / "cache", tmp_path / "broken"
    broken.touch()
    with pytest.raises(HostError, match=r"storm\.c:7: error"):
        build("6.1", cache, kdir=tmp_path)
    assert not list(cache.rglob("*.ko"))
    broken.unlink()
    assert build("6.1", cache, kdir=tmp_path).name == NAME


def test_a_cache_that_can_not_be_written(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A guest, which sees the host's files read-only, could not build at all."""
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    (tmp_path / "file").touch()
    found = build("6.1", tmp_path / "file" / "cache", kdir=tmp_path)
    assert found.exists()
    assert found.is_relative_to(tmp_path)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package to install would have to be guessed."""
    with pytest.raises(HostError, match=r"no headers of kernel 0\.0-none") as caught:
        build("0.0-none", tmp_path)
    assert "linux-headers-0.0-none" in caught.value.hint
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(HostError, match="make is not installed"):
        build("0.0-none", tmp_path)
