# SPDX-License-Identifier: Apache-2.0
"""Every source, file and checker shares one record of one size; this says what its bytes mean.

An event says what one CPU did. Its stamp is taken when the probe fires; an entry probe fires
*before* its effect. A batch is a one-dimensional array of `EVENT` in which the events of each
CPU stand in that CPU's buffer order (its program order, whatever the stamps say); the order
of events of different CPUs in the array means nothing.

Losses and progress are records of the same stream (`Kind.LOSS`, `Kind.MARK`), so that a file
or a pipe can be cut anywhere without losing them. So are the records of a summary, which keeps
no events (`plan.Plan.summary`).

A record that is no event has columns of its own, which lie over those of `EVENT`: `LOSS`,
`SUMMARY_EPISODE`, `SUMMARY_SAMPLE`, `SUMMARY_COUNT`. Only this module knows where. Others take
such records out of a batch with `select`, make them with `blank`, put them into a batch with
`as_events`, and turn whole batches into columns and back with `to_columns` and `from_columns`.

>>> batch = joined([loss(begin=100, end=250, cause=Cause.OVERRUN, count=3), mark(300)])
>>> lost = select(batch, Kind.LOSS)
>>> (lost["end"] - lost["begin"]).tolist(), lost["count"].tolist()
([150], [3])
>>> promised(batch)
300
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum, IntFlag
from functools import cache
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
    """A kind says what happened. In its event the fields that are not named here are 0, and `slot`
    is set where the source knows it."""

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
    EDIT_END = 20  # the page-table edit ends
    SHOOTDOWN = 21  # an IPI-and-wait TLB shootdown of other CPUs begins
    # The next five occur only in a summary.
    EPISODE = 22  # SUMMARY_EPISODE: no class saves it, or it is uncertain
    THREAT = 23  # SUMMARY_EPISODE: this CPU's and slot's next EPISODE may use its translation
    SAMPLE = 24  # SUMMARY_SAMPLE: an episode that stands for others in a prediction
    COUNT = 25  # SUMMARY_COUNT: so many safe episodes ended in a window
    AGAIN = 26  # SUMMARY_COUNT: so many more episodes like a FIRST one
    LOSS = 30  # LOSS: events of a window were lost
    MARK = 31  # everything with a stamp below ts, losses included, has been delivered


class Context(IntEnum):
    """A context says where the CPU was, by its preempt count; a higher one interrupts a lower."""

    TASK = 0
    SOFTIRQ = 1
    IRQ = 2
    NMI = 3


MOST_AGAIN = 1 << 16  # episodes that one AGAIN stands for, at most


class Flag(IntFlag):
    """These are the bits of an event's `flags`."""

    IRQS_OFF = 1
    WRITE = 2  # of COPY: the direction is to physical memory (the status clear)


class Trait(IntFlag):
    """These are the bits of `traits` in a summary's records: they say what an episode is like."""

    FLUSHED = 1  # its CPU invalidated the slot between map and access, or just before the map
    WRITES = 2  # it wrote through the slot
    HANDOFF = 4  # the slot's episode before it was on another CPU
    LATENT = 8  # its CPU might hold another frame's translation when it began
    STARTED = 16  # its CPU might hold a translation from before the recording when it began
    UNMAPPED = 32  # its unmap was seen
    FIRST = 64  # of an EPISODE: others like it are only counted, by AGAIN
    UNSAFE = 128  # it is uncertain what saved it: an unrelated invalidation at best, or nothing


class Sample(IntEnum):
    """This says what a SAMPLE stands for, in the words of checker.model.Judged."""

    EXPOSES = 0  # its unmap left its translation in other CPUs' reach
    VULNERABLE = 1  # nothing structural protects it if another CPU's lock hold comes just before


class Cause(IntEnum):
    """A cause says why a LOSS happened."""

    OVERRUN = 1  # the ring buffer wrapped before it was read
    DROPPED = 2  # the ring buffer refused the write
    MISSED = 3  # a probe was skipped (kprobe_profile, recursion_misses); no time known
    NMI_UNMATCHED = 4  # nmi:nmi_handler reported a GHES NMI whose entry was not seen
    CPU_ONLINE = 5  # a CPU came online: its earlier events were not recorded
    TRUNCATED = 6  # the file ends in the middle of a batch
    CLOCK = 7  # the clock stepped or its source changed
    PROBE_GONE = 8  # a probe that was attached is no longer
    UNWATCHED = 9  # a module brought GHES functions after the probes were attached
    UNREAD = 10  # a line of a text that can't be read


# A record has 56 bytes and no padding. The BPF C struct has the same layout.
EVENT = np.dtype(
    [
        ("ts", "<u8"),  # ns of the capture's clock
        ("addr", "<u8"),  # kernel virtual address
        ("phys", "<u8"),  # physical address, bytes
        ("size", "<u8"),  # bytes; NMI_REF: ns
        ("seq", "<u8"),  # position in the CPU's buffer: grows along the array, per CPU
        ("pid", "<u4"),  # of the running task; of an interrupted one, or 0
        ("point", "<u2"),  # index into Plan.probes, or NO_POINT
        ("cpu", "<u2"),  # or ALL_CPUS (LOSS, MARK)
        ("slot", "<i2"),  # index into Plan.slots, or NO_SLOT
        ("kind", "u1"),  # Kind
        ("ctx", "u1"),  # Context
        ("flags", "u1"),  # Flag
        ("aux", "u1"),  # 0 in an event: only other records use it
        ("reserved", "<u2"),  # 0 in an event: only other records use it
    ]
)
assert EVENT.itemsize == 56

# These columns mean the same in every record. In LOSS and SUMMARY_COUNT, `end` is `ts` too.
SHARED = ("ts", "kind", "cpu", "ctx", "slot", "point", "seq")


def _over_event(**places: str) -> np.dtype[np.void]:
    """Return a dtype whose columns are SHARED and *places*, which maps the name of each column to
    that column of EVENT in whose bytes it lies."""
    at = {**{name: name for name in SHARED}, **places}
    fields = EVENT.fields
    assert fields is not None
    return np.dtype(
        {
            "names": list(at),
            "formats": [fields[place][0] for place in at.values()],
            "offsets": [fields[place][1] for place in at.values()],
            "itemsize": EVENT.itemsize,
        }
    )


# A LOSS says that `count` events (0: an unknown number) of probe `point` (NO_POINT: of any) on
# `cpu` (ALL_CPUS: on any) were lost between `begin` and `end`, ns. Its `cause` is a Cause.
LOSS = _over_event(begin="addr", end="ts", count="size", cause="aux")

# This is one episode, told at `ts` (ns) by `cpu`: the CPU that ran it or, for a THREAT, the CPU
# that it threatens. `mapper` is the CPU that ran it, `ctx` is the context, and `call` names its
# notification among those of that CPU and context. The map began at `begin` and the unmap at `end`
# (ns; 0: not seen). `frame` is a physical address in bytes, `traits` are Traits, and `cls` is a
# checker.model.Class; it is 0 in a THREAT, whose own class does not matter.
SUMMARY_EPISODE = _over_event(
    begin="addr",
    end="size",
    frame="phys",
    call="pid",
    mapper="reserved",
    traits="flags",
    cls="aux",
)

# This is like SUMMARY_EPISODE, but the episode only stands for others: `sample` is a Sample.
SUMMARY_SAMPLE = _over_event(
    begin="addr",
    end="size",
    frame="phys",
    call="pid",
    mapper="reserved",
    traits="flags",
    sample="aux",
)

# This says that `count` episodes of `cpu` ended until `end` (ns). In a COUNT they ended since
# `begin` (ns), and `cls` is a safe class. In an AGAIN each is just like the FIRST one, whose map
# began at `begin` (ns).
SUMMARY_COUNT = _over_event(
    begin="addr", end="ts", count="size", frame="phys", traits="flags", cls="aux"
)

SUMMARY_KINDS = (Kind.EPISODE, Kind.THREAT, Kind.SAMPLE, Kind.COUNT, Kind.AGAIN)
_DTYPES = {
    Kind.EPISODE: SUMMARY_EPISODE,
    Kind.THREAT: SUMMARY_EPISODE,
    Kind.SAMPLE: SUMMARY_SAMPLE,
    Kind.COUNT: SUMMARY_COUNT,
    Kind.AGAIN: SUMMARY_COUNT,
    Kind.LOSS: LOSS,
}

Events = npt.NDArray[np.void]


def pick(table: Events, at: Any) -> Events:
    """Return `table[at]`, where *at* is a mask, a slice or an array of indices.

    It copies whole records as bytes: NumPy copies field by field otherwise, which takes forty times
    as long.

    >>> batch = joined([mark(5), mark(9)])
    >>> pick(batch, batch["ts"] > 5)["ts"].tolist()
    [9]
    """
    found: Events = table.view(np.dtype((np.void, table.itemsize)))[at].view(table.dtype)
    return found


def joined(tables: Sequence[Events]) -> Events:
    """Return the concatenation of *tables*, which are at least one and all of one dtype; like
    `pick`, it copies bytes."""
    plain = np.dtype((np.void, tables[0].itemsize))
    made: Events = np.concatenate([table.view(plain) for table in tables]).view(tables[0].dtype)
    return made


def empty(n: int = 0) -> Events:
    """Return *n* records (EVENT, shape (n,)) that name no slot and no probe point; all else is 0.

    >>> batch = empty(2)
    >>> batch["kind"], batch["ts"] = Kind.NOTIFY, (1_000, 2_000)
    >>> batch["slot"].tolist()
    [-1, -1]
    """
    events = np.zeros(n, EVENT)
    events["slot"] = NO_SLOT
    events["point"] = NO_POINT
    return events


def select(batch: Events, *kinds: Kind) -> Events:
    """Return the records of *kinds* in *batch* (EVENT, shape (n,)), in its order, as a copy with
    the columns of those kinds. Raises ValueError for kinds whose columns differ.

    >>> select(joined([loss(1, 9, Cause.MISSED), mark(10)]), Kind.LOSS)["cause"].tolist()
    [3]
    """
    [dtype] = {dtype_of(kind) for kind in kinds}
    found: Events = pick(batch, of_kind(batch["kind"], kinds)).view(dtype)
    return found


def dtype_of(kind: Kind) -> np.dtype[np.void]:
    """Return the dtype that the records of *kind* have: one of the five of this module."""
    return _DTYPES.get(kind, EVENT)


def blank(kind: Kind, n: int = 1) -> Events:
    """Return *n* records of *kind*, with the columns of that kind. They name no slot and no probe
    point, and all else is 0. `as_events` makes them records of a batch.

    >>> counts = blank(Kind.COUNT, 2)
    >>> counts["begin"], counts["end"], counts["count"] = 0, 1_000, (7, 2)
    >>> len(joined([as_events(counts), mark(1_001)]))
    3
    """
    records = empty(n)
    records["kind"] = kind
    found: Events = records.view(dtype_of(kind))
    return found


def as_events(records: Events) -> Events:
    """Return *records* of any kind as part of a batch (EVENT), without a copy."""
    found: Events = records.view(EVENT)
    return found


def loss(
    begin: int, end: int, cause: Cause, cpu: int = ALL_CPUS, count: int = 0, point: int = NO_POINT
) -> Events:
    """Return a batch of one LOSS record. It says that *count* events (0: an unknown number) of
    probe *point* were lost on *cpu* between *begin* and *end*, ns.

    >>> loss(1_000, 2_000, Cause.OVERRUN, cpu=1, count=20)["kind"].tolist()
    [30]
    """
    record = blank(Kind.LOSS)
    record["begin"], record["end"] = begin, end
    record["count"], record["cpu"], record["point"], record["cause"] = count, cpu, point, cause
    return as_events(record)


def mark(ts: int) -> Events:
    """Return a batch of one MARK record. It says that everything stamped below *ts* (ns) has been
    delivered.

    >>> mark(300)["ts"].tolist()
    [300]
    """
    record = blank(Kind.MARK)
    record["ts"], record["cpu"] = ts, ALL_CPUS
    return record


def promised(batch: Events) -> int:
    """Return the stamp of the latest MARK of *batch*, ns, or 0 if it has none: everything stamped
    below has been delivered.

    >>> promised(joined([mark(5), mark(9)]))
    9
    """
    return int(batch["ts"][batch["kind"] == Kind.MARK].max(initial=0))


def columns_of(summary: bool) -> dict[str, np.dtype[Any]]:
    """Return the name and type of each column that `to_columns` makes of a batch: of a summary's
    batch if *summary* is true, else of any other.

    >>> list(columns_of(summary=False))[-4:]
    ['begin', 'end', 'count', 'cause']
    """
    found = {name: EVENT[name] for name in SHARED}
    for _, dtype, names in _groups(summary):
        found |= {name: dtype[name] for name in names}
    return found


def to_columns(batch: Events, summary: bool) -> dict[str, npt.NDArray[Any]]:
    """Return *batch* (EVENT, shape (n,)) as columns of shape (n,), each of which means one thing. A
    record has 0 in those that its kind lacks. Without *summary* the columns of a summary's records
    are left out.

    >>> to_columns(loss(1, 9, Cause.MISSED, count=4), summary=False)["count"].tolist()
    [4]
    """
    columns: dict[str, npt.NDArray[Any]] = {name: batch[name] for name in SHARED}
    for name, dtype in columns_of(summary).items():
        columns.setdefault(name, np.zeros(len(batch), dtype))
    for kinds, records, names in _groups(summary):
        rows = of_kind(batch["kind"], kinds)
        for name in names if rows.any() else ():
            np.copyto(columns[name], batch.view(records)[name], where=rows)
    return columns


def from_columns(columns: Mapping[str, npt.NDArray[Any]], summary: bool) -> Events:
    """Return the batch (EVENT, shape (n,)) of which `to_columns` made *columns*.

    >>> batch = mark(300)
    >>> bool((from_columns(to_columns(batch, summary=False), summary=False) == batch).all())
    True
    """
    batch = empty(len(columns["kind"]))
    for name in SHARED:
        batch[name] = columns[name]
    for kinds, dtype, names in _groups(summary):
        rows = of_kind(batch["kind"], kinds)
        for name in names if rows.any() else ():
            np.copyto(batch.view(dtype)[name], columns[name], where=rows)
    return batch


@cache
def _groups(summary: bool) -> list[tuple[tuple[Kind, ...], np.dtype[np.void], list[str]]]:
    """Return, for each dtype, the kinds that have it, the dtype, and its columns not in SHARED."""
    found = []
    of_summary = (SUMMARY_EPISODE, SUMMARY_SAMPLE, SUMMARY_COUNT)
    for dtype in (EVENT, LOSS, *(of_summary if summary else ())):
        kinds = tuple(kind for kind in Kind if dtype_of(kind) is dtype)
        shared = (*SHARED, "aux", "reserved")  # in an event these two are 0
        found.append((kinds, dtype, [name for name in dtype.names or () if name not in shared]))
    return found


Ints = npt.NDArray[np.int64]

Bools = npt.NDArray[np.bool_]

NEVER = 2**63 - 1  # a time or position that was not seen


def of_kind(kind: npt.NDArray[np.uint8], kinds: tuple[Kind, ...]) -> Bools:
    """Return the mask of those events, given by their *kind* (shape (n,)), whose kind is one of the
    *kinds*.

    >>> of_kind(joined([loss(1, 9, Cause.MISSED), mark(10)])["kind"], (Kind.MARK,)).tolist()
    [False, True]
    """
    kind = np.ascontiguousarray(kind)  # A column of records is slow to walk.
    found = np.zeros(len(kind), np.bool_)
    for one in kinds:
        found |= kind == one
    return found


def present(column: npt.NDArray[np.integer[Any]]) -> Ints:
    """Return the distinct values of a column of small numbers, sorted. It is much faster than
    `np.unique`.

    >>> present(np.array([3, 1, 3], np.uint16)).tolist()
    [1, 3]
    """
    return np.flatnonzero(np.bincount(column))
