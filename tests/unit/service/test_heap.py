# SPDX-License-Identifier: Apache-2.0
"""Freed memory goes back to the kernel."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from ghesrace.service.heap import EVERY_S, Heap

# Small blocks behind large ones, which are freed: the heap's end stays in use.
PROGRAM = """
from pathlib import Path
from ghesrace.service.heap import EVERY_S, Heap
def anon():
    lines = Path("/proc/self/status").read_text().splitlines()
    return [int(line.split()[1]) for line in lines if line.startswith("RssAnon")][0]
now = 0.0
heap = Heap(lambda: now)
blocks = [bytes(100_000) for _ in range(1000)]
last = [bytes(1000) for _ in range(1000)]
del blocks
before = anon()
now = EVERY_S
assert heap.look()
print(before - anon())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim(3) is glibc's")
def test_a_burst_is_given_back() -> None:
    """If this fails, one burst makes the daemon larger for months."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50_000  # KiB, of 100 MB


def test_now_and_then() -> None:
    """If this fails, each batch pays for a walk through the heap."""
    now = 0.0
    heap = Heap(lambda: now)
    assert not heap.look()
    now = EVERY_S
    looked = [heap.look() for _ in range(3)]
    assert looked == [heap._trim is not None, False, False]
