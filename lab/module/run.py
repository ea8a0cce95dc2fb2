# SPDX-License-Identifier: Apache-2.0
"""Run the control module in this kernel and keep its ground truth.

python -m lab.module.run --fix none --rounds 400 --out DIR
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from ghesrace.errors import EXIT_OK, GhesraceError, HostError

from . import device
from .build import build
from .device import Outcome, Parameters

TRUTH_FILE = "truth.npy"
SUMMARY_FILE = "summary.json"

# Under emulation on a busy host a round of two CPUs took up to 40 ms.
_SECONDS_PER_ROUND = 0.5
_SECONDS_MORE = 60.0


@contextmanager
def inserted() -> Iterator[None]:
    """Have the module loaded inside the context; remove it afterwards if it was not before.

    Raises HostError if it cannot be built or loaded.

        with inserted():
            outcome = run(Parameters(rounds=100))
        print(outcome.summary["junk_reads"], "of", outcome.summary["reads"])
    """
    if device.loaded():
        yield
        return
    if os.geteuid() != 0:
        raise HostError("loading the control module needs root", "run it in a guest: lab/README.md")
    device.load(build())
    try:
        yield
    finally:
        device.unload()


def run(parameters: Parameters, timeout_s: float | None = None) -> Outcome:
    """Run the loaded module once and return what really happened.

    *timeout_s* is by default a minute and half a second for each round.

    Raises UsageError (bad parameters), TransientError (busy, or longer than *timeout_s*) and
    HostError (not loaded).
    """
    if timeout_s is None:
        timeout_s = _SECONDS_MORE + _SECONDS_PER_ROUND * parameters.rounds
    device.start(parameters)
    summary = device.wait(timeout_s)
    return Outcome(device.truth(), summary | {"parameters": asdict(parameters)})


def save(outcome: Outcome, out: Path) -> None:
    """Write truth.npy (dtype device.TRUTH) and summary.json into *out*, made if it is missing."""
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / TRUTH_FILE, outcome.truth)
    (out / SUMMARY_FILE).write_text(json.dumps(outcome.summary, indent=2) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab.module.run", description=__doc__)
    p = Parameters()
    parser.add_argument(
        "--fix", default=p.fix, choices=("none", "flush-on-map", "broadcast-at-unmap")
    )
    parser.add_argument("--turns", default=p.turns, choices=("alternate", "free"))
    parser.add_argument("--rounds", type=int, default=p.rounds, help="default: %(default)s")
    parser.add_argument(
        "--period-us", type=int, default=p.period_us, help="least sleep between rounds"
    )
    parser.add_argument("--linger-us", type=int, default=p.linger_us, help="longest time mapped")
    parser.add_argument("--pages", type=int, default=p.pages, choices=(1, 2), help="of a block")
    parser.add_argument(
        "--nmi", type=int, default=p.nmi, choices=(0, 1, 2), help="1: to itself, 2: at random"
    )
    parser.add_argument(
        "--write-back",
        type=int,
        default=p.write_back,
        choices=(0, 1, 2),
        help="clear the status, 1: after the read, 2: in a notification of its own",
    )
    parser.add_argument("--buffers", type=int, default=p.buffers, choices=(1, 2), help="a report")
    parser.add_argument(
        "--window",
        type=int,
        default=p.window,
        choices=(0, 1, 2),
        help="an NMI between clear and INVLPG uses 1: its own page, 2: the same",
    )
    parser.add_argument(
        "--torn",
        type=int,
        default=p.torn,
        choices=(0, 1, 2),
        help="an NMI inside an edit of 1: its page's entry, 2: another of the table",
    )
    parser.add_argument(
        "--shootdown",
        type=int,
        default=p.shootdown,
        choices=(0, 1, 2, 3),
        help="IPI-and-wait, interrupts 1: on, 2: off, 3: off in the handler",
    )
    parser.add_argument("--walker", type=int, default=int(p.walker), choices=(0, 1))
    parser.add_argument("--same-frame", type=int, default=int(p.same_frame), choices=(0, 1))
    parser.add_argument("--out", type=Path, help="folder for truth.npy and summary.json")
    parser.add_argument("--timeout", type=float, help="seconds")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--build", action="store_true", help="build only, print the module's path")
    only.add_argument("--load", action="store_true", help="load only: later runs leave it loaded")
    only.add_argument("--unload", action="store_true", help="unload only")
    parser.add_argument("--release", help="with --build: of another kernel than the running one")
    return parser


def _parameters(args: argparse.Namespace) -> Parameters:
    values = {f.name: getattr(args, f.name) for f in fields(Parameters)}
    values["walker"], values["same_frame"] = bool(args.walker), bool(args.same_frame)
    return Parameters(**values)


def main(argv: list[str] | None = None) -> int:
    """Parse *argv*, do what it says, print the result; return the exit code.

    An error is printed, and its exit code returned.

        main(["--rounds", "100", "--out", "truth"])
    """
    args = _parser().parse_args(argv)
    try:
        if args.build:
            print(build(args.release))
        elif args.load:
            device.load(build())
        elif args.unload:
            device.unload()
        else:
            with inserted():
                outcome = run(_parameters(args), args.timeout)
            if args.out:
                save(outcome, args.out)
            print(json.dumps(outcome.summary))
    except GhesraceError as error:
        print(f"control module: {error}", file=sys.stderr)
        return error.exit_code
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
