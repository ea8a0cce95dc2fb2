# SPDX-License-Identifier: Apache-2.0
"""One verdict of several recordings: the worst, and what `ghesrace check` would exit with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ghesrace.errors import HostError, TransientError
from lab import boot
from lab.patched import verdict
from lab.patched.build import Built
from lab.patched.verdict import Judged, Recording, from_json, judge, judge_capture, lines
from tests.build.paths import REPO

STOCK = REPO / "examples" / "stock.arrows"
CONTROL = REPO / "examples" / "control.arrows"


def recordings(*words: str) -> list[Recording]:
    codes = {"clean": 0, "inconclusive": 3, "race-predicted": 1, "race-observed": 1}
    return [Recording("bpf", "calm", word, codes[word]) for word in words]


@pytest.mark.parametrize(
    ("words", "word", "code"),
    [
        (("clean", "clean"), "clean", 0),
        (("clean", "inconclusive"), "inconclusive", 3),
        (("inconclusive", "race-predicted"), "race-predicted", 1),
        (("race-observed", "clean", "race-predicted"), "race-observed", 1),
        ((), "inconclusive", 3),
    ],
)
def test_the_worst_recording_wins(words: tuple[str, ...], word: str, code: int) -> None:
    """If this fails, a merge passes though one backend found a race, or nothing was recorded."""
    judged = Judged(recordings(*words))
    assert (judged.verdict, judged.code) == (word, code)


def test_what_a_clean_verdict_rests_on_counts() -> None:
    """If this fails, a clean word with `check`'s exit code 3 lets a merge pass."""
    assert Judged([Recording("bpf", "calm", "clean", 3)]).code == 3


def test_what_a_verdict_rests_on_is_told() -> None:
    """If this fails, exit code 3 stands beside "clean" and nobody knows why."""
    one = Recording("bpf", "calm", "clean", 3, rests_on=["implications"])
    assert lines(Judged([one]))[-1] == "verdict: clean, resting on: implications"


def test_a_capture_is_judged_as_check_does() -> None:
    """If this fails, the gate has a rule of its own."""
    clean = judge_capture(STOCK, "bpf", "storm")
    assert (clean.verdict, clean.code, clean.findings) == ("clean", 0, [])
    assert clean.classes["map-flush"] > 0
    race = judge_capture(CONTROL, "bpf", "storm")
    assert (race.verdict, race.code) == ("race-observed", 1)
    assert {pattern for pattern, *_ in race.findings} >= {"stale"}
    assert race.episodes > sum(race.classes.values()) > 0


def test_a_guest_that_failed_is_no_pass() -> None:
    """If this fails, a merge passes though the kernel died behind its last recording."""
    died = Judged(recordings("clean", "clean"), failure="the guest ended")
    assert (died.verdict, died.code) == ("inconclusive", 3)
    raced = Judged(recordings("clean", "race-observed"), failure="the guest ended")
    assert (raced.verdict, raced.code) == ("race-observed", 1)


def test_a_failure_is_forgotten_only_with_what_it_cost() -> None:
    """If this fails, a kernel that died is clean once the other backend has recorded it, or a
    time-out that was overcome stays for ever."""
    made = Recording("ftrace", "calm", "clean", 0, capture="ftrace-calm.arrows")
    died = Judged([made], 9.0, "the guest ended")
    assert died.without(["bpf"]).verdict == "inconclusive"
    late = Judged([made, Recording("bpf", "calm")], 9.0, "a time-out")
    assert late.without(["bpf"]) == Judged([made], 9.0)
    assert late.without(["ftrace", "bpf"]) == Judged([])


@pytest.fixture
def built(tmp_path: Path) -> Built:
    image = tmp_path / "boot" / "vmlinuz-6.1.0-lab"
    image.parent.mkdir()
    image.write_text("a kernel\n")
    return Built("amd64-0", tmp_path, "6.1.0-lab")


def test_a_guest_that_crashes_leaves_what_it_recorded(
    tmp_path: Path, built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a mutant that hangs after its race was seen has no verdict, or a clean one."""
    share = tmp_path / "share"
    share.mkdir()

    def run(*_: object) -> int:
        (share / "console").write_text("BUG\n")
        shutil.copy(CONTROL, share / "ftrace-calm.arrows")
        (share / "ftrace-storm.arrows").write_bytes(b"half a capture")
        raise TransientError("the guest ended before its command did\nmore")

    monkeypatch.setattr(boot, "run", run)
    judged = judge(built, "amd64", share)
    assert judged.failure == "the guest ended before its command did"
    assert [one.verdict for one in judged.recordings] == ["race-observed", *["inconclusive"] * 3]
    assert judged.recordings[1].reasons == [f"not recorded: {judged.failure}"]
    assert judged.verdict == "race-observed"
    assert from_json(json.loads(json.dumps(judged.json()))) == judged


def test_what_a_guest_did_not_come_to_is_recorded_by_another(
    tmp_path: Path, built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a kernel that dies of its second recording has no third, or a guest that dies
    of each is booted for ever."""
    booted: list[list[str]] = []

    def run(_board: object, _settings: object, command: list[str]) -> int:
        wanted = [word for word in command if word.endswith(("-calm", "-storm"))]
        booted.append(wanted)
        (tmp_path / "console").write_text("BUG\n")
        for number, name in enumerate(wanted):
            (tmp_path / f"{name}.log").touch()
            if number == 1 or name == "bpf-calm":
                raise TransientError(f"the guest ended in {name}")
            shutil.copy(CONTROL, tmp_path / f"{name}.arrows")
        return 0

    monkeypatch.setattr(boot, "run", run)
    judged = judge(built, "amd64", tmp_path)
    assert booted == [
        ["ftrace-calm", "ftrace-storm", "bpf-calm", "bpf-storm"],
        ["ftrace-storm", "bpf-calm", "bpf-storm"],
        ["bpf-calm", "bpf-storm"],
        ["bpf-storm"],
    ]
    verdicts = [one.verdict for one in judged.recordings]
    assert verdicts == ["race-observed", "race-observed", "inconclusive", "race-observed"]
    assert judged.recordings[2].reasons == ["not recorded: the guest ended in bpf-calm"]
    assert judged.failure == "the guest ended in ftrace-storm"


def test_what_an_earlier_kernel_left_is_not_judged(
    tmp_path: Path, built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a kernel that dies before it records anything is clean by the word of another
    one, and a merge passes."""
    for name in ("ftrace-calm", "ftrace-storm", "bpf-calm", "bpf-storm"):
        shutil.copy(STOCK, tmp_path / f"{name}.arrows")
        (tmp_path / f"{name}.log").write_text("ghesrace: an earlier one\n")
    (tmp_path / "kept.arrows").write_text("a file of somebody's own")

    def run(*_: object) -> int:
        (tmp_path / "console").write_text("panic\n")
        raise TransientError("the guest ended before its command did")

    monkeypatch.setattr(boot, "run", run)
    judged = judge(built, "amd64", tmp_path)
    assert [one.verdict for one in judged.recordings] == ["inconclusive"] * 4
    assert {reason for one in judged.recordings for reason in one.reasons} == {
        "not recorded: the guest ended before its command did"
    }
    assert (tmp_path / "kept.arrows").exists()


def test_a_lab_that_does_not_start_is_no_verdict(
    tmp_path: Path, built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a host without QEMU calls every kernel inconclusive and does not say why."""

    def run(*_: object) -> int:
        raise HostError("qemu-system-x86_64 is not installed")

    monkeypatch.setattr(boot, "run", run)
    with pytest.raises(HostError, match="qemu"):
        judge(built, "amd64", tmp_path)


def test_a_backend_that_records_nothing_is_inconclusive(
    tmp_path: Path, built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a kernel on which a backend can't attach is clean by the other one's word."""

    def run(*_: object) -> int:
        for traffic in ("calm", "storm"):
            shutil.copy(STOCK, tmp_path / f"ftrace-{traffic}.arrows")
            (tmp_path / f"bpf-{traffic}.log").write_text(
                "warning\nghesrace: no BTF\n  what to do\n"
            )
        return 0

    monkeypatch.setattr(boot, "run", run)
    judged = judge(built, "amd64", tmp_path)
    assert judged.verdict == "inconclusive"
    assert judged.code == 3
    assert [one.reasons for one in judged.recordings][2:] == [["not recorded: no BTF"]] * 2


def test_a_person_sees_each_recording_and_one_verdict() -> None:
    """If this fails, nobody knows which recording the verdict comes from."""
    bad = Recording("bpf", "storm", "race-observed", 1, findings=[["stale", "observed", "why"]])
    said = lines(Judged([*recordings("clean"), bad]))
    assert said == [
        "calm, bpf      clean",
        "storm, bpf     race-observed: stale observed",
        "verdict: race-observed",
    ]
    assert verdict.lines(Judged([], failure="a crash"))[0] == "the guest failed: a crash"
