# SPDX-License-Identifier: Apache-2.0
"""`make examples` records the captures of examples/ again, in two guests.

python -m lab.examples DIR [--arch amd64|arm64] [--only NAME]

Each has one story: a stock kernel, the race, and each pattern that the control module can provoke.
A guest's clock and its probes have bad moments, so a capture that does not show what it is for is
made again, three times at most.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ghesrace.checker.engine import Engine
from ghesrace.checker.report import Report
from ghesrace.errors import EXIT_OK, GhesraceError, TransientError, UsageError
from ghesrace.sources.files import open_file
from lab.inside.recording import capture_while, storm
from lab.module.device import Parameters
from lab.module.run import inserted, run

from . import paths

if TYPE_CHECKING:
    from lab.boards.board import Board

_TRIES = 3
_MEMORY = {"amd64": 2048, "arm64": 1024}  # MiB


@dataclass(frozen=True, slots=True)
class Example:
    """An example is one capture: what makes its traffic, and what must be found in it.

    Its traffic is a run of the control module with `parameters`, or else `seconds` of the
    firmware's `scenario`. `finding` is a pattern and its severity, or None of a clean one.

    >>> Example("stock", "clean", None, scenario="in-turn").file
    'stock.arrows'
    """

    name: str
    verdict: str
    finding: tuple[str, str] | None
    parameters: Parameters | None = None
    scenario: str = ""
    seconds: float = 4.0
    arch: str = "amd64"

    @property
    def file(self) -> str:
        """This is the name of its file."""
        return f"{self.name}.arrows"

    def shown(self, report: Report) -> bool:
        """Return whether *report* has what this example is for, and nothing is in doubt."""
        found = {(one.pattern, one.severity) for one in report.findings}
        right = {self.finding} <= found if self.finding else not found
        doubts = [reason for reason in report.reasons if not reason.endswith(" inconsistent")]
        return report.verdict.word == self.verdict and right and not doubts


# As in tests/lab/test_patterns.py and test_arm64.py.
EXAMPLES = (
    Example("stock", "clean", None, scenario="in-turn"),
    Example("control", "race-observed", ("stale", "observed"), Parameters(rounds=10)),
    Example(
        "predicted", "race-predicted", ("stale", "predicted"), Parameters(rounds=25, shootdown=1)
    ),
    # With the fix a pattern stands alone: no stale access is beside it.
    Example(
        "torn-edit",
        "race-observed",
        ("torn_edit", "observed"),
        Parameters(rounds=25, torn=1, fix="flush-on-map"),
    ),
    Example(
        "shootdown",
        "race-observed",
        ("shootdown", "observed"),
        Parameters(rounds=25, shootdown=3, fix="flush-on-map"),
    ),
    Example("overlap", "race-observed", ("overlap", "observed"), Parameters(rounds=25, window=2)),
    Example("arm64", "clean", None, scenario="sea-slow", seconds=12.0, arch="arm64"),
)


def _traffic(example: Example) -> Callable[[], None]:
    parameters = example.parameters
    if parameters is None:
        return storm(example.scenario, example.seconds)
    return lambda: print(run(parameters).summary, flush=True)


def judged(path: Path) -> Report:
    """Return the report on the capture *path*: judged(Path("examples/stock.arrows")).verdict"""
    source = open_file(path)
    engine = Engine(source.plan)
    for batch in source.batches():
        engine.feed(batch)
    engine.finish()
    return engine.report()


def record(example: Example, out: Path) -> None:
    """Record *example* in this guest into the folder *out*. Raises TransientError if it never shows
    what it is for.

        record(EXAMPLES[0], Path(os.environ[paths.ENV]))
    """
    path = out / example.file
    told = ""
    for _ in range(_TRIES):
        capture_while(_traffic(example), path)
        report = judged(path)
        if example.shown(report):
            return
        found = sorted({(one.pattern, one.severity) for one in report.findings})
        told = f"{report.verdict.word} {found} {report.reasons}"
        print(f"examples: {example.name} again: {told}", flush=True)
    raise TransientError(f"{example.name} did not show what it is for: {told}", "try again later")


def _inside(examples: list[Example]) -> int:
    """Record in the guest: what needs no module first, as it must not be there."""
    out = Path(os.environ[paths.ENV])
    for example in examples:
        if example.parameters is None:
            record(example, out)
    if all(example.parameters is None for example in examples):
        return EXIT_OK
    with inserted():
        for example in examples:
            if example.parameters is not None:
                record(example, out)
    return EXIT_OK


def _board(arch: str) -> Board:
    # These are imported here, as a guest lacks QEMU's Python library and does not need them.
    from lab.boards.pc import Pc
    from lab.boards.virt import Virt

    return Virt() if arch == "arm64" else Pc()


def _record_all(examples: list[Example], out: Path, command: list[str]) -> int:
    """Boot a guest of each architecture, and take the captures that were made into *out*."""
    # They need QEMU's Python library, which a guest lacks.
    from lab.boards.board import Settings

    from . import boot

    for arch in dict.fromkeys(example.arch for example in examples):
        mine = [example for example in examples if example.arch == arch]
        with tempfile.TemporaryDirectory(prefix="ghesrace-examples-") as share:
            names = [part for example in mine for part in ("--only", example.name)]
            settings = Settings(Path(share), memory=_MEMORY[arch])
            python = "python3" if arch == "arm64" else sys.executable
            code = boot.run(_board(arch), settings, [python, *command, "--inside", *names])
            if code != EXIT_OK:
                return code
            for example in mine:
                shutil.copy(Path(share) / example.file, out / example.file)
                print(f"examples: {out / example.file}", flush=True)
    return EXIT_OK


def main(argv: list[str] | None = None) -> int:
    """Record examples and return the exit code, which is 0 when each shows what it is for.

    main(["examples", "--only", "overlap"])
    """
    parser = argparse.ArgumentParser("python -m lab.examples", description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", metavar="DIR", default=Path("examples"))
    parser.add_argument("--arch", choices=tuple(_MEMORY))
    parser.add_argument("--only", action="append", metavar="NAME", help="may be given again")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    try:
        chosen = [
            example
            for example in EXAMPLES
            if (not args.arch or example.arch == args.arch)
            and (not args.only or example.name in args.only)
        ]
        if not chosen:
            names = ", ".join(example.name for example in EXAMPLES)
            raise UsageError("there is no such example", f"they are {names}")
        if args.inside:
            return _inside(chosen)
        return _record_all(chosen, args.out, ["-m", "lab.examples"])
    except GhesraceError as error:
        print(f"examples: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
