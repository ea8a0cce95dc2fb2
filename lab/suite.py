"""Run the lab's tests in a guest, or shared out over several that run side by side.

A guest spends half its time on one CPU, in a compiler or in a test that waits, so two of them take
little more than half the time of one. When a guest itself fails, it boots again and goes on behind
the tests that passed.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import TextIO

from ghesrace.errors import GhesraceError, TransientError

from . import EXIT_LAB, paths
from .board import REPO, Board, Settings
from .guest import run

_EXIT_NO_TESTS = 5  # pytest's

# The guest sees the repository read-only: nothing that wants to keep files in it.
_PYTEST = (
    "exec python3 -m pytest -p no:cacheprovider -p no:hypothesispytest -o addopts= --rootdir=. "
    '--junitxml="$LAB_SHARE/junit.xml" -v "$@"'
)


def test(board: Board, settings: Settings, arguments: Sequence[str], boots: int) -> int:
    """Run pytest with these *arguments* in a guest; return its exit code.

    Boots up to *boots* times; raises TransientError if the guest fails each time.
    """
    tests = [] if any("tests/lab" in a for a in arguments) else ["tests/lab"]
    command = ["sh", "-c", f'cd "$0" && {_PYTEST}', str(REPO), *tests, *arguments]
    (settings.share / paths.PASSED).unlink(missing_ok=True)
    for boot in range(1, boots + 1):
        try:
            code = run(board, settings, command)
        except TransientError as error:
            if boot == boots:
                raise
            print(f"lab: {error}\nlab: boot {boot + 1}, behind the tests that passed")
        else:
            # It may have been the guest's end that failed, behind the last test.
            return 0 if boot > 1 and code == _EXIT_NO_TESTS else code
    return EXIT_LAB


class Labelled(io.TextIOBase):
    """Writes whole lines to *stream*, each behind *label*, so that several can share it."""

    def __init__(self, stream: TextIO, label: str) -> None:
        self._stream, self._label, self._rest = stream, label, ""

    def write(self, text: str) -> int:
        """Take *text*; write what it completes."""
        *lines, self._rest = (self._rest + text).split("\n")
        if lines:
            self._stream.write("".join(f"{self._label}{line}\n" for line in lines))
            self._stream.flush()
        return len(text)

    def close(self) -> None:
        """Write what no newline ended."""
        if self._rest:
            self.write("\n")


def _one(label: str, share: Path, job: Callable[[Path], int]) -> None:
    sys.stdout = out = Labelled(sys.__stdout__ or io.StringIO(), label)
    sys.stderr = err = Labelled(sys.__stderr__ or io.StringIO(), label)
    code = EXIT_LAB
    try:
        code = job(share)
    except GhesraceError as error:
        print(f"lab: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("lab: ended by a signal", file=sys.stderr)
    out.close()
    err.close()
    sys.exit(code)


def side_by_side(share: Path, jobs: Sequence[Callable[[Path], int]]) -> int:
    """Run *jobs* in processes of their own, each with its folder guest-N of *share*.

    Returns 0 if all do (one may have found no test of its own), else the first other exit code.
    """
    fork = get_context("fork")
    processes = []
    try:
        for n, job in enumerate(jobs):
            mine = share / f"guest-{n}"
            mine.mkdir(parents=True, exist_ok=True)
            process = fork.Process(target=_one, args=(f"{n}| ", mine, job))
            process.start()
            processes.append(process)
        for process in processes:
            process.join()
    finally:
        for process in processes:
            process.terminate()  # SIGTERM: its guest ends with it
            process.join()
    return together([process.exitcode for process in processes])


def together(codes: Sequence[int | None]) -> int:
    """The exit code of all guests. One without tests is no failure, all without tests are."""
    ran = [code for code in codes if code != _EXIT_NO_TESTS]
    if not ran:
        return _EXIT_NO_TESTS
    failed = [code for code in ran if code != 0]
    return (failed[0] if failed[0] and failed[0] > 0 else EXIT_LAB) if failed else 0
