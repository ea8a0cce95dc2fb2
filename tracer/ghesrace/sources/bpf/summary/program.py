# SPDX-License-Identifier: Apache-2.0
"""This module writes a summary's plan as BPF C: probes/summary_*.bpf.c and, behind them, one
program per probe.

A program finds the slots that its event concerns, and calls the function of the C files that knows
what that kind of event does to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ghesrace.events import PAGE_MASK, PAGE_SIZE, Kind
from ghesrace.host.btf import Btf
from ghesrace.plan import Plan
from ghesrace.sources.bpf import program
from ghesrace.sources.bpf.numbers import Numbers
from ghesrace.sources.values import Value

FILES = ("summary_state.bpf.c", "summary_episode.bpf.c", "summary_flush.bpf.c")
KNOWN = 8  # kinds of unsafe episodes per CPU and slot whose repetitions are only counted
ACCESSES = (Kind.READ.name, Kind.WRITE.name)


def source(
    plan: Plan,
    btf: Btf,
    *,
    records: int,
    cpus: int,
    preempt_count: str,
    numbers: Numbers = program.PLAIN,
) -> str:
    """Return the C text for a *plan* whose `summary` is set. sources.bpf.program.source has the
    same arguments and raises the same errors."""
    head = program.begin(
        plan, records=records, cpus=cpus, preempt_count=preempt_count, numbers=numbers
    )
    accesses = any(probe.kind in ACCESSES for probe in plan.probes)
    inside = [
        n
        for probe in plan.probes
        if "flush-inside" in probe.implies
        for n in range(len(plan.slots))
        if probe.slot in (None, n) and (probe.slot == n or plan.slots[n].index is not None)
    ]
    pages = [n for n, slot in enumerate(plan.slots) if slot.lock == "page"]
    defines = (
        f"#define SLOTS {len(plan.slots)}\n#define ACCESSES {int(accesses)}\n"
        f"#define KNOWN {KNOWN}\n"
        f"#define FLUSH_INSIDE(k) ({_any(inside)})\n#define PAGE_LOCK(k) ({_any(pages)})\n"
        f"#define THREAT_KIND {int(Kind.THREAT)}\n#define EPISODE_KIND {int(Kind.EPISODE)}\n"
    )
    programs = (_Program(plan, n, btf, numbers).text() for n in range(len(plan.probes)))
    return "\n".join([head, defines, *map(program.c_file, FILES), *programs]) + "\n"


def _any(slots: list[int]) -> str:
    return " || ".join(f"(k) == {n}" for n in slots) or "0"


class _Program(program.ProgramText):
    """This writes the C program of one probe of a summary. For each kind of event, _BODIES names
    the method that yields the C for what the event does."""

    enter = "HERE();"
    reject = "return 0;"

    def _body(self) -> Iterator[str]:
        yield from self.arguments()
        yield from _BODIES[Kind[self.probe.kind]](self)
        yield "return 0;"

    def count_hit(self) -> str:
        """See ProgramText.count_hit."""
        return f"HIT({self.point});"

    def _told(self, value: Value | None, what: str) -> str:
        """Return C for a *value* that the rule needs. Raises HostError if nothing tells it, because
        0 in its place would make episodes of different frames alike."""
        if value is None:
            raise self.cannot("fetch", what)
        return self.value(value, "")

    # -- which slot ----------------------------------------------------------------------

    def _named(self) -> str | None:
        """Return C for the number of the slot that the event names (SLOTS for a slot that is none
        of ours), or None if the event names none."""
        if self.probe.slot is not None:
            return str(self.probe.slot)
        return None if self.values.index is None else self.slot_of_index("SLOTS")

    def _at_page(self, otherwise: str) -> Iterator[str]:
        """Yield C that sets `at` to the slot of the page at `addr`. *otherwise* is the function of
        the C file that tells whether that is the page of a slot whose address is not known yet."""
        yield f"u64 page = addr & {PAGE_MASK:#x}ULL;"
        slots = list(enumerate(self.plan.slots))
        known = [n for n, slot in slots if slot.address is not None]
        chain = "".join(f"page == {self._address(n)} ? {n} : " for n in known)
        yield f"u64 at = {chain}SLOTS;"
        for n, slot in slots:
            if slot.address is None:
                found = f"{otherwise}(level, st, {n}, slot_of({n}), page)"
                yield f"if (at >= SLOTS && {found}) at = {n};"

    def _one(self, *then: str) -> Iterator[str]:
        """Yield C that does *then* with the slot `at`, if that is one of ours."""
        for n in range(len(self.plan.slots)):
            yield f"if (at == {n}) {{ const u64 k = {n}; struct slot *s = slot_of(k);"
            yield "if (!s) return 0;"
            yield from then
            yield "return 0; }"

    def _each(self, call: str, covers: Callable[[int], str]) -> Iterator[str]:
        """Yield C that does *call* with every slot that the event *covers*. In *call*, EXACT stands
        for whether it is of that slot's page alone."""
        for n in range(len(self.plan.slots)):
            yield f"{{ const u64 k = {n}; struct slot *s = slot_of(k);"
            yield f"if (s && ({covers(n)})) {call.replace('EXACT', self._exact(n))}; }}"

    def _exact(self, slot: int) -> str:
        if Kind[self.probe.kind] not in (Kind.INV_RANGE, Kind.BCAST_RANGE):
            return "0"
        end = self._told(self.values.end, "the end of the range")
        page = f"(addr & {PAGE_MASK:#x}ULL)"
        return f"{page} == {self._address(slot)} && {end} - {page} <= {PAGE_SIZE}"

    def _address(self, slot: int) -> str:
        known = self.plan.slots[slot].address
        return "s->address" if known is None else self.numbers.said(known, f"{known:#x}ULL")

    def _covers(self, slot: int) -> str:
        if Kind[self.probe.kind] in (Kind.INV_ALL, Kind.BCAST_ALL):
            return "1"
        end = self._told(self.values.end, "the end of the range")
        at = self._address(slot)
        return f"{at} && {at} >= (addr & {PAGE_MASK:#x}ULL) && {at} < {end}"

    def _learn(self) -> str:
        unknown = [n for n, slot in enumerate(self.plan.slots) if slot.address is None]
        if self.values.addr is None or not unknown:
            return ""
        page = f"addr & {PAGE_MASK:#x}ULL"
        return f"if (!s->address && ({_any(unknown).replace('(k)', 'k')})) s->address = {page};"

    # -- what it does --------------------------------------------------------------------

    def map(self) -> Iterator[str]:
        """Yield C for a MAP, and for an UNMAP by the same function."""
        yield f"u64 at = {self._named() or 'SLOTS'};"
        phys = self.values.phys
        frame = self._told(phys, "the frame")
        if phys and not phys.shift:
            frame += f" & {PAGE_MASK:#x}ULL"
        implied = int("page-after-set" in self.probe.implies)
        mapped = f"map(me, level, st, k, s, {frame}, PAGE_LOCK(k), {implied});"
        if self.probe.clear_kind is None:
            yield from self._one("end(me, level, st, k, s, 0);", mapped)
            return
        yield f"u64 unmaps = {self.clears()};"
        ends = "if (!end(me, level, st, k, s, unmaps)) return 0;"
        yield from self._one(ends, "if (unmaps)", self._unmapped(), "else", mapped)

    def unmap(self) -> Iterator[str]:
        """Yield C for an UNMAP."""
        yield f"u64 at = {self._named() or 'SLOTS'};"
        ends = "if (!end(me, level, st, k, s, 1)) return 0;"
        yield from self._one(self._learn(), ends, self._unmapped())

    def _unmapped(self) -> str:
        implies = self.probe.implies
        flushed, told = (
            int(what in implies) for what in ("page-after-clear", "broadcast-after-clear")
        )
        return f"unmap(level, st, k, s, {flushed}, {told});"

    def map_end(self) -> Iterator[str]:
        """Yield C for a MAP_END."""
        yield f"u64 at = {self._named() or 'SLOTS'};"
        yield from self._one(self._learn(), "map_end(level, &st->own[k]);")

    def inv_page(self) -> Iterator[str]:
        """Yield C for an INV_PAGE."""
        if (named := self._named()) is not None:
            yield f"u64 at = {named};"
        else:
            yield from self._at_page("flushed_in")
        yield from self._one("inv_page(level, st, k, s);")

    def inv_more(self) -> Iterator[str]:
        """Yield C for an INV_RANGE or INV_ALL."""
        yield from self._each("inv_range(level, st, k, s, EXACT, direct)", self._covers)

    def broadcast(self) -> Iterator[str]:
        """Yield C for a BCAST_RANGE or BCAST_ALL."""
        yield from self._each("broadcast(level, st, k, s, EXACT, direct)", self._covers)

    def broadcast_end(self) -> Iterator[str]:
        """Yield C for a BCAST_END."""
        yield from self._each("broadcast_end(level, st, k, s)", lambda _: "1")

    def access(self) -> Iterator[str]:
        """Yield C for a READ or WRITE."""
        yield from self._at_page("accessed_in")
        write = int(self.probe.kind == Kind.WRITE.name)
        yield from self._one(self._learn(), f"access(level, &st->own[k], s, {write});")

    def notify(self) -> Iterator[str]:
        """Yield C for a NOTIFY or NOTIFY_END."""
        yield "if (st->clearing > level) cleared(level, st);"
        entered = self.probe.kind == Kind.NOTIFY.name
        yield "st->ticks += 2;"
        yield f"st->edge[level & 3] = st->ticks | {'IN_HANDLER' if entered else 0};"
        if entered:
            yield "if (level == 3) st->notified = 1;"

    def reference(self) -> Iterator[str]:
        """Yield C for an NMI_REF, which is recorded only if the NMI's entry was not seen."""
        yield "if (st->notified) { st->notified = 0; return 0; }"
        took = self._told(self.values.size, "how long it took")
        yield f"reference(me, level, {self.point}, {int(Kind.NMI_REF)}, {took});"


_BODIES: dict[Kind, Callable[[_Program], Iterator[str]]] = {
    Kind.MAP: _Program.map,
    Kind.UNMAP: _Program.unmap,
    Kind.MAP_END: _Program.map_end,
    Kind.INV_PAGE: _Program.inv_page,
    Kind.INV_RANGE: _Program.inv_more,
    Kind.INV_ALL: _Program.inv_more,
    Kind.BCAST_RANGE: _Program.broadcast,
    Kind.BCAST_ALL: _Program.broadcast,
    Kind.BCAST_END: _Program.broadcast_end,
    Kind.READ: _Program.access,
    Kind.WRITE: _Program.access,
    Kind.NOTIFY: _Program.notify,
    Kind.NOTIFY_END: _Program.notify,
    Kind.NMI_REF: _Program.reference,
}
