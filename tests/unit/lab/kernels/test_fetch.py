# SPDX-License-Identifier: Apache-2.0
"""Kernels of Debian as trees on this host; nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from ghesrace.errors import HostError
from lab.kernels import fetch
from lab.kernels.fetch import Kernel


def test_the_image_is_where_it_was_before_7_0(tmp_path: Path) -> None:
    """A kernel whose package holds its image beside the modules could not be booted."""
    beside = tmp_path / "usr/lib/modules/7.0-amd64/vmlinuz"
    beside.parent.mkdir(parents=True)
    beside.write_text("image")
    fetch._place_image(tmp_path)
    made = Kernel(tmp_path, fetch._release(tmp_path))
    assert (made.release, made.image.read_text()) == ("7.0-amd64", "image")
    fetch._place_image(tmp_path)
    assert made.image.exists()


def test_links_stay_inside_the_tree(tmp_path: Path) -> None:
    """A guest, or this host, would build against headers of its own, of another kernel."""
    modules, headers = tmp_path / "usr/lib/modules/6.1", tmp_path / "usr/src/linux-headers-6.1"
    modules.mkdir(parents=True)
    headers.mkdir(parents=True)
    (headers / "Makefile").write_text("all:")
    (modules / "build").symlink_to("/usr/src/linux-headers-6.1")
    (modules / "elsewhere").symlink_to("/nowhere/at/all")
    (modules / "near").symlink_to("build")
    fetch._relink(tmp_path)
    assert not (modules / "build").readlink().is_absolute()
    assert (modules / "build").resolve() == headers.resolve()
    assert (modules / "elsewhere").readlink() == Path("/nowhere/at/all")
    assert (modules / "near").readlink() == Path("build")


def test_what_broke_off_is_made_anew(tmp_path: Path) -> None:
    """Half a kernel would be taken for one, for ever."""
    tries: list[list[str]] = []

    def make(folder: Path) -> None:
        tries.append([p.name for p in folder.iterdir()])
        (folder / "half").touch()
        if len(tries) == 1:
            raise HostError("404")

    with pytest.raises(HostError):
        fetch.made(tmp_path / "kernel", make)
    assert not (tmp_path / "kernel").exists()
    for _ in range(2):
        assert fetch.made(tmp_path / "kernel", make) == tmp_path / "kernel"
    assert tries == [[], []]
    assert [p.name for p in tmp_path.iterdir()] == ["kernel"]


def test_a_kernel_is_of_its_own_packages_and_counts_when_it_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The C library of another suite would lie in its tree, or a kernel without initrd count."""
    debs = [Path(f"linux-{part}-6.1_1.deb") for part in ("image", "headers", "doc")]
    unpacked: list[str] = []

    def unpack(found: Iterable[Path], tree: Path) -> None:
        unpacked.extend(deb.name for deb in found)
        (tree / "boot").mkdir()
        (tree / "boot/vmlinuz-6.1").touch()

    monkeypatch.setattr(fetch, "fetch", lambda *_: [*debs, Path("libc6_1.deb")])
    monkeypatch.setattr(fetch, "unpack", unpack)
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(fetch, "run", lambda *command: ran.append(command))
    finished: list[tuple[str, bool]] = []

    def finish(tree: Path, release: str) -> None:
        finished.append((release, fetch.known("bookworm", "amd64", tmp_path)))

    for _ in range(2):
        made = fetch.kernel("bookworm", "amd64", finish, tmp_path)
    assert (made.release, finished) == ("6.1", [("6.1", False)])
    assert unpacked == ["linux-image-6.1_1.deb", "linux-headers-6.1_1.deb"]
    assert [command[0] for command in ran] == ["depmod"]
    assert fetch.known("bookworm", "amd64", tmp_path)


def test_a_mirror_without_its_security_updates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel could not be had at all on the days between two updates."""
    asked: list[bool] = []

    class Apt:
        def __init__(self, *_: Any) -> None:
            pass

        def fetch(self, packages: Iterable[str], *, security: bool = True) -> list[Path]:
            asked.append(security)
            if security:
                raise HostError("apt failed:\n | 404 Not Found")
            return [Path(name) for name in packages]

    monkeypatch.setattr(fetch, "Apt", Apt)
    assert fetch.fetch("bookworm", "amd64", ["a"], tmp_path) == [Path("a")]
    assert asked == [True, False]


def test_a_command_that_fails_says_why() -> None:
    """An empty tree would be taken for a kernel."""
    assert fetch.run("echo", "hello") == "hello\n"
    with pytest.raises(HostError, match="no such module"):
        fetch.run("sh", "-c", "echo no such module >&2; exit 1")
