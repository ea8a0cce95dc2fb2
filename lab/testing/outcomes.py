# SPDX-License-Identifier: Apache-2.0
"""What pytest in a guest found and did, as files in the share, and what several come to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import paths


class Outcomes:
    """This keeps what became of the tests of one guest in *share*, across its boots.

    The guest writes and the host reads. A test has one outcome, which is the last that was added:
    a guest that failed is booted again, and runs again what had not passed.

        outcomes = Outcomes(share)
        outcomes.collected(["tests/lab/test_lab.py::test_mixed"])
        outcomes.add("tests/lab/test_lab.py::test_mixed", "passed")
    """

    def __init__(self, share: Path) -> None:
        self._collected = share / paths.COLLECTED
        self._ran = share / paths.RAN
        self._failures = share / paths.FAILURES

    def forget(self) -> None:
        """Remove what an earlier run left in this share."""
        for file in (self._collected, self._ran, self._failures):
            file.unlink(missing_ok=True)

    def collected(self, tests: Sequence[str]) -> None:
        """Write down all tests (pytest's node IDs) that are to be run, by whichever guest."""
        paths.publish(self._collected, "".join(f"{test}\n" for test in tests))

    def add(self, test: str, outcome: str, why: str = "") -> None:
        """Add that *test* was "passed", "failed" or "skipped", and *why* it failed."""
        if outcome == "failed":
            with self._failures.open("a") as file:
                file.write(f"== {test}\n{why}\n")
        with self._ran.open("a") as file:
            file.write(f"{outcome} {test}\n")

    def wanted(self) -> list[str]:
        """Return what `collected` wrote down; it is empty if pytest did not get so far."""
        return self._collected.read_text().splitlines() if self._collected.exists() else []

    def ran(self) -> dict[str, str]:
        """Return the outcome of each test that was run."""
        if not self._ran.exists():
            return {}
        lines = self._ran.read_text().splitlines()
        return {test: outcome for outcome, _, test in (line.partition(" ") for line in lines)}

    def passed(self) -> set[str]:
        """Return the tests that passed, which need not be run again."""
        return {test for test, outcome in self.ran().items() if outcome == "passed"}


@dataclass(frozen=True, slots=True)
class Tally:
    """A tally is what the guests that share one suite of tests did together."""

    collected: tuple[str, ...]
    outcomes: dict[str, str]
    twice: tuple[str, ...]

    @classmethod
    def of(cls, shares: Iterable[Path]) -> Tally:
        """Read the shares of guests that collected the same tests and ran a part each."""
        guests = [Outcomes(share) for share in shares]
        ran = [guest.ran() for guest in guests]
        collected = dict.fromkeys(test for guest in guests for test in guest.wanted())
        times = Counter(test for one in ran for test in one)
        outcomes = {test: outcome for one in ran for test, outcome in one.items()}
        return cls(tuple(collected), outcomes, tuple(t for t, n in times.items() if n > 1))

    def those(self, outcome: str) -> list[str]:
        """Return the tests with that outcome."""
        return [test for test, what in self.outcomes.items() if what == outcome]

    @property
    def not_run(self) -> list[str]:
        """Return the tests that were collected and have no outcome."""
        return [test for test in self.collected if test not in self.outcomes]

    @property
    def good(self) -> bool:
        """Say whether each test that was collected was run, by one guest, and none failed."""
        every = set(self.collected) == self.outcomes.keys()
        return bool(self.collected) and every and not self.twice and not self.those("failed")
