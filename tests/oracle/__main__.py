# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.oracle [--quick]`: the shortest counterexample, then the comparison."""

from __future__ import annotations

import argparse
import sys
import time

from .compare import disagreement
from .machine import counterexample
from .programs import CONFIGURATIONS, FULL, QUICK, Bounds, Configuration, traces
from .protocol import PROTOCOLS, Op, notification

WIDTH = 38


def eight_steps() -> list[tuple[int | None, Op, str]]:
    """The shortest counterexample of the 2015 protocol: (step of DESIGN.md, operation, text)."""
    protocol = PROTOCOLS[0]
    program = tuple(
        notification(protocol, cpu, 0, frame, f"c{cpu}") for cpu, frame in enumerate("AB")
    )
    found = counterexample(program, protocol)
    assert found is not None
    x = found[0][0].cpu
    lines: list[tuple[int | None, Op, str]] = []
    for op, _ in found:
        mine = op.cpu == x
        texts = {
            "notify": (1 if mine else 6, "takes a GHES notification"),
            "map": (2 if mine else 7, f"maps frame {op.frame} at V"),
            "read": (None if mine else 8, "reads V" if mine else "reads V: the stale frame A"),
            "fill": (4, f"its walker loads V->{op.frame}"),
            "unmap": (5, "unmaps V"),
            "flush": (None, "invalidates V in its own TLB"),
            "end": (None, "returns"),
        }
        number, text = texts[op.what]
        if op.what == "fill":
            lines.append((3, op, "runs other code, same page tables"))
        lines.append((number, op, text))
    return lines


def show_steps() -> None:
    """Print the counterexample as two columns."""
    lines = eight_steps()
    x = lines[0][1].cpu
    print("The shortest way to a stale read under the 2015 protocol:\n")
    print(f"    {'CPU x':{WIDTH}}CPU y")
    for number, op, text in lines:
        pad = "" if op.cpu == x else " " * WIDTH
        print(f"{f'{number}.' if number else '':>3} {pad}{text}")


def compare(config: Configuration, bounds: Bounds) -> tuple[int, list[str]]:
    """How many traces of *config* were compared, and every disagreement."""
    count, wrong = 0, []
    for trace in traces(config, bounds):
        count += 1
        if text := disagreement(trace, config.protocol, config.cpus, config.slots):
            events = " ".join(f"{op.cpu}:{op.what}{op.frame}/{op.ctx[0]}{op.slot}" for op in trace)
            wrong.append(f"{config}: {text}\n    {events}")
    return count, wrong


def main() -> int:
    """Print everything; 1 if checker and oracle disagree anywhere."""
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only what `make test` compares")
    bounds = QUICK if parser.parse_args().quick else FULL
    show_steps()
    print(f"\n{'traces':>7}  {'agree':>7}  configuration")
    begin, total, wrong = time.monotonic(), 0, []
    for config in CONFIGURATIONS:
        count, bad = compare(config, bounds)
        total += count
        wrong += bad
        print(f"{count:7}  {count - len(bad):7}  {config}", flush=True)
    print(f"{total:7}  {total - len(wrong):7}  in {time.monotonic() - begin:.0f} s")
    for text in wrong[:10]:
        print(text)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
