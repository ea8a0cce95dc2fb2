# SPDX-License-Identifier: Apache-2.0
"""What apt says of Debian's kernels, and packages laid into a tree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ghesrace.errors import HostError
from lab.kernels import debian


def test_packages_land_behind_the_merged_folders(tmp_path: Path) -> None:
    """A package's ./lib would hide the C library of the tree that it is laid upon."""
    debian.unpack([], tmp_path)
    debian.unpack([], tmp_path)
    assert (tmp_path / "lib").readlink() == Path("usr/lib")
    assert (tmp_path / "lib").is_dir()


ANSWERS = {
    "madison linux-image-amd64": "linux-image-amd64 | 7.3-1 | http://m sid/main\n"
    "linux-image-amd64 | 6.1-2 | http://m sid/main\n",
    "show linux-image-amd64=7.3-1": "Depends: linux-base-amd64 (= 7.3-1), "
    "linux-image-7.3-amd64 (= 7.3-1), linux-modules-amd64\n",
    "show linux-image-7.3-amd64=7.3-1": "Depends: kmod, linux-binary-7.3-amd64 (= 7.3-1)\n",
    "show linux-image-amd64=6.1-2": "Depends: linux-image-6.1.0-9-amd64 (= 6.1-2)\n",
    "show linux-image-6.1.0-9-amd64=6.1-2": "Depends: kmod, linux-base\n",
}


def test_the_package_that_holds_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """If this fails, an empty package is fetched, or nothing if the mirror lost the newest."""
    monkeypatch.setattr(debian.Apt, "_prepare", lambda self: None)

    def answer(command: list[str], *_: Any, cwd: Path | None = None) -> str:
        if command[0] == "apt-cache":
            return ANSWERS[" ".join(command[1:])]
        name, _, version = command[-1].partition("=")
        if version == "7.3-1":
            raise HostError(f"{name}: 404")
        assert cwd
        (cwd / f"{name}_{version}_amd64.deb").touch()
        return ""

    monkeypatch.setattr(debian, "_out", answer)
    apt = debian.Apt(tmp_path, "sid", "amd64")
    assert list(apt._kernels()) == [
        "linux-binary-7.3-amd64=7.3-1",
        "linux-image-6.1.0-9-amd64=6.1-2",
    ]
    assert apt.kernel_image().name == "linux-image-6.1.0-9-amd64_6.1-2_amd64.deb"
