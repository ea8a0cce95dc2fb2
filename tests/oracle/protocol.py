# SPDX-License-Identifier: Apache-2.0
"""What a GHES notification does, step by step, under five protocols. Plain data.

An operation is what a probe would see. It takes effect some time after its stamp; `machine`
holds the effects.
"""

from __future__ import annotations

from typing import NamedTuple

FRAMES = "ABCD"


class Op(NamedTuple):
    """One traced operation of one CPU.

    `what`: notify, map, flush (own TLB, this slot), read, unmap, bcast, bcast_end, end;
    luck (an invalidation of everything that has nothing to do with GHES) and tick (any other
    event of the task). `ctx` is task, irq or nmi. `hold` names the lock hold that it is in,
    "" if none, and `call` the run of the handler.
    """

    cpu: int
    what: str
    ctx: str
    slot: int = 0
    frame: str = ""
    hold: str = ""
    call: str = ""

    @property
    def memory(self) -> bool:
        """Whether it has an effect on the page table or on a TLB."""
        return self.what not in ("notify", "end", "tick", "bcast_end")


class Protocol(NamedTuple):
    """How one page is mapped and unmapped, and what the lock of the two slots spans.

    `locks`: page or report, of the IRQ and of the NMI slot. `implied`: the unmap itself
    broadcasts, after its clear (arm64), which only the plan knows.
    """

    name: str
    on_map: bool
    on_unmap: str  # local, broadcast or implied
    locks: tuple[str, str]


PROTOCOLS = (
    # Linux 2.6.39 to 4.14: an own lock for each page of the IRQ slot, one for the NMI handler.
    Protocol("2015 x86", False, "local", ("page", "report")),
    Protocol("2015 x86, report lock", False, "local", ("report", "report")),
    Protocol("2015 + flush on map", True, "local", ("page", "report")),
    Protocol("broadcast at unmap", False, "broadcast", ("page", "report")),
    # Since Linux 5.1 the notification helpers hold the lock over the whole report.
    Protocol("x86 fixmap", True, "local", ("report", "report")),
    Protocol("arm64 fixmap", False, "implied", ("report", "report")),
)


def notification(
    protocol: Protocol, cpu: int, slot: int, frames: str, call: str, luck: int = -1
) -> tuple[Op, ...]:
    """One run of the handler on *cpu*: it maps *frames* one after the other at *slot*.

    With *luck* >= 0 an NMI interrupts before operation number *luck* and flushes everything.
    """
    ctx = ("irq", "nmi")[slot]
    ops = [Op(cpu, "notify", ctx, slot, call=call)]
    for number, frame in enumerate(frames):
        hold = f"{call}.{number}" if protocol.locks[slot] == "page" else call
        steps = ["map", *["flush"] * protocol.on_map, "read", "unmap"]
        steps += {"local": ["flush"], "broadcast": ["bcast", "bcast_end"], "implied": []}[
            protocol.on_unmap
        ]
        ops += [
            Op(cpu, what, ctx, slot, frame if what == "map" else "", hold, call) for what in steps
        ]
    ops.append(Op(cpu, "end", ctx, slot, call=call))
    if luck >= 0:
        ops.insert(luck, Op(cpu, "luck", "nmi", call=call))
    return tuple(ops)
