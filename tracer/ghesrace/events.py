# SPDX-License-Identifier: Apache-2.0
"""The event record: one NumPy dtype and its enums, shared by every source, file and checker.

An event says what one CPU did. Its stamp is taken when the probe fires; an entry probe fires
*before* its effect. A batch is a one-dimensional array of `EVENT` in which the events of each
CPU stand in that CPU's buffer order (its program order, whatever the stamps say); the order
of events of different CPUs in the array means nothing.

Losses and progress are records of the same stream (`Kind.LOSS`, `Kind.MARK`), so that a file
or a pipe can be cut anywhere without losing them.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, IntFlag
from typing import Any

import numpy as np
import numpy.typing as npt

PAGE_SHIFT = 12
PAGE_SIZE = 1 << PAGE_SHIFT
TABLE_SHIFT = PAGE_SHIFT + 9  # what one page of a page table maps: 512 entries
PAGE_MASK = ~(PAGE_SIZE - 1) & (2**64 - 1)

ALL_CPUS = 0xFFFF
NO_POINT = 0xFFFF
NO_SLOT = -1


class Kind(IntEnum):
    """What happened. Fields not named are 0; `slot` is set where the source knows it."""

    MAP = 1  # the slot's PTE is about to be written; phys = frame (bytes, page aligned)
    MAP_END = 2  # the mapping function returned; addr = the address it returned, or 0
    UNMAP = 3  # the slot's PTE is about to be cleared; addr where the function takes one
    UNMAP_END = 4  # the unmapping function returned
    INV_PAGE = 5  # local invalidation of the page at addr (INVLPG)
    INV_RANGE = 6  # local invalidation of [addr, addr + size)
    INV_ALL = 7  # local invalidation of everything, global entries too
    BCAST_RANGE = 8  # broadcast invalidation of [addr, addr + size) begins on the sender
    BCAST_ALL = 9  # broadcast invalidation of everything begins on the sender
    BCAST_END = 10  # the sender's broadcast has completed on all CPUs
    COPY = 11  # ghes_copy_tofrom_phys entered; phys, size in bytes; WRITE flag if to phys
    COPY_END = 12  # ghes_copy_tofrom_phys returned
    READ = 13  # size bytes at addr of a mapped slot are about to be read
    WRITE = 14  # size bytes at addr of a mapped slot are about to be written
    NOTIFY = 15  # a GHES notification handler entered
    NOTIFY_END = 16  # a GHES notification handler returned
    NMI_REF = 17  # nmi:nmi_handler for a GHES handler, after it returned; size = its ns
    EDIT = 19  # a page-table edit of [addr, addr + size) begins
    EDIT_END = 20  # ... ends
    SHOOTDOWN = 21  # an IPI-and-wait TLB shootdown of other CPUs begins
    # Of a summary, which keeps no events (plan.Plan.summary). In EPISODE, THREAT and SAMPLE `addr`
    # is when the map began, `size` when the unmap did (ns; 0: not seen), `phys` the frame, `pid`
    # the number of its notification on that CPU and context, `ctx` its context, `reserved` its
    # CPU, `flags` its Traits.
    EPISODE = 22  # an episode that no class saves, or that is uncertain (tlb.Class in `aux`)
    THREAT = 23  # the one whose translation may be used by this CPU's and slot's next EPISODE
    SAMPLE = 24  # an episode that stands for others in a prediction; Sample in `aux`
    COUNT = 25  # size episodes of safe class `aux` ended between addr and ts (ns); Traits
    AGAIN = 26  # size more episodes, until ts, just like the FIRST one that began at addr
    LOSS = 30  # size events (0: unknown number) lost between addr and ts (ns); see Cause
    MARK = 31  # everything with a stamp below ts, losses included, has been delivered


class Context(IntEnum):
    """Where the CPU was, from the preempt count; a higher one interrupts a lower one."""

    TASK = 0
    SOFTIRQ = 1
    IRQ = 2
    NMI = 3


MOST_AGAIN = 1 << 16  # episodes that one AGAIN stands for, at most


class Flag(IntFlag):
    """Bits of `flags`."""

    IRQS_OFF = 1
    WRITE = 2  # of COPY: the direction is to physical memory (the status clear)


class Trait(IntFlag):
    """Bits of `flags` in the records of a summary."""

    FLUSHED = 1  # its CPU invalidated the slot between map and access, or just before
    WRITES = 2
    HANDOFF = 4  # the episode before it was on another CPU
    LATENT = 8  # its CPU might hold another frame's translation when it began
    STARTED = 16  # ... or an unknown one, from before the recording
    UNMAPPED = 32
    FIRST = 64  # of an EPISODE: others like it are only counted


class Sample(IntEnum):
    """What a SAMPLE stands for (tlb.Judged)."""

    EXPOSES = 0
    VULNERABLE = 1


class Cause(IntEnum):
    """Why a LOSS happened (in `aux`)."""

    OVERRUN = 1  # the ring buffer wrapped before it was read
    DROPPED = 2  # the ring buffer refused the write
    MISSED = 3  # a probe was skipped (kprobe_profile, recursion_misses); no time known
    NMI_UNMATCHED = 4  # nmi:nmi_handler reported a GHES NMI whose entry was not seen
    CPU_ONLINE = 5  # a CPU came online: its earlier events were not recorded
    TRUNCATED = 6  # the file ends in the middle of a batch
    CLOCK = 7  # the clock stepped or its source changed
    PROBE_GONE = 8  # a probe that was attached is no longer
    UNWATCHED = 9  # a module brought GHES functions after the probes were attached


# 56 bytes, no padding. The BPF C struct and the capture file's columns mirror it.
EVENT = np.dtype(
    [
        ("ts", "<u8"),  # ns of the capture's clock
        ("addr", "<u8"),  # kernel virtual address; LOSS: begin of the window, ns
        ("phys", "<u8"),  # physical address, bytes
        ("size", "<u8"),  # bytes; LOSS: number of events; NMI_REF: ns
        ("seq", "<u8"),  # position in the CPU's buffer: grows along the array, per CPU
        ("pid", "<u4"),  # of the running task; of an interrupted one, or 0
        ("point", "<u2"),  # index into Plan.probes, or NO_POINT
        ("cpu", "<u2"),  # or ALL_CPUS (LOSS, MARK)
        ("slot", "<i2"),  # index into Plan.slots, or NO_SLOT
        ("kind", "u1"),  # Kind
        ("ctx", "u1"),  # Context
        ("flags", "u1"),  # Flag
        ("aux", "u1"),  # Cause of a LOSS
        ("reserved", "<u2"),  # 0, but in a summary
    ]
)
assert EVENT.itemsize == 56

Events = npt.NDArray[np.void]


def pick(table: Events, at: Any) -> Events:
    """`table[at]`, by a mask, a slice or indices, as bytes: NumPy copies field by field otherwise,
    which takes forty times as long."""
    found: Events = table.view(np.dtype((np.void, table.itemsize)))[at].view(table.dtype)
    return found


def joined(tables: Sequence[Events]) -> Events:
    """`np.concatenate` of tables of one dtype, at least one, as bytes too."""
    plain = np.dtype((np.void, tables[0].itemsize))
    made: Events = np.concatenate([table.view(plain) for table in tables]).view(tables[0].dtype)
    return made


def empty(n: int = 0) -> Events:
    """A zeroed array of *n* events that name no slot and no probe point."""
    events = np.zeros(n, EVENT)
    events["slot"] = NO_SLOT
    events["point"] = NO_POINT
    return events


def loss(
    begin: int, end: int, cause: Cause, cpu: int = ALL_CPUS, count: int = 0, point: int = NO_POINT
) -> Events:
    """One LOSS record: *count* events (0: unknown) lost on *cpu* between *begin* and *end*, ns."""
    record = empty(1)
    record["kind"] = Kind.LOSS
    record["addr"], record["ts"] = begin, end
    record["size"], record["cpu"], record["point"], record["aux"] = count, cpu, point, cause
    return record


def mark(ts: int) -> Events:
    """One MARK record: everything stamped below *ts* (ns) has been delivered."""
    record = empty(1)
    record["kind"], record["ts"], record["cpu"] = Kind.MARK, ts, ALL_CPUS
    return record


Ints = npt.NDArray[np.int64]

Bools = npt.NDArray[np.bool_]

NEVER = 2**63 - 1  # a time or position that was not seen


def of_kind(kind: npt.NDArray[np.uint8], kinds: tuple[Kind, ...]) -> Bools:
    """Which of the events with these *kind*s are of one of the *kinds*."""
    kind = np.ascontiguousarray(kind)  # a column of records is slow to walk
    found = np.zeros(len(kind), np.bool_)
    for one in kinds:
        found |= kind == one
    return found


def present(column: npt.NDArray[np.integer[Any]]) -> Ints:
    """The distinct values of a column of small numbers, sorted, much sooner than `np.unique`."""
    return np.flatnonzero(np.bincount(column))
