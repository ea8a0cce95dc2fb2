# SPDX-License-Identifier: Apache-2.0
"""`python -m lab test --guests N`: one suite in several guests, and arm64's beside it."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .outcomes import Outcomes, Tally
from .together import Job, run
from .turns import Dealer

ARM64_TESTS = "tests/lab/test_arm64.py"
_ARM64_MEMORY = "1024"
_GOOD, _FAILED, _LAB = 0, 1, 125


def _job(name: str, share: Path, args: argparse.Namespace, *more: str) -> Job:
    """Return the command of one guest; *more* are what it has of its own, pytest's behind --."""
    same = [
        f"--share={share}",
        f"--cpus={args.cpus}",
        f"--timeout={args.timeout}",
        f"--boot-timeout={args.boot_timeout}",
        f"--boots={args.boots}",
        *(f"--append={words}" for words in args.append),
    ]
    return Job(name, (sys.executable, "-m", "lab", "test", *same, *more))


def jobs(args: argparse.Namespace, share: Path) -> tuple[list[Job], list[Path]]:
    """Return a job for each guest, in folders of *share*, and the shares of those that take turns.

    arm64's come first: what takes turns fits into the time that is left.
    """
    made = [
        _job(
            f"arm64-{suite}",
            share / f"arm64-{suite}",
            args,
            "--arch=arm64",
            f"--kernel={suite}",
            f"--memory={_ARM64_MEMORY}",
            "--",
            ARM64_TESTS,
        )
        for suite in args.arm64
    ]
    kernel = [f"--kernel={args.kernel}"] if args.kernel else []
    own = ["--turns", f"--arch={args.arch}", f"--memory={args.memory}", *kernel, "--", *args.pytest]
    names = [f"{args.arch}-{number + 1}" for number in range(args.guests)]
    made += [_job(name, share / name, args, *own) for name in names]
    return made, [share / name for name in names]


def report(
    tallies: Sequence[Tally], codes: dict[str, int], seconds: float, say: Callable[[str], None]
) -> int:
    """Say what the tests of all guests came to; return 0 if that is good, else 1 or 125.

    A test that was collected and not run is as bad as one that failed.
    """
    named = {
        "skipped": [test for tally in tallies for test in tally.those("skipped")],
        "failed": [test for tally in tallies for test in tally.those("failed")],
        "not run": [test for tally in tallies for test in tally.not_run],
        "run twice": [test for tally in tallies for test in tally.twice],
    }
    for what, tests in named.items():
        for test in tests:
            say(f"{what}: {test}")
    for name, code in codes.items():
        if code:
            say(f"exit code {code}: {name}")
    passed = sum(len(tally.those("passed")) for tally in tallies)
    numbers = ", ".join(f"{len(tests)} {what}" for what, tests in named.items())
    total = sum(len(tally.collected) for tally in tallies)
    say(f"{total} tests in {len(codes)} guests, {seconds:.0f} s: {passed} passed, {numbers}")
    if _LAB in codes.values():
        return _LAB
    good = all(tally.good for tally in tallies) and not any(codes.values())
    return _GOOD if good else _FAILED


def command(args: argparse.Namespace) -> int:
    """Run the tests that *args* name, with as many guests at once as *args* say."""
    from lab.boot import tidy_on_signals

    begin = time.monotonic()
    share = (args.share or Path(tempfile.mkdtemp(prefix="ghesrace-share-"))).resolve()
    made, sharing = jobs(args, share)
    shares = [share / job.name for job in made]
    for one in shares:
        Outcomes(one).forget()
    dealer = Dealer(sharing)
    print(f"lab: {', '.join(job.name for job in made)}; results are in {share}", flush=True)
    with tidy_on_signals():
        codes = run(made, args.guests, sys.stdout, dealer.answer)
    alone = [Tally.of([one]) for one in shares if one not in sharing]
    seconds = time.monotonic() - begin
    return report(
        [*alone, Tally.of(sharing)], codes, seconds, lambda line: print(f"lab: {line}", flush=True)
    )
