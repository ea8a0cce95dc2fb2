# SPDX-License-Identifier: Apache-2.0
"""Build ghes2015.ko outside the source tree, once for each kernel release and source state."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ghesrace.errors import HostError

SOURCE = Path(__file__).resolve().parent
CACHE = SOURCE.parent / ".cache" / "module"
NAME = "ghes2015.ko"

_TAIL_LINES = 15


def headers(release: str) -> Path:
    """Return the build folder of kernel *release*.

    Raises HostError if the headers are not installed.
    """
    path = Path("/lib/modules") / release / "build"
    if not (path / "Makefile").exists():
        raise HostError(
            f"no headers of kernel {release} in {path}", f"apt-get install linux-headers-{release}"
        )
    return path


def _sources() -> list[Path]:
    return sorted([*SOURCE.glob("*.c"), *SOURCE.glob("*.h"), SOURCE / "Makefile"])


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _make(folder: Path, kdir: Path, variables: tuple[str, ...]) -> None:
    made = subprocess.run(
        ["make", "-C", str(kdir), f"M={folder}", *variables, "modules"],
        capture_output=True,
        text=True,
    )
    if made.returncode or not (folder / NAME).exists():
        tail = "\n".join(
            f"  | {x}" for x in (made.stdout + made.stderr).splitlines()[-_TAIL_LINES:]
        )
        raise HostError(f"the control module does not build against {kdir}:\n{tail}")


def build(
    release: str | None = None,
    cache: Path = CACHE,
    *,
    kdir: Path | None = None,
    variables: tuple[str, ...] = (),
) -> Path:
    """Return the path of ghes2015.ko for *release* (default: the running kernel's).

    *kdir* is the kernel's build folder, by default that of the installed headers; *variables* are
    more of make's variables, as a cross-compiler needs.

    It is built once for each release and source state into *cache*, or into a new temporary
    folder if that cannot be written. A guest sees the host's files read-only, so build on the host
    first.

        build("6.1.0-9-amd64")
        build(release, kdir=tree, variables=("ARCH=arm64", "CROSS_COMPILE=aarch64-linux-gnu-"))

    Raises HostError if headers, make or a compiler are missing, or the build fails.
    """
    release = release or os.uname().release
    files = _sources()
    place = cache / release / _digest(files)
    if (place / NAME).exists():
        return place / NAME
    if not shutil.which("make"):
        raise HostError("make is not installed", "apt-get install build-essential")
    kdir = kdir or headers(release)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".build-", dir=place.parent))
    except OSError:
        place = Path(tempfile.mkdtemp(prefix="ghes2015-")) / release
        work = Path(tempfile.mkdtemp(prefix=".build-", dir=place.parent))
    try:
        for file in files:
            shutil.copy(file, work)
        _make(work, kdir, variables)
        place.mkdir(parents=True, exist_ok=True)
        # The rename is atomic, as somebody else may be building the same.
        (work / NAME).replace(place / NAME)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return place / NAME
