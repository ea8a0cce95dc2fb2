# SPDX-License-Identifier: Apache-2.0
"""Mutated captures, foreign traces and map files: only typed errors may come out, and soon.

python -m tests.unit.sources.foreign.fuzz [CASES [SEED [NAME...]]]

By default 100000 cases of each corpus file. Each SEED makes other cases, so that many cases may be
run a part at a time: fuzz_on.py does it.

Fails on any exception that is not typed, a case that takes over a second of CPU, or more than
512 MB of memory (both but for `make sanitize`, which takes more of both); it prints file, seed and
case, which make the same bytes again.
"""

from __future__ import annotations

import gzip
import json
import lzma
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa

from ghesrace.checker.engine import Engine
from ghesrace.checker.validate import validate
from ghesrace.errors import GhesraceError
from ghesrace.events import EVENT, Events
from ghesrace.plan import Plan
from ghesrace.sources.capture.file import CaptureSource
from ghesrace.sources.files import open_file
from ghesrace.sources.foreign.eventmap import parse_map
from ghesrace.sources.foreign.text import reader
from tests.build import paths
from tests.build.paths import EXAMPLES


def _zstd(data: bytes) -> bytes:
    return pa.compress(data, codec="zstd", asbytes=True)


FILES = (
    "v6.dat",
    "v7-zstd.dat",
    "trace.txt",
    "perf-script.txt",
    "perf-gone-task.txt",
    "two-boots.txt",
    "seven-columns.txt",
    "latency-format.txt",
    "bare-hex.txt",
    "long-decimals.txt",
    "flush-without-address.txt",
    "perf-lost.txt",
    "nmi-told.txt",
    "wall-clock.txt",
    "sym-addr.txt",
    "ts-diff.txt",
)
# What logs, mails and other tools put before lines, between them, or into them: each is made of a
# fixture, of its lines and their numbers.
MADE: dict[str, tuple[str, Callable[[str, int], str]]] = {
    "two buffers": ("perf-whole.txt", lambda x, n: ("  host.dat: ", " guest.dat: ")[n % 2] + x),
    "log of two hosts": (
        "long-decimals.txt",
        lambda x, n: f"Nov 30 17:18:30 node-{n % 2} kernel: [   12.345678] {x}",
    ),
    "hosts in brackets": ("sym-addr.txt", lambda x, n: f"[pod/node-{n // 9}/kernel] {x}"),
    "quoted mail": ("nmi-told.txt", lambda x, _: f"> {x}"),
    "numbered lines": ("two-boots.txt", lambda x, n: f"trace.txt:{n}:{x.lstrip()}"),
    "two boots of a log": (
        "wall-clock.txt",
        lambda x, n: x if n % 9 else f"-- Boot {n:032x} --\n[    0.000000] Linux version 6.1\n{x}",
    ),
    "losses in words": (
        "seven-columns.txt",
        lambda x, n: x if n % 4 else f"{x}<snip>\n50414 events lost\nCPU:1 [LOST {n} EVENTS]\n",
    ),
    "other tracers' lines": (
        "ts-diff.txt",
        lambda x, n: f"{x}  a-1 [000] d.h1.  {n}.000000: f+0x4/0x8 <-g\n <stack trace>\n => f\n",
    ),
    "half addresses": (
        "nmi-told.txt",
        lambda x, n: x.replace("=0xffffc900", "=0x") if n % 2 else x,
    ),
    "json": ("trace.txt", lambda x, n: json.dumps({"MESSAGE": x}) + "\n" if n < 99 else ""),
}
PACKED = {"trace.txt.gz": gzip.compress, "trace.txt.xz": lzma.compress, "v6.dat.zst": _zstd}
CAPTURES = ("stock.arrows", "control.arrows")
MAPS, RECORDS = "map file", "records"  # a map file's text; a capture's records, packed well
KINDS = (*FILES, *MADE, *PACKED, *CAPTURES, RECORDS, MAPS)
SLOWEST_S, MOST_BYTES = 1.0, 512 << 20
SMALL_PIECE = 2500  # bytes
SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")
# Where a trace.dat says what is where; the rest of the file is pages and text of formats.
HEAD = 4096
MAP = """\
arch = "x86_64"
clock_error_ns = 2000
[[slot]]
name = "irq"
index = 645
address = "0xffffffffff57a000"
lock = "page"
[[event]]
event = "other/setfix"
kind = "map"
clear_kind = "unmap"
fields = { phys = "phys", index = "idx", prot = "prot" }
implies = ["page-after-clear"]
end = { event = "other/setfix_ret", fields = { addr = "ret" } }
[[event]]
event = "other/flush1k"
ignore = true
"""
# perf script prints no symbols: its events are named.
PERF_MAP = """\
[[event]]
event = "other/setfix"
kind = "map"
clear_kind = "unmap"
fields = { phys = "phys", index = "idx", prot = "prot" }
[[event]]
event = "other/flush1k"
kind = "inv-page"
fields = { addr = "addr" }
"""
_WORDS = (b"\0", b"\xff" * 8, b"\0" * 8, b"\x7f\xff\xff\xff", b"\n", b"[", b"0x", b"9" * 40, b'"')


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to eight changes: bits, bytes, numbers, pieces cut out, doubled, moved or added."""
    made = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        if not made:
            break
        limit = min(len(made), HEAD) if rng.random() < 0.5 else len(made)
        at = rng.randrange(limit)
        size = min(rng.choice((1, 2, 4, 8, 64, 4096)), len(made) - at)
        match rng.randrange(7):
            case 0:
                made[at] ^= 1 << rng.randrange(8)
            case 1:
                made[at : at + size] = rng.randbytes(size)
            case 2:
                word = rng.choice(_WORDS)
                made[at : at + len(word)] = word
            case 3:
                del made[at : at + size]
            case 4:
                made[at:at] = made[at : at + size]
            case 5:
                other = rng.randrange(len(made))
                made[at : at + size] = made[other : other + size]
            case 6 if rng.random() < 0.2:
                del made[at:]
    return bytes(made)


def _progress(name: str, case: int, outcomes: Counter[str], slowest: float) -> None:
    """Say now and then how far it is, so that a run which is ended early says what it did."""
    if case % 10_000 == 9_999:
        done = f"{name}: {case + 1:,} cases so far, {dict(outcomes)}, slowest {slowest:.2f} s"
        print(done, file=sys.stderr, flush=True)


def judge(path: Path, map_file: Path | None, whole: bool) -> str:
    """What became of one file: a verdict, or the name of a typed error. Not *whole*: its events
    are held against the contract (check.validate) only, which takes a part of the time."""
    try:
        source = open_file(path, map_file)
        if whole:
            Plan.from_dict(source.plan.to_dict())
        engine = Engine(source.plan)
        for batch in source.batches():
            if whole:
                engine.feed(batch)
            else:
                validate(batch, source.plan)
        if not whole:
            return "read"
        engine.finish()
        return engine.report().verdict.word
    except GhesraceError as error:
        return type(error).__name__


def content(name: str) -> bytes:
    """The bytes that are to be mutated: a fixture's, or what is made of one."""
    if name in PACKED:
        return (paths.CORPUS / name.rpartition(".")[0]).read_bytes()
    if name in MADE:
        fixture, change = MADE[name]
        lines = (paths.CORPUS / fixture).read_text().splitlines(keepends=True)
        return "".join(change(line, number) for number, line in enumerate(lines)).encode()
    return ((EXAMPLES if name in CAPTURES else paths.CORPUS) / name).read_bytes()


def _mutated(name: str, data: bytes, rng: random.Random, case: int) -> bytes:
    """*data*, mutated. Of what is compressed a mutation is seldom more than one that the packer
    refuses, and so half of them are made of what is in it."""
    if name not in PACKED:
        return mutate(data, rng)
    return PACKED[name](mutate(data, rng)) if case % 2 else mutate(PACKED[name](data), rng)


def run_files(name: str, cases: int, seed: int, folder: Path) -> tuple[Counter[str], float]:
    """Outcomes of *cases* mutations of one fixture, and the slowest case in seconds."""
    data = content(name)
    path, map_file = folder / "case", folder / "map.toml"
    map_file.write_text(PERF_MAP)
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    for case in range(cases):
        rng = random.Random(f"{name} {seed} {case}")
        path.write_bytes(_mutated(name, data, rng, case))
        begin = time.process_time()
        # A long text is read in pieces, and a short one is long enough for small ones.
        piece = SMALL_PIECE if case % 4 == 1 else 1 << 16
        try:
            given = map_file if name == "perf-script.txt" else None
            with mock.patch.multiple(reader, _CHUNK=piece, _FIRST_CHUNK=piece):
                outcomes[judge(path, given, whole=case % 20 == 0)] += 1
        except Exception:
            print(f"{name}: seed {seed}, case {case}", file=sys.stderr)
            raise
        slowest = max(slowest, time.process_time() - begin)
        _progress(name, case, outcomes, slowest)
    return outcomes, slowest


def run_maps(cases: int, seed: int) -> tuple[Counter[str], float]:
    """Outcomes of *cases* mutated map files, and the slowest case in seconds."""
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    for case in range(cases):
        rng = random.Random(f"map {seed} {case}")
        text = mutate(MAP.encode(), rng).decode("utf-8", "replace")
        begin = time.process_time()
        try:
            parse_map(text)
            outcomes["read"] += 1
        except GhesraceError as error:
            outcomes[type(error).__name__] += 1
        except Exception:
            print(f"{MAPS}: seed {seed}, case {case}", file=sys.stderr)
            raise
        slowest = max(slowest, time.process_time() - begin)
        _progress(MAPS, case, outcomes, slowest)
    return outcomes, slowest


def run_records(cases: int, seed: int) -> tuple[Counter[str], float]:
    """Outcomes of *cases* pieces of a capture whose records were damaged, and the slowest."""
    source = CaptureSource(EXAMPLES / "control.arrows")
    whole = np.concatenate(list(source.batches()))
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    for case in range(cases):
        rng = random.Random(f"{RECORDS} {seed} {case}")
        at = rng.randrange(len(whole) - 200)
        piece = whole[at : at + rng.randint(1, 200)].copy()
        for _ in range(rng.randint(1, 20)):
            name = rng.choice(EVENT.names or ())
            row, other = rng.randrange(len(piece)), rng.randrange(len(whole))
            value = rng.choice((0, 1, 2**63, rng.randrange(2**64), int(whole[name][other])))
            limit = np.iinfo(EVENT[name])
            piece[name][row] = min(max(value, int(limit.min)), int(limit.max))
        begin = time.process_time()
        try:
            outcomes[judge_records(source.plan, piece)] += 1
        except Exception:
            print(f"{RECORDS}: seed {seed}, case {case}", file=sys.stderr)
            raise
        slowest = max(slowest, time.process_time() - begin)
        _progress(RECORDS, case, outcomes, slowest)
    return outcomes, slowest


def judge_records(plan: Plan, piece: Events) -> str:
    """A verdict, or the name of a typed error."""
    engine = Engine(plan)
    try:
        engine.feed(piece)
        engine.finish()
        return engine.report().verdict.word
    except GhesraceError as error:
        return type(error).__name__


@dataclass(frozen=True, slots=True)
class Part:
    """What came of some cases of one kind: outcomes, the slowest (s of CPU), and the most bytes of
    memory that this process had so far."""

    outcomes: Counter[str]
    slowest: float
    most: int

    @property
    def bad(self) -> bool:
        """Whether it was too slow or took too much memory; sanitizers take more of both."""
        return not SANITIZED and (self.slowest > SLOWEST_S or self.most > MOST_BYTES)


def run(kind: str, cases: int, seed: int) -> Part:
    """Run so many *cases* of one *kind*; an exception that is not typed comes out."""
    if kind == MAPS:
        outcomes, slowest = run_maps(cases, seed)
    elif kind == RECORDS:
        outcomes, slowest = run_records(cases, seed)
    else:
        with tempfile.TemporaryDirectory() as folder:
            outcomes, slowest = run_files(kind, cases, seed, Path(folder))
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Part(outcomes, slowest, most)


def main() -> int:
    """Run all kinds; the first exception that is not typed ends it, with its seed and case."""
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    bad = 0
    for kind in sys.argv[3:] or KINDS:
        begin = time.monotonic()
        made = run(kind, cases, seed)
        bad += made.bad
        print(
            f"{kind}: {cases:,} cases in {time.monotonic() - begin:.0f} s, "
            f"{dict(made.outcomes)}, slowest {made.slowest:.2f} s of CPU, "
            f"{made.most >> 20} MB so far",
            flush=True,
        )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
