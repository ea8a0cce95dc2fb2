# SPDX-License-Identifier: Apache-2.0
"""What the kernel's code did in each context: handlers, copies, episodes, lock holds.

This reads the buffers in their own order and no stamp. Which invalidation belongs to what is
decided here as far as the code decides it; what depends on a world is left to `classes`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ghesrace.events import NO_SLOT, Context, Kind

from .record import BROADCASTS, LOCAL, OF_CALLERS, Ev, Record

ENDS = (Kind.MAP_END, Kind.UNMAP_END)
PAGES = (Kind.COPY, Kind.MAP, Kind.READ, Kind.WRITE, Kind.UNMAP)


@dataclass(slots=True, eq=False)
class Episode:
    """One use of a slot. `map` is None where that lies before the start.

    `over` is the event that shows that its copy, its handler or its context is over;
    `map_flushes` are its own invalidations between map and access (or unmap, if the access is
    not traced), `in_symbol` those of them that the mapping function surely made, `unmap_flush`
    what belongs to its unmap, `pre` its own exact ones before its map that may be in its hold.
    """

    slot: int
    cpu: int
    ctx: int
    number: int
    hold: Hold
    copy: Ev | None = None
    map: Ev | None = None
    map_end: Ev | None = None
    access: Ev | None = None
    unmap: Ev | None = None
    unmap_end: Ev | None = None
    replaced: Ev | None = None
    over: Ev | None = None
    last: Ev | None = None
    map_flushes: list[Ev] = field(default_factory=list)
    in_symbol: list[Ev] = field(default_factory=list)
    pre: list[Ev] = field(default_factory=list)
    unmap_flush: Ev | None = None
    window_end: Ev | None = None
    writes: bool = False

    @property
    def frame(self) -> int | None:
        """The frame (physical address, bytes); None if only this world knows it, or nobody."""
        return self.map.frame if self.map is not None else None

    @property
    def hidden(self) -> bool:
        """Whether the record has neither its map nor its unmap."""
        return all(e is None or e.hidden for e in (self.map, self.unmap))


@dataclass(slots=True, eq=False)
class Hold:
    """One hold of a slot's lock. `begin` is the event behind which it begins, None if unknown;
    `handler` names the run of the handler, None if its entry was not seen; `over` as above."""

    slot: int
    cpu: int
    ctx: int
    begin: Ev | None
    handler: int | None
    over: Ev | None = None
    episodes: list[Episode] = field(default_factory=list)
    nested: bool = False


@dataclass(slots=True)
class _Context:
    """What runs in one context of one CPU."""

    cpu: int
    ctx: int
    handler: Ev | None = None
    run: int | None = None
    used: bool = False  # whether a handler or copy that is not over did anything here
    copies: list[Ev] = field(default_factory=list)
    open: dict[int, list[Episode]] = field(default_factory=dict)
    hold: dict[int, Hold] = field(default_factory=dict)
    # Per slot: exact own invalidations since the last use in this hold, and the unmap that
    # still waits for its flush.
    pre: dict[int, list[Ev]] = field(default_factory=dict)
    flushing: dict[int, tuple[Episode, bool]] = field(default_factory=dict)
    flushed: dict[int, Episode] = field(default_factory=dict)  # by its own flush, in this hold
    symbol: dict[int, Episode] = field(default_factory=dict)


@dataclass(slots=True)
class Code:
    """Everything that the record shows of the kernel's code."""

    record: Record
    episodes: list[Episode] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    ends: dict[int, Ev] = field(default_factory=dict)  # id of a broadcast -> its end
    faults: list[str] = field(default_factory=list)  # what the kernel's code can't have done

    def owned(self) -> set[int]:
        """The invalidations (by id) that some episode made for itself."""
        flushes = [f for e in self.episodes for f in (*e.pre, *e.map_flushes, e.unmap_flush)]
        return {id(flush) for flush in flushes}


def read(record: Record) -> Code:
    """Follow each CPU's buffer."""
    code = Code(record)
    for cpu, events in record.cpus.items():
        _Reader(code, cpu, events).run()
    return code


@dataclass(slots=True)
class _Reader:
    code: Code
    cpu: int
    events: list[Ev]
    contexts: dict[int, _Context] = field(default_factory=dict)
    sending: dict[int, list[Ev]] = field(default_factory=dict)
    filled: set[int] = field(default_factory=set)  # The copies (by id) that mapped something.
    runs: int = 0

    def run(self) -> None:
        for at, event in enumerate(self.events):
            for ctx in [c for c in self.contexts if c > event.ctx]:
                self.in_copy(self.contexts[ctx], event)
                self.in_handler(self.contexts[ctx], event)
                self.leave(self.contexts.pop(ctx), event)
            here = self.contexts.setdefault(event.ctx, _Context(self.cpu, event.ctx))
            self.take(here, event, at)
        self.unended()
        self.contexts.clear()

    def take(self, here: _Context, event: Ev, at: int) -> None:
        kind = event.kind
        here.used |= kind in PAGES
        if kind == Kind.NOTIFY:
            going = here.run or here.used
            if event.hidden and going and self.code.record.traced(Kind.NOTIFY_END):
                self.code.faults.append("a hidden handler begins in another of its context")
            self.in_copy(here, event)
            self.leave(here, event)
            self.runs += 1
            here.handler, here.run = event, self.runs
        elif kind == Kind.NOTIFY_END:
            self.in_copy(here, event)
            self.leave(here, event)
        elif kind == Kind.COPY:
            if here.copies and not self.nests(here, at):
                if event.hidden and self.code.record.traced(Kind.COPY_END):
                    self.code.faults.append("a hidden copy begins in another")
                self.copy_over(here, event)
            here.copies.append(event)
            self.page_locks_over(here, event)
        elif kind == Kind.COPY_END:
            self.copy_over(here, event)
        elif kind == Kind.MAP and event.slot != NO_SLOT:
            self.map(here, event)
        elif kind == Kind.UNMAP and event.slot != NO_SLOT:
            self.unmap(here, event)
        elif kind in (Kind.READ, Kind.WRITE):
            self.access(here, event)
        elif kind in LOCAL or kind in BROADCASTS:
            self.invalidation(here, event)
            if kind in BROADCASTS:
                self.sending.setdefault(event.ctx, []).append(event)
        elif kind == Kind.BCAST_END and self.sending.get(event.ctx):
            self.code.ends[id(self.sending[event.ctx].pop())] = event
        if kind == Kind.MAP_END:
            self.returned(here, event)
        for slot, stack in here.open.items():
            for episode in stack:
                episode.last = event
                if kind == Kind.UNMAP_END and event.slot == slot and episode is stack[-1]:
                    self.code.faults.append("an unmap returned that was not entered")
                mapped = kind == Kind.MAP_END and event.slot in (slot, NO_SLOT)
                if not mapped or episode is not stack[-1]:
                    continue
                if episode.map_end is None:
                    episode.map_end = event
                elif event.hidden or episode.map_end.hidden:
                    self.code.faults.append("a hidden return of a map that returned")
        self.symbols(here, event)

    def symbols(self, here: _Context, event: Ev) -> None:
        """Only flushes can be inside a symbol that maps; the rest shows that it returned."""
        if event.kind not in LOCAL and event.kind not in BROADCASTS and event.kind != Kind.MAP:
            here.symbol.clear()
        for slot, (episode, direct) in list(here.flushing.items()):
            if event.kind == Kind.UNMAP_END and event.slot in (slot, NO_SLOT):
                episode.unmap_end = episode.window_end = event
            elif event is not episode.unmap and event.kind != Kind.BCAST_END and direct:
                here.flushing[slot] = (episode, False)

    def returned(self, here: _Context, event: Ev) -> None:
        """A map returns before its page is unmapped: no hidden unmap lies inside of it."""
        for episode in reversed(self.code.episodes):
            if (episode.slot, episode.cpu, episode.ctx) == (event.slot, self.cpu, here.ctx):
                inside = episode.unmap is not None and episode.unmap.hidden
                if inside and episode.map_end is None and not here.open.get(event.slot):
                    self.code.faults.append("a map returns behind its hidden unmap")
                return

    def nests(self, here: _Context, at: int) -> bool:
        """Whether this copy is inside another one: two contexts that the record can't tell."""
        inside = [slot for slot, stack in here.open.items() if stack]
        if not inside:
            return False
        balance = len(here.open[inside[0]])
        for event in self.events[at:]:
            if event.ctx == here.ctx and event.slot == inside[0]:
                balance += {Kind.MAP: 1, Kind.UNMAP: -1}.get(Kind(event.kind), 0)
                if balance < 0:
                    return False
        return balance == 0 and self.code.record.traced(Kind.COPY_END)

    def in_copy(self, here: _Context, event: Ev) -> None:
        """A hidden begin or end of a handler is not inside a copy, whose end would be seen, nor is
        what its context interrupted."""
        if event.hidden and here.copies and self.code.record.traced(Kind.COPY_END):
            self.code.faults.append("a copy is left by what is hidden, without its end")

    def in_handler(self, here: _Context, event: Ev) -> None:
        """A handler that something hidden of a lower context follows has ended, which is seen."""
        if event.hidden and here.handler is not None and self.code.record.traced(Kind.NOTIFY_END):
            self.code.faults.append("a handler is left by what is hidden, without its end")

    def unended(self) -> None:
        """The code goes on behind a broadcast only when that is over, and its end would be seen: a
        hidden one without an end is under way, in a context that nothing of follows. One with an
        end is no further than that: its caller made nothing in between."""
        if not self.code.record.traced(Kind.BCAST_END):
            return
        for at, one in enumerate(self.events):
            if not one.hidden or one.kind not in BROADCASTS:
                continue
            end = self.code.ends.get(id(one))
            if end is None and any(event.ctx <= one.ctx for event in self.events[at + 1 :]):
                self.code.faults.append("a hidden broadcast has no end")
            elif end is not None and any(
                event.ctx < one.ctx or (event.ctx == one.ctx and event.kind in OF_CALLERS)
                for event in self.events[at + 1 : self.events.index(end)]
            ):
                self.code.faults.append("a caller goes on within its hidden broadcast")

    # -- what is over ----------------------------------------------------------------------

    def leave(self, here: _Context, event: Ev) -> None:
        """A handler, or a context, is over."""
        for slot in list(here.hold):
            self.hold_over(here, slot, event)
        here.handler = here.run = None
        here.used = False
        here.copies.clear()
        here.pre.clear()

    def copy_over(self, here: _Context, event: Ev) -> None:
        begin = here.copies.pop() if here.copies else None
        if begin is not None and begin.hidden and id(begin) not in self.filled:
            self.code.faults.append("a hidden copy maps nothing")
        for stack in here.open.values():
            for episode in [e for e in stack if not here.copies or e.hold.begin is begin]:
                stack.remove(episode)
                self.end_without_unmap(episode, event)
        self.page_locks_over(here, event)

    def page_locks_over(self, here: _Context, event: Ev) -> None:
        for slot in list(here.hold):
            if self.code.record.plan.slots[slot].lock == "page" and not here.open.get(slot):
                self.hold_over(here, slot, event)
        for slot, plan_slot in enumerate(self.code.record.plan.slots):
            if plan_slot.lock == "page":
                here.pre.pop(slot, None)

    def hold_over(self, here: _Context, slot: int, event: Ev) -> None:
        for episode in here.open.pop(slot, []):
            self.end_without_unmap(episode, event)
        hold = here.hold.pop(slot, None)
        if hold is not None and hold.over is None:
            hold.over = event
        here.flushing.pop(slot, None)
        here.flushed.pop(slot, None)
        here.pre.pop(slot, None)

    def end_without_unmap(self, episode: Episode, event: Ev) -> None:
        episode.over = event
        self.code.faults.append("a copy ended without an unmap")

    # -- one page ----------------------------------------------------------------------------

    def map(self, here: _Context, event: Ev) -> None:
        slot = event.slot
        stack = here.open.setdefault(slot, [])
        record = self.code.record
        nested = (
            bool(stack) and len(here.copies) > 1 and stack[-1].hold.begin is not here.copies[-1]
        )
        if stack and not nested:
            before = stack.pop()
            before.replaced = event
            if event.hidden or (before.map is not None and before.map.hidden):
                self.code.faults.append("a hidden map lies behind a map, or has no unmap")
        hold = here.hold.get(slot)
        page = record.plan.slots[slot].lock == "page"
        # Without the handler's entry nobody knows where a hold ends: taken apart, they can be in
        # more orders.
        apart = (page or here.run is None) and not (hold and hold.episodes[-1].replaced)
        if hold is None or nested or apart:
            copy = here.copies[-1] if here.copies else None
            begin = copy if nested else here.handler
            if page and copy is not None:
                begin = copy
            if hold is not None and not nested:
                hold.over = event
            hold = Hold(slot, self.cpu, here.ctx, begin, here.run, nested=nested)
            here.hold[slot] = hold
            self.code.holds.append(hold)
        episode = self.episode(here, hold)
        episode.map, episode.pre = event, here.pre.pop(slot, [])
        episode.copy = here.copies[-1] if here.copies else None
        self.filled.add(id(episode.copy))
        episode.writes = bool(here.copies and here.copies[-1].flags & 2)
        stack.append(episode)
        here.symbol[slot] = episode
        here.flushing.pop(slot, None)
        here.flushed.pop(slot, None)

    def episode(self, here: _Context, hold: Hold) -> Episode:
        made = Episode(hold.slot, self.cpu, here.ctx, len(self.code.episodes), hold)
        hold.episodes.append(made)
        self.code.episodes.append(made)
        return made

    def unmap(self, here: _Context, event: Ev) -> None:
        slot = event.slot
        stack = here.open.get(slot, [])
        if stack:
            episode = stack.pop()
        else:
            if event.hidden:
                self.code.faults.append("a hidden unmap has no map")
            elif here.run or here.copies or self.mapped(slot):
                self.code.faults.append("an unmap has no map")
            elif self.came_up(here, event):
                self.code.faults.append("a page was mapped before what is below its context")
            hold = here.hold.get(slot)
            if hold is None:
                hold = Hold(slot, self.cpu, here.ctx, None, here.run)
                here.hold[slot] = hold
                self.code.holds.append(hold)
            episode = self.episode(here, hold)
        episode.unmap = event
        here.pre.pop(slot, None)
        here.flushing[slot] = (episode, True)
        here.flushed.pop(slot, None)

    def access(self, here: _Context, event: Ev) -> None:
        stack = here.open.get(event.slot)
        if stack:
            if stack[-1].access is None:
                stack[-1].access = event
            stack[-1].writes |= event.kind == Kind.WRITE
        elif here.run or here.copies or self.mapped(event.slot):
            self.code.faults.append("an access has no map")

    def came_up(self, here: _Context, event: Ev) -> bool:
        """Whether something hidden went on in a lower context, behind which this one began, and no
        loss is large enough to have hidden the map too."""
        earlier = self.events[: self.events.index(event)]
        below = [one for one in earlier if one.hidden and one.ctx < here.ctx]
        return bool(below) and not any(
            loss.cpu in (None, self.cpu)
            and (loss.kinds is None or Kind.MAP in loss.kinds)
            and (loss.count is None or loss.count > len(below))
            and loss.begin <= event.until
            and loss.end >= below[-1].ts
            for loss in self.code.record.losses
        )

    def mapped(self, slot: int) -> bool:
        """Whether this CPU used the slot before: what is missing does not lie before the start."""
        return any(e.slot == slot and e.cpu == self.cpu for e in self.code.episodes)

    def invalidation(self, here: _Context, event: Ev) -> None:
        for slot, plan_slot in enumerate(self.code.record.plan.slots):
            page = plan_slot.address
            if page is None or not event.covers(page):
                continue
            stack = here.open.get(slot)
            if stack:
                if stack[-1].access is None:
                    stack[-1].map_flushes.append(event)
                    if here.symbol.get(slot) is stack[-1]:
                        stack[-1].in_symbol.append(event)
                continue
            flushing = here.flushing.get(slot)
            flushed = here.flushed.get(slot)
            told = event.kind in (Kind.BCAST_RANGE, Kind.BCAST_ALL)
            if flushing is not None and (
                event.exactly(page) or (flushing[1] and not self.implied(flushing[0], told))
            ):
                flushing[0].unmap_flush = event
                if not told:
                    here.flushed[slot] = flushing[0]
                del here.flushing[slot]
            elif flushed is not None and told and event.exactly(page):
                flushed.unmap_flush = event  # of exactly the page, behind the unmap's own flush
                del here.flushed[slot]
            elif event.exactly(page):
                here.pre.setdefault(slot, []).append(event)

    def implied(self, episode: Episode, told: bool) -> bool:
        """Whether the unmap's symbol itself invalidates: what spans the page is not the first.
        A broadcast (*told*) is one all the same, unless the unmap broadcasts."""
        record, unmap = self.code.record, episode.unmap
        assert unmap is not None
        what = set(record.implied(unmap))
        if unmap.hidden:
            what -= set(record.assumed(unmap))
        return "broadcast-after-clear" in what or (not told and "page-after-clear" in what)


def contexts_known(record: Record) -> bool:
    """Whether the record tells contexts at all."""
    return any(e.ctx != Context.TASK for events in record.cpus.values() for e in events)
