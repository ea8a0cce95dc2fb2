# SPDX-License-Identifier: Apache-2.0
"""The code of the kernels whose facts are fixtures, as it is and changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ghesrace.host.code import Blocks
from ghesrace.host.facts import Facts
from ghesrace.plan import Implied, Plan
from ghesrace.planning.resolve import resolve
from lab.facts import KERNELS, facts_of
from lab.kernels import kernelfile

X86 = ("5.10.0-46-amd64", "6.1.0-56-amd64", "6.12.118+deb13-amd64", "7.3.4+deb13-amd64")
ARM64 = ("5.10.0-32-arm64", "6.1.0-56-arm64", "6.12.118+deb13-arm64", "7.3.4+deb13-arm64")
RET_X86, NOP_ARM64 = b"\xc3", bytes.fromhex("1f2003d5")


def address(facts: Facts, place: str) -> int:
    """The address of SYMBOL or SYMBOL+OFFSET."""
    name, _, offset = place.partition("+")
    return facts.symbols[name][0].address + int(offset or "0", 16)


def facts(release: str, changed: Mapping[str, bytes] | None = None) -> Facts:
    """The facts of a kernel, with other bytes at some places (SYMBOL+OFFSET)."""
    kernel = kernelfile.load(KERNELS / f"{release}.json")
    made = facts_of(kernel)
    code = {at + n: byte for at, b in kernelfile.blocks(kernel).items() for n, byte in enumerate(b)}
    for place, data in (changed or {}).items():
        begin = address(made, place)
        code.update({begin + n: byte for n, byte in enumerate(data)})
    return replace(made, code=Blocks({at: bytes([byte]) for at, byte in code.items()}))


def implied(made: Plan, what: str) -> Implied:
    """What the plan says of one implication; fails if it says nothing."""
    return next(i for i in made.implications if i.what == what)


def planned(release: str, changed: Mapping[str, bytes] | None = None) -> Plan:
    """The plan of a kernel with other bytes at some places."""
    return resolve(facts(release, changed))
