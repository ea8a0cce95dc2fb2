# SPDX-License-Identifier: Apache-2.0
"""This groups findings by the fault that caused them, once for all outputs.

A finding is told apart by its CPUs and frames, so one missing flush makes a finding for each pair
of CPUs and of frames that met. A reader mends the flush once: here those are variants of one fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ghesrace.checker.findings import Finding
from ghesrace.errors import UsageError

_NUMBERS = re.compile(r"0x[0-9a-f]+|\bCPU \d+")


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault is what findings have in common, and `variants` are those findings, worst first.

    `name` is its number in the order of the report, from "1". A variant's name adds its own number:
    "1.1" is the first of them.
    """

    name: str
    variants: tuple[Finding, ...]

    @property
    def worst(self) -> Finding:
        """This is the variant that stands for the fault."""
        return self.variants[0]

    @property
    def counts(self) -> dict[str, int]:
        """This says how often it was seen, by severity; what never was is left out."""
        found: dict[str, int] = {}
        for variant in self.variants:
            found[variant.severity] = found.get(variant.severity, 0) + variant.count
        return found

    @property
    def contexts(self) -> tuple[str, str]:
        """These are the contexts of x and of y in its variants, as in "irq, nmi"."""
        return _contexts(self.variants, "x"), _contexts(self.variants, "y")


def faults(findings: Iterable[Finding]) -> list[Fault]:
    """Return the faults behind *findings*, which `checker.findings.ranked` put in order, in the
    order of their worst ones.

    Stale accesses at one slot have one fault: no invalidation of the kernel's own stands between
    another CPU's unmap and the access. Findings of other patterns have one if they are at one slot
    and are explained in the same words but for CPUs and addresses.

    >>> both = [Finding("stale", "observed", "read", "irq", cpus, None, "why", [], count=2)
    ...         for cpus in ((0, 1), (1, 0))]
    >>> [fault] = faults(both)
    >>> fault.name, len(fault.variants), fault.counts
    ('1', 2, {'observed': 4})
    """
    found: dict[tuple[object, ...], list[Finding]] = {}
    for finding in findings:
        found.setdefault(_key(finding), []).append(finding)
    return [Fault(str(number), tuple(same)) for number, same in enumerate(found.values(), 1)]


def named(found: Iterable[Fault], name: str) -> Finding:
    """Return the finding of that *name*: "2" is the worst variant of the second fault, and "2.3"
    its third variant. Raises UsageError if there is none.

    >>> one = Finding("stale", "observed", "read", "irq", (0, 1), None, "why", [])
    >>> named(faults([one]), "1.1") is one
    True
    """
    fault, _, variant = name.partition(".")
    for candidate in found:
        variants = candidate.variants
        number = int(variant) if variant.isdecimal() else 1 if not variant else 0
        if candidate.name == fault and 0 < number <= len(variants):
            return variants[number - 1]
    raise UsageError(
        f"there is no finding {name!r}", "`ghesrace check` numbers them: 1, 1.2, 2, ..."
    )


def _key(finding: Finding) -> tuple[object, ...]:
    if finding.pattern == "stale":
        return finding.pattern, finding.slot
    words = _NUMBERS.sub("_", finding.explanation)
    return finding.pattern, finding.severity, finding.access, finding.slot, words


def wording(explanation: str) -> str:
    """Return what an *explanation* has in common with that of the same fault in any recording: no
    CPUs, no addresses (each boot has others), and not the condition that makes it predicted.

    >>> wording("CPU 3 unmaps V at 0xff00; it met CPU 1, unless the edit was over")
    '_ unmaps V at _; it met _'
    """
    return _NUMBERS.sub("_", explanation).partition(", unless ")[0]


def _contexts(variants: Iterable[Finding], side: str) -> str:
    """Return the contexts of one side; all traced steps of an episode share one."""
    found = {
        next((s.context for s in variant.steps if s.side == side and s.ts is not None), "any"): None
        for variant in variants
    }
    return ", ".join(found)
