# SPDX-License-Identifier: Apache-2.0
"""Giving up capabilities, in a process of its own: nothing brings them back."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ghesrace.errors import HostError
from ghesrace.service import privileges

DROP = """
from ghesrace.service.privileges import drop
drop()
status = open("/proc/self/status").read().splitlines()
for name in ("CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs"):
    print(*[line.split()[1] for line in status if line.startswith(name + ":")])
"""


def test_nothing_is_left_and_nothing_can_come_back() -> None:
    """A daemon that was broken into would be root with all of root's powers."""
    # As cli.main sets it: threads that libraries make at their import would keep theirs.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    environment["JE_ARROW_MALLOC_CONF"] = "background_thread:false"
    command = [sys.executable, "-c", DROP]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [*["0" * 16] * 4, "1"]


def test_a_thread_that_keeps_them_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """capset is per thread: one that was started before keeps everything, unsaid."""

    class Libc:
        def prctl(self, *_: int) -> int:
            return 0

        def capset(self, *_: bytes) -> int:
            return 0

    monkeypatch.setattr(privileges.ctypes, "CDLL", lambda *_, **__: Libc())
    monkeypatch.setattr(privileges, "threads_with_capabilities", lambda: [7, 9])
    with pytest.raises(HostError, match="threads 7, 9 keep their capabilities"):
        privileges.drop()


def test_a_kernel_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon would go on with its powers."""

    class Libc:
        def prctl(self, *_: int) -> int:
            return 0

        def capset(self, *_: bytes) -> int:
            return -1

    monkeypatch.setattr(privileges.ctypes, "CDLL", lambda *_, **__: Libc())
    with pytest.raises(HostError, match="can't drop capabilities"):
        privileges.drop()
