"""`python -m tests.bench`: the cost of tracing, side by side in a guest (bpftrace, trace-cmd too).

Prints the table of docs/performance.md and fails if ghesrace's BPF backend costs more than it
promises.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from lab import guest, paths

RESULT = "bench.json"
# Guest instructions per NMI added, as a share of what the bpftrace script for the same events adds.
PROMISED = {"ghesrace, bpf": 1 / 3}
FASTER = 5  # than a bcc script with a callback per event, in records per CPU second


def table(found: dict[str, int]) -> str:
    """Markdown: median instructions per GHES NMI, what each way adds, and its share."""
    base = found["none"]
    whole = found["bpftrace, the same events"] - base
    lines = ["| | instructions | added | of bpftrace's |", "| --- | ---: | ---: | ---: |"]
    for name, value in found.items():
        added = value - base
        share = f"{added / whole:.0%}" if added else ""
        lines.append(f"| {name} | {value:,} | {added:,} | {share} |")
    return "\n".join(lines)


def main() -> int:
    """Run in a guest, or boot one; 1 if a promise is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("what", choices=("cost", "rate", "all"), nargs="?", default="all")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        _inside(args.what)
        return 0
    broken = []
    if args.what in ("cost", "all"):
        # A guest's nanosecond is then one instruction, whatever the host does.
        broken += _cost(_in_guest("cost", cpus=1, qemu=("-icount shift=0",)))
    if args.what in ("rate", "all"):
        broken += _rate(_in_guest("rate", cpus=2, qemu=()))
    for text in broken:
        print(text, file=sys.stderr)
    return 1 if broken else 0


def _inside(what: str) -> None:
    from . import cost, rate

    share = Path(os.environ[paths.ENV])
    found: Any = cost.measure(share) if what == "cost" else rate.measure()
    (share / RESULT).write_text(json.dumps(found))


def _in_guest(what: str, *, cpus: int, qemu: tuple[str, ...]) -> Any:
    with tempfile.TemporaryDirectory(prefix="ghesrace-bench-") as folder:
        settings = guest.Settings(
            guest.newest_kernel(), Path(folder), cpus=cpus, boot_s=900, qemu=qemu
        )
        code = guest.run(settings, [sys.executable, "-m", "tests.bench", what, "--inside"])
        if code:
            raise SystemExit(code)
        return json.loads((Path(folder) / RESULT).read_text())


def _cost(found: dict[str, int]) -> list[str]:
    print(table(found))
    whole = found["bpftrace, the same events"] - found["none"]
    return [
        f"{name} adds more than {share:.0%} of what bpftrace adds"
        for name, share in PROMISED.items()
        if found[name] - found["none"] > share * whole
    ]


def _rate(found: dict[str, tuple[int, int, float]]) -> list[str]:
    speeds = {name: records / spent for name, (records, _, spent) in found.items()}
    print(
        "| | records | hand-offs | CPU seconds | records/s |\n| --- | ---: | ---: | ---: | ---: |"
    )
    for name, (records, handoffs, spent) in found.items():
        print(f"| {name} | {records:,} | {handoffs:,} | {spent:.2f} | {speeds[name]:,.0f} |")
    ratio = speeds["ghesrace, bpf"] / speeds["bcc script"]
    print(f"ratio {ratio:.1f}")
    return [] if ratio >= FASTER else [f"only {ratio:.1f} times a bcc script, not {FASTER}"]


if __name__ == "__main__":
    sys.exit(main())
