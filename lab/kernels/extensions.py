# SPDX-License-Identifier: Apache-2.0
"""The compiled parts for another architecture or another Debian's Python, made on this host.

python -m lab.kernels.extensions [FOLDER [ARCH SUITE]]: into FOLDER, which has the package, as
`make deb-arm64` wants it; else beside their sources, where guests look. Without ARCH they are for
the lab's arm64 guests.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ghesrace import compiled
from ghesrace.errors import HostError
from lab.paths import REPO

from .arm64 import CACHE, USERLAND
from .debian import Apt, unpack
from .fetch import made, say

PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}  # each suite's Python
_TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}


@dataclass(frozen=True, slots=True)
class Target:
    """This is what the parts are made for, in Debian's words.

    >>> Target("amd64", "trixie").suffix
    '.cpython-313-x86_64-linux-gnu.so'
    """

    arch: str = "arm64"
    suite: str = USERLAND

    @property
    def python(self) -> str:
        """Return the Python of the suite."""
        return PYTHONS[self.suite]

    @property
    def triplet(self) -> str:
        """Return what Debian's compilers for this architecture are called by."""
        return _TRIPLETS[self.arch]

    @property
    def suffix(self) -> str:
        """Return how the file name of an extension ends."""
        return f".cpython-{self.python.replace('.', '')}-{self.triplet}.so"

    @property
    def data(self) -> str:
        """Return the module that says what Python was built with; it is Debian's name of it."""
        return f"_sysconfigdata__{self.triplet}"


ARM64 = Target()


def headers(target: Target, cache: Path = CACHE) -> Path:
    """The tree with the Python headers of *target*, fetched once into *cache*. Raises HostError."""
    place = "headers" if target == ARM64 else f"headers-{target.suite}-{target.arch}"

    def fetch(folder: Path) -> None:
        say(f"fetching the {target.arch} headers of Python of {target.suite}")
        apt = Apt(cache / "apt" / place, target.suite, target.arch)
        parts = ("dev", "minimal", "stdlib")
        unpack([apt.one(f"libpython{target.python}-{part}") for part in parts], folder)

    return made(cache / place, fetch)


def environment(tree: Path, folder: Path, target: Target = ARM64) -> dict[str, str]:
    """What setup.py has to see to build for *target*; *folder* is for what only Python may find."""
    shutil.copy(tree / f"usr/lib/python{target.python}" / f"{target.data}.py", folder)
    include = tree / "usr/include"
    return {
        **os.environ,
        "_PYTHON_SYSCONFIGDATA_NAME": target.data,
        "_PYTHON_HOST_PLATFORM": f"linux-{target.triplet.partition('-')[0]}",
        "PYTHONPATH": str(folder),
        "CC": f"{target.triplet}-gcc",
        "LDSHARED": f"{target.triplet}-gcc -shared",
        "CFLAGS": f"-I{include} -I{include}/python{target.python}",
        "GHESRACE_COMPILE": "always",
    }


def build(into: Path | None = None, cache: Path = CACHE, target: Target = ARM64) -> list[Path]:
    """Build them into the package in *into*, or beside their sources; return them.

    Raises HostError where the compiler (for arm64, gcc-aarch64-linux-gnu) or Cython is missing.
    """
    root = into or REPO / "tracer"
    sources = [compiled.source_of(name, root) for name in compiled.MODULES]
    paths = [source.with_suffix(target.suffix) for source in sources]

    def fresh(source: Path, made: Path) -> bool:
        return made.exists() and compiled.carried(made) == compiled.digest(source)

    if all(map(fresh, sources, paths)):
        return paths
    where = ["--inplace"] if into is None else ["--build-lib", str(into.resolve())]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "setup.py", "-q", "build_ext", *where],
            env=environment(headers(target, cache), Path(folder), target),
            cwd=REPO,
            capture_output=True,
            text=True,
        )
    if done.returncode or not all(map(fresh, sources, paths)):
        raise HostError(
            f"the compiled parts can't be built for {target.arch}: {done.stderr.strip()[-1000:]}",
            "make arm64-packages test-venv",
        )
    return paths


if __name__ == "__main__":
    wanted = Target(*sys.argv[2:4]) if len(sys.argv) > 3 else ARM64
    for path in build(Path(sys.argv[1]) if len(sys.argv) > 1 else None, target=wanted):
        print(path)
