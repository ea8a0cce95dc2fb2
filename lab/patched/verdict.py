# SPDX-License-Identifier: Apache-2.0
"""Boot a kernel in the lab, record it, and make one verdict of what each recording says.

The checker judges; here its answers are only put side by side, and the worst one wins.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ghesrace.checker.engine import Engine
from ghesrace.checker.model import Class
from ghesrace.checker.model import Judged as Slot
from ghesrace.checker.report import Verdict
from ghesrace.commands.judging import exit_code
from ghesrace.errors import EXIT_FINDING, EXIT_INCONCLUSIVE, EXIT_OK, GhesraceError
from ghesrace.plan import Plan
from ghesrace.sources.capture.file import CaptureSource
from lab import boot
from lab.boards.board import Board, Settings
from lab.boards.pc import Pc
from lab.boards.virt import Virt
from lab.inside.matrix import BACKENDS, recordings_of

from .build import Built

_PYTHON = {"amd64": sys.executable, "arm64": "python3"}
_MEMORY = {"amd64": 2048, "arm64": 1024}
_SAID = "ghesrace: "
# Of several codes the worst one wins; `ghesrace check` has the same order.
_WORST_FIRST = (EXIT_FINDING, EXIT_INCONCLUSIVE, EXIT_OK)


@dataclass(slots=True)
class Recording:
    """What one recording says: of `traffic` ("calm", "storm") by `backend`.

    `code` is what `ghesrace check` would exit with. `findings` are [pattern, severity, text], and
    `classes` the hand-offs by class. `implied` are [probe point, symbol, what, state, where]. A
    recording that could not be judged is "inconclusive", and `reasons` say why. `rests_on` names
    what it can't tell (`ghesrace.unknowns`).
    """

    backend: str
    traffic: str
    verdict: str = Verdict.INCONCLUSIVE.word
    code: int = EXIT_INCONCLUSIVE
    reasons: list[str] = field(default_factory=list)
    findings: list[list[str]] = field(default_factory=list)
    classes: dict[str, int] = field(default_factory=dict)
    losses: dict[str, int] = field(default_factory=dict)
    episodes: int = 0
    rests_on: list[str] = field(default_factory=list)
    implied: list[list[str]] = field(default_factory=list)
    not_checked: dict[str, str] = field(default_factory=dict)
    capture: str = ""

    @property
    def name(self) -> str:
        """Return what people call it.

        >>> Recording("bpf", "storm").name
        'storm, bpf'
        """
        return f"{self.traffic}, {self.backend}"


@dataclass(slots=True)
class Judged:
    """A kernel that was judged: its recordings, and how long the guest took (wall-clock seconds).

    `failure` is what ended the guest, if it did not end by itself: such a kernel is not clean.
    """

    recordings: list[Recording]
    seconds: float = 0.0
    failure: str = ""

    @property
    def verdict(self) -> str:
        """Return the one verdict: the worst of all recordings."""
        words = [verdict.word for verdict in Verdict]
        unknown = words.index(Verdict.INCONCLUSIVE.word)
        found = [words.index(one.verdict) for one in self.recordings] or [unknown]
        return words[max(*found, unknown if self.failure else 0)]

    @property
    def code(self) -> int:
        """Return the exit code of `ghesrace check` for all recordings."""
        codes = {one.code for one in self.recordings}
        if self.failure or not codes:
            codes.add(EXIT_INCONCLUSIVE)
        return next(code for code in _WORST_FIRST if code in codes)

    def of(self, traffic: str) -> str:
        """Return the worst verdict of the recordings of *traffic*."""
        return Judged([one for one in self.recordings if one.traffic == traffic]).verdict

    def recorded(self, backend: str) -> bool:
        """Say whether *backend* made recordings that could be judged, and nothing less."""
        mine = [one for one in self.recordings if one.backend == backend]
        return bool(mine) and all(one.capture for one in mine)

    def without(self, backends: Sequence[str]) -> Judged:
        """Return what is left without the recordings of *backends*. A failure stays, unless it is
        why one of these could not be made."""
        kept = [one for one in self.recordings if one.backend not in backends]
        theirs = any(not one.capture for one in self.recordings if one.backend in backends)
        failure = "" if theirs or not kept else self.failure
        return Judged(kept, self.seconds if kept else 0.0, failure)

    def with_more(self, other: Judged) -> Judged:
        """Return both as one: the recordings of two guests of the same kernel."""
        failure = "; ".join(one for one in (self.failure, other.failure) if one)
        seconds = round(self.seconds + other.seconds, 1)
        return Judged([*self.recordings, *other.recordings], seconds, failure)

    def json(self) -> dict[str, Any]:
        """Return it as a JSON object; `from_json` reads it."""
        return asdict(self)


def from_json(told: dict[str, Any]) -> Judged:
    """Return what `Judged.json` wrote.

    >>> from_json(Judged([Recording("bpf", "calm", "clean", 0)]).json()).verdict
    'clean'
    """
    return Judged(
        [Recording(**one) for one in told["recordings"]], told["seconds"], told["failure"]
    )


def judge(
    built: Built,
    arch: str,
    share: Path,
    part: float = 1.0,
    backends: Sequence[str] = BACKENDS,
    removed: str = "",
) -> Judged:
    """Boot *built* in the lab, record calm and storm with each of *backends*, and judge that.

    The captures stay in the folder *share*. *part* shortens the traffic: 15 and 30 s by default.
    The device *removed* is unbound from its driver and bound again while a storm lasts. A guest
    that crashes is no error: what it recorded before is judged, and what it did not come to is
    recorded by another one. What no guest survives is inconclusive, and so is the whole. Raises
    HostError if no guest can be started here.
    """
    board: Board
    board = Virt(kernel=built.kernel) if arch == "arm64" else Pc(built.kernel.image)
    command = [_PYTHON[arch], "-m", "lab.inside.matrix", arch, str(part)]
    removing = [f"--remove={removed}"] if removed else []
    settings = Settings(share.resolve(), memory=_MEMORY[arch])
    started, failure = time.monotonic(), ""
    wanted = every = recordings_of(arch, backends)
    for name in every:
        for kind in ("arrows", "log"):  # An earlier kernel's would stand for what dies now.
            (share / f"{name}.{kind}").unlink(missing_ok=True)
    why: dict[str, str] = {}
    while wanted:
        (share / "console").unlink(missing_ok=True)
        died = ""
        try:
            if code := boot.run(board, settings, [*command, *wanted, *removing]):
                failure = failure or f"the recording ended with exit code {code}"
        except GhesraceError as error:
            if not (share / "console").exists():
                raise
            died = error.what.splitlines()[0]
            failure = failure or died
        why |= dict.fromkeys(wanted, died or failure)
        wanted = _left(share, wanted) if died else []
    recordings = [_recorded(share, name, why[name]) for name in every]
    return Judged(recordings, round(time.monotonic() - started, 1), failure)


def _left(share: Path, wanted: list[str]) -> list[str]:
    """Return which of the recordings *wanted* of a guest that died another one may still make: one
    that lives no longer than for one of them dies of that one alone."""
    left = [name for name in wanted if not _recorded(share, name, "").episodes]
    if left != wanted:
        return left
    begun = (share / f"{wanted[0]}.log").exists()
    return wanted[1:] if begun else []


def _recorded(share: Path, name: str, failure: str) -> Recording:
    path = share / f"{name}.arrows"
    backend, _, traffic = name.partition("-")
    try:
        return judge_capture(path, backend, traffic)
    except GhesraceError as error:
        log = path.with_suffix(".log")
        said = log.read_text().strip().splitlines() if log.exists() else []
        # What went wrong; what may be done about it stands behind that.
        said = [line for line in said if line.startswith(_SAID)] or said[-1:]
        why = failure or (said[-1].removeprefix(_SAID) if said else error.what)
        return Recording(backend, traffic, reasons=[f"not recorded: {why}"])


def judge_capture(path: Path, backend: str, traffic: str) -> Recording:
    """Judge the capture at *path* as `ghesrace check` does. Raises InputError if it is none."""
    source = CaptureSource(path)
    engine = Engine(source.plan)
    judged = [slot for batch in source.batches() for slot in engine.feed(batch)]
    judged += engine.finish()
    report = engine.report()
    return Recording(
        backend,
        traffic,
        verdict=report.verdict.word,
        code=exit_code(report, "predicted"),
        reasons=list(report.reasons),
        findings=[[one.pattern, one.severity, one.explanation] for one in report.findings],
        classes=_classes(judged),
        losses=dict(report.losses),
        episodes=sum(slot.episodes for slot in report.slots),
        rests_on=list(report.qualified_by),
        implied=_implied(source.plan),
        not_checked={
            name: result.not_checked_because or ""
            for name, result in report.patterns.items()
            if not result.checked
        },
        capture=path.name,
    )


def _classes(judged: Sequence[Slot]) -> dict[str, int]:
    """Return the hand-offs by class."""
    found = Counter[str]()
    for slot in judged:
        for cls in slot.cls[slot.handoff]:
            found[Class(int(cls)).name.lower().replace("_", "-")] += 1
    return dict(found)


def _implied(plan: Plan) -> list[list[str]]:
    return [[one.point, one.symbol, one.what, one.state, one.where] for one in plan.implications]


def lines(judged: Judged) -> Sequence[str]:
    """Return what a person is told: a line for each recording, then the one verdict."""
    told = []
    for one in judged.recordings:
        found = sorted({f"{pattern} {severity}" for pattern, severity, _ in one.findings})
        why = ", ".join(found) or "; ".join(one.reasons)
        told.append(f"{one.name:14} {one.verdict}{f': {why}' if why else ''}")
    if judged.failure:
        told.append(f"the guest failed: {judged.failure}")
    rests = sorted({word for one in judged.recordings for word in one.rests_on})
    return [
        *told,
        f"verdict: {judged.verdict}" + (f", resting on: {', '.join(rests)}" if rests else ""),
    ]
