# SPDX-License-Identifier: Apache-2.0
"""Debian's kernels of any suite, with modules and headers, fetched once into build/kernels/."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ghesrace.errors import HostError
from lab.paths import REPO

from .debian import Apt, unpack

CACHE = REPO / "build" / "kernels"
# Since 7.0 linux-binary holds the image, linux-modules the modules, linux-base-RELEASE their lists.
_PARTS = ("image", "binary", "modules", "base", "headers", "kbuild")
_NAMES = tuple(f"linux-{part}-" for part in _PARTS)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel's tree (image in boot/, modules, headers), its release and its image."""

    tree: Path
    release: str

    @property
    def image(self) -> Path:
        """The image that QEMU loads."""
        return self.tree / "boot" / f"vmlinuz-{self.release}"

    @property
    def kbuild(self) -> Path:
        """Where modules for it are built on this host, where a board prepares that."""
        return self.tree / "kbuild"

    @property
    def initrd(self) -> Path:
        """The initrd, where a board makes one."""
        return self.tree / "initrd"


def kernel(
    suite: str, arch: str, finish: Callable[[Path, str], None] | None = None, cache: Path = CACHE
) -> Kernel:
    """The kernel of *suite* for *arch* ("amd64", "arm64"), fetched if it is not in *cache*.

    *finish* is given the tree and the release before it counts as made. Raises HostError.
    """

    def make(folder: Path) -> None:
        say(f"fetching the {arch} kernel of {suite}")
        debs = fetch(suite, arch, (f"linux-image-{arch}", f"linux-headers-{arch}"), cache)
        unpack((deb for deb in debs if deb.name.startswith(_NAMES)), folder)
        _place_image(folder)
        _relink(folder)
        release = _release(folder)
        run("depmod", "-b", str(folder), release)
        if finish:
            finish(folder, release)

    tree = made(_place(suite, arch, cache), make)
    return Kernel(tree, _release(tree))


def fetch(suite: str, arch: str, packages: Iterable[str], cache: Path = CACHE) -> list[Path]:
    """Download *packages* and what they depend on. Raises HostError."""
    apt = Apt(cache / "apt" / f"{suite}-{arch}", suite, arch)
    try:
        return apt.fetch(packages)
    except HostError as error:
        # A mirror may list security updates that it no longer has.
        say(f"{error.what.splitlines()[-1].strip(' |')}: taking the release's own")
        return apt.fetch(packages, security=False)


def known(suite: str, arch: str, cache: Path = CACHE) -> bool:
    """Whether `kernel` has fetched this one before."""
    return _place(suite, arch, cache).exists()


def _place(suite: str, arch: str, cache: Path) -> Path:
    return cache / f"{suite}-{arch}"


def _release(tree: Path) -> str:
    return next(tree.glob("boot/vmlinuz-*")).name.removeprefix("vmlinuz-")


def _place_image(tree: Path) -> None:
    """Since 7.0 packages hold the image beside its modules: put it where it was before."""
    for image in tree.glob("usr/lib/modules/*/vmlinuz"):
        (tree / "boot").mkdir(exist_ok=True)
        image.rename(tree / "boot" / f"vmlinuz-{image.parent.name}")


def _relink(tree: Path) -> None:
    """Turn the absolute links to headers to where they are here: a guest may have another root."""
    for folder in ("usr/lib/modules", "usr/src"):
        for link in (path for path in (tree / folder).glob("*/*") if path.is_symlink()):
            target = Path(os.readlink(link))
            if target.is_absolute() and (tree / target.relative_to("/")).exists():
                link.unlink()
                link.symlink_to(os.path.relpath(tree / target.relative_to("/"), link.parent))


def made(place: Path, make: Callable[[Path], None]) -> Path:
    """*place*, made by *make* in a folder beside it that takes its name when it is complete."""
    if not place.exists():
        part = place.with_name(place.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        make(part)
        part.rename(place)
    return place


def say(what: str) -> None:
    """Progress, for the terminal."""
    print(f"lab: {what}", file=sys.stderr, flush=True)


def run(*command: str) -> str:
    """What a command prints. Raises HostError if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise HostError(f"{' '.join(command[:3])} failed:\n{done.stderr.strip()}")
    return done.stdout
