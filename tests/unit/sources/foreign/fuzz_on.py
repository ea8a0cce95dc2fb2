# SPDX-License-Identifier: Apache-2.0
"""The fuzzer of captures and foreign traces, a part at a time, until each kind had enough cases.

python -m tests.unit.sources.foreign.fuzz_on [--until N] [--part N] [--seconds S] [--state FILE]

A part is N cases of the kind that had the fewest, with a seed of its own; the state says what was
done, so that a run which was ended goes on. Ends with 1 at the first fault, which is not counted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.build.paths import REPO

from . import fuzz

STATE = REPO / "build" / "fuzz.json"
State = dict[str, dict[str, Any]]


def go_on(
    state: State,
    kinds: tuple[str, ...],
    until: int,
    part: int,
    run: Callable[[str, int, int], fuzz.Part],
    more: Callable[[], bool],
) -> bool:
    """Add parts to *state* while there are *more*, until each of *kinds* had *until* cases.

    *run* makes so many cases of a kind with a seed. Return whether all of it is done. Raises
    SystemExit at a part that was too slow or took too much memory.
    """
    for kind in kinds:
        state.setdefault(kind, {"cases": 0, "parts": 0, "slowest": 0.0, "most": 0, "outcomes": {}})
    while True:
        least = min((state[kind]["cases"], number) for number, kind in enumerate(kinds))
        kind = kinds[least[1]]
        known = state[kind]
        if least[0] >= until:
            return True
        if not more():
            return False
        seed = known["parts"] + 1
        made = run(kind, part, seed)
        if made.bad:
            raise SystemExit(f"{kind}: seed {seed} is too slow or too big: {made}")
        known["cases"] += part
        known["parts"] = seed
        known["slowest"] = max(known["slowest"], round(made.slowest, 2))
        known["most"] = max(known["most"], made.most)
        for what, number in made.outcomes.items():
            known["outcomes"][what] = known["outcomes"].get(what, 0) + number


def main() -> int:
    """Go on until all is done or the time is over, and print what was done of each kind."""
    parser = argparse.ArgumentParser(prog="python -m tests.unit.sources.foreign.fuzz_on")
    parser.add_argument("--until", type=int, default=100_000, help="cases of each kind")
    parser.add_argument("--part", type=int, default=250)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--state", type=Path, default=STATE)
    args = parser.parse_args()
    end = time.monotonic() + args.seconds
    state: State = json.loads(args.state.read_text()) if args.state.exists() else {}

    def more() -> bool:
        args.state.parent.mkdir(exist_ok=True)
        args.state.write_text(json.dumps(state, indent=1))
        return time.monotonic() < end

    done = go_on(state, fuzz.KINDS, args.until, args.part, fuzz.run, more)
    more()
    for kind, known in state.items():
        print(f"{kind}: {known}")
    print(f"{sum(known['cases'] for known in state.values()):,} cases", end="")
    print("" if done else f", {args.until:,} of each kind are wanted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
