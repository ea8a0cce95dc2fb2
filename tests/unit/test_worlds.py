# SPDX-License-Identifier: Apache-2.0
"""The simulator of worlds (tests/worlds), and the checker beside it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from ghesrace.events import Cause, Context, Kind

from ..worlds import truth
from ..worlds.byhand import LUCK, RACE, A, B, C, report, with_kernel, world
from ..worlds.judge import judged
from ..worlds.kernel import Does, Part, Task
from ..worlds.machine import Effect, History
from ..worlds.tracer import EPOCH
from ..worlds.truth import Truth
from ..worlds.world import MODES, Played, World, draw, play


def reasons(one: World) -> list[str]:
    """Why each episode of a world was safe or not, in the order of their maps."""
    return [episode.why for episode in play(one).episodes]


# -- what the checker says of them ------------------------------------------------------------

# How many worlds of each mode `make test` judges, in so many tests that may run side by side:
# 20,000, some two minutes of CPU time compiled.
WORLDS = {
    "plain": 2000,
    "order": 5000,
    "start": 4000,
    "loss": 5000,
    "many": 1500,
    "pairs": 1000,
    "unrecorded": 1500,
}
PIECES = 4


@pytest.mark.slow
@pytest.mark.parametrize("piece", range(PIECES))
@pytest.mark.parametrize("mode", MODES)
def test_the_checker_is_right_of_every_world(mode: str, piece: int) -> None:
    """The checker is sure of what is not so: `python -m tests.worlds --seed N --worlds 1 --mode M
    --shrink FOLDER` writes the smallest such record."""
    wrong = {
        seed: [difference.kind for difference in found]
        for seed in range(piece, WORLDS[mode], PIECES)
        if (found := judged(draw(mode, seed)))
    }
    assert wrong == {}


# Of millions of worlds, those that were judged wrongly and are no litmus case.
FOUND = [
    # A handler flushed before it took the lock; a loss hid the unmap of a map before the start.
    ("loss", 99011643),
]


@pytest.mark.parametrize(("mode", "seed"), FOUND)
def test_the_checker_is_right_of_worlds_that_it_judged_wrongly(mode: str, seed: int) -> None:
    """What was mended once would be wrong again."""
    assert judged(draw(mode, seed)) == []


# -- the truth --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_none_is_what_leaves_a_stale_entry(mode: str) -> None:
    """DESIGN's table, read by `truth.told`, calls safe what a TLB could have read wrongly, or the
    reverse: every judgement of the simulator would be worthless."""
    seen = set()
    for seed in range(150):
        played = play(draw(mode, seed))
        stale = truth.stale_frames(played.history)
        for episode in played.episodes:
            assert (episode.truth == Truth.UNSAFE) == bool(stale[episode.name]), (seed, episode)
            seen.add(episode.why)
    assert seen >= {"fresh", "map-flush", "broadcast", "same-frame", "none"}


def test_each_class_by_hand() -> None:
    """The truth of a hand-made world is not what DESIGN's table says of it."""
    assert reasons(RACE) == ["fresh", "none"]
    assert reasons(LUCK) == ["fresh", "incidental"]
    same = replace(RACE, tasks=(report(0, 0, A), report(50_000, 1, A)))
    assert reasons(same) == ["fresh", "same-frame"]
    fixed = replace(RACE, kernel=with_kernel("x86 fixmap"))
    assert reasons(fixed) == ["fresh", "map-flush"]
    arm = replace(RACE, kernel=with_kernel("arm64"))
    assert reasons(arm) == ["fresh", "broadcast"]
    own = replace(RACE, tasks=(report(0, 0, A, B), report(50_000, 0, C)))
    assert reasons(own) == ["fresh", "fresh", "fresh"]
    early = replace(LUCK, tasks=(LUCK.tasks[1], *RACE.tasks))  # at 30 us, and A is mapped at 0
    assert reasons(early) == ["fresh", "incidental"]
    too_early = (report(40_000, 0, A), LUCK.tasks[1], report(80_000, 1, B))
    assert reasons(replace(LUCK, tasks=too_early)) == ["fresh", "none"]


def test_a_truth_that_forgets_flushes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulator that forgets a map's flush goes unnoticed: nothing compares it with anything."""
    made = Effect

    def forgetful(*args: Any) -> Effect:
        effect = made(*args)
        if effect.part == Part.MAP and effect.does == Does.FLUSH:
            effect.part = Part.LUCK
        return effect

    fixed = replace(RACE, kernel=with_kernel("x86 fixmap"))
    assert judged(fixed) == []
    monkeypatch.setattr("tests.worlds.machine.Effect", forgetful)
    assert {d.kind for d in judged(fixed)} == {"safe-but-luck", "false-clean"}


def test_a_prediction_needs_two_notifications_of_two_cpus() -> None:
    """A true prediction would be called false, or a false one true."""
    one, two = play(world(report(0, 0, A, B))), play(RACE)
    assert not truth.reorders(one.episodes, 0, alone=True)
    assert truth.reorders(two.episodes, 0, alone=False)
    same_cpu = play(world(report(0, 0, A), report(50_000, 0, B)))
    assert truth.reorders(same_cpu.episodes, 0, alone=True)
    assert not truth.reorders(same_cpu.episodes, 0, alone=False)
    fixed = play(replace(RACE, kernel=with_kernel("x86 fixmap")))
    assert not truth.reorders(fixed.episodes, 0, alone=True)
    told = play(replace(RACE, kernel=with_kernel("arm64")))
    assert not truth.reorders(told.episodes, 0, alone=True)


# -- what happens, and what is recorded of it -------------------------------------------------


def lossless(mode: str, seeds: range) -> list[Played]:
    worlds = [replace(draw(mode, seed), losses=(), start=None, online=None) for seed in seeds]
    return [play(one) for one in worlds]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["order", "many"])
def test_the_true_world_is_one_of_those_that_its_record_leaves_open(mode: str) -> None:
    """An effect lies outside the interval that DESIGN gives it, or two clocks differ by more than
    E: a right checker would be called wrong."""
    checked = 0
    for played in lossless(mode, range(60)):
        clocks = played.world.clocks
        for offset in ([c.read(at) - at for c in clocks] for at in range(0, 100_000, 9973)):
            assert max(offset) - min(offset) <= played.world.error
        effects = {
            (e.task, e.page, e.does, e.part): e
            for e in played.history.effects
            if e.page >= 0 and (e.sender in (-1, e.cpu))
        }
        for cpu, buffer in enumerate(played.history.buffers):
            stamps = np.array([clocks[cpu].read(row.clock) for row in buffer])
            effective = np.minimum.accumulate(stamps[::-1])[::-1]
            for i, row in enumerate(buffer):
                for does in row.op.does:
                    effect = effects.get((row.task, row.op.page, does, row.op.part))
                    if effect is None:
                        continue
                    at = clocks[cpu].read(effect.at)
                    later = [effective[j] for j in range(i + 1, len(buffer))
                             if buffer[j].ctx <= row.ctx][:1]  # fmt: skip
                    assert effective[i] <= at
                    assert not later or at <= later[0]
                    checked += 1
    assert checked > 1000


def test_a_lock_has_one_owner_and_holds_its_episodes() -> None:
    """Two holds overlap, or an episode's own invalidation lies outside of its hold."""
    waited = 0
    for played in lossless("order", range(100)):
        for slot in (0, 1):
            holds = sorted((h.begin, h.end, h.task) for h in played.history.holds if h.slot == slot)
            for (_, end, _), (begin, _, _) in pairwise(holds):
                assert end < begin
                waited += begin == end + 1
        for effect in played.history.effects:
            if effect.page >= 0 and effect.part != Part.EARLY:
                assert any(
                    h.begin <= effect.at <= h.end and h.task == effect.task
                    for h in played.history.holds
                    if h.slot == effect.slot
                )
    assert waited > 20


def test_an_nmi_in_a_clock_read_has_later_places_and_earlier_stamps() -> None:
    """No world would show a buffer whose order differs from its clock's."""
    backwards = 0
    for played in lossless("order", range(100)):
        for cpu, buffer in enumerate(played.history.buffers):
            stamps = [played.world.clocks[cpu].read(row.clock) for row in buffer]
            for i in range(len(buffer) - 1):
                if stamps[i] > stamps[i + 1]:
                    backwards += 1
                    assert buffer[i].ctx < buffer[i + 1].ctx == Context.NMI
    assert backwards > 10


def test_an_interrupt_comes_as_the_unlock_lets_it() -> None:
    """Case 06, a map between another one's unlock and its copy's end, would never occur."""
    kernel = with_kernel("2015, no return probes")
    task = report(0, 0, A, ctx=Context.TASK)
    played = play(world(task, report(900, 0, B), kernel=kernel))
    kinds = [(row.ctx, row.op.kind) for row in played.history.buffers[0]]
    unmapped = kinds.index((Context.TASK, Kind.UNMAP))
    mapped = kinds.index((Context.IRQ, Kind.MAP))
    assert unmapped < mapped < kinds.index((Context.TASK, Kind.COPY_END))


def test_a_broadcast_by_ipis_ends_when_every_cpu_has_answered() -> None:
    """A bound that a checker learns from a broadcast would be wrong."""
    one = world(Task(0, 0, Context.TASK, "bcast", 1), report(100, 1, A), cpus=3)
    played = play(one)
    rows = {row.op.kind: row for row in played.history.buffers[0]}
    answers = [
        row for buffer in played.history.buffers for row in buffer if row.op.kind == Kind.INV_RANGE
    ]
    assert len(answers) == 2
    begin, end = rows[Kind.BCAST_RANGE].clock, rows[Kind.BCAST_END].clock
    assert all(begin < answer.clock < end for answer in answers)
    flushed = {e.cpu for e in played.history.effects if e.part == Part.LUCK}
    assert flushed == {0, 1, 2}


def test_the_start_drops_a_beginning_of_each_buffer() -> None:
    """An event would be kept behind which an earlier one of its CPU was dropped."""
    for seed in range(60):
        one = replace(draw("start", seed), losses=())
        whole, cut = play(replace(one, start=None)).recording, play(one).recording
        assert one.start is not None
        for cpu in range(one.cpus):
            all_, kept = (r.events[r.events["cpu"] == cpu]["ts"].tolist() for r in (whole, cut))
            assert kept == all_[len(all_) - len(kept) :]
            assert all(ts >= EPOCH + one.start for ts in kept)


@pytest.mark.slow
def test_a_loss_is_told_with_its_count_and_its_window() -> None:
    """A recorded loss does not say what it hid: a right checker would be called wrong."""
    told = 0
    for seed in range(150):
        one = draw("loss", seed)
        played, whole = play(one), play(replace(one, losses=()))
        recording = played.recording
        assert len(recording.events) + len(recording.lost) == len(whole.recording.events)
        losses = recording.losses
        if recording.lost:
            assert len(losses)
        unseen = lost_rows(played)
        for cpu, stamp, kind in unseen:
            covers = (losses["addr"] <= stamp) & (losses["ts"] >= stamp)
            covers &= (losses["cpu"] == cpu) | (losses["cpu"] == 0xFFFF)
            points = [recording.plan.probes[p].kind if p < 99 else "" for p in losses["point"]]
            of = [p in (kind.name, "") or (p == "MAP" and kind == Kind.UNMAP) for p in points]
            whole_nmi = losses["aux"] == Cause.NMI_UNMATCHED
            assert (covers & (np.array(of, bool) | whole_nmi)).any(), (seed, cpu, stamp, kind)
            told += 1
        counted = losses["size"][losses["aux"] != Cause.NMI_UNMATCHED]
        if len(counted) and (counted > 0).all() and len(one.losses) == 1:
            assert int(counted.sum()) == len(unseen)
    assert told > 200


def lost_rows(played: Played) -> list[tuple[int, int, Kind]]:
    """CPU, stamp and kind of each record that was lost."""
    return [
        (cpu, played.world.clocks[cpu].read(row.clock), row.op.kind)
        for cpu, buffer in enumerate(played.history.buffers)
        for row in buffer
        if (row.task, row.step) in played.recording.lost and row.op.kind is not None
    ]


def test_unrecorded_losses_leave_no_record() -> None:
    """The mode `unrecorded` would be the mode `loss` by another name."""
    lost = 0
    for seed in range(60):
        recording = play(draw("unrecorded", seed)).recording
        assert not len(recording.losses)
        lost += len(recording.lost)
    assert lost > 50


@pytest.mark.slow
def test_a_skipped_kprobe_is_one_that_interrupted_a_probe() -> None:
    """Whole handlers would be lost where no kernel loses them only."""
    guarded = 0
    for played in lossless("order", range(100)):
        for buffer in played.history.buffers:
            for i, row in enumerate(buffer):
                if row.guarded:
                    guarded += 1
                    assert row.ctx == Context.NMI
                    assert any(r.clock > row.clock for r in buffer[:i])
    assert guarded > 20


def test_a_cut_stream_keeps_what_its_marks_promise() -> None:
    """A cut would deliver an event behind a MARK that said it was delivered: the checker would be
    called wrong of a stream that no source makes."""
    for seed in range(40):
        recording = play(draw("loss", seed)).recording
        stamps = sorted(set(recording.events["ts"].tolist()))
        if not stamps:
            continue
        batches = recording.cut(*stamps[:: max(len(stamps) // 5, 1)])
        for batch, later in pairwise(batches):
            until = int(batch["ts"][-1])
            assert batch["kind"][-1] == Kind.MARK
            assert (later["ts"][later["kind"] < Kind.LOSS] >= until).all()
            begun = later["addr"][later["kind"] == Kind.LOSS]
            assert (begun >= until).all()
        parts = [b[b["kind"] < Kind.LOSS] for b in batches]
        for cpu in np.unique(recording.events["cpu"]):
            seqs = np.concatenate([part["seq"][part["cpu"] == cpu] for part in parts])
            assert seqs.tolist() == sorted(seqs.tolist())
        assert sum(map(len, parts)) == len(recording.events)


def test_the_same_seed_is_the_same_world() -> None:
    """A difference that was found could not be shown again."""
    for mode in MODES:
        one, two = (play(draw(mode, 7)).recording for _ in range(2))
        assert one.events.tobytes() == two.events.tobytes()
        assert one.losses.tobytes() == two.losses.tobytes()
    assert draw("order", 7) != draw("order", 8)


@pytest.mark.slow
def test_a_history_is_complete() -> None:
    """A task would hang, and the world end without it."""
    for mode in MODES:
        for seed in range(30):
            played = play(draw(mode, seed))
            history: History = played.history
            reports = [t for t in played.world.tasks if t.what == "report"]
            pages = sum(len(copy) for task in reports for copy in task.copies)
            assert len(played.episodes) == pages
            assert all(e.at < e.read < e.clear for e in played.episodes)
            assert all(hold.end >= 0 for hold in history.holds)
