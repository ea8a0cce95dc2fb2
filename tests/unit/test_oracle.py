# SPDX-License-Identifier: Apache-2.0
"""The oracle of worlds (tests/oracle): records judged by hand, what really happened, planted
faults, and the checker beside it on the small part that `make test` compares.

`python -m tests.oracle` compares as many as one wants; `make nightly` does.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ghesrace.events import Kind
from tests.litmus.parse import CASES, load, parse
from tests.oracle import classes, code, effects, litmus, programs
from tests.oracle.__main__ import known
from tests.oracle.compare import Tally, differences
from tests.oracle.judge import Judgement, judge, judged_kinds
from tests.oracle.kernel import every
from tests.oracle.record import Ev, Record
from tests.oracle.shrink import shrink

HEAD = "about: a\nsource: b\nexpect: clean\n"
X = "notify |\nmap A |\nread |\nunmap |\ninvlpg |\nend |\n"  # CPU 0: one page of 2015.


SPANNING = " | inv-range irq-0x1000 0x9000"


def y(*, before_read: str = "", before_map: str = "", frame: str = "B") -> str:
    """CPU 1: the same, with other things in it."""
    lines = ["notify", before_map, f"map {frame}", before_read, "read", "unmap", "invlpg", "end"]
    return "".join(f" | {line}\n" for line in lines if line)


def record(text: str, header: str = "") -> Record:
    """The record of a litmus case of two CPUs."""
    if not text.startswith("CPU 0"):
        text = "CPU 0 | CPU 1\n" + text
    case = parse(HEAD + header + text, Path("x.litmus"))
    return Record.of(case.plan, case.stream)


def words(text: str, header: str = "") -> dict[int, list[str]]:
    """Per CPU the words of its episodes."""
    found: dict[int, list[str]] = {}
    for one in judge(record(text, header)).episodes:
        found.setdefault(one.cpu, []).append(one.word)
    return found


# The last episode of CPU 1 by DESIGN's table and by hand; each line fails if its row is misread.
BY_HAND = [
    ("nothing saved it", X + y(), "", "none"),
    ("its own flush between map and read", X + y(before_read="invlpg"), "", "map-flush"),
    ("a broadcast of its own, too", X + y(before_read="bcast\n | bcast-end"), "", "map-flush"),
    ("the frame is the same", X + y(frame="A"), "", "uncertain"),
    ("luck before its handler", X + " | inv-all\n | back\n" + y(), "", "incidental"),
    ("luck in an NMI in the hold", X + y(before_read="nmi inv-all"), "", "incidental"),
    ("luck before the clear", " | inv-all\n | back\n" + X + y(), "", "none"),
    (
        "luck that spans V, over before the copy that takes the page's lock",
        X + " | notify\n | bcast irq-0x1000 0x9000\n | bcast-end\n | copy B\n | map B\n | read\n"
        " | unmap\n | end\n",
        "slot: irq page\n",
        "incidental",
    ),
    (
        "a flush of V just before the map, in the copy",
        X + " | notify\n | copy B\n | invlpg\n | map B\n | read\n | unmap\n | copy-end\n | end\n",
        "slot: irq page\n",
        "map-flush",
    ),
    ("the unmap broadcasts", X.replace("invlpg |", "bcast |\nbcast-end |") + y(), "", "broadcast"),
    (
        "... and y was judged before",
        y(before_read="invlpg") + X.replace("invlpg |", "bcast |\nbcast-end |") + y(),
        "",
        "broadcast",
    ),
    (
        "the unmap broadcasts inside, says the plan",
        y(before_read="invlpg") + X + y(),
        "implies: unmap broadcast-after-clear\n",
        "broadcast",
    ),
    ("only its own frame since its own flush", y() + y(), "", "fresh"),
    ("a CR3 write may have saved it", X + y(), "pti: yes\n", "uncertain"),
    (
        "luck within the clock error of the clear",
        X[:-6] + " | inv-all @+10\n | back @+5\nend |\n" + y(),
        "",
        "uncertain",
    ),
    (
        "a read that is lost hides no flush",
        X + "-- lossy\n | back\n-- lost missed CPU 1 of read count 1\n" + y(),
        "",
        "none",
    ),
    (
        "a flush may be what was lost",
        X + "-- lossy\n | back\n-- lost missed CPU 1 of invlpg count 1\n" + y(),
        "",
        "uncertain",
    ),
    (
        "a broadcast is over at its own end, not at its CPU's next event",
        X + "bcast-all |\nback |\n" + y() + "bcast-end |\n",
        "",
        "uncertain",
    ),
    (
        "a flush of V before the copy that takes the page's lock",
        X + " | notify\n | invlpg\n | copy B\n | map B\n | read\n | unmap\n | end\n",
        "slot: irq page\n",
        "incidental",
    ),
    (
        "a range that spans V, not directly behind the unmap",
        y(before_read="invlpg").replace("unmap\n | invlpg", "unmap\n | copy-end\n" + SPANNING)
        + y(frame="C"),
        "",
        "incidental",
    ),
    (
        "a range that spans V, directly behind the unmap",
        y(before_read="invlpg").replace("unmap\n | invlpg\n", "unmap\n" + SPANNING + "\n")
        + y(frame="C"),
        "",
        "fresh",
    ),
    (
        "the lock does not hold",
        "notify |\nmap A |\n | notify\n | map B\n | invlpg\n | read\n"
        "read |\nunmap |\nend |\n | unmap\n | end\n",
        "",
        "uncertain",
    ),
]


@pytest.mark.parametrize(
    ("text", "header", "word"), [c[1:] for c in BY_HAND], ids=[c[0] for c in BY_HAND]
)
def test_a_record_judged_by_hand(text: str, header: str, word: str) -> None:
    """The oracle misreads a row of DESIGN's table, or what a world may be."""
    assert words(text, header)[1][-1] == word


def faulty_threat(same: bool, end: int, access: int, roles: list[tuple[str, int]]) -> str:
    """Luck counts as structural."""
    found = classes_threat(same, end, access, roles)
    return "map-flush" if found == "incidental" else found


classes_threat = classes._threat

FAULTS = {
    "luck is structural": ("_threat", faulty_threat),
    "frames are not compared": (
        "_threat",
        lambda same, end, access, roles: classes_threat(True, end, access, roles),
    ),
    "an invalidation counts wherever it lies": (
        "_threat",
        lambda same, end, access, roles: classes_threat(same, -1, access, roles),
    ),
    "nothing is held at the start": ("_start", lambda asked, at, roles: iter(())),
    "one world is enough": ("combine", lambda found: sorted(found, key=classes.TABLE.index)[0]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_table_is_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The records judged by hand would pass whatever the oracle's table says."""
    name, planted = FAULTS[fault]
    monkeypatch.setattr(f"tests.oracle.classes.{name}", planted)
    if name == "combine":
        monkeypatch.setattr("tests.oracle.judge.combine", planted)
    wrong = [title for title, text, header, word in BY_HAND if words(text, header)[1][-1] != word]
    assert wrong, fault


def test_an_effect_may_come_late() -> None:
    """A checker that takes stamps for effects would not be contradicted (case 10)."""
    before = "| notify\n| map A\n| read\n| unmap\n| invlpg\n| end\n"
    text = before + (
        "notify |\nmap B |\n | notify\nread |\n | invlpg\nunmap @+5 |\nunmap-end @+5 |\n"
        " | map A @+50\n | read\n | unmap\n | invlpg\n | end\n"
    )
    answers = judge(record(text, "clock-error: 0\nslot: irq page\n")).episodes
    assert [one.word for one in answers if one.cpu == 0] == ["none"]
    last = [one for one in answers if one.cpu == 1][-1]
    assert last.word == "uncertain"
    assert last.causes == {"order"}
    assert "none" in last.worlds


TWO_PAGES = X.replace("map A |", "map A |\ninvlpg |") + (
    " | notify\n | map B\n | invlpg\n | unmap\n | map B\n | invlpg\n | unmap\n | invlpg\n | end\n"
)


def test_a_flush_that_the_access_may_precede() -> None:
    """A flush would protect its own page, or the next one, in all worlds or in none (case 02)."""
    header = "slot: irq page\nuntraced: read write\n"
    first, second = (one for one in judge(record(TWO_PAGES, header)).episodes if one.cpu == 1)
    assert first.worlds == {"map-flush", "none"}
    assert second.worlds == {"incidental", "map-flush", "same-frame"}


def test_only_the_start_is_forgiven() -> None:
    """An order that nobody knows would be forgotten once a later episode was judged."""
    header = "slot: irq page\nuntraced: read write\nimplies: map page-after-set\n"
    assert judge(record(TWO_PAGES + y(), header)).verdict == "clean"
    later = y(before_read="invlpg\n | map-end")
    judged = judge(record(TWO_PAGES + later, "slot: irq page\nuntraced: read write\n"))
    assert [one for one in judged.episodes if one.cpu == 1][-1].word == "fresh"
    assert judged.verdict == "inconclusive"


def test_causes_are_told_apart() -> None:
    """An `uncertain` that the start leaves open would degrade a verdict, or one of a loss not."""
    start = judge(record(X))
    assert start.episodes[0].causes == {"start"}
    lost = judge(record(X + "-- lossy\n | back\n-- lost overrun CPU 1 count 1\n" + y()))
    assert "loss" in next(one for one in lost.episodes if one.cpu == 1).causes
    pti = judge(record(y(before_read="invlpg") + X + y(), "pti: yes\n"))
    assert [one for one in pti.episodes if one.cpu == 1][-1].causes == {"pti"}


def test_the_verdict_forgives_the_start_once() -> None:
    """A long clean run would be inconclusive for ever, or one episode of unknown past be clean."""
    quiet = X.replace("map A", "map A")
    assert judge(record(quiet)).verdict == "inconclusive"
    assert judge(record(quiet + quiet)).verdict == "clean"


def test_a_lost_whole_episode_is_no_clean_run() -> None:
    """A loss that can hide an unsafe episode would be told and forgotten."""
    fixed = X.replace("map A |", "map A |\ninvlpg |") + y(before_read="invlpg")
    lossy = "-- lossy\nback |\n-- lost overrun CPU 0 count 9\n"
    assert judge(record(fixed + fixed)).verdict == "clean"
    assert judge(record(fixed + lossy + fixed)).verdict == "inconclusive"
    implied = "implies: map page-after-set\nuntraced: edit edit-end shootdown\n"
    assert judge(record(fixed + lossy + fixed, implied)).verdict == "clean"
    others = "implies: map page-after-set\n"
    assert judge(record(fixed + lossy + fixed, others)).verdict == "inconclusive"
    reads = lossy.replace("overrun", "missed").replace("count", "of read count")
    assert judge(record(fixed + reads + fixed)).verdict == "clean"


def held(record: Record, log: list[Ev]) -> dict[int, bool]:
    """What really happened: of each map, whether its first access could be stale.

    A machine of a few lines that knows no table: TLBs that hold whatever they can.
    """
    slots = range(len(record.plan.slots))
    live: dict[int, int | None] = {}
    tlb: dict[tuple[int, int], set[int | None]] = {
        (c, s): set() for c in record.cpus for s in slots
    }
    mapped: dict[tuple[int, int], Ev] = {}
    found: dict[int, bool] = {}

    def drop(cpus: object, slot: int) -> None:
        for cpu in cpus:  # type: ignore[attr-defined]
            tlb[cpu, slot] = {live[slot]} if slot in live else set()

    for event in log:
        implied = record.implied(event)
        if event.kind == Kind.MAP:
            live[event.slot] = event.frame
            mapped[event.cpu, event.ctx] = event
            for cpu in record.cpus:
                tlb[cpu, event.slot].add(event.frame)
        elif event.kind == Kind.UNMAP:
            live.pop(event.slot, None)
        elif event.kind == Kind.READ:
            mine = mapped[event.cpu, event.ctx]
            stale = tlb[event.cpu, event.slot] - {mine.frame}
            found.setdefault(id(mine), bool(stale))
        if "page-after-set" in implied or "page-after-clear" in implied:
            drop([event.cpu], event.slot)
        if "broadcast-after-clear" in implied:
            drop(record.cpus, event.slot)
        everywhere = event.kind in (Kind.BCAST_RANGE, Kind.BCAST_ALL)
        for slot in slots:
            if event.covers(record.plan.slots[slot].address or 0):
                drop(record.cpus if everywhere else [event.cpu], slot)
    return found


@pytest.mark.slow
def test_what_really_happened_is_one_of_the_worlds() -> None:
    """The oracle forgets worlds: then a checker that is right would be called wrong, and a false
    claim of certainty right."""
    seen: Counter[str] = Counter()
    for seed in range(500):
        small, log = programs.happened(seed)
        truth, judged = held(small, log), judge(small)
        if any(truth.values()):
            assert judged.verdict != "clean", seed
        for one in judged.episodes:
            assert not one.inconsistent, seed
            stale = truth[id(one.map)]
            seen[f"{'stale' if stale else 'safe'} {'lossy' if small.losses else ''}"] += 1
            assert not stale or "none" in one.worlds, (seed, one)
            assert stale or one.worlds != {"none"}, (seed, one)
    assert len(seen) == 4
    assert min(seen.values()) >= 5, seen


@pytest.mark.slow
def test_every_small_record_has_a_world() -> None:
    """The generator makes what no kernel can, or the oracle takes too much for granted."""
    for name, small in programs.few():
        judged = judge(small)
        assert judged.episodes, name
        assert not any(one.inconsistent for one in judged.episodes), name


def test_orders_of_a_shape_are_all_different() -> None:
    """Orders would be compared twice, or not at all."""
    shape = next(s for s in programs.small_shapes() if len(s.runs) == 2 and not s.luck)
    orders = [
        tuple(sorted((e.ts, e.cpu, e.kind) for events in r.cpus.values() for e in events))
        for r in every(shape)
    ]
    assert len(orders) == len(set(orders))
    assert len(orders) > 2


class Says:
    """A checker that says of everything the same."""

    def __init__(self, verdict: str, cls: int, plan: object) -> None:
        self.verdict, self.cls, self.plan = verdict, cls, plan

    def feed(self, stream: np.ndarray) -> list[object]:
        """One answer per map."""
        maps = stream[stream["kind"] == Kind.MAP]
        made = []
        for event in maps:
            row = {"cpu": event["cpu"], "seq_map": event["seq"]}
            made.append(SimpleNamespace(slot=int(event["slot"]), episodes=[row], cls=[self.cls]))
        return made

    def finish(self) -> list[object]:
        """Nothing more."""
        return []

    def report(self) -> object:
        """A report without counts."""
        verdict = SimpleNamespace(word=self.verdict)
        return SimpleNamespace(verdict=verdict, reasons=[], slots=[], findings=[])


@pytest.mark.parametrize(
    ("verdict", "cls", "text", "what"),
    [
        ("clean", 0, X + y(), "class: fresh for none; a world has none"),
        ("clean", 0, X + y(), "verdict: false clean for race-observed"),
        ("race-observed", 5, X + y(before_read="invlpg"), "a world has safe"),
        ("race-observed", 5, X + X, "verdict: false race-observed"),
        ("inconclusive", 6, X + y(), "class: uncertain, none in all worlds"),
        ("inconclusive", 6, X + X, "verdict: inconclusive for clean"),
    ],
)
def test_a_wrong_checker_is_seen(verdict: str, cls: int, text: str, what: str) -> None:
    """The comparison would pass whatever the checker says."""
    both = record(text) if text != X + X else record("CPU 0\n" + text.replace(" |", ""))
    _, found = differences(both, lambda plan: Says(verdict, cls, plan))
    assert any(what in str(one) for one in found), [str(one) for one in found]
    assert all(one.sound == (cls == 6) for one in found if what in str(one))


def test_what_differs_shrinks_to_a_case_that_says_it() -> None:
    """A person would get sixteen events where six do, or a file that shows nothing."""
    big = next(
        r
        for r in map(programs.sample, range(2000))
        if r.size >= 12 and not r.losses and "none" in [e.word for e in judge(r).episodes]
    )

    def clean(plan: object) -> Says:
        return Says("clean", 0, plan)

    what = "verdict: false clean for race-observed"
    small = shrink(big, what, clean)
    assert small.size < big.size
    assert any(str(one) == what for one in differences(small, clean)[1])


LOSSLESS = [n for n in range(60) if not programs.sample(n).losses]


@pytest.mark.parametrize("seed", LOSSLESS)
def test_a_record_survives_as_a_litmus_file(seed: int) -> None:
    """The file that a person gets is another record than the one that differed.

    (The window of a loss lies between lines there, so those records change a little.)
    """
    small = programs.sample(seed)
    truth = judge(small)
    try:
        text = litmus.text(small, truth, ["a"], "b")
    except litmus.Unsayable:
        assert any(a.ts > b.ts for evs in small.cpus.values() for a, b in pairwise(evs))
        return
    case = parse(text, Path("x.litmus"))
    again = judge(Record.of(case.plan, case.stream))

    def told(judged: Judgement) -> list[object]:
        return sorted((e.slot, e.cpu, sorted(e.worlds)) for e in judged.episodes)

    assert told(again) == told(truth), text
    assert again.verdict == truth.verdict == case.expect
    assert truth.classes() == {
        n: case.classes[slot.name]
        for n, slot in enumerate(case.plan.slots)
        if slot.name in case.classes
    }


@pytest.mark.slow
def test_no_file_of_the_litmus_cases_is_disputed() -> None:
    """A case pins what the rules call otherwise."""
    disputed = set()
    for path in sorted(CASES.glob("*.litmus")):
        case = load(path)
        small = Record.of(case.plan, case.stream)
        truth = judge(small)
        counts = {case.plan.slots[n].name: c for n, c in truth.classes().items()}
        verdict = truth.verdict if judged_kinds(small) else case.expect
        if counts != case.classes or verdict != case.expect:
            disputed.add(path.stem)
    assert disputed == set()


@pytest.mark.slow
def test_the_checker_beside_the_oracle() -> None:
    """The checker claims what a world contradicts, in a way that it did not before."""
    tally = Tally()
    for name, small in programs.few():
        tally.add(name, small)
    for seed in range(500):
        tally.add(f"seed {seed}", programs.sample(seed), cuts=seed % 20 == 0)
        if seed % 10 == 0:
            tally.add(f"broken {seed}", programs.broken(seed))
    assert tally.records > 900
    assert tally.skipped == 0
    wrong = tally.wrong().keys()
    assert wrong <= known(), sorted(wrong - known())


def test_the_order_that_nothing_forces_is_open() -> None:
    """Stamps further apart than the clock error would be taken for unordered, or the reverse."""
    for gap, ordered in ((1001, True), (1000, False)):
        both = record(f"inv-all |\n | inv-all @+{gap}\n")
        built = effects.build(code.read(both))
        first, second = both.cpus[0][0], both.cpus[1][0]
        assert built.order.before(built.stamp[id(first)], built.stamp[id(second)]) == ordered
    wide = replace(both, errors={(0, 1): 999})
    built = effects.build(code.read(wide))
    first, second = wide.cpus[0][0], wide.cpus[1][0]
    assert built.order.before(built.stamp[id(first)], built.stamp[id(second)])
