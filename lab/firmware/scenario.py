# SPDX-License-Identifier: Apache-2.0
"""A scenario says, as data, which source reports how often; a `Player` plays it in a thread."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from itertools import cycle

from ghesrace.errors import TransientError, UsageError

from .firmware import Firmware

_REPEAT_S = 1.0


@dataclass(frozen=True, slots=True)
class Beat:
    """The *sources* report errors in turn, at most *per_second* in all in a second."""

    sources: tuple[str, ...]
    per_second: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario has some beats, which are played at once.

    With *bounce* the guest moves the GHES IRQ from CPU to CPU. With *in_turn* nothing is reported
    before the kernel has answered everything that was. *loads* is how many loads a second end in
    an SEA, on each CPU in turn, whether or not a record waits; with *together* all CPUs make
    theirs at once.

    >>> Scenario("an NMI a second", (Beat(("nmi",), 1),)).bounce
    False
    """

    about: str
    beats: tuple[Beat, ...] = ()
    bounce: bool = False
    in_turn: bool = False
    loads: float = 0
    together: bool = False


_POLLED = Beat(("polled",), 1)

_EVERY = Scenario(
    "SEAs, moving interrupts, GPIO, GSIV and polling at once (arm64)",
    (
        Beat(("sea", "sea-cross"), 20),
        Beat(("irq", "irq-cross"), 50),
        Beat(("gpio", "gsiv"), 5),
        _POLLED,
    ),
    bounce=True,
    loads=40,
)
SCENARIOS = {
    "idle": Scenario("no errors: the kernel's own polling only"),
    "nmi-storm": Scenario("NMIs on all CPUs", (Beat(("nmi", "nmi-cross"), 100),)),
    "nmi-slow": Scenario("an NMI every half second", (Beat(("nmi", "nmi-cross"), 2),)),
    "irq-bounce": Scenario(
        "the shared interrupt, moved between CPUs", (Beat(("irq", "irq-cross"), 50),), bounce=True
    ),
    "hard": Scenario(
        "NMIs and moving interrupts, as many as the guest takes",
        (Beat(("nmi", "nmi-cross"), 200), Beat(("irq", "irq-cross"), 200), _POLLED),
        bounce=True,
    ),
    "in-turn": Scenario(
        "moving interrupts and NMIs, eight a second at most, never at once",
        (Beat(("irq", "nmi", "irq-cross", "nmi-cross"), 8),),
        bounce=True,
        in_turn=True,
    ),
    "mixed": Scenario(
        "NMIs, moving interrupts and polling at once",
        (Beat(("nmi", "nmi-cross"), 20), Beat(("irq", "irq-cross"), 50), _POLLED),
        bounce=True,
    ),
    "sea-slow": Scenario("two SEAs a second (arm64)", (Beat(("sea", "sea-cross"), 2),), loads=2),
    "sea-storm": Scenario("SEAs on all CPUs (arm64)", (Beat(("sea", "sea-cross"), 50),), loads=100),
    "hed": Scenario("GPIO and GSIV notifications (arm64)", (Beat(("gpio", "gsiv"), 10),)),
    "in-turn-sea": Scenario(
        "moving interrupts and SEAs, eight a second at most, never at once (arm64)",
        (Beat(("irq", "sea", "irq-cross", "sea-cross"), 8),),
        bounce=True,
        in_turn=True,
        loads=10,
    ),
    "every": _EVERY,
    "every-at-once": replace(
        _EVERY, about="as every, with SEAs on all CPUs at the same moment (arm64)", together=True
    ),
}


def named(name: str) -> Scenario:
    """Return the scenario called *name*. Raises UsageError if there is none.

    >>> named("nmi-slow").about
    'an NMI every half second'
    """
    try:
        return SCENARIOS[name]
    except KeyError:
        raise UsageError(
            f"no scenario is called {name!r}", f"there are: {', '.join(SCENARIOS)}"
        ) from None


class Player:
    """Plays one scenario at a time in a thread of its own.

    When a slow guest makes a beat fall behind, the missed reports are not made up for. When QEMU
    goes away the thread ends, and `stop` raises the TransientError. `log` has what was played, and
    from when to when (seconds of time.time()).

        player = Player(firmware)
        player.start("nmi-storm")
        time.sleep(10.0)
        player.stop()
    """

    def __init__(self, firmware: Firmware) -> None:
        self._firmware = firmware
        self._thread: threading.Thread | None = None
        self._end = threading.Event()
        self._error: TransientError | None = None
        self.log: list[dict[str, object]] = []

    @property
    def playing(self) -> str | None:
        """Return the name of the scenario that is being played, or None."""
        return str(self.log[-1]["scenario"]) if self._thread else None

    def start(self, name: str) -> None:
        """Start scenario *name* in place of the current one.

        Raises UsageError if there is no such scenario, or the board lacks one of its sources.
        """
        scenario = named(name)
        for beat in scenario.beats:
            for source in beat.sources:
                self._firmware.source(source)
        self.stop()
        self._end.clear()
        self._error = None
        self.log.append({"scenario": name, "started": time.time()})
        self._thread = threading.Thread(target=self._play, args=(scenario,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the current scenario, if any. Raises TransientError if it failed meanwhile."""
        if self._thread is None:
            return
        self._end.set()
        self._thread.join()
        self._thread = None
        self.log[-1]["stopped"] = time.time()
        if self._error:
            raise self._error

    def _play(self, scenario: Scenario) -> None:
        turns = [cycle(beat.sources) for beat in scenario.beats]
        due = [_now()] * len(scenario.beats)
        told: dict[str, float] = {}
        try:
            while not self._end.wait(max(0.0, min(due, default=_now() + 1) - _now())):
                for i, beat in enumerate(scenario.beats):
                    if due[i] <= _now():
                        if not scenario.in_turn or self._all_answered(told):
                            self._report(next(turns[i]), told)
                        due[i] = max(due[i], _now() - 1 / beat.per_second) + 1 / beat.per_second
        except TransientError as error:
            self._error = error

    def _all_answered(self, told: dict[str, float]) -> bool:
        # A notification that got lost is given up after a while, and repeated in its next turn.
        return all(
            self._firmware.idle(source) or _now() - when > _REPEAT_S
            for source, when in told.items()
        )

    def _report(self, source: str, told: dict[str, float]) -> None:
        # A guest that is slow to answer is left alone, or a storm would leave it no time for
        # anything else. A notification that got lost is repeated.
        if self._firmware.idle(source) or _now() - told.get(source, 0.0) > _REPEAT_S:
            self._firmware.report(source)
            told[source] = _now()


def _now() -> float:
    return time.monotonic()
