# SPDX-License-Identifier: Apache-2.0
"""A guest of the lab made of a plain file: its memory, and a kernel that acknowledges."""

from __future__ import annotations

from pathlib import Path

from ghesrace.errors import TransientError
from lab.firmware import hest
from lab.firmware.firmware import GuestMemory
from lab.firmware.hest import Notify

PLACED = {p.source.name: p for p in hest.place()}


class Recorder(GuestMemory):
    """Notes the order of the writes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.writes: list[tuple[int, int]] = []

    def write(self, address: int, data: bytes) -> None:
        self.writes.append((address, len(data)))
        super().write(address, data)

    def set_word(self, address: int, value: int) -> None:
        self.writes.append((address, 4))
        super().set_word(address, value)


class Guest:
    """Stands for the kernel: acknowledges what an interrupt announces, unless told not to."""

    def __init__(self, memory: GuestMemory) -> None:
        self.memory = memory
        self.deaf = 0  # so many interrupts get lost
        self.gone = False
        self.seen: list[str] = []

    def _serve(self, kind: Notify) -> None:
        if self.gone:
            raise TransientError("QEMU is gone")
        if self.deaf:
            self.deaf -= 1
            return
        for name, p in PLACED.items():
            if p.source.notify is kind and self.memory.word(p.block):
                self.seen.append(name)
                self.memory.set_word(p.block, 0)

    def nmi(self) -> None:
        self._serve(Notify.NMI)

    def irq(self, gsi: int) -> None:
        assert gsi == hest.SHARED_GSI
        self._serve(Notify.EXTERNAL)
