# SPDX-License-Identifier: Apache-2.0
"""The judge of worlds, by planted faults; shrinking, the command, and the table of healthy runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ghesrace.checker.engine import Engine
from ghesrace.checker.report import Report, Verdict
from ghesrace.events import Cause, Context, Events, Kind
from tests.litmus.parse import parse

from ..worlds import __main__ as command
from ..worlds import healthy, litmus
from ..worlds.byhand import OLD, RACE, A, B, report, with_kernel, world
from ..worlds.judge import TURNS, Difference, ask, judge, judged
from ..worlds.kernel import Kernel, Task
from ..worlds.shrink import shrink
from ..worlds.tracer import Loss
from ..worlds.world import draw, play

# -- the judge: planted faults ------------------------------------------------------------------


class Calm(Engine):
    """Says clean of everything."""

    def report(self) -> Report:
        return replace(super().report(), verdict=Verdict.CLEAN, reasons=[])


class Timid(Engine):
    """Says inconclusive of everything."""

    def report(self) -> Report:
        return replace(super().report(), verdict=Verdict.INCONCLUSIVE, findings=[])


class Blind(Engine):
    """Sees no invalidation of one page."""

    def feed(self, batch: Events) -> Any:
        return super().feed(batch[batch["kind"] != Kind.INV_PAGE])


class Dim(Engine):
    """Sees no flush that follows a map."""

    def feed(self, batch: Events) -> Any:
        behind = np.append(False, batch["kind"][:-1] == Kind.MAP)
        return super().feed(batch[~(behind & (batch["kind"] == Kind.INV_PAGE))])


class Deaf(Engine):
    """Reads no record of a loss."""

    def feed(self, batch: Events) -> Any:
        return super().feed(batch[batch["kind"] != Kind.LOSS])


class Hasty(Engine):
    """Gives another verdict once it was fed three batches."""

    fed = 0

    def feed(self, batch: Events) -> Any:
        self.fed += 1
        return super().feed(batch)

    def report(self) -> Report:
        made = super().report()
        return replace(made, verdict=Verdict.OBSERVED) if self.fed > 1 else made


class Partial(Engine):
    """Gives another verdict where CPU 0 did nothing."""

    seen = False

    def feed(self, batch: Events) -> Any:
        self.seen |= bool(((batch["cpu"] == 0) & (batch["kind"] == Kind.MAP)).any())
        return super().feed(batch)

    def report(self) -> Report:
        made = super().report()
        return made if self.seen else replace(made, verdict=Verdict.OBSERVED)


class Dated(Engine):
    """Gives another verdict after a while."""

    late = False

    def feed(self, batch: Events) -> Any:
        self.late |= bool((batch["ts"] > 10**11).any())
        return super().feed(batch)

    def report(self) -> Report:
        made = super().report()
        return replace(made, verdict=Verdict.OBSERVED) if self.late else made


class Broken(Engine):
    """Raises."""

    def finish(self) -> Any:
        raise RuntimeError("broken")


def kinds(engine: Any, mode: str, n: int = 40, turns: Any = ()) -> set[str]:
    return {d.kind for seed in range(n) for d in judge(play(draw(mode, seed)), engine, turns)}


@pytest.mark.parametrize(
    ("engine", "mode", "kind"),
    [
        (Calm, "order", "false-clean"),
        (Calm, "plain", "not-certain"),
        (Timid, "plain", "not-certain"),
        (Blind, "plain", "none-but-safe"),
        (Deaf, "loss", "none-but-safe"),
        (Broken, "plain", "crash"),
    ],
)
def test_a_planted_fault_is_found(engine: Any, mode: str, kind: str) -> None:
    """The judge is blind to an engine that is plainly wrong."""
    assert kind in kinds(engine, mode)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "kind"),
    [(Hasty, "depends-on-cut"), (Partial, "depends-on-numbers"), (Dated, "depends-on-time")],
)
def test_a_planted_dependence_is_found(engine: Any, kind: str) -> None:
    """An answer that depends on a cut, on CPU numbers or on the time passes."""
    assert kind in kinds(engine, "plain", 30, TURNS)


def test_a_prediction_of_what_is_flushed_is_found() -> None:
    """A prediction that no order of the holds bears out passes."""
    tasks = (report(0, 0, A), report(50_000, 1, A), report(90_000, 1, B))
    fixed = play(replace(RACE, kernel=with_kernel("x86 fixmap"), tasks=tasks))
    assert judge(fixed, turns=()) == []
    assert {d.kind for d in judge(fixed, Dim, ())} == {"false-prediction"}
    old = play(replace(RACE, tasks=tasks))
    assert judge(old, turns=()) == []


def test_counts_alone_show_a_wrong_class() -> None:
    """An engine that does not tell class by class would never be wrong."""

    class Silent(Blind):
        def feed(self, batch: Events) -> Any:
            super().feed(batch)

        def finish(self) -> Any:
            super().finish()

    assert "none-but-safe" in kinds(Silent, "plain")


def test_an_episode_that_a_loss_hid_spoils_a_clean_verdict() -> None:
    """A clean verdict passes although a recorded loss hid the race."""
    names = tuple((1, step) for step in range(20))
    hidden = replace(RACE, losses=(Loss(Cause.OVERRUN, names),))
    played = play(hidden)
    assert not (played.recording.events["cpu"] == 1).any()
    assert [d.kind for d in judge(played, Calm, ())] == ["false-clean"]
    untold = play(replace(hidden, told=False))
    assert judge(untold, Calm, ()) == []


def test_what_came_before_the_start_is_forgiven_if_more_was_judged() -> None:
    """A verdict that DESIGN calls clean would be called wrong, or the reverse."""
    first, last = report(0, 0, A), report(90_000, 1, B)
    alone = world(first, report(50_000, 1, B), kernel=OLD, start=40_000)
    assert [d.kind for d in judge(play(alone), Calm, ())] == ["false-clean"]
    both = world(first, report(50_000, 1, B), last, kernel=OLD, start=40_000)
    assert judge(play(both), Calm, ()) == []


# -- shrinking and writing ----------------------------------------------------------------------


@pytest.mark.slow
def test_what_differs_is_shrunk_to_a_case_that_shows_it_again(tmp_path: Path) -> None:
    """Who gets a difference reads a hundred events, or a case that shows nothing."""
    seed = next(
        s for s in range(60) if "none-but-safe" in {d.kind for d in judged(draw("many", s), Blind)}
        and not draw("many", s).losses
    )  # fmt: skip
    big = play(draw("many", seed))
    small = play(shrink(draw("many", seed), "none-but-safe", Blind))
    assert len(small.recording.events) <= 20 < len(big.recording.events)
    difference = next(d for d in judge(small, Blind, ()) if d.kind == "none-but-safe")
    answer = ask(small.recording.plan, small.recording.whole(), Blind)
    text = litmus.write(small, difference, answer)
    case = parse(text, tmp_path / "x.litmus")
    again = Blind(case.plan)
    again.feed(case.stream)
    again.finish()
    assert again.report().verdict == answer.report.verdict == Verdict.OBSERVED
    assert case.expect != "race-observed"
    assert f"--mode many --seed {seed}" in text


def test_a_case_says_what_its_world_recorded(tmp_path: Path) -> None:
    """The written case is another record than the world's: who reads it is misled."""
    for seed in range(25):
        one = replace(draw("order", seed), start=None)
        if one.kernel.fixmap:
            continue  # litmus has one probe for each, not one for both
        played = play(one)
        answer = ask(played.recording.plan, played.recording.whole())
        case = parse(litmus.write(played, Difference("x", "y"), answer), tmp_path / "x.litmus")
        ours, theirs = played.recording.events, case.stream
        theirs = theirs[theirs["kind"] < Kind.LOSS]
        assert len(ours) == len(theirs)
        for cpu in range(one.cpus):
            mine, its = ours[ours["cpu"] == cpu], theirs[theirs["cpu"] == cpu]
            for name in ("kind", "ctx", "slot", "flags"):
                assert mine[name].tolist() == its[name].tolist(), (seed, name)
            gaps = [np.diff(np.minimum.accumulate(e["ts"].astype(np.int64)[::-1])[::-1])
                    for e in (mine, its)]  # fmt: skip
            assert gaps[0].tolist() == gaps[1].tolist()


def test_shrinking_keeps_what_shows_nothing() -> None:
    """A world without the difference would be made into another one."""
    assert shrink(RACE, "crash") == RACE


# -- the command ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`make worlds N=1000000` has to begin again after each stop, or counts twice."""
    parts, once = tmp_path / "parts.json", tmp_path / "once.json"
    for worlds in ("10", "30"):
        command.main(["--worlds", worlds, "--mode", "loss", "--resume", str(parts)])
    command.main(["--worlds", "30", "--mode", "loss", "--resume", str(once)])
    one, two = (command._resumed(path, 0)["loss"] for path in (parts, once))
    assert (one.worlds, one.next, one.kinds, one.first) == (30, 30, two.kinds, two.first)
    assert "loss: 30 worlds" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="began with seed 0, not 5"):
        command.main(["--worlds", "1", "--seed", "5", "--mode", "loss", "--resume", str(once)])


def test_an_unknown_mode_is_named() -> None:
    """A misspelt mode would run nothing, and find nothing wrong."""
    with pytest.raises(ValueError, match="'ordre' is none of plain, order"):
        draw("ordre", 0)


# -- what healthy looks like ---------------------------------------------------------------------


@pytest.mark.parametrize("name", healthy.NAMES)
def test_healthy_traffic_is_healthy(name: str) -> None:
    """The table would measure runs that no healthy kernel makes."""
    kernel = healthy.kernel_of(name)
    assert kernel.healthy
    run = healthy.traffic(kernel, 8, 200, 5000, 1)
    events = run.events
    assert 4000 < len(events) <= 5000
    for cpu in range(8):
        here = events[events["cpu"] == cpu]
        assert (np.diff(here["ts"].astype(np.int64)) > 0).all()
        edges = here["kind"][np.isin(here["kind"], (Kind.NOTIFY, Kind.NOTIFY_END))]
        assert edges.tolist() == [Kind.NOTIFY, Kind.NOTIFY_END] * (len(edges) // 2)
    inside = events[~np.isin(events["kind"], (Kind.NOTIFY, Kind.NOTIFY_END))]
    inside = inside[np.argsort(inside["ts"], kind="stable")]
    # Between the handlers' edges nothing of two reports is mixed: the lock is held.
    owners = inside["cpu"].reshape(-1, events_of(kernel) - 2)
    assert (owners == owners[:, :1]).all()


def events_of(kernel: Kernel) -> int:
    """How many events one report of the healthy traffic has."""
    task = Task(0, 0, Context.IRQ, "report", 0, 0, ((A,),) * 3, True)
    return sum(op.kind in kernel.traced() for op in kernel.ops(task))


def test_misses_are_told_where_they_happened() -> None:
    """A miss in the table's runs would leave no record: the table would measure luck."""
    run = healthy.traffic(with_kernel("arm64"), 2, 20_000, 20_000, 1)
    batches, hits, missed = healthy.recorded(run, 1000, 100, 3)
    losses = np.concatenate([b[b["kind"] == Kind.LOSS] for b in batches])
    events = sum(int((b["kind"] < Kind.LOSS).sum()) for b in batches)
    assert missed > 5
    assert int(losses["size"].sum()) == missed
    assert events + missed == hits
    assert len(batches) > 1


def test_the_table_counts_each_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A column would show another engine's runs, or no run at all."""
    monkeypatch.setattr(healthy, "CPUS", (2,))
    monkeypatch.setattr(healthy, "APART", (20_000,))
    monkeypatch.setattr(healthy, "MISSES", (0,))
    engines = {"today": Engine, "timid": Timid}
    outcomes = healthy.measure(engines, 2, 1000, names=("x86 fixmap",))
    assert [o.cell.error for o in outcomes] == list(healthy.ERRORS)
    assert all(o.clean("today") == 1 and o.clean("timid") == 0 for o in outcomes)
    table = healthy.markdown(outcomes)
    assert "| x86 fixmap | 2 | 20 us | 1 us | 100% | 0% |" in table
