# SPDX-License-Identifier: Apache-2.0
"""What a recorded loss may have hidden, as far as the kernel's code could have made it."""

from __future__ import annotations

from ghesrace.checker.core import words as w
from ghesrace.checker.core.facts import ALL_CPUS, Facts
from ghesrace.checker.core.holds import Gap, Loss
from ghesrace.checker.core.state import Cpu, SlotState
from ghesrace.checker.core.words import ACCESSES, COPIES, HANDLER, MAPS, OWN, TOLD, UNMAPS

C_NMI_UNMATCHED = 4
MOST = 256  # windows that are told apart; older ones become one


class Losses:
    """The losses that may still matter."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.all: list[Loss] = []
        self.open: list[Loss] = []  # of which it is not known when they are over
        self.windows: list[Loss] = []
        self.splits: list[Loss] = []
        self.inner: list[Loss] = []
        self.changed = False
        # Holds that close from then on wait: what a counted loss hid there may be told yet.
        self.hold_back = w.NEVER
        self.seen = 0  # kinds that any loss so far may have hidden
        # The fewest events of a hidden page: its map, its access if that is traced, its unmap.
        self.page = 3 if facts.traced & ACCESSES else 2
        self.hid_episodes = False  # a whole episode that may be unsafe may have been hidden

    def add(self, begin: int, end: int, cpu: int, count: int, point: int, cause: int) -> None:
        """Take a LOSS record."""
        facts = self.facts
        kinds = facts.hides[facts.row(point)]
        nmi = cause == C_NMI_UNMATCHED
        if nmi:
            kinds, count = facts.traced, 0
        loss = Loss(-1 if cpu == ALL_CPUS else cpu, begin, end, kinds, count)
        if nmi:
            loss.whole = True
            loss.late = end  # All that it hid was over before the NMI was.
        else:
            self.open.append(loss)
        self.all.append(loss)
        reach(self.all, len(self.all) - 1)
        self.seen |= kinds
        self.changed = True

    def pages(self) -> list[Loss]:
        """The windows in which a whole page may be hidden: where the losses of a CPU together
        hide all that shows of one."""
        if self.changed:
            self.changed = False
            self.windows, self.splits, self.inner = [], [], []
            cpus = sorted({one.cpu for one in self.all})
            parts = [one for one in self.all if not one.whole]
            for cpu in cpus:
                self.find_pages(self.all, cpu, self.windows, self.page)
                self.find_pages(self.all, cpu, self.splits, 2)
                self.find_pages(parts, cpu, self.inner, 2)
            for windows in (self.windows, self.splits, self.inner):
                windows.sort(key=_begin)
                reach(windows, 0)
        return self.windows

    def conclude(self, slots: list[SlotState], gaps: list[Gap], mark: int) -> None:
        """Decide whether losses hid a whole episode, of each as soon as no map or unmap can turn
        out to be missing any more that it explains."""
        new = [
            one for one in self.all if not one.concluded and self.is_settled(one, slots, gaps, mark)
        ]
        for one in new:
            one.concluded = True
        for one in new:
            self.hid_episodes = self.hid_episodes or self.hid_one(one, True)

    def is_settled(self, one: Loss, slots: list[SlotState], gaps: list[Gap], mark: int) -> bool:
        """Whether every map and unmap that began before the loss ended has its other half, or is
        known to lack it."""
        if mark == w.NEVER:
            return True
        if one.end + self.facts.wait >= mark:
            return False
        for gap in gaps:
            if one.cpu in (-1, gap.cpu) and gap.begin <= one.end:
                return False
        for state in slots:
            for hold in state.holds:
                if not hold.closed and one.cpu in (-1, hold.cpu) and hold.map_first <= one.end:
                    return False
        return True

    def hid_one(self, loss: Loss, settled: bool) -> bool:
        """Whether a loss, alone or with others, may have hidden a whole episode that is unsafe; of
        windows that are *settled*, in which every loss is concluded, or of any."""
        if self.facts.hidden_map & w.PAGE_AFTER_SET:
            return False
        for window in self.pages():
            if meets(loss, window) and not (settled and self.is_open(window)):
                return True
        return False

    def is_open(self, window: Loss) -> bool:
        """Whether a loss within a window is not concluded yet."""
        return any(not one.concluded and meets(one, window) for one in self.all)

    def may_have_hidden_one(self) -> bool:
        """Whether one that is not concluded may have."""
        return any(not one.concluded and self.hid_one(one, False) for one in self.all)

    def within(self) -> list[Loss]:
        """The windows in which an unmap and a map may be hidden."""
        self.pages()
        return self.splits

    def inside(self) -> list[Loss]:
        """The windows in which these may be of one handler, so that what looks like one episode is
        two, of two frames."""
        self.pages()
        return self.inner

    def find_pages(self, losses: list[Loss], cpu: int, windows: list[Loss], page: int) -> None:
        """Find the windows in which those of *losses* that are of a CPU hide that many events of a
        page."""
        here = [one for one in losses if one.cpu in (-1, cpu)]
        here.sort(key=_begin)
        edges = sorted({one.begin for one in here} | {one.end for one in here})
        last: Loss | None = None
        begun: list[Loss] = []
        following = 0
        for number in range(len(edges)):
            begin = edges[number]
            end = edges[number + 1] if number + 1 < len(edges) else begin
            begun = [one for one in begun if one.end >= begin]
            while following < len(here) and here[following].begin <= begin:
                begun.append(here[following])
                following += 1
            for until in (begin, end):  # At the edge itself, and between it and the next.
                if not self.hide_page(begun, until, cpu, page):
                    continue
                if last is not None and last.end >= begin:
                    last.end = max(last.end, until)
                else:
                    last = Loss(cpu, begin, until, MAPS, 0)
                    windows.append(last)

    def hide_page(self, losses: list[Loss], until: int, cpu: int, page: int) -> bool:
        """Whether those of these that last *until* then, some of this CPU alone among them, may
        have hidden that many events of a page, its map and its unmap among them."""
        kinds = number = pairs = 0
        mine = False
        for one in losses:
            if one.end < until:
                continue
            mine = mine or one.cpu == cpu
            here = one.kinds & (MAPS | ACCESSES)
            if here:
                kinds |= here
                left = max(one.count - one.spent, 0) if one.count else page
                number += left
                pairs += left if here & MAPS else 0
        if not mine or kinds & MAPS != MAPS & self.facts.traced:
            return False
        if page > 2 and not kinds & ACCESSES:
            return False
        return number >= page and pairs >= 2

    def spend(self, gap: Gap) -> bool:
        """Whether a loss may have hidden what is missing. Where only one can have, it hid that, and
        so much less of anything else."""
        by: Loss | None = None
        others = 0
        for one in self.all:
            meets = one.begin <= gap.end and gap.begin <= one.end
            if one.kinds & gap.kinds and one.cpu in (-1, gap.cpu) and meets:
                by, others = one, others + (by is not None)
        if by is None:
            return False
        if others or not by.count or by.begin > gap.begin or gap.end > by.end:
            return True
        by.spent += 1
        gap.by = by
        self.changed = True
        return by.spent <= by.count or gap.episode is not None

    def hidden_between(self, kinds: int, cpu: int, begin: int, end: int) -> bool:
        """Whether one may have hidden an event of these kinds on this CPU between its stamps."""
        for i in range(len(self.all) - 1, -1, -1):
            one = self.all[i]
            if one.reach < begin:
                break  # as do all before it
            meets = one.begin <= end and begin <= one.end
            spent = one.count and one.spent >= one.count
            if meets and one.kinds & kinds and one.cpu in (-1, cpu) and not spent:
                return True
        return False

    def touch(self, kinds: int, cpu: int, begin: int, end: int) -> bool:
        """Whether one that may hide these kinds meets this time, whatever it did hide."""
        for i in range(len(self.all) - 1, -1, -1):
            one = self.all[i]
            if one.reach < begin:
                break
            meets = one.begin <= end and begin <= one.end
            if meets and one.kinds & kinds and one.cpu in (-1, cpu):
                return True
        return False

    def settle(self, cpus: dict[int, Cpu], slots: list[SlotState], mark: int) -> None:
        """Note by when what each loss hid is over: as soon as its CPU's tasks go on."""
        self.hold_back = w.NEVER
        explained = MAPS | OWN if self.facts.flush_proven else MAPS
        for one in self.all:
            soon = mark <= one.end + self.facts.wait < mark + w.FORCE_CLOSE_NS
            if one.count and one.kinds & explained and soon:
                self.hold_back = min(self.hold_back, one.begin)
        left = []
        for one in self.open:
            cpu = cpus.get(one.cpu)
            self.leaves(one, slots)
            for at in cpu.tasks if cpu is not None else ():
                if at > one.end:
                    one.late = min(one.late, at)
                    break
            else:
                if one.cpu >= 0 and one.late > mark:
                    left.append(one)
        self.open = left
        reach(self.all, 0)
        old = mark - w.FORCE_CLOSE_NS
        for cpu in cpus.values():
            if cpu.tasks and cpu.tasks[0] < old:
                cpu.tasks[:] = [at for at in cpu.tasks if at >= old]

    def leaves(self, one: Loss, slots: list[SlotState]) -> None:
        """Note when a task can have run first in a loss that begins while its CPU has a page mapped
        and that may not have hidden more than one event of a page: behind the unmap."""
        if one.kinds & (MAPS | COPIES | HANDLER) and one.count != 1:
            return
        for state in slots:
            for hold in state.holds:
                if hold.cpu != one.cpu or hold.ctx == w.TASK:
                    continue
                for episode in hold.all():
                    until = hold.close if episode.left_open else w.NEVER
                    if episode.unmapped:
                        until = episode.unmap_first
                    if episode.map_first <= one.begin < until:
                        one.idle = until if until < one.end else w.NEVER

    def in_flight(self, kinds: int, cpu: int, begin: int, end: int) -> int:
        """Whether one of these kinds that was hidden on this CPU before *begin* may take effect
        between then and *end*, because its context was interrupted: the end of the latest loss
        that may have hidden it (NOWHERE: none has)."""
        found = w.NOWHERE
        for i in range(len(self.all) - 1, -1, -1):
            one = self.all[i]
            if one.reach_late < begin:
                break
            meets = one.idle <= end and begin <= one.late
            if meets and one.kinds & kinds and one.cpu in (-1, cpu):
                found = max(found, one.end)
        return found

    def told_between(self, cpu: int, begin: int, end: int) -> bool:
        """Whether one may have hidden a broadcast of any CPU between stamps of this one."""
        implied = self.facts.hidden_unmap & w.BROADCAST_AFTER_CLEAR
        for losses in (self.all, self.pages()):
            for i in range(len(losses) - 1, -1, -1):
                one = losses[i]
                if one.reach + self.facts.error < begin:
                    break
                if one.kinds & TOLD or (implied and one.kinds & UNMAPS):
                    error = 0 if one.cpu in (-1, cpu) else self.facts.error
                    if one.begin - error <= end and begin <= one.end + error:
                        return True
        return False

    def forget(self, before: int) -> None:
        """Bound what is remembered: the oldest that end before *before* become one."""
        if len(self.all) <= MOST:
            return
        old = self.all[: len(self.all) // 2]
        if max(one.end for one in old) >= before:
            return
        merged = Loss(-1, min(o.begin for o in old), max(o.end for o in old), 0, 0)
        merged.concluded = True
        for one in old:
            merged.kinds |= one.kinds
            merged.concluded = merged.concluded and one.concluded
        self.all[: len(old)] = [merged]
        reach(self.all, 0)
        self.changed = True


def reach(losses: list[Loss], start: int) -> None:
    """Note in each, from *start* on, until when it and those before it last: whoever asks from the
    newest on can stop there."""
    for i in range(start, len(losses)):
        one = losses[i]
        one.reach, one.reach_late = one.end, one.late
        if i:
            before = losses[i - 1]
            one.reach = max(one.reach, before.reach)
            one.reach_late = max(one.reach_late, before.reach_late)


def _begin(one: Loss) -> int:
    return one.begin


def meets(one: Loss, other: Loss) -> bool:
    """Whether two losses, or windows, may be of one CPU and of one time."""
    here = one.cpu == -1 or other.cpu in (-1, one.cpu)
    return here and one.begin <= other.end and other.begin <= one.end
