# SPDX-License-Identifier: Apache-2.0
"""Fetch Debian's kernel of a suite, its modules and headers, once each into build/kernels/."""

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
# Since Linux 7.0 Debian's package linux-binary holds the image, linux-modules the modules, and
# linux-base-RELEASE the lists of modules.
_PARTS = ("image", "binary", "modules", "base", "headers", "kbuild")
_NAMES = tuple(f"linux-{part}-" for part in _PARTS)


@dataclass(frozen=True, slots=True)
class Kernel:
    """A fetched kernel has a tree (image in boot/, modules, headers) and a release.

    >>> Kernel(Path("build/kernels/trixie-amd64"), "6.12.1-amd64").image
    PosixPath('build/kernels/trixie-amd64/boot/vmlinuz-6.12.1-amd64')
    """

    tree: Path
    release: str

    @property
    def image(self) -> Path:
        """Return the path of the image that QEMU loads."""
        return self.tree / "boot" / f"vmlinuz-{self.release}"

    @property
    def kbuild(self) -> Path:
        """Return the folder to build modules in; it exists only if `finish` made it (arm64)."""
        return self.tree / "kbuild"

    @property
    def initrd(self) -> Path:
        """Return the path of the initrd; it exists only if `finish` made one (arm64)."""
        return self.tree / "initrd"


def kernel(
    suite: str,
    arch: str,
    finish: Callable[[Path, str], None] | None = None,
    cache: Path = CACHE,
    flavour: str = "",
) -> Kernel:
    """Return the kernel of *suite* for *arch* ("amd64", "arm64"); fetch it if *cache* lacks it.

    *flavour* is Debian's word for another configuration ("rt", "cloud"). *finish* is called with
    the tree and the release, and may add to the tree before it counts as made. Raises HostError if
    a package can't be fetched or unpacked.

        Pc(kernel("trixie", "amd64").image)  # a board that boots Debian 13's kernel
    """

    def make(folder: Path) -> None:
        say(f"fetching the {kind} kernel of {suite}")
        debs = fetch(suite, arch, (f"linux-image-{kind}", f"linux-headers-{kind}"), cache)
        unpack((deb for deb in debs if deb.name.startswith(_NAMES)), folder)
        _place_image(folder)
        _relink(folder)
        release = _release(folder)
        run("depmod", "-b", str(folder), release)
        if finish:
            finish(folder, release)

    kind = f"{flavour}-{arch}" if flavour else arch
    tree = made(_place(suite, kind, cache), make)
    return Kernel(tree, _release(tree))


def fetch(suite: str, arch: str, packages: Iterable[str], cache: Path = CACHE) -> list[Path]:
    """Download *packages* and what they depend on; return the paths of the .deb files.

    Raises HostError if apt fails both with and without the security updates.
    """
    apt = Apt(cache / "apt" / f"{suite}-{arch}", suite, arch)
    try:
        return apt.fetch(packages)
    except HostError as error:
        # A mirror may list security updates that it no longer has.
        say(f"{error.what.splitlines()[-1].strip(' |')}: taking the release's own")
        return apt.fetch(packages, security=False)


def known(suite: str, arch: str, cache: Path = CACHE) -> bool:
    """Say whether `kernel` has fetched this one before."""
    return _place(suite, arch, cache).exists()


def _place(suite: str, arch: str, cache: Path) -> Path:
    return cache / f"{suite}-{arch}"


def _release(tree: Path) -> str:
    return next(tree.glob("boot/vmlinuz-*")).name.removeprefix("vmlinuz-")


def _place_image(tree: Path) -> None:
    """Move the image to boot/, where Debian's packages had it before Linux 7.0.

    Since then it lies beside the modules.
    """
    for image in tree.glob("usr/lib/modules/*/vmlinuz"):
        (tree / "boot").mkdir(exist_ok=True)
        image.rename(tree / "boot" / f"vmlinuz-{image.parent.name}")


def _relink(tree: Path) -> None:
    """Make the absolute links to headers relative, as the tree may not be the root of a guest."""
    for folder in ("usr/lib/modules", "usr/src"):
        for link in (path for path in (tree / folder).glob("*/*") if path.is_symlink()):
            target = Path(os.readlink(link))
            if target.is_absolute() and (tree / target.relative_to("/")).exists():
                link.unlink()
                link.symlink_to(os.path.relpath(tree / target.relative_to("/"), link.parent))


def made(place: Path, make: Callable[[Path], None]) -> Path:
    """Return *place*; if there is none, let *make* fill a folder beside it and rename that.

    So what is at *place* is always complete.
    """
    if not place.exists():
        part = place.with_name(place.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        make(part)
        part.rename(place)
    return place


def say(what: str) -> None:
    """Print a line of progress to stderr."""
    print(f"lab: {what}", file=sys.stderr, flush=True)


def run(*command: str) -> str:
    """Run *command* and return what it prints. Raises HostError if it fails.

    >>> run("echo", "vmlinuz")
    'vmlinuz\\n'
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise HostError(f"{' '.join(command[:3])} failed:\n{done.stderr.strip()}")
    return done.stdout
