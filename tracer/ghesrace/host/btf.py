# SPDX-License-Identifier: Apache-2.0
"""This reads the few things we need from BTF: enum values, struct offsets, function prototypes.

Documentation/bpf/btf.rst describes the format. Only the type records that are asked for are
decoded; one pass over the record headers finds where each begins. The bytes come from the running
kernel or from a capture of somebody else's, so nothing in them is trusted.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ghesrace.errors import InputError

_HEADER = struct.Struct("<HBBIIIII")  # magic, version, flags, hdr_len, type off/len, str off/len
_MAGIC = 0xEB9F
_INT, _ARRAY, _STRUCT, _UNION, _ENUM, _FUNC, _FUNC_PROTO = 1, 3, 4, 5, 6, 12, 13
_VAR, _DATASEC, _DECL_TAG, _ENUM64 = 14, 15, 17, 19
_MODIFIERS = (8, 9, 10, 11, 18)  # typedef, volatile, const, restrict, type tag
_MOST_MODIFIERS = 64
_MOST_NESTED = 16

# So many bytes follow the 12-byte record header: a fixed part, and a part for each of `vlen`.
_FIXED = {_INT: 4, _ARRAY: 12, _VAR: 4, _DECL_TAG: 4}
_EACH = {_STRUCT: 12, _UNION: 12, _ENUM: 8, _FUNC_PROTO: 8, _DATASEC: 12, _ENUM64: 12}
_LAST_KIND = _ENUM64


@dataclass(frozen=True, slots=True)
class Prototype:
    """A prototype says of a function's parameters, in order, their names ("..." if variadic), which
    are integers or enums (`scalar`), and which are structs passed by value (`struct`)."""

    parameters: tuple[str, ...]
    scalar: tuple[bool, ...] = ()
    struct: tuple[bool, ...] = ()


class Btf:
    """This gives the types of one vmlinux or module.

    *data* is the content of /sys/kernel/btf/NAME. A module needs vmlinux's BTF as *base*, because
    its ids and string offsets continue the base's (split BTF). Raises InputError on bytes that are
    not BTF; so does every method that meets a damaged record.

        btf = Btf.read(Path("/sys/kernel/btf/vmlinux"))
        btf.enum("fixed_addresses")["FIX_APEI_GHES_IRQ"]
        btf.function("ghes_copy_tofrom_phys").parameters
    """

    def __init__(self, data: bytes, base: Btf | None = None) -> None:
        if len(data) < _HEADER.size:
            raise InputError(f"BTF of {len(data)} bytes has no header")
        magic, version, _, header, type_off, type_len, str_off, str_len = _HEADER.unpack_from(data)
        if magic != _MAGIC or version != 1:
            raise InputError(f"not little-endian BTF version 1 (magic {magic:#x}, {version})")
        types, strings = header + type_off, header + str_off
        if (
            header < _HEADER.size
            or header % 4
            or type_off % 4
            or types + type_len > len(data)
            or strings + str_len > len(data)
        ):
            raise InputError("the BTF header points outside its data")
        self._base = base
        self._strings = data[strings : strings + str_len]
        self._string_base: int = base._string_end if base else 0
        self._string_end: int = self._string_base + str_len
        self._words = np.frombuffer(data, "<u4", type_len // 4, types)
        self._first_id: int = base._next_id if base else 1
        self._starts = _record_starts(self._words)
        self._next_id: int = self._first_id + len(self._starts)
        headers = self._words[self._starts[:, None] + np.arange(3)] if len(self._starts) else None
        self._names = headers[:, 0] if headers is not None else np.zeros(0, "<u4")
        info = headers[:, 1] if headers is not None else np.zeros(0, "<u4")
        self._kinds = info >> 24 & 0x1F
        self._vlens = info & 0xFFFF
        self._flags = info >> 31
        self._sizes = headers[:, 2] if headers is not None else np.zeros(0, "<u4")

    @classmethod
    def read(cls, path: Path, base: Btf | None = None) -> Btf:
        """Read the file *path*. Raises OSError if it is unreadable, InputError if it is not BTF."""
        return cls(path.read_bytes(), base)

    def enum(self, name: str) -> dict[str, int]:
        """Return the enumerators of `enum name` and their values, or {} if there is no such
        enum."""
        for row in self._find(name, _ENUM):
            at, count = int(self._starts[row]) + 3, int(self._vlens[row])
            pairs = self._words[at : at + 2 * count].reshape(-1, 2)
            values = pairs[:, 1].astype("<i4") if self._flags[row] else pairs[:, 1]
            return {self._string(int(o)): int(v) for o, v in zip(pairs[:, 0], values, strict=True)}
        return {}

    def offsets(self, name: str) -> dict[str, int]:
        """Return the byte offset of each member of `struct name`, or {} if there is no such struct.

        Members of its anonymous structs and unions are included. Bit fields are left out unless
        they begin at a byte.
        """
        for row in self._find(name, _STRUCT):
            return self._members(int(row), _MOST_NESTED)
        return {}

    def _members(self, row: int, depth: int) -> dict[str, int]:
        if not depth:
            raise InputError("BTF structs are nested too deep")
        at, count = int(self._starts[row]) + 3, int(self._vlens[row])
        found: dict[str, int] = {}
        for name_at, type_id, bit in self._words[at : at + 3 * count].reshape(-1, 3).tolist():
            # With the kind flag the upper byte is the width of a bit field.
            offset, rest = divmod(bit & 0xFFFFFF if self._flags[row] else bit, 8)
            if rest:
                continue
            if name_at:
                found[self._string(name_at)] = offset
                continue
            owner, inner = self._row(type_id)
            if owner is not None and owner._kinds[inner] in (_STRUCT, _UNION):
                nested = owner._members(inner, depth - 1)
                found |= {name: offset + at_ for name, at_ in nested.items()}
        return found

    def function(self, name: str) -> Prototype | None:
        """Return the prototype of function *name*, or None if it has no BTF."""
        for row in self._find(name, _FUNC):
            owner, proto = self._row(int(self._sizes[row]))
            if owner is None or owner._kinds[proto] != _FUNC_PROTO:
                return None
            at, count = int(owner._starts[proto]) + 3, int(owner._vlens[proto])
            names = owner._words[at : at + 2 * count : 2]
            kinds = [self._plain_kind(int(t)) for t in owner._words[at + 1 : at + 2 * count : 2]]
            return Prototype(
                tuple(owner._string(int(o)) or "..." for o in names),
                tuple(kind in (_INT, _ENUM, _ENUM64) for kind in kinds),
                tuple(kind in (_STRUCT, _UNION) for kind in kinds),
            )
        return None

    def variable(self, name: str) -> int | None:
        """Return the type id of variable *name* (per-CPU variables have one), or None."""
        return self._id(name, _VAR)

    def function_id(self, name: str) -> int | None:
        """Return the type id of function *name*, or None if it has no BTF."""
        return self._id(name, _FUNC)

    def _id(self, name: str, kind: int) -> int | None:
        rows = self._find(name, kind)
        return int(rows[0]) + self._first_id if len(rows) else None

    def _plain_kind(self, type_id: int) -> int:
        """Return the kind of a type behind its typedefs and qualifiers, which is 0 for void."""
        for _ in range(_MOST_MODIFIERS):
            owner, row = self._row(type_id) if type_id else (None, 0)
            if owner is None or owner._kinds[row] not in _MODIFIERS:
                return int(owner._kinds[row]) if owner else 0
            type_id = int(owner._sizes[row])
        raise InputError("a BTF type is a modifier of itself")

    def _find(self, name: str, kind: int) -> npt.NDArray[np.intp]:
        """Return the rows of the records of *kind* that are called *name*."""
        offsets = self._string_offsets(name)
        return np.flatnonzero((self._kinds == kind) & np.isin(self._names, offsets))

    def _string_offsets(self, name: str) -> list[int]:
        wanted = name.encode() + b"\0"
        found = self._base._string_offsets(name) if self._base else []
        at = self._strings.find(wanted)
        while at >= 0:
            if at == 0 or self._strings[at - 1] == 0:
                found.append(self._string_base + at)
            at = self._strings.find(wanted, at + 1)
        return found

    def _string(self, offset: int) -> str:
        if offset < self._string_base and self._base:
            return self._base._string(offset)
        begin = offset - self._string_base
        end = self._strings.find(b"\0", begin) if 0 <= begin < len(self._strings) else -1
        if end < 0:
            raise InputError(f"BTF string offset {offset} is outside the string section")
        return self._strings[begin:end].decode("ascii", "replace")

    def _row(self, type_id: int) -> tuple[Btf | None, int]:
        """Return the object that holds *type_id*, and its row there; or None and 0."""
        if type_id < self._first_id:
            return self._base._row(type_id) if self._base else (None, 0)
        row = type_id - self._first_id
        return (self, row) if row < len(self._starts) else (None, 0)


def _record_starts(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.intp]:
    """Return the word index of each type record. Raises InputError at an unknown kind or a cut
    record."""
    fixed = [3 + _FIXED.get(kind, 0) // 4 for kind in range(_LAST_KIND + 1)]
    each = [_EACH.get(kind, 0) // 4 for kind in range(_LAST_KIND + 1)]
    infos = words.data  # A list of a million numbers, of which few are read, takes longer.
    end, at = len(infos), 0
    starts: list[int] = []
    append = starts.append
    while at < end:
        append(at)
        try:
            info = infos[at + 1]
            kind = info >> 24 & 0x1F
            at += fixed[kind] + each[kind] * (info & 0xFFFF)
        except IndexError:
            raise InputError(f"BTF type record {len(starts)} is not one we know") from None
    if at != end:
        raise InputError("the last BTF type record is cut off")
    return np.array(starts, np.intp)
