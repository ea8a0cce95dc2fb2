# SPDX-License-Identifier: Apache-2.0
"""This reads the running kernel's function symbols, and what ftrace and kprobes say of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_CODE = frozenset(b"tTwW")
_COLD = re.compile(r"\.cold(\.\d+)?$")  # GCC 8 numbers them
_UNIQUE = re.compile(r"\.(?:llvm|lto_priv)\.\d+")


class Symbol(NamedTuple):
    """A symbol is one function: its full name, its address (0 if hidden) and its module ("" for
    vmlinux).

    >>> Symbol("ghes_proc.isra.0", 0, "ghes").place
    'ghes:ghes_proc.isra.0'
    """

    name: str
    address: int
    module: str

    @property
    def plain(self) -> str:
        """This is the name without what a compiler appends (.isra.0, .constprop.0, .part.0,
        .llvm.123, .lto_priv.0)."""
        return self.name.partition(".")[0]

    @property
    def changed(self) -> bool:
        """This is true if the compiler may have changed the function's arguments, or left a part of
        it out. Clang's LTO (.llvm.N) and GCC's (.lto_priv.N) only make a name unique.

        >>> [Symbol(name, 0, "").changed for name in ("f", "f.llvm.12", "f.isra.0")]
        [False, False, True]
        """
        return bool(_UNIQUE.sub("", self.name) != self.plain)

    @property
    def place(self) -> str:
        """This is how tracefs spells the symbol: `symbol` or `module:symbol`."""
        return f"{self.module}:{self.name}" if self.module else self.name


def read_symbols(path: Path, wanted: Iterable[str]) -> dict[str, tuple[Symbol, ...]]:
    """Return the functions whose plain name is in *wanted*, by plain name.

    *path* is /proc/kallsyms, whose lines are `address type name`, then `[module]`. The compiler's
    `.cold` and `.cold.N` parts are left out, as they are no function's entry. Raises OSError if the
    file is unreadable.
    """
    return find_symbols(path.read_bytes(), wanted)


def find_symbols(data: bytes, wanted: Iterable[str]) -> dict[str, tuple[Symbol, ...]]:
    """Return what `read_symbols` does, from the content *data* of a kallsyms.

    >>> find_symbols(b"0000000000000000 t ghes_proc [ghes]\\n", ["ghes_proc"])
    {'ghes_proc': (Symbol(name='ghes_proc', address=0, module='ghes'),)}
    """
    names = sorted(set(wanted))
    found: dict[str, list[Symbol]] = {name: [] for name in names}
    for name, line in _lines(data, b" ", names):
        if (symbol := _symbol(line)) is not None:
            found[name].append(symbol)
    return {name: tuple(symbols) for name, symbols in found.items() if symbols}


def _symbol(line: bytes) -> Symbol | None:
    """Return the function of a *line* of kallsyms, or None if it is none, or no entry of one."""
    fields = line.split()
    if len(fields) < 3 or len(fields[1]) != 1 or fields[1][0] not in _CODE:
        return None
    full = fields[2].decode("ascii", "replace")
    module = fields[3].decode("ascii", "replace").strip("[]") if len(fields) > 3 else ""
    try:
        address = int(fields[0], 16)
    except ValueError:
        return None
    return None if _COLD.search(full) else Symbol(full, address, module)


def find_addresses(data: bytes, wanted: Iterable[str]) -> dict[str, int]:
    """Return the addresses of vmlinux's *wanted* symbols of any type, variables too, or {} if
    kallsyms, whose content is *data*, hides them.

    >>> find_addresses(b"0000000000000010 D pcpu_hot\\n", ["pcpu_hot"])
    {'pcpu_hot': 16}
    """
    found = {}
    for name, line in _lines(data, b" ", wanted):
        fields = line.split()
        if len(fields) == 3 and fields[2].decode("ascii", "replace") == name:
            found[name] = int(fields[0], 16)
    return found if any(found.values()) else {}


def read_traceable(path: Path, wanted: Iterable[str]) -> frozenset[tuple[str, str]]:
    """Return the (module, full name) pairs of *wanted* that ftrace can hook.

    *path* is available_filter_functions, whose lines are `name` or `name [module]`. Raises OSError
    if the file is unreadable.
    """
    data = b"\n" + path.read_bytes()
    pairs = set()
    for _, line in _lines(data, b"\n", wanted):
        full, _, module = line.decode("ascii", "replace").partition(" [")
        pairs.add((module.rstrip("]"), full))
    return frozenset(pairs)


def _lines(data: bytes, before: bytes, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield each line that has one of *names*, or that and a compiler's suffix, right after
    *before*, with that name.

    One search finds all of them, as splitting 200,000 lines takes seconds on an emulated CPU, and
    so do a hundred searches.
    """
    wanted = sorted({re.escape(name.encode()) for name in names if name})
    if not wanted:
        return
    one = re.compile(re.escape(before) + b"(" + b"|".join(wanted) + rb")(?=[\n\t .]|\Z)")
    for match in one.finditer(data):
        begin = data.rfind(b"\n", 0, match.start() + 1) + 1
        stop = data.find(b"\n", match.end())
        yield match[1].decode(), data[begin : stop if stop >= 0 else len(data)]


def read_blacklist(path: Path) -> frozenset[str]:
    """Return the names that kprobes refuse, from debugfs's kprobes/blacklist. Raises OSError if the
    file is unreadable."""
    with path.open(encoding="ascii", errors="replace") as lines:
        return frozenset(fields[1] for line in lines if len(fields := line.split()) > 1)
