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
_ENDS = frozenset(b"\n\t .")  # what may follow a symbol's plain name


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
    found: dict[str, tuple[Symbol, ...]] = {}
    for name in sorted(wanted):
        symbols = tuple(_symbols(data, name))
        if symbols:
            found[name] = symbols
    return found


def _symbols(data: bytes, name: str) -> Iterator[Symbol]:
    for line in _lines(data, b" ", name):
        fields = line.split()
        if len(fields) < 3 or len(fields[1]) != 1 or fields[1][0] not in _CODE:
            continue
        full = fields[2].decode("ascii", "replace")
        module = fields[3].decode("ascii", "replace").strip("[]") if len(fields) > 3 else ""
        try:
            address = int(fields[0], 16)
        except ValueError:
            continue
        if not _COLD.search(full):
            yield Symbol(full, address, module)


def read_addresses(path: Path, wanted: Iterable[str]) -> dict[str, int]:
    """Return the addresses of vmlinux's *wanted* symbols of any type, variables too, or {} if
    kallsyms hides them. Raises OSError if the file is unreadable."""
    data, found = path.read_bytes(), {}
    for name in wanted:
        for fields in (line.split() for line in _lines(data, b" ", name)):
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
    for name in wanted:
        for line in _lines(data, b"\n", name):
            full, _, module = line.decode("ascii", "replace").partition(" [")
            pairs.add((module.rstrip("]"), full))
    return frozenset(pairs)


def _lines(data: bytes, before: bytes, name: str) -> Iterator[bytes]:
    """Yield the lines that have *name*, or *name* and a compiler's suffix, right after *before*.

    It searches once per name, as splitting 200,000 lines takes seconds on an emulated CPU.
    """
    key = before + name.encode()
    at = data.find(key)
    while name and at >= 0:
        end = at + len(key)
        if end == len(data) or data[end] in _ENDS:
            begin = data.rfind(b"\n", 0, at + 1) + 1
            stop = data.find(b"\n", end)
            yield data[begin : stop if stop >= 0 else len(data)]
        at = data.find(key, end)


def read_blacklist(path: Path) -> frozenset[str]:
    """Return the names that kprobes refuse, from debugfs's kprobes/blacklist. Raises OSError if the
    file is unreadable."""
    with path.open(encoding="ascii", errors="replace") as lines:
        return frozenset(fields[1] for line in lines if len(fields := line.split()) > 1)
