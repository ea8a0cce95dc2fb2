# SPDX-License-Identifier: Apache-2.0
"""The files of an arm64 guest, out of packages that are made up."""

from __future__ import annotations

import lzma
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from lab.kernels import arm64

RELEASE = "6.1-arm64"


def test_boot_modules_stand_behind_what_they_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """insmod knows no dependencies: the guest would not see its file systems."""
    needs = {
        "virtio_pci": ["virtio_ring", "virtio_pci"],
        "9pnet_virtio": ["virtio_ring", "9pnet", "9pnet_virtio"],
        "9p": ["9pnet", "9p"],
        "overlay": ["overlay"],
    }

    def run(*command: str) -> str:
        names = needs[command[-1]]
        return "builtin virtio\n" + "".join(f"insmod /m/{name}.ko  \n" for name in names)

    monkeypatch.setattr(arm64, "run", run)
    found = [path.stem for path in arm64._boot_modules(tmp_path, RELEASE)]
    assert found == ["virtio_ring", "virtio_pci", "9pnet", "9pnet_virtio", "9p", "overlay"]


def test_modules_are_built_with_this_hosts_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The headers' own tools are arm64 programs, and their names are of another root."""
    headers = tmp_path / f"usr/src/linux-headers-{RELEASE}"
    headers.mkdir(parents=True)
    (headers / "Makefile").write_text("include /usr/src/linux-headers-6.1-common/Makefile\n")
    (headers / "vmlinux").touch()
    for name in ("scripts", "tools"):
        (headers / name).symlink_to(f"../../lib/linux-kbuild-6.1/{name}")
    asked: list[tuple[str, str, tuple[str, ...]]] = []
    unpacked: list[str] = []

    def fetch(suite: str, arch: str, packages: tuple[str, ...]) -> list[Path]:
        asked.append((suite, arch, packages))
        return [Path("linux-kbuild-6.1_1_amd64.deb"), Path("libc6_1_amd64.deb")]

    def unpack(debs: Iterable[Path], _: Path) -> None:
        unpacked.extend(deb.name for deb in debs)

    monkeypatch.setattr(arm64, "run", lambda *_: "amd64\n")
    monkeypatch.setattr(arm64, "fetch", fetch)
    monkeypatch.setattr(arm64, "unpack", unpack)
    arm64._make_kbuild(tmp_path, RELEASE, "bookworm")
    assert asked == [("bookworm", "amd64", ("linux-kbuild-6.1",))]
    assert unpacked == ["linux-kbuild-6.1_1_amd64.deb"]
    kbuild = tmp_path / "kbuild"
    assert (kbuild / "Makefile").read_text() == (
        "include $(dir $(lastword $(MAKEFILE_LIST)))../usr/src/linux-headers-6.1-common/Makefile\n"
    )
    for name in ("scripts", "tools"):
        assert str((kbuild / name).readlink()) == f"../native/usr/lib/linux-kbuild-6.1/{name}"
    assert not (kbuild / "vmlinux").exists()
    assert (headers / "vmlinux").exists()


@pytest.mark.skipif(not shutil.which("cpio"), reason="needs cpio (Debian: cpio)")
def test_the_initrd_has_all_that_its_script_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest would end in a kernel panic before it has a console to say why."""
    (tmp_path / "a.ko.xz").write_bytes(lzma.compress(b"module a"))
    (tmp_path / "b.ko").write_bytes(b"module b")
    (tmp_path / "busybox").write_text("busybox")
    modules = [tmp_path / "a.ko.xz", tmp_path / "b.ko"]
    monkeypatch.setattr(arm64, "_boot_modules", lambda *_: modules)
    arm64.make_initrd(tmp_path, RELEASE, tmp_path / "busybox")
    out = tmp_path / "out"
    out.mkdir()
    with (tmp_path / "initrd").open("rb") as archive:
        subprocess.run(["cpio", "-i", "--quiet"], stdin=archive, cwd=out, check=True)
    assert (out / "modules/order").read_text() == "a.ko\nb.ko\n"
    assert (out / "modules/a.ko").read_bytes() == b"module a"
    assert (out / "modules/b.ko").read_bytes() == b"module b"
    assert (out / "bin/busybox").exists()
    assert (out / "init").stat().st_mode & 0o111
    assert not (tmp_path / "initrd.d").exists()
