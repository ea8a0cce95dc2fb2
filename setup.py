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
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": SANITIZE,
    "wraparound": False,
    "initializedcheck": SANITIZE,
    "cdivision": not SANITIZE,
    "overflowcheck": SANITIZE,
}
FLAGS = ["-O2", "-g0", "-Wno-unused-function"]
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
    """Cython first; each extension carries the hash of its source."""

    def finalize_options(self) -> None:
        """Turn the sources into C. Only here is Cython needed."""
        if self.distribution.ext_modules:
            from Cython.Build import cythonize

            self.distribution.ext_modules = cythonize(
                self.distribution.ext_modules,
                build_dir=f"build/cython{'-sanitize' if SANITIZE else ''}",
                compiler_directives=DIRECTIVES,
                force=True,
                quiet=True,
            )
        super().finalize_options()

    def build_extension(self, ext: Extension) -> None:
        """Put the hash of its source into *ext*."""
        stamp = Path(self.build_temp, f"{ext.name}.h")
        stamp.parent.mkdir(parents=True, exist_ok=True)
        made_from = PARTS["digest"](PARTS["source_of"](ext.name, ROOT / "tracer"))
        stamp.write_text(STAMP.format(text=PARTS["MARKER"].decode() + made_from))
        ext.extra_compile_args = [*ext.extra_compile_args, "-include", str(stamp)]
        self.force = True
        super().build_extension(ext)


setup(ext_modules=extensions(), cmdclass={"build_ext": Build})
