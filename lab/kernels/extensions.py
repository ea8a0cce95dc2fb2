# SPDX-License-Identifier: Apache-2.0
"""The compiled parts for arm64, made on this host with Debian's cross compiler.

python -m lab.kernels.extensions [FOLDER]: into FOLDER, which has the package, as `make deb` wants
it; else beside their sources, where guests look.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from ghesrace import compiled
from ghesrace.errors import HostError
from lab.paths import REPO

from .arm64 import CACHE, USERLAND
from .debian import Apt, unpack
from .fetch import made, say

SUFFIX = ".cpython-311-aarch64-linux-gnu.so"
_DATA = "_sysconfigdata__aarch64-linux-gnu"  # what Python was built with; Debian's name of it
_PACKAGES = ("libpython3.11-dev", "libpython3.11-minimal", "libpython3.11-stdlib")


def headers(cache: Path = CACHE) -> Path:
    """The tree with arm64's Python headers, fetched if it is not in *cache*. Raises HostError."""

    def fetch(folder: Path) -> None:
        say(f"fetching the arm64 headers of Python of {USERLAND}")
        apt = Apt(cache / "apt" / "headers", USERLAND)
        unpack([apt.one(package) for package in _PACKAGES], folder)

    return made(cache / "headers", fetch)


def environment(tree: Path, folder: Path) -> dict[str, str]:
    """What setup.py has to see to build for arm64; *folder* is for what only Python may find."""
    shutil.copy(tree / "usr/lib/python3.11" / f"{_DATA}.py", folder)
    include = tree / "usr/include"
    return {
        **os.environ,
        "_PYTHON_SYSCONFIGDATA_NAME": _DATA,
        "_PYTHON_HOST_PLATFORM": "linux-aarch64",
        "PYTHONPATH": str(folder),
        "CC": "aarch64-linux-gnu-gcc",
        "LDSHARED": "aarch64-linux-gnu-gcc -shared",
        "CFLAGS": f"-I{include} -I{include}/python3.11",
        "GHESRACE_COMPILE": "always",
    }


def build(into: Path | None = None, cache: Path = CACHE) -> list[Path]:
    """Build them into the package in *into*, or beside their sources; return them.

    Raises HostError where the cross compiler (gcc-aarch64-linux-gnu) or Cython is missing.
    """
    root = into or REPO / "tracer"
    paths = [compiled.source_of(name, root).with_suffix(SUFFIX) for name in compiled.MODULES]
    if all(path.exists() and _fresh(path) for path in paths):
        return paths
    where = ["--inplace"] if into is None else ["--build-lib", str(into.resolve())]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "setup.py", "-q", "build_ext", *where],
            env=environment(headers(cache), Path(folder)),
            cwd=REPO,
            capture_output=True,
            text=True,
        )
    if done.returncode or not all(map(_fresh, paths)):
        raise HostError(
            f"the compiled parts can't be built for arm64: {done.stderr.strip()[-1000:]}",
            "make arm64-packages test-venv",
        )
    return paths


def _fresh(extension: Path) -> bool:
    source = extension.with_name(extension.name.removesuffix(SUFFIX) + ".py")
    return compiled.carried(extension) == compiled.digest(source)


if __name__ == "__main__":
    for path in build(Path(sys.argv[1]) if len(sys.argv) > 1 else None):
        print(path)
