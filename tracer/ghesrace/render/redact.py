# SPDX-License-Identifier: Apache-2.0
"""This takes out of a report what its owner may not want to hand on: addresses, and names of the
host."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from ghesrace.checker.findings import Finding
from ghesrace.checker.report import Report
from ghesrace.plan import Unseen

_REGION_SHIFT = 21  # Kernels are placed at random in steps of 2 MiB or more.
_VIRTUAL = 0xFFFF_8000_0000_0000
_KERNEL = 1 << 63  # Kernel virtual addresses are at least this, and physical ones less.
_SMALL = 1 << 12  # Offsets, flags and sizes are smaller.
_QUOTED = re.compile(r"such as: .*", re.S)
_HEX = re.compile(r"(?<![\w+])0x([0-9a-f]+)\b|\b([0-9a-f]{16})\b", re.I)
_FACTS = ("arch", "release", "cpus", "features", "lockdown", "clocksource", "problems")


class Redactor:
    """A redactor makes addresses relative: the 2 MiB regions in which they lie are numbered as they
    come, and the place in the region stays. So what is near stays near, pages keep their order
    within a region, and equal addresses stay equal in one output. The first physical region begins
    at 0x400000, the first virtual one at 0xffff800000400000.

    >>> made = Redactor()
    >>> hex(made.physical(0x7C0DE000)), hex(made.physical(0x7C0DF010)), hex(made.physical(0x1000))
    ('0x4de000', '0x4df010', '0x801000')
    """

    def __init__(self) -> None:
        self._regions: dict[tuple[bool, int], int] = {}
        self._counts = {False: 0, True: 0}

    def physical(self, address: int) -> int:
        """Return what stands for a physical *address*."""
        return self._relative(address, virtual=False)

    def virtual(self, address: int) -> int:
        """Return what stands for a kernel virtual *address*."""
        return _VIRTUAL + self._relative(address, virtual=True)

    def text(self, text: str) -> str:
        """Return *text* with every address in it made relative, and quoted lines left out."""
        text = _QUOTED.sub("such as: (left out)", text)
        return _HEX.sub(lambda match: self._hex(match), text)

    def report(self, report: Report) -> Report:
        """Return *report* with all of its addresses made relative."""
        patterns = {
            name: replace(
                result,
                not_checked_because=self._maybe(result.not_checked_because),
                harmless={self.text(what): n for what, n in result.harmless.items()},
                uncertain=[self.text(what) for what in result.uncertain],
            )
            for name, result in report.patterns.items()
        }
        slots = [
            replace(
                slot,
                name=self.text(slot.name),
                address=None if slot.address is None else self.virtual(slot.address),
            )
            for slot in report.slots
        ]
        return replace(
            report,
            reasons=[self.text(reason) for reason in report.reasons],
            slots=slots,
            patterns=patterns,
            findings=[self.finding(finding) for finding in report.findings],
            unseen=[self._unseen(unseen) for unseen in report.unseen],
        )

    def host(self, host: dict[str, Any]) -> dict[str, Any]:
        """Return those facts of *host* that name neither it nor an address in it."""
        kept: dict[str, Any] = {name: host[name] for name in _FACTS if name in host}
        problems = kept.get("problems")
        if isinstance(problems, dict):
            kept["problems"] = {
                str(what): self.text(str(why)) for what, why in problems.items()
            }  # fmt: skip
        hest = host.get("hest")
        if isinstance(hest, list):
            kept["hest"] = [self._source(source) for source in hest if isinstance(source, dict)]
        return kept

    def _source(self, source: dict[str, Any]) -> dict[str, Any]:
        kept: dict[str, Any] = {
            name: source[name] for name in ("id", "notification", "length") if name in source
        }
        block = source.get("block")
        if isinstance(block, int):
            kept["block"] = self.physical(block)
        return kept

    def finding(self, finding: Finding) -> Finding:
        """Return *finding* with all of its addresses made relative."""
        steps = [replace(step, text=self.text(step.text)) for step in finding.steps]
        occurrences = [replace(o, frames=self._frames(o.frames)) for o in finding.occurrences]
        return replace(
            finding,
            slot=self._maybe(finding.slot),
            frames=self._frames(finding.frames),
            explanation=self.text(finding.explanation),
            steps=steps,
            occurrences=occurrences,
        )

    def _unseen(self, unseen: Unseen) -> Unseen:
        slots = tuple(self.text(name) for name in unseen.slots)
        return replace(unseen, what=self.text(unseen.what), why=self.text(unseen.why), slots=slots)

    def _frames(self, frames: tuple[int, int] | None) -> tuple[int, int] | None:
        return None if frames is None else (self.physical(frames[0]), self.physical(frames[1]))

    def _maybe(self, text: str | None) -> str | None:
        return None if text is None else self.text(text)

    def _hex(self, match: re.Match[str]) -> str:
        value = int(match[1] or match[2], 16)
        if value < _SMALL:
            return match[0]
        found = self.virtual(value) if value >= _KERNEL else self.physical(value)
        return f"{found:#x}" if match[1] else f"{found:016x}"

    def _relative(self, address: int, virtual: bool) -> int:
        region = virtual, address >> _REGION_SHIFT
        if region not in self._regions:
            self._counts[virtual] += 1
            self._regions[region] = self._counts[virtual]
        low = address & ((1 << _REGION_SHIFT) - 1)
        # Every other region stays empty, so that none seems to follow another.
        return (self._regions[region] << (_REGION_SHIFT + 1)) + low
