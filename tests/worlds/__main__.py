# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.worlds`: run worlds, count what is wrong, shrink the first of each kind."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ghesrace.events import Cause

from .judge import KINDS, MANY_CUTS, TURNS, Difference, Engine, ask, judge, judged
from .litmus import write
from .shrink import shrink
from .world import MODES, World, draw, play

SAVE_EVERY = 200  # worlds


@dataclass(slots=True)
class Tally:
    """What came out so far of one mode: the next seed, and per kind how many worlds and which
    was the first."""

    next: int
    worlds: int = 0
    seconds: float = 0.0
    kinds: dict[str, int] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)
    text: dict[str, str] = field(default_factory=dict)

    def add(self, seed: int, differences: list[Difference], world: World) -> list[str]:
        """Count one world; return the kinds that it is the first of."""
        new = []
        for kind in sorted({label(d, world) for d in differences}):
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
            if kind not in self.first:
                self.first[kind] = seed
                self.text[kind] = next(d.text for d in differences if label(d, world) == kind)
                new.append(kind)
        return new


def label(difference: Difference, world: World) -> str:
    """A kind of difference, with the losses that the world has."""
    causes = set()
    for loss in world.losses:
        words = loss.cause.name.lower()
        if loss.cause == Cause.MISSED:
            hits = {_kind(world, name) for name in loss.gone}
            words += f" {hits.pop()}" if len(hits) == 1 else " of several probes"
        causes.add(words)
    return difference.kind + (f" ({', '.join(sorted(causes))})" if causes else "")


def _kind(world: World, name: tuple[int, int]) -> str:
    """What a record is of."""
    task, step = name
    if task < 0:
        return "an answer"
    kind = world.kernel.ops(world.tasks[task])[step].kind
    return "" if kind is None else kind.name.lower()


def main(argv: list[str] | None = None) -> int:
    """Run; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.worlds", description=__doc__)
    parser.add_argument("--worlds", type=int, default=1000, help="of each mode")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--mode", choices=(*MODES, "all"), default="all")
    parser.add_argument("--resume", type=Path, help="keep the counts in this file, and go on")
    parser.add_argument("--shrink", type=Path, help="write the smallest case of each kind here")
    parser.add_argument("--engine", default="", help="MODULE:CLASS instead of the project's")
    args = parser.parse_args(argv)
    engine = engine_of(args.engine)
    tallies = _resumed(args.resume, args.seed)
    for mode in MODES if args.mode == "all" else (args.mode,):
        _run(mode, args, tallies.setdefault(mode, Tally(args.seed)), tallies, engine)
    return 1 if any(tally.kinds for tally in tallies.values()) else 0


def engine_of(name: str) -> Any:
    """The engine that *name* (MODULE:CLASS) names, the project's if it is empty."""
    if not name:
        return Engine
    module, _, cls = name.partition(":")
    return getattr(importlib.import_module(module), cls)


def _run(
    mode: str, args: argparse.Namespace, tally: Tally, tallies: dict[str, Tally], engine: Any
) -> None:
    begun = time.monotonic()
    before = tally.seconds
    while tally.next < args.seed + args.worlds:
        world = draw(mode, tally.next)
        differences = judged(world, engine)
        new = tally.add(tally.next, differences, world)
        tally.next += 1
        tally.worlds += 1
        tally.seconds = before + time.monotonic() - begun
        for kind in new:
            print(f"{mode} {world.seed}: {kind}: {tally.text[kind]}", flush=True)
            if args.shrink is not None:
                _shrink(world, kind, args.shrink, engine)
        if args.resume is not None and tally.worlds % SAVE_EVERY == 0:
            _save(args.resume, tallies)
    if args.resume is not None:
        _save(args.resume, tallies)
    print(f"{mode}: {tally.worlds} worlds in {tally.seconds:.0f} s")
    for kind, n in sorted(tally.kinds.items(), key=lambda item: -item[1]):
        print(f"    {n:6} {kind} (first: {tally.first[kind]})")
    if not tally.kinds:
        print(f"         nothing wrong, of {len(KINDS)} kinds")
    sys.stdout.flush()


def _shrink(world: World, kind: str, directory: Path, engine: Any) -> None:
    """Write the smallest case of *kind* that *world* leads to."""
    plain = kind.partition(" ")[0]
    small = shrink(world, plain, engine)
    played = play(small)
    turns = (*TURNS, MANY_CUTS) if "depends" in plain else ()
    difference = next((d for d in judge(played, engine, turns) if d.kind == plain), None)
    if difference is None:
        print(f"    {plain} does not show again", flush=True)
        return
    answer = ask(played.recording.plan, played.recording.whole(), engine)
    directory.mkdir(parents=True, exist_ok=True)
    words = kind.replace("(", "").replace(")", "").replace(",", "").split()
    path = directory / f"{world.mode}-{'-'.join(words)}.litmus"
    path.write_text(write(played, difference, answer))
    print(f"    {len(played.recording.events)} events: {path}", flush=True)


def _resumed(path: Path | None, seed: int) -> dict[str, Tally]:
    if path is None or not path.exists():
        return {}
    told = json.loads(path.read_text())
    if told["seed"] != seed:
        raise SystemExit(f"{path} began with seed {told['seed']}, not {seed}")
    return {mode: Tally(**tally) for mode, tally in told["modes"].items()}


def _save(path: Path, tallies: dict[str, Tally]) -> None:
    first = min(tally.next - tally.worlds for tally in tallies.values())
    modes = {mode: asdict(tally) for mode, tally in tallies.items()}
    beside = path.with_suffix(path.suffix + ".new")
    beside.write_text(json.dumps({"seed": first, "modes": modes}, indent=1) + "\n")
    os.replace(beside, path)


if __name__ == "__main__":
    raise SystemExit(main())
