# SPDX-License-Identifier: Apache-2.0
"""What became of the mutants: a file that a run can be resumed from, and the table of it."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from .mutator import Module, Mutant
from .server import Tried


class StaleError(ValueError):
    """The file is of other sources, or of another suite."""


def fingerprint(files: Iterable[Path]) -> str:
    """One word for the contents of all these files, in this order."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


class Results:
    """JSON lines: the fingerprint of what was tried against what, then a line for each mutant."""

    def __init__(self, path: Path, mark: str) -> None:
        """Continue the file at *path*, or begin it. Raises StaleError if it has another *mark*."""
        self.path = path
        self.tried: dict[str, Tried] = {}
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        if lines and json.loads(lines[0]) != {"of": mark}:
            raise StaleError(f"{path} is of other sources or another suite; remove it")
        for line in lines[1:]:
            try:
                data = json.loads(line)
            except ValueError:
                continue  # the run was ended while it wrote this
            tried = Tried(Mutant(**data.pop("mutant")), **data)
            self.tried[tried.mutant.name] = tried
        path.parent.mkdir(parents=True, exist_ok=True)
        if not lines:
            self._write({"of": mark})

    def add(self, tried: Tried) -> None:
        """Keep one more; it is on disk when this returns."""
        self.tried[tried.mutant.name] = tried
        self._write(asdict(tried))

    def _write(self, data: object) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(data) + "\n")


def interval(hits: int, of: int) -> tuple[float, float]:
    """Where the true share lies, with 95 %: Wilson's interval. (0, 1) of nothing."""
    if not of:
        return 0.0, 1.0
    z, share = 1.96, hits / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return middle - half, middle + half


def untouched(modules: Iterable[Module]) -> list[str]:
    """Functions of which there is no mutant: none is tried, so nothing is known of them."""
    found = []
    for module in modules:
        have = {mutant.function for mutant in module.mutants}
        found += [f"{module.name}: {f}" for f in module.functions if f not in have]
    return found


def table(modules: Iterable[Module], tried: Iterable[Tried]) -> str:
    """Mutants per function: how many there are, were tried, and survived."""
    outcomes: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for one in tried:
        outcomes[one.mutant.module, one.mutant.function][one.outcome] += 1
    lines = [f"{'mutants':>7} {'tried':>6} {'survived':>8}  function"]
    for module in modules:
        count = Counter(mutant.function for mutant in module.mutants)
        of_module = [outcomes[module.name, function] for function in count]
        lines.append(_row(len(module.mutants), of_module, module.name))
        for function, n in count.items():
            lines.append(_row(n, [outcomes[module.name, function]], f"  {function or '(module)'}"))
    return "\n".join(lines)


def _row(mutants: int, outcomes: list[Counter[str]], name: str) -> str:
    total = sum(outcomes, Counter())
    return f"{mutants:7} {sum(total.values()):6} {total['survived'] or '-':>8}  {name}"


def summary(mutants: int, tried: list[Tried]) -> str:
    """How many there are, how many of those that were tried are killed, and how sure that is."""
    killed = sum(one.outcome != "survived" for one in tried)
    low, high = interval(killed, len(tried))
    if len(tried) == mutants:
        return f"{killed:,} of all {mutants:,} mutants killed: {killed / max(mutants, 1):.1%}"
    return (
        f"{killed:,} of {len(tried):,} tried mutants killed, of {mutants:,} in all: "
        f"{killed / max(len(tried), 1):.1%}, 95 % interval {low:.1%} to {high:.1%}"
    )
