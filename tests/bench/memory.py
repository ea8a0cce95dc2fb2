# SPDX-License-Identifier: Apache-2.0
"""Measure the memory of a recording: of the process that records, and of its compiler.

    python -m lab run -- python -m tests.bench.memory

This is for use in a guest. It prints JSON; RSS is in bytes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

_SECONDS = 20
_EVERY_S = 0.02


def measure(backend: str, folder: Path) -> dict[str, int]:
    """Return the most RSS of `capture` while it records, and the most that any child of it had.

    Both are in bytes; the capture goes to *folder*. Raises AssertionError if it fails.
    """
    file = folder / f"{backend}.arrows"
    command = [sys.executable, "-m", "ghesrace", "capture", "--backend", backend]
    command += ["-d", str(_SECONDS), "-o", str(file)]
    most = own = 0
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                children = watched.children(recursive=True)
                most = max([most, *(child.memory_info().rss for child in children)])
                if file.exists():  # It exists once everything is attached.
                    own = max(own, watched.memory_info().rss)
            except psutil.NoSuchProcess:
                pass
            time.sleep(_EVERY_S)
    assert process.returncode == 0
    return {"process": own, "child at most": most}


def main() -> None:
    """Measure with both backends and print JSON."""
    with tempfile.TemporaryDirectory() as folder:
        found = {backend: measure(backend, Path(folder)) for backend in ("ftrace", "bpf")}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
