# SPDX-License-Identifier: Apache-2.0
"""GHES writes and page-table edits: what met, at each tie, whatever was asked before."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from ghesrace.checker import engine, event_store, findings
from ghesrace.checker.core import edits, facts, holds, losses, run, state, words
from ghesrace.plan import Plan, Probe, Slot
from tests.build.uncompiled import all_uncompiled

EDITS, HOLDS, STATE = all_uncompiled(edits), all_uncompiled(holds), all_uncompiled(state)
FACTS, SECOND, NEVER = all_uncompiled(facts), words.FORCE_CLOSE_NS, words.NEVER
V, E, TABLE = 0xFFFFFFFFFF57B000, 3, 1 << 21
MAP, UNMAP, EDIT, END, NOTIFY = range(5)


def edited(*, allocates: str = "", frees: str = "", status: bool = False, ends: bool = True) -> Any:
    """Two slots of one table; *allocates* and *frees*: which symbols may."""
    probes = []
    for name in ("MAP", "UNMAP", "EDIT", "EDIT_END", "NOTIFY"):
        may = ["may-allocate"] * (name in allocates) + ["may-free"] * (name in frees)
        may += ["unmaps-status"] * (status and name == "EDIT")
        symbol = "edit" if name.startswith("EDIT") else name
        if ends or name != "EDIT_END":
            probes.append(Probe(name, name, symbol, "kprobe", implies=tuple(may)))
    slots = Slot("a", 1, V, "report"), Slot("b", 2, V + words.PAGE, "report")
    plan = Plan("x86_64", "t", slots, tuple(probes), cpus=(0, 1), clock_error_ns=E)
    of = [STATE.SlotState(n, False, slot.address) for n, slot in enumerate(slots)]
    made = EDITS.Edits(FACTS.Facts(plan), of, SimpleNamespace(all=[]))
    made.cpus = {cpu: STATE.Cpu(cpu, 2) for cpu in range(2)}
    return made


def write(made: Any, cpu: int, t: int, last: int, slot: int = 0, kind: int = MAP) -> None:
    """A GHES write that began at *t* and was over at *last*."""
    what = (words.K_MAP, words.K_UNMAP)[kind]
    made.begin_write(what, made.cpus[cpu], words.IRQ, t, slot, kind, 0)
    made.end_write(made.cpus[cpu].levels[words.IRQ], last, True)


def edit(made: Any, cpu: int, t: int, last: int, addr: int = V, size: int = words.PAGE) -> None:
    """An edit that began at *t* and was over at *last*."""
    made.begin_edit(cpu, words.TASK, t, 0, addr, size, 7, EDIT)
    made.end_edit(cpu, words.TASK, last, 7, END)


def told(made: Any, mark: int = NEVER) -> list[tuple[int, int, int, int]]:
    return [(m.ghes.t, m.edit.t, m.danger, m.result) for m in made.step(mark)]


@pytest.mark.parametrize(
    ("t", "last", "result"),
    [
        (14, 16, words.OBSERVED),
        (13, 16, words.UNDECIDED),  # the edit began at 10, and ended at 20
        (14, 17, words.UNDECIDED),
        (0, 7, words.UNDECIDED),
        (0, 6, None),
        (23, 30, words.UNDECIDED),
        (24, 30, None),
    ],
)
def test_a_write_beside_an_edit_on_another_cpu(t: int, last: int, result: int | None) -> None:
    """Within the clocks' error it is open; on the same CPU the buffer says it."""
    made = edited()
    write(made, 0, t, last)
    edit(made, 1, 10, 20)
    assert told(made) == ([] if result is None else [(t, 10, words.ENTRY, result)])
    made = edited()
    write(made, 1, t, last)
    edit(made, 1, 10, 20)
    assert told(made) == []


@pytest.mark.parametrize(
    ("addr", "size", "allocates", "frees", "danger", "result"),
    [
        (V, 1, "", "", words.ENTRY, words.OBSERVED),
        (V + words.PAGE - 1, 1, "", "", words.ENTRY, words.OBSERVED),
        (V - 1, 2, "", "", words.ENTRY, words.OBSERVED),
        (V - 1, 1, "", "", words.ENTRY, words.SAME_TABLE),
        (V + words.PAGE, 9, "", "", words.ENTRY, words.SAME_TABLE),
        (V, 0, "", "", words.ENTRY, words.OTHER_TABLE),
        (V // TABLE * TABLE - 1, 1, "", "", words.ENTRY, words.OTHER_TABLE),
        (V // TABLE * TABLE + TABLE, 9, "", "", words.ENTRY, words.OTHER_TABLE),
        (V - 1, 1, "EDIT", "", words.TABLE, words.PREDICTED),
        (V - 1, 1, "MAP", "", words.TABLE, words.PREDICTED),
        (V - 1, 1, "MAP EDIT", "", words.ENTRY, words.SAME_TABLE),  # one lock
        (V - 1, 1, "MAP EDIT", "EDIT", words.TABLE, words.PREDICTED),
        (V - 1, 1, "", "MAP", words.TABLE, words.PREDICTED),
        (V // TABLE * TABLE - 1, 1, "EDIT", "MAP", words.ENTRY, words.OTHER_TABLE),
        (V // TABLE * TABLE - 1, 2**64 - 1, "", "", words.ENTRY, words.OBSERVED),
    ],
)
def test_what_a_write_and_an_edit_touch(
    addr: int, size: int, allocates: str, frees: str, danger: int, result: int
) -> None:
    """A byte before or behind the page, or the table, is of another entry, or table."""
    made = edited(allocates=allocates, frees=frees)
    write(made, 0, 14, 16)
    edit(made, 1, 10, 20, addr, size)
    got = told(made)
    assert [one[3] for one in got] == [result]
    if result in (words.OBSERVED, words.PREDICTED):
        assert got[0][2] == danger


def test_an_unmap_allocates_no_table() -> None:
    """The setter of the fixmap is one function for both: each clear beside an edit of the same
    table would be a hazard."""
    for kind, result in ((MAP, words.PREDICTED), (UNMAP, words.SAME_TABLE)):
        made = edited(allocates="UNMAP")  # and MAP, which is in that
        write(made, 0, 14, 16, kind=kind)
        edit(made, 1, 10, 20, V - 1, 1)
        assert [one[3] for one in told(made)] == [result]


@pytest.mark.parametrize("allocates", ["MAP", "UNMAP"])  # that one's function may, a clear never
@pytest.mark.parametrize(("t", "met"), [(16, True), (19, True), (20, False)])
def test_two_slots_of_one_table_on_two_cpus(t: int, met: bool, allocates: str) -> None:
    """Where a map may allocate the table, they share no lock; at a tie of the clocks it is open."""
    made = edited(allocates=allocates)
    write(made, 0, 10, 16)
    write(made, 1, t, t + 4, 1, UNMAP)
    write(made, 1, t, t + 4, 0, UNMAP)  # of its own slot: that is an overlap
    write(made, 0, t, t + 4, 1, UNMAP)
    assert told(made) == ([(t, 10, words.TABLE, words.UNDECIDED)] if met else [])


def test_without_edits_no_write_is_kept() -> None:
    """Each map and unmap would be remembered for nothing."""
    assert edited().wanted
    plan = Plan("x86_64", "t", (), (Probe("m", "MAP", "m", "kprobe"),))
    assert not EDITS.Edits(FACTS.Facts(plan), [], None).wanted
    assert not EDITS.Edits(FACTS.Facts(plan), [], None).ends_traced
    assert not edited(ends=False).ends_traced


def test_what_met_is_told_once_whatever_was_asked_before() -> None:
    """A daemon asks several times a second: a meeting would be told twice, or never."""
    for seed in range(60):
        dice = Random(seed)
        allocates = dice.choice(("", "MAP", "EDIT"))
        frees = dice.choice(("", "", "UNMAP"))
        things = []
        for _ in range(8):
            t = dice.randrange(0, 120, 2)
            things.append((t, t + dice.choice((1, 2, 6, 15)), dice.randrange(2),
                           dice.choice((-1, 0, 0, 1)), dice.choice((MAP, UNMAP))))  # fmt: skip
        things.sort()
        said = []
        for marks in ((), range(0, 150, 7), range(3, 150, 2)):
            made, found, left = edited(allocates=allocates, frees=frees), [], list(things)
            for mark in (*marks, NEVER):
                while left and left[0][1] < mark:
                    t, last, cpu, slot, kind = left.pop(0)
                    if slot < 0:
                        edit(made, cpu, t, last)
                    else:
                        write(made, cpu, t, last, slot, kind)
                waits = min((one[0] for one in left), default=mark)
                found += told(made, min(mark, waits))
            said.append(sorted(found))
        assert said[0] == said[1] == said[2], seed


def test_a_write_that_ends_where_a_step_does_is_told_once() -> None:
    """Two writes of one table would meet twice: at that step, and at the next."""
    made = edited(allocates="MAP")
    write(made, 0, 10, 20)
    write(made, 1, 14, 16, 1, UNMAP)
    assert told(made, 20 + E) == []
    assert told(made, 21 + E) == [(14, 10, words.TABLE, words.PREDICTED)]
    assert told(made) == []


@pytest.mark.parametrize("begin", [None, 200, 90])
@pytest.mark.parametrize("open_edit", [False, True])
def test_writes_are_kept_as_long_as_they_may_meet_an_edit(
    begin: int | None, open_edit: bool
) -> None:
    """All writes of a run would be remembered, or a meeting forgotten: an edit that goes on, or a
    write that does where one may allocate, may meet what was over before it."""
    mark = 100
    for allocates in ("", "MAP"):
        made = edited(allocates=allocates, status=True)
        since = mark - E
        if begin is not None and open_edit:
            made.begin_edit(1, words.TASK, begin, 0, V, 9, 7, EDIT)
            since = min(since, begin)
        elif begin is not None:
            made.begin_write(words.K_MAP, made.cpus[1], words.IRQ, begin, 0, MAP, 0)
            since = min(since, begin) if allocates else since
        for over in (since - 2 * E - 1, since - 2 * E):
            write(made, 0, over - 1, over)
            made.begin_call(0, words.NMI, over - 1, 0, NOTIFY)
            made.end_call(0, words.NMI, over, True)
        made.step(mark)
        for spans in (made.writes, made.handlers):
            assert [span.last for span in spans if span.last != NEVER] == [since - 2 * E]


def test_an_edit_asks_only_writes_of_its_time() -> None:
    """Each edit would ask all writes that are remembered."""
    made = edited()
    for n in range(40):
        write(made, 0, 100 + 10 * n, 102 + 10 * n)
    edit(made, 1, 90, 95)
    asked: list[Any] = []
    real = made.may_meet
    made.may_meet = lambda ghes, other: asked.append(ghes) or real(ghes, other)
    assert told(made) == []
    assert len(asked) <= 1
    made = edited(allocates="MAP")
    for n in range(40):
        write(made, n % 2, 100 + 10 * n, 102 + 10 * n, n % 2)
    asked = []
    made.tell = lambda *what: asked.append(what)
    made.step(NEVER)
    assert asked == []


def test_what_never_ends_is_given_up() -> None:
    """A write, an edit or a handler whose end was missed would go on for ever."""
    for over, mark in ((False, 100 + SECOND), (True, 101 + SECOND)):
        made = edited(status=True)
        made.begin_write(words.K_MAP, made.cpus[0], words.IRQ, 100, 0, MAP, 0)
        made.begin_edit(1, words.TASK, 100, 0, V, 9, 7, EDIT)
        made.begin_call(0, words.NMI, 100, 0, NOTIFY)
        made.give_up(mark)
        assert (made.cpus[0].levels[2].writing is None) is over
        assert (made.open == {}) is over
        assert (made.calls == {}) is over
        assert made.count == len(made.open)
        for (span,) in (made.writes, made.edits, made.handlers):
            assert (span.last, span.ended) == (100 + SECOND if over else NEVER, False)


def test_an_edit_ends_with_its_context() -> None:
    """An interrupt's edit would go on behind it; a task's may go on elsewhere."""
    made = edited()
    made.begin_edit(0, words.IRQ, 1, 0, V, 9, 7, EDIT)
    made.begin_edit(1, words.IRQ, 1, 0, V, 9, 7, EDIT)
    made.begin_edit(0, words.TASK, 1, 0, V, 9, 7, EDIT)
    made.left(0, words.TASK, 5)
    assert len(made.open) == made.count == 3
    made.left(0, words.IRQ, 5)
    assert sorted(made.open) == [(-1, 7, 3), (1, words.IRQ, 3)]
    assert (made.edits[0].last, made.edits[0].ended, made.count) == (5, False, 2)
    made.went_on(0, words.TASK, 6)  # its end is traced
    assert len(made.open) == 2
    made.end_edit(1, words.TASK, 8, 7, END)  # the task went on on CPU 1
    assert (made.edits[2].last, made.edits[2].ended) == (8, True)
    made = edited(ends=False)
    for cpu, ctx in ((0, words.TASK), (0, words.IRQ), (1, words.IRQ)):
        made.begin_edit(cpu, ctx, 1, 0, V, 9, 0, EDIT)
    made.went_on(0, words.IRQ, 4)
    assert [span.last for span in made.edits] == [NEVER, 4, NEVER]
    made.went_on(0, words.TASK, 5)
    assert [span.last for span in made.edits] == [5, 4, NEVER]
    made.begin_edit(1, words.IRQ, 9, 0, V, 9, 0, EDIT)  # it began anew
    assert made.edits[2].last == 9
    assert made.count == 1


def lossy(cpu: int, begin: int, end: int, kinds: int) -> Any:
    return HOLDS.Loss(cpu, begin, end, kinds, 0)


EDIT_END, MAP_END, CALL_END = 1 << words.K_EDIT_END, 1 << words.K_MAP_END, 1 << words.K_NOTIFY_END


@pytest.mark.parametrize(
    ("what", "loss", "touched"),
    [
        (words.WRITE, lossy(0, 20, 30, MAP_END), True),
        (words.WRITE, lossy(0, 0, 10, MAP_END), True),
        (words.WRITE, lossy(0, 21, 30, MAP_END), False),
        (words.WRITE, lossy(0, 0, 9, MAP_END), False),
        (words.WRITE, lossy(-1, 20, 30, MAP_END), True),
        (words.WRITE, lossy(1, 20, 30, MAP_END), False),
        (words.WRITE, lossy(0, 20, 30, EDIT_END), False),
        (words.EDIT, lossy(1, 20, 30, EDIT_END), True),  # a task goes on elsewhere
        (words.EDIT, lossy(0, 20, 30, MAP_END), False),
        (words.CALL, lossy(0, 20, 30, CALL_END), True),
        (words.CALL, lossy(1, 20, 30, CALL_END), False),
    ],
)
def test_whose_end_a_loss_may_have_hidden(what: int, loss: Any, touched: bool) -> None:
    """What ended unseen would be called torn."""
    made = edited()
    span = HOLDS.Span.of(what, 0, 0, 0, 10, 0)
    span.last = 20
    assert not made.touched(span)
    made.losses.all = [loss]
    assert made.touched(span) is touched


def test_the_bounds_of_what_is_remembered() -> None:
    """Another number is another promise: of memory, or of how much a witness shows."""
    assert (losses.MOST, edits.MOST, words.MOST_IN_DOUBT) == (256, 1 << 14, 128)
    assert (run.MOST_LEARNT, engine.MAX_UNMARKED, event_store.MOST_EVENTS) == (10_000, 1 << 23, 64)
    assert edits.TABLE_BITS == 21
    assert losses.C_NMI_UNMATCHED == 4
    assert (findings.FIRST_OCCURRENCES, findings.MAX_FINDINGS) == (10, 1000)


def test_which_slots_have_a_handler() -> None:
    """Where none is traced a hold is one copy: a lock would be longer or shorter than it is."""
    slots = Slot("a", 1, V, "report"), Slot("b", 2, V + words.PAGE, "report")
    for slot, has in ((None, [True, True]), (1, [False, True])):
        probes = (Probe("n", "NOTIFY", "n", "kprobe", slot=slot),)
        made = FACTS.Facts(Plan("x86_64", "t", slots, probes))
        assert [made.has_handler(n) for n in range(2)] == has
    none = FACTS.Facts(Plan("x86_64", "t", slots, (Probe("m", "MAP", "m", "kprobe"),)))
    assert not none.has_handler(0)


@pytest.mark.parametrize(("n", "cut"), [(2, False), (3, False), (4, True), (7, True)])
@pytest.mark.parametrize("what", ["writes", "edits", "handlers"])
def test_of_more_than_can_be_remembered_the_newest_are(what: str, n: int, cut: bool) -> None:
    """A damaged file would eat all memory; or what fits would be said not to."""
    made = edited(status=True)
    for t in range(n):
        if what == "writes":
            made.begin_write(words.K_MAP, made.cpus[0], words.IRQ, t, 0, MAP, 0)
        elif what == "edits":
            made.begin_edit(0, words.TASK, t, 0, V, 9, 7 + t, EDIT)
        else:
            made.begin_call(0, words.NMI, t, 0, NOTIFY)
    with patch.object(EDITS, "MOST", 3):
        made.step(50)
    assert made.truncated is cut
    assert [span.t for span in getattr(made, what)] == list(range(n))[-3:]


def test_handlers_are_remembered_only_for_edits_that_unmap_their_status() -> None:
    """Each handler of each kernel would be; or none, and the removal of a source meet nobody."""
    for implied, kept in (("may-free", 0), ("may-allocate", 0), ("unmaps-status", 1)):
        probe = Probe("edit", "EDIT", "edit", "kprobe", implies=(implied,))
        made = EDITS.Edits(FACTS.Facts(Plan("x86_64", "t", (), (probe,))), [], None)
        assert made.status is bool(kept)
        made.begin_call(0, words.NMI, 1, 0, 0)
        assert len(made.handlers) == len(made.calls) == kept


@pytest.mark.parametrize("kind", ["MAP", "UNMAP", "EDIT"])
def test_which_writes_may_change_a_table(kind: str) -> None:
    """Writes of two slots would be compared for nothing, or never: only those of GHES itself."""
    for word in ("may-allocate", "may-free", "unmaps-status"):
        probes = (
            Probe("a", kind, "a", "kprobe", implies=(word,)),
            Probe("b", "MAP", "b", "kprobe"),
        )
        made = EDITS.Edits(FACTS.Facts(Plan("x86_64", "t", (), probes)), [], None)
        ghes = kind != "EDIT"
        assert made.allocating is (ghes and word == "may-allocate")
        assert made.freeing is (ghes and word == "may-free")


def test_an_interrupted_edit_takes_the_write_inside_of_it() -> None:
    """One of a lower context, or of another CPU, interrupted nothing; and a removal of a source is
    asked of handlers."""
    for cpu, ctx, status, met in (
        (0, words.TASK, False, 1),
        (0, words.TASK, True, 0),
        (0, words.IRQ, False, 0),
        (0, words.NMI, False, 0),
        (1, words.TASK, False, 0),
    ):
        made = edited(status=status)
        made.begin_edit(cpu, ctx, 10, 0, V, 9, 7, EDIT)
        made.begin_write(words.K_MAP, made.cpus[0], words.IRQ, 12, 0, MAP, 0)
        (span,) = made.edits
        assert len(span.inside or ()) == met
        made.end_write(made.cpus[0].levels[words.IRQ], 14, True)
        made.end_edit(cpu, ctx, 20, 7, END)
        assert [(m.ghes.t, m.result) for m in made.meetings] == [(12, words.OBSERVED)] * met
        assert span.inside is None
    for low, high, slot, met in ((1, 2, 1, 1), (1, 2, 0, 0), (2, 1, 1, 0), (2, 2, 1, 0)):
        made = edited(allocates="MAP")
        made.begin_write(words.K_MAP, made.cpus[0], low, 10, 0, MAP, 0)
        made.begin_write(words.K_MAP, made.cpus[0], high, 12, slot, MAP, 0)
        assert [len(span.inside or ()) for span in made.writes] == [met, 0]
