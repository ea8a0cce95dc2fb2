# SPDX-License-Identifier: Apache-2.0
"""A fetch describes a value that a probe takes when it fires. It is plain data, which each backend
says in its own words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ghesrace.errors import InputError

from .shape import misfit

# A probe's values have these names in a plan, in probe files and in map files.
FIELDS = (
    "addr",  # kernel virtual address
    "phys",  # physical address, bytes
    "pfn",  # page frame number
    "size",  # bytes
    "end",  # kernel virtual address behind the last byte
    "index",  # fixmap index
    "prot",  # the PTE's protection bits
    "from_phys",  # 0: the copy goes to physical memory
    "handler",  # address of an NMI handler
    "delta_ns",  # ns that it took
    "func",  # address of a callback that is sent to other CPUs
    "wait",  # bit 0: the sender waits for them
)
# People read these in hexadecimal, in definitions and in filters.
HEXADECIMAL = frozenset({"addr", "phys", "end", "prot", "handler", "func"})
MOST_ARGUMENTS = 12  # a raw tracepoint has at most as many (include/trace/bpf_probe.h)
_MOST_OFFSET = 1 << 16  # bytes; the structs that arguments point to are smaller


@dataclass(frozen=True, slots=True)
class Fetch:
    """This fetches an argument by its number (from 1), or what the function returns.

    Only its lower `bits` count, as a `signed` number or as an unsigned one. With an `offset` the
    argument is an address, and the value lies in kernel memory `offset` bytes behind it. The
    arguments of a raw tracepoint are numbered as in its TP_PROTO().

    >>> Fetch(5, bits=32)  # the fixmap index of ghes_copy_tofrom_phys()
    Fetch(argument=5, bits=32, signed=False, offset=None)
    """

    argument: int | Literal["return"]
    bits: int = 64
    signed: bool = False
    offset: int | None = None

    def _nonsense(self) -> str | None:
        if isinstance(self.argument, int) and not 1 <= self.argument <= MOST_ARGUMENTS:
            return "argument"
        if self.bits not in (8, 16, 32, 64):
            return "bits"
        return None if 0 <= (self.offset or 0) < _MOST_OFFSET else "offset"


@dataclass(frozen=True, slots=True)
class Constant:
    """This is a number for which nothing has to be fetched."""

    constant: int

    def _nonsense(self) -> str | None:
        return None if 0 <= self.constant < 2**64 else "constant"


@dataclass(frozen=True, slots=True)
class FieldOf:
    """This takes the named field of a tracepoint's record, or of a record of a foreign trace."""

    field: str

    def _nonsense(self) -> str | None:
        return None if self.field else "field"


@dataclass(frozen=True, slots=True)
class Text:
    """This is a fetch or a filter of a version 1 plan, in tracefs's words; it is shown, and nothing
    reads it."""

    text: str

    def _nonsense(self) -> str | None:
        return None


Fetched = Fetch | Constant | FieldOf | Text
_BY_KEY: dict[str, type[Fetched]] = {
    "argument": Fetch,
    "constant": Constant,
    "field": FieldOf,
    "text": Text,
}


def read_fetch(data: Any) -> Fetched:
    """Return the fetch that *data*, read from JSON or TOML, describes. Raises InputError if it
    describes none.

    >>> read_fetch({"argument": 1, "offset": 8})
    Fetch(argument=1, bits=64, signed=False, offset=8)
    """
    kinds = [kind for key, kind in _BY_KEY.items() if isinstance(data, dict) and key in data]
    if len(kinds) != 1:
        raise InputError(f"{shortly(data)} is no fetch: one of {', '.join(_BY_KEY)} is needed")
    try:
        made = kinds[0](**data)
    except TypeError as error:
        raise InputError(f"{shortly(data)} is no fetch: a key is unknown") from error
    wrong = misfit(made) or made._nonsense()
    if wrong is not None:
        raise InputError(f"{shortly(data)} is no fetch: its `{wrong}` is not possible")
    return made


def shortly(data: Any) -> str:
    """Return the first 80 characters of `repr(data)`, for a message."""
    return f"{data!r:.80}"
