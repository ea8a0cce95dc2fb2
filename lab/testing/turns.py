# SPDX-License-Identifier: Apache-2.0
"""Guests that share a suite take its files of tests in turn: each the next when it is through.

A guest asks by a file in its own share, N.want, and the host answers in N.turn. Answers stay, so
that a guest that is booted again is given the same files again, and then goes on.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from ghesrace.errors import TransientError
from lab import paths

_POLL_S = 0.05
_PATIENCE_S = 120.0


def _folder(share: Path) -> Path:
    return share / "turns"


class Dealer:
    """A dealer gives each file to one of the guests that have *shares*.

        dealer = Dealer([first, second])

    Call `answer` every now and then, while the guests run.
    """

    def __init__(self, shares: Sequence[Path]) -> None:
        self._folders = [_folder(share) for share in shares]
        self._dealt: set[str] = set()
        for share in shares:
            forget(share)
            _folder(share).mkdir(parents=True)

    def answer(self) -> None:
        """Give whoever has asked the first of its files that nobody has, or none if none is left.

        An answer that is empty means that none is left.
        """
        for folder in self._folders:
            for request in folder.glob("*.want"):
                files: list[str] = json.loads(request.read_text())
                given = next((file for file in files if file not in self._dealt), "")
                self._dealt.add(given)
                paths.publish(request.with_suffix(".turn"), given)
                request.unlink()


def forget(share: Path) -> None:
    """Remove what an earlier run left, as a guest that is alone would ask a host that is not."""
    shutil.rmtree(_folder(share), ignore_errors=True)


def dealt(share: Path) -> bool:
    """Say whether the guest that has *share* shares its tests with others."""
    return _folder(share).is_dir()


def turns(share: Path, files: Sequence[str], patience_s: float = _PATIENCE_S) -> Iterator[str]:
    """Yield those of *files* that this guest is to run, each when it is asked for.

    Raises TransientError if the host does not answer within *patience_s*.

        for file in turns(share, ["tests/lab/test_bpf.py", "tests/lab/test_lab.py"]):
            ...
    """
    for number in count():
        answer = _folder(share) / f"{number}.turn"
        if not answer.exists():
            paths.publish(answer.with_suffix(".want"), json.dumps(list(files)))
        end = time.monotonic() + patience_s
        while not answer.exists():
            if time.monotonic() > end:
                raise TransientError(
                    f"the lab's host dealt no file of tests within {patience_s:.0f} s"
                )
            time.sleep(_POLL_S)
        if not (file := answer.read_text()):
            return
        yield file
