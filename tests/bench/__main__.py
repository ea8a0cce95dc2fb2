# SPDX-License-Identifier: Apache-2.0
"""Measure the cost of tracing in a guest, beside bpftrace and trace-cmd: `python -m tests.bench`.

It prints the table of docs/performance.md and fails if ghesrace's BPF backend costs more than
promised.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from lab import boot, paths
from lab.boards.board import Settings
from lab.boards.pc import Pc

RESULT = "bench.json"
WHOLE = "bpftrace, the same events"
# ghesrace may add at most this share of the guest instructions per NMI that a bpftrace script for
# the same events adds.
PROMISED = {"ghesrace, bpf": 1 / 3, "ghesrace, bpf --summary": 1 / 5}


def table(found: dict[str, int]) -> str:
    """Return a Markdown table of *found*, the median instructions per GHES NMI of each way.

    It has columns for what each way adds to "none", and for its share of what bpftrace adds.

    >>> print(table({"none": 100, WHOLE: 500, "ghesrace, bpf": 200}).splitlines()[-1])
    | ghesrace, bpf | 200 | 100 | 25% |
    """
    base = found["none"]
    whole = found[WHOLE] - base
    lines = ["| | instructions | added | of bpftrace's |", "| --- | ---: | ---: | ---: |"]
    for name, value in found.items():
        added = value - base
        share = f"{added / whole:.0%}" if added else ""
        lines.append(f"| {name} | {value:,} | {added:,} | {share} |")
    return "\n".join(lines)


def main() -> int:
    """Run in a guest, or boot one; return the exit code, which is 1 if a promise is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    if parser.parse_args().inside:
        from .cost import measure

        share = Path(os.environ[paths.ENV])
        (share / RESULT).write_text(json.dumps(measure(share)))
        return 0
    with tempfile.TemporaryDirectory(prefix="ghesrace-bench-") as folder:
        settings = Settings(
            Path(folder),
            cpus=1,
            boot_s=900,
            # With this a guest's nanosecond is one instruction, whatever the host does.
            qemu=("-icount shift=0",),
        )
        code = boot.run(Pc(), settings, [sys.executable, "-m", "tests.bench", "--inside"])
        if code:
            return code
        found: dict[str, int] = json.loads((Path(folder) / RESULT).read_text())
    print(table(found))
    whole = found[WHOLE] - found["none"]
    broken = [
        f"{name} adds more than {share:.0%} of what bpftrace adds"
        for name, share in PROMISED.items()
        if found[name] - found["none"] > share * whole
    ]
    for text in broken:
        print(text, file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
