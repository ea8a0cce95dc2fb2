# SPDX-License-Identifier: Apache-2.0
"""Make BTF out of names and numbers, the reverse of what `ghesrace.host.btf` does.

Tests and `lab.kernels.kernelfile` use it. The numbers of the kinds are those of BTF_KIND_* in
Linux' include/uapi/linux/btf.h.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence


def btf(
    enums: Mapping[str, Mapping[str, int]] | None = None,
    structs: Mapping[str, Mapping[str, int]] | None = None,
    functions: Mapping[str, Sequence[str]] | None = None,
    variables: Sequence[str] = (),
    *,
    string_base: int = 0,
    id_base: int = 1,
) -> bytes:
    """Return little-endian BTF that holds the given types and those that they need, such as int.

    Enums are {name: {enumerator: value}}, structs {name: {member: byte offset}}, functions
    {name: parameters}. A parameter is an int; `*name` makes it a pointer to void, `&name` a
    struct by value. A member whose name is empty has the struct before as its type. Split BTF (a
    module's) begins at *string_base* bytes of strings and at the type number *id_base*.

    >>> from ghesrace.host.btf import Btf
    >>> Btf(btf(structs={"pt_regs": {"flags": 144}})).offsets("pt_regs")
    {'flags': 144}
    """
    strings = bytearray(b"\0" if string_base == 0 else b"")
    records: list[bytes] = []

    def text(name: str) -> int:
        at = string_base + len(strings)
        strings.extend(name.encode() + b"\0")
        return at

    def record(name: int, kind: int, count: int, last: int, *rest: int) -> None:
        words = (name, kind << 24 | count, last, *rest)
        records.append(struct.pack(f"<{len(words)}I", *(w & 0xFFFFFFFF for w in words)))

    record(text("int"), 1, 0, 4, 32)
    for enum, values in (enums or {}).items():
        pairs = [x for name, value in values.items() for x in (text(name), value)]
        record(text(enum), 6, len(values), 4, *pairs)
    for name, members in (structs or {}).items():
        before = id_base + len(records) - 1
        rest = [
            x
            for m, offset in members.items()
            for x in (text(m) if m else 0, id_base if m else before, offset * 8)
        ]
        record(text(name), 4, len(members), 64, *rest)
    types = {"*": id_base + len(records), "&": id_base + len(records) + 1}
    if any(p[0] in types for parameters in (functions or {}).values() for p in parameters):
        record(0, 2, 0, 0)  # void *
        record(text("value"), 4, 0, 8)  # struct value {}
    for name, parameters in (functions or {}).items():
        rest = [x for p in parameters for x in (text(p.lstrip("*&")), types.get(p[:1], id_base))]
        record(0, 13, len(parameters), 0, *rest)
        record(text(name), 12, 0, id_base + len(records) - 1)
    for name in variables:
        record(text(name), 14, 0, id_base, 1)
    body = b"".join(records)
    header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(strings))
    return header + body + bytes(strings)
