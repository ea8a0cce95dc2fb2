# SPDX-License-Identifier: Apache-2.0
"""What the kernel's code does: each kernel's handlers as lists of operations, and its plan.

An operation is what one function does: a probe may record it, and it has effects on the page
table or on TLBs, one after the other. Locks and interrupt masks are operations as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

from ghesrace.events import PAGE_SIZE, Context, Flag, Kind
from ghesrace.plan import Implied, Plan, Probe, Slot

V = 0xFFFFFFFFFF57B000
IRQ, NMI = 0, 1  # the two slots
ADDRESSES = (V, V - PAGE_SIZE)
FRAMES = tuple(0x70000000 + i * PAGE_SIZE for i in range(26))
ELSEWHERE = 0xFFFFC90000000000  # a page that no slot shares a page-table page with
WIDE = 16 * PAGE_SIZE


class Does(Enum):
    """What an operation does when its time has come."""

    NOTHING = auto()  # it is only seen
    SET = auto()  # the slot's PTE is written
    CLEAR = auto()  # the slot's PTE is cleared
    READ = auto()  # the mapped page is accessed
    FLUSH = auto()  # the own TLB drops the slot
    TELL = auto()  # every TLB drops the slot; the hardware does it
    IPI = auto()  # every other CPU is interrupted and drops everything; the sender waits
    LOCK = auto()
    UNLOCK = auto()
    MASK = auto()  # interrupts off
    UNMASK = auto()


class Part(Enum):
    """Whether an invalidation belongs to GHES's own map or unmap, or is luck."""

    MAP = auto()
    EARLY = auto()  # meant for the map, but done before the lock is taken
    UNMAP = auto()
    LUCK = auto()


@dataclass(frozen=True, slots=True)
class Op:
    """One operation: its effects in their order, and how a probe would record it.

    `kind` is None where nothing could record it. `slots` are those whose page an invalidation
    covers. `page` numbers the episode within its task (-1: none), of a copy its
    first.
    """

    does: tuple[Does, ...]
    kind: Kind | None = None
    slot: int = -1
    phys: int = 0
    addr: int = 0
    size: int = 0
    flags: int = 0
    part: Part = Part.LUCK
    slots: tuple[int, ...] = ()
    page: int = -1


@dataclass(frozen=True, slots=True)
class Task:
    """One thing that one CPU is given to do at a time (ns): a notification, luck or an edit.

    `what`: "report" (copies of pages of frames, the last copy to physical memory if `writes`),
    "inv-all", "inv-range", "inv-other", "bcast" (by IPIs), "tell" (by hardware) or "edit".
    `seed` draws how long its steps take. `within`: luck of that sort in the handler's own context,
    after its entry and before it takes a lock. `followed`: an edit follows luck in its context,
    which tells that the luck is over.
    """

    at: int
    cpu: int
    ctx: Context
    what: str
    seed: int
    slot: int = IRQ
    copies: tuple[tuple[int, ...], ...] = ()
    writes: bool = False
    within: str = ""
    followed: bool = False


@dataclass(frozen=True, slots=True)
class Kernel:
    """How one kernel maps and unmaps, what its locks span and what of it probes show.

    `on_map`: "" (2015), "flush" (an own probe shows it), "implied" (the plan says so), "before"
    (a flush before the map), "early" (a flush before the lock is taken). `on_unmap`: "flush",
    "implied", "tell" (a traced broadcast), "implied-tell" (arm64), "" (nothing). `fixed`: CPUs
    on which on_map is done (None: all). `inside`: the map function flushes before it returns, and
    the plan says so. `fixmap`: one probe serves map and unmap. `late_flush`: the unmap's flush
    follows the function's return. `proven`: the plan says that it was read in the code.
    """

    name: str
    arch: str = "x86_64"
    locks: tuple[str, str] = ("report", "report")
    on_map: str = ""
    on_unmap: str = "flush"
    fixed: tuple[int, ...] | None = None
    inside: bool = False
    fixmap: bool = False
    ends: bool = False
    late_flush: bool = False
    accesses: bool = True
    reference: bool = False
    proven: bool = False

    @property
    def healthy(self) -> bool:
        """Whether every episode is safe by structure: what it maps is flushed or told."""
        flushed = self.on_map not in ("", "early") and self.fixed is None
        return flushed or self.on_unmap in ("tell", "implied-tell")

    @property
    def certain(self) -> bool:
        """Whether a record of it says for sure what flushed whom, if nothing else is open."""
        open_access = self.on_map == "flush" and not (self.accesses or self.ends or self.inside)
        return self.on_map != "early" and not open_access

    def implies(self, kind: Kind) -> tuple[str, ...]:
        """What the plan says that the function of *kind* does besides."""
        found = []
        if kind == Kind.MAP and self.on_map == "implied":
            found.append("page-after-set")
        if kind == Kind.MAP and self.inside:
            found.append("flush-inside")
        if kind == Kind.UNMAP and self.on_unmap == "implied":
            found.append("page-after-clear")
        if kind == Kind.UNMAP and self.on_unmap == "implied-tell":
            found.append("broadcast-after-clear")
        return tuple(found)

    def traced(self) -> tuple[Kind, ...]:
        """The kinds of events that its plan has a probe for."""
        kinds = [Kind.MAP, Kind.UNMAP, Kind.COPY, Kind.COPY_END, Kind.NOTIFY, Kind.NOTIFY_END]
        kinds += [Kind.EDIT, Kind.EDIT_END]
        if self.ends:
            kinds += [Kind.MAP_END, Kind.UNMAP_END]
        if self.accesses:
            kinds += [Kind.READ, Kind.WRITE]
        if self.arch == "x86_64":
            kinds += [Kind.INV_RANGE, Kind.INV_ALL, Kind.BCAST_RANGE, Kind.BCAST_ALL]
            kinds += [Kind.BCAST_END]
            if "implied" not in (self.on_map, self.on_unmap):
                kinds.append(Kind.INV_PAGE)
        if self.reference:
            kinds.append(Kind.NMI_REF)
        return tuple(kinds)

    def plan(self, cpus: int, error: int, online: tuple[int, ...] | None = None) -> Plan:
        """The plan of this kernel on *cpus* CPUs whose stamps are off by *error* ns at most."""
        slots = tuple(
            Slot(("irq", "nmi")[i], 644 + i, ADDRESSES[i], self.locks[i])  # type: ignore[arg-type]
            for i in (IRQ, NMI)
        )
        probes = []
        for kind in self.traced():
            if self.fixmap and kind == Kind.UNMAP:
                continue
            implied = self.implies(kind)
            clear = None
            if self.fixmap and kind == Kind.MAP:
                implied, clear = (*implied, *self.implies(Kind.UNMAP)), "UNMAP"
            name = kind.name.lower().replace("_", "-")
            mechanism = "tracepoint" if kind == Kind.NMI_REF else "kprobe"
            probes.append(Probe(name, kind.name, "f", mechanism, clear_kind=clear, implies=implied))  # type: ignore[arg-type]
        return Plan(
            self.arch,
            f"worlds: {self.name}",
            slots,
            tuple(probes),
            cpus=tuple(range(cpus)) if online is None else online,
            clock_error_ns=error,
            implications=tuple(
                Implied(probe.point, probe.symbol, what, "proven", "the code was read")
                for probe in probes
                for what in probe.implies
                if self.proven
            ),
        )

    def read(self) -> Kernel:
        """The same kernel, with a plan that has read its code, if that does what it implies."""
        return replace(self, proven=self.fixed is None)

    # -- what the code does ------------------------------------------------------------------

    def ops(self, task: Task) -> list[Op]:
        """What *task* does, step by step."""
        if task.what == "report":
            return self._report(task)
        edit = [
            Op((Does.NOTHING,), Kind.EDIT, addr=ELSEWHERE, size=PAGE_SIZE),
            Op((Does.NOTHING,), Kind.EDIT_END, addr=ELSEWHERE, size=PAGE_SIZE),
        ]
        luck = [] if task.what == "edit" else self._luck(task.what)
        return luck + (edit if task.what == "edit" or task.followed else [])

    def _luck(self, what: str) -> list[Op]:
        everything, at, size = (IRQ, NMI), V - WIDE, 2 * WIDE
        if what == "inv-all":
            return [Op((Does.FLUSH,), Kind.INV_ALL, slots=everything)]
        if what == "inv-range":
            return [Op((Does.FLUSH,), Kind.INV_RANGE, addr=at, size=size, slots=everything)]
        if what == "inv-other":
            return [Op((Does.FLUSH,), Kind.INV_PAGE, addr=V + 2 * PAGE_SIZE)]
        does = {"bcast": Does.IPI, "tell": Does.TELL}[what]
        return [
            Op((does,), Kind.BCAST_RANGE, addr=at, size=size, slots=everything),
            Op((Does.NOTHING,), Kind.BCAST_END),
        ]

    def answer(self) -> list[Op]:
        """What an IPI's receiver does."""
        return self._luck("inv-range")

    def _report(self, task: Task) -> list[Op]:
        slot, whole = task.slot, self.locks[task.slot] == "report"
        lock = [Op((Does.MASK,)), Op((Does.LOCK,), slot=slot)]
        unlock = [Op((Does.UNLOCK,), slot=slot), Op((Does.UNMASK,))]
        ops = [Op((Does.NOTHING,), Kind.NOTIFY), *(self._luck(task.within) if task.within else ())]
        early = [
            Op((Does.FLUSH,), Kind.INV_PAGE, addr=ADDRESSES[slot], part=Part.EARLY, slots=(slot,))
        ] * (self.on_map == "early")
        ops += [*early, *lock] if whole else []
        number = 0
        for copy, frames in enumerate(task.copies):
            writes = task.writes and copy == len(task.copies) - 1
            flags = int(Flag.WRITE) if writes else 0
            size = PAGE_SIZE * (len(frames) - 1) + 64
            first = number
            ops.append(
                Op((Does.NOTHING,), Kind.COPY, phys=frames[0], size=size, flags=flags, page=first)
            )
            for frame in frames:
                page = self._page(task, frame, number, writes)
                ops += page if whole else (*early, *lock, *page, *unlock)
                number += 1
            ops.append(Op((Does.NOTHING,), Kind.COPY_END, page=first))
        ops += [*(unlock if whole else ()), Op((Does.NOTHING,), Kind.NOTIFY_END)]
        if self.reference and task.ctx == Context.NMI:
            ops.append(Op((Does.NOTHING,), Kind.NMI_REF))
        return ops

    def _page(self, task: Task, frame: int, number: int, writes: bool) -> list[Op]:
        slot, addr = task.slot, ADDRESSES[task.slot]
        flushes = self.on_map if self.fixed is None or task.cpu in self.fixed else ""

        def flush(part: Part) -> Op:
            return Op(
                (Does.FLUSH,), Kind.INV_PAGE, addr=addr, part=part, slots=(slot,), page=number
            )

        set_does = (Does.SET, Does.FLUSH) if flushes == "implied" else (Does.SET,)
        ops = [flush(Part.MAP)] if flushes == "before" else []
        ops.append(
            Op(
                set_does, Kind.MAP, slot, phys=frame, part=Part.MAP, slots=(slot,), page=number
            )
        )  # fmt: skip
        if flushes == "flush":
            ops.append(flush(Part.MAP))
        if self.ends:
            ops.append(Op((Does.NOTHING,), Kind.MAP_END, slot, page=number))
        access = Kind.WRITE if writes else Kind.READ
        ops.append(Op((Does.READ,), access, addr=addr + 16, size=4, slots=(slot,), page=number))
        clear_does = {
            "implied": (Does.CLEAR, Does.FLUSH),
            "implied-tell": (Does.CLEAR, Does.TELL),
        }.get(self.on_unmap, (Does.CLEAR,))
        ops.append(
            Op(clear_does, Kind.UNMAP, slot, addr=addr, part=Part.UNMAP, slots=(slot,), page=number)
        )
        behind: list[Op] = []
        if self.on_unmap == "flush":
            behind.append(flush(Part.UNMAP))
        elif self.on_unmap == "tell":
            behind = [
                Op((Does.TELL,), Kind.BCAST_RANGE, addr=addr, size=PAGE_SIZE, part=Part.UNMAP,
                   slots=(slot,), page=number),
                Op((Does.NOTHING,), Kind.BCAST_END),
            ]  # fmt: skip
        end = [Op((Does.NOTHING,), Kind.UNMAP_END, slot, page=number)] if self.ends else []
        return ops + (end + behind if self.late_flush else behind + end)


OLD = ("page", "report")
KERNELS = (
    Kernel("2015", locks=OLD, ends=True, late_flush=True),
    Kernel("2015, no return probes", locks=OLD),
    Kernel("2015, accesses unseen", locks=OLD, ends=True, accesses=False),
    Kernel("2015, one lock a report"),
    Kernel("2015 with a flush on map", locks=OLD, on_map="flush", ends=True),
    Kernel("2015 with a flush on map, accesses unseen", locks=OLD, on_map="flush", ends=True,
           accesses=False),
    Kernel("2015 with a flush on map, accesses and returns unseen", locks=OLD, on_map="flush",
           accesses=False),
    Kernel("2015 with a flush before the map", locks=OLD, on_map="before"),
    Kernel("2015 with a flush before the lock", on_map="early"),
    Kernel("2015 with a broadcast", locks=OLD, on_unmap="tell", ends=True),
    Kernel("2015 with a flush on map on CPU 0", locks=OLD, on_map="flush", fixed=(0,)),
    Kernel("x86 fixmap of 4.15", locks=OLD, on_map="flush", inside=True, fixmap=True),
    Kernel("x86 fixmap of 4.15, flushes implied", locks=OLD, on_map="implied", on_unmap="implied",
           fixmap=True, accesses=False),
    Kernel("arm64 of 4.15", "arm64", locks=OLD, on_unmap="implied-tell", fixmap=True),
    Kernel("x86 fixmap", on_map="flush", inside=True, fixmap=True, reference=True),
    Kernel("x86 fixmap, accesses unseen", on_map="flush", inside=True, fixmap=True,
           reference=True, accesses=False),
    Kernel("x86 fixmap, flushes implied", on_map="implied", on_unmap="implied", fixmap=True),
    Kernel("arm64", "arm64", on_unmap="implied-tell", fixmap=True),
    Kernel("arm64, accesses unseen", "arm64", on_unmap="implied-tell", fixmap=True,
           accesses=False),
)  # fmt: skip
