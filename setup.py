# SPDX-License-Identifier: Apache-2.0
"""Adds the compiled parts to what setup.cfg says. They are listed in tracer/ghesrace/compiled.py.

GHESRACE_COMPILE: "auto" (default) compiles where a C compiler and Python's headers are, "always"
fails where they are not, "never" installs the source only. GHESRACE_SANITIZE=1 builds for
`make sanitize`.
"""

from __future__ import annotations

import os
import runpy
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
PARTS = runpy.run_path(str(ROOT / "tracer/ghesrace/compiled.py"), run_name="parts")
WANTED = os.environ.get("GHESRACE_COMPILE", "auto")
SANITIZE = os.environ.get("GHESRACE_SANITIZE", "") not in ("", "0")
CORES = len(os.sched_getaffinity(0))
# A module's C types are its annotations, and its loops are over C arrays; or they are in the .pxd
# beside it, and annotations are for mypy only. Those keep to Python's lists and their checks.
ANNOTATED = {
    "language_level": 3,
    "boundscheck": SANITIZE,
    "wraparound": False,
    "initializedcheck": SANITIZE,
    "cdivision": not SANITIZE,
    "overflowcheck": SANITIZE,
    "auto_pickle": False,
}
DECLARED = {
    "language_level": 3,
    "annotation_typing": False,
    "infer_types": True,
    "overflowcheck": SANITIZE,
    "auto_pickle": False,
}
FLAGS = ["-O2", "-g0", "-Wno-unused-function", "-Wno-array-bounds"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-wrapv"]
STAMP = '__attribute__((used)) static const char ghesrace_made_from[] = "{text}";\n'


def can_compile() -> bool:
    """Whether a file that includes Python.h compiles."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    flags = shlex.split(f"{os.environ.get('CPPFLAGS', '')} {os.environ.get('CFLAGS', '')}")
    paths = {sysconfig.get_path("include"), sysconfig.get_path("platinclude")}
    command = [*compiler, *flags, *(f"-I{path}" for path in paths)]
    try:
        done = subprocess.run(
            [*command, "-fsyntax-only", "-x", "c", "-"],
            input=b"#include <Python.h>\n",
            capture_output=True,
        )
    except OSError:
        return False
    return done.returncode == 0


def extensions() -> list[Extension]:
    """What to build: nothing, said in one line, where nothing can be."""
    if WANTED == "never":
        return []
    if not can_compile():
        if WANTED == "always":
            sys.exit("ghesrace: no C compiler, or no headers of Python: install gcc, python3-dev")
        print(
            "ghesrace: no C compiler or no headers of Python: installed uncompiled, which is slow"
        )
        return []
    flags = FLAGS + (SANITIZERS if SANITIZE else [])
    return [
        Extension(
            name,
            [str(PARTS["source_of"](name, Path("tracer")))],
            extra_compile_args=flags,
            extra_link_args=SANITIZERS if SANITIZE else [],
        )
        for name in PARTS["MODULES"]
    ]


class Build(build_ext):
    """Cython first; each extension carries the hash of its source. None is made twice."""

    def finalize_options(self) -> None:
        """Leave out the extensions that are there already, made from their present source."""
        super().finalize_options()
        self.parallel = self.parallel or CORES
        self.force = True
        self.extensions = [ext for ext in self.extensions if not self.fresh(ext)]

    def fresh(self, ext: Extension) -> bool:
        """Whether *ext* is where it should be, made from its source as this file says."""
        made = Path(self.get_ext_fullpath(ext.name))
        source = PARTS["source_of"](ext.name, ROOT / "tracer")
        return (
            made.exists()
            and PARTS["carried"](made) == PARTS["digest"](source)
            and made.stat().st_mtime >= Path(__file__).stat().st_mtime
        )

    def run(self) -> None:
        """Turn the sources into C, and that into extensions. Only here is Cython needed."""
        for root in (Path(self.build_lib), *([ROOT / "tracer"] if self.inplace else [])):
            for orphan in PARTS["orphans"](root):
                orphan.unlink()
        if self.extensions:
            from Cython.Build import cythonize

            folder = f"build/cython{'-sanitize' if SANITIZE else ''}"
            for directives in (ANNOTATED, DECLARED):
                mine = [ext for ext in self.extensions if directives_of(ext) is directives]
                made = cythonize(
                    mine,
                    build_dir=folder,
                    compiler_directives=directives,
                    force=True,
                    quiet=True,
                    nthreads=min(CORES, len(mine)),
                )
                for ext, of_c in zip(mine, made, strict=True):
                    ext.sources = of_c.sources
        super().run()

    def build_extension(self, ext: Extension) -> None:
        """Put the hash of its source into *ext*."""
        stamp = Path(self.build_temp, f"{ext.name}.h")
        stamp.parent.mkdir(parents=True, exist_ok=True)
        made_from = PARTS["digest"](PARTS["source_of"](ext.name, ROOT / "tracer"))
        stamp.write_text(STAMP.format(text=PARTS["MARKER"].decode() + made_from))
        ext.extra_compile_args = [*ext.extra_compile_args, "-include", str(stamp)]
        super().build_extension(ext)


def directives_of(ext: Extension) -> dict[str, object]:
    """How Cython shall read the source of *ext*."""
    source = PARTS["source_of"](ext.name, ROOT / "tracer")
    return DECLARED if any(source.parent.glob("*.pxd")) else ANNOTATED


setup(ext_modules=extensions(), cmdclass={"build_ext": Build})
