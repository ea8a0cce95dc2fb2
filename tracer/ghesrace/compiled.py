# SPDX-License-Identifier: Apache-2.0
"""The parts that Cython compiles: which they are, and that none runs that is not its source's.

Each is plain Python beside its extension. An extension carries the hash of what it was made from,
and `import` refuses one whose source has changed since (`make quick` makes it anew). With
GHESRACE_PURE=1 the source runs, compiled or not; so it does where nothing was compiled.

As a script, for the Makefile: fails unless every part is compiled from its present source.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from pathlib import Path
from types import ModuleType

# The list: setup.py builds these, `import` guards them, tests compare them with their source.
MODULES = (
    "ghesrace.checker.account",
    "ghesrace.checker.columns",
    "ghesrace.checker.core.classes",
    "ghesrace.checker.core.clocks",
    "ghesrace.checker.core.edits",
    "ghesrace.checker.core.facts",
    "ghesrace.checker.core.holds",
    "ghesrace.checker.core.invalidations",
    "ghesrace.checker.core.leaving",
    "ghesrace.checker.core.losses",
    "ghesrace.checker.core.pages",
    "ghesrace.checker.core.predict",
    "ghesrace.checker.core.ranges",
    "ghesrace.checker.core.reader",
    "ghesrace.checker.core.rule",
    "ghesrace.checker.core.run",
    "ghesrace.checker.core.state",
    "ghesrace.checker.core.threats",
    "ghesrace.checker.core.uses",
    "ghesrace.checker.races",
    "ghesrace.sources.bpf.order",
    "ghesrace.sources.foreign.telling",
    "ghesrace.sources.foreign.text.breaks",
    "ghesrace.sources.foreign.text.chains",
    "ghesrace.sources.foreign.text.cuts",
    "ghesrace.sources.foreign.text.heads",
    "ghesrace.sources.foreign.text.packing",
    "ghesrace.sources.foreign.text.words",
    "ghesrace.sources.ring.records",
)
PURE = "GHESRACE_PURE"
MARKER = b"ghesrace is made from "  # what the hash stands behind in an extension
_ROOT = Path(__file__).resolve().parent.parent


class StaleError(ImportError):
    """An extension that was not made from the source beside it."""

    def __init__(self, name: str, path: Path) -> None:
        super().__init__(
            f"{path} was not compiled from the source beside it: build it anew (`make quick`, or "
            f"`pip install .`), or run the source with {PURE}=1",
            name=name,
            path=str(path),
        )


def pure() -> bool:
    """Whether GHESRACE_PURE asks for the source."""
    return os.environ.get(PURE, "") not in ("", "0")


def source_of(name: str, root: Path = _ROOT) -> Path:
    """The source of the module *name* in the folder that `ghesrace` is in."""
    return root.joinpath(*name.split(".")).with_suffix(".py")


def digest(source: Path) -> str:
    """What an extension made from *source* carries: a hash of it and of the .pxd in and below its
    folder."""
    made = hashlib.sha256(source.read_bytes())
    for declared in sorted(source.parent.rglob("*.pxd")):
        made.update(declared.read_bytes())
    return made.hexdigest()


def extension_of(source: Path, suffixes: Sequence[str] = EXTENSION_SUFFIXES) -> Path | None:
    """The extension beside *source* that this Python would load, if there is one."""
    paths = (source.with_suffix(suffix) for suffix in suffixes)
    return next((path for path in paths if path.exists()), None)


def carried(extension: Path) -> str:
    """The hash that an extension carries, or ""."""
    _, _, rest = extension.read_bytes().partition(MARKER)
    return rest[:64].decode("ascii", "replace")


def stale(root: Path = _ROOT) -> list[str]:
    """The modules that have an extension of another source."""
    found = []
    for name in MODULES:
        source = source_of(name, root)
        extension = extension_of(source)
        if extension and carried(extension) != digest(source):
            found.append(name)
    return found


def orphans(root: Path = _ROOT) -> list[Path]:
    """Extensions of modules that MODULES does not name (any more); a build removes them."""
    sources = {source_of(name, root) for name in MODULES}
    found = sorted((root / "ghesrace").rglob("*.so"))
    return [
        path for path in found if path.with_name(path.name.split(".")[0] + ".py") not in sources
    ]


def missing(root: Path = _ROOT) -> list[str]:
    """The modules that have no extension."""
    return [name for name in MODULES if extension_of(source_of(name, root)) is None]


def describe() -> str:
    """What runs, for `--version` and `doctor`: "compiled", or why not."""
    if pure():
        return f"uncompiled: {PURE} is set"
    if old := stale():
        return f"{len(old)} of {len(MODULES)} parts are compiled from another source: build anew"
    if lacking := missing():
        which = "no part" if len(lacking) == len(MODULES) else f"not {', '.join(lacking)}"
        return f"uncompiled, which is slow: {which} was compiled when it was installed"
    return "compiled"


class Finder(MetaPathFinder):
    """Finds the modules of MODULES: the extension if it is its source's, else the source.

    Python itself would take any extension before the source beside it; so one of a module that
    MODULES does not name (any more) is refused too.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As MetaPathFinder says. Raises StaleError."""
        if not fullname.startswith("ghesrace."):
            return None
        for folder in path or ():
            source = Path(folder, fullname.rpartition(".")[2] + ".py")
            if not source.exists():
                continue
            extension = extension_of(source)
            if extension is None and fullname not in MODULES:
                return None
            if extension is None or pure():
                return importlib.util.spec_from_file_location(fullname, source)
            if fullname not in MODULES or carried(extension) != digest(source):
                raise StaleError(fullname, extension)
            return importlib.util.spec_from_file_location(fullname, extension)
        return None


def install() -> None:
    """Let `import` ask Finder first, once."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())


if __name__ == "__main__":
    sys.exit(bool(stale() or missing() or orphans()))
