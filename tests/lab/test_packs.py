# SPDX-License-Identifier: Apache-2.0
"""Program packs on a real kernel: programs that were made for another boot, beside bcc's own.

`make pack-test` boots twice: it builds the pack in one guest and runs this in the next, whose
kernel lies elsewhere. In a single boot the pack is built of facts whose kernel was moved, as KASLR
would have (on x86, where it has a known range).
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from ghesrace import cli, packs
from ghesrace.events import Events, Kind, select
from ghesrace.host import syscalls, taken
from ghesrace.host.facts import read_facts
from ghesrace.plan import Fetch, Plan, Probe, Slot
from ghesrace.planning.filters import equals
from ghesrace.planning.resolve import resolve
from ghesrace.sources.bpf import compile as bcc
from ghesrace.sources.bpf import load, program
from ghesrace.sources.bpf.numbers import Placeholders
from ghesrace.sources.bpf.pack import Entry, Pack, programs_of, text_digest
from ghesrace.sources.bpf.rings import cpu_dtype
from ghesrace.sources.bpf.source import BpfSource
from ghesrace.sources.bpf.summary.plan import summarised
from ghesrace.sources.bpf.summary.source import SummarySource
from ghesrace.sources.capture.file import CaptureSource
from ghesrace.sources.live import LiveSource
from lab.inside.client import Client
from lab.inside.recording import RecordingThread
from tests.build.judging import judge

SCENARIO = {"aarch64": "every"}.get(platform.machine(), "mixed")
OTHER_BOOT = "other-boot.pack"  # of `make pack-test`, and beside it where _text was then
MOVED = 0x0BE00000
GAP_NS = 4_000_000
WHAT = ("cpu", "point", "kind", "slot", "addr", "phys", "size", "ctx", "flags")
Row = tuple[int, ...]


def text_address(kallsyms: str) -> int:
    found = re.search(r"^(\w+) \w _text$", kallsyms, re.M)
    assert found is not None
    assert int(found[1], 16)
    return int(found[1], 16)


def moved(root: Path) -> Path:
    """Facts as of a boot whose kernel lies elsewhere; modules and the fixmap do not move."""
    path = root / "proc/kallsyms"
    lines = re.sub(
        r"^ffffffff[89ab]\w{7}(?= \w \S+$)",
        lambda found: f"{int(found[0], 16) + MOVED:016x}",
        path.read_text(),
        flags=re.M,
    )
    assert text_address(lines) == text_address(path.read_text()) + MOVED
    path.write_text(lines)
    return root


@pytest.fixture(scope="session")
def pack(share: Path, tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """A pack of another boot of this kernel."""
    here = text_address(Path("/proc/kallsyms").read_text())
    kept = share / OTHER_BOOT
    if kept.exists():
        then = text_address(kept.with_suffix(".text").read_text())
        assert then != here, "KASLR put both kernels at one address: boot again"
        print(f"built when _text was at {then:#x}, now it is at {here:#x}")
        return Pack.read(kept.read_bytes(), str(kept))
    archive = tmp_path_factory.mktemp("facts") / "facts"
    archive.write_bytes(taken.take(read_facts()))
    with taken.planted(archive) as root:
        return packs.pack_of([moved(root)], summary=True)


@pytest.fixture
def placed(pack: Pack) -> Path:
    """The pack where root's packs are."""
    folder = Path("/etc/ghesrace")
    folder.mkdir(exist_ok=True)
    file = folder / "test.pack"
    file.write_text(pack.to_json())
    return file


def together(sources: list[LiveSource], scenario: str, seconds: float) -> list[Events]:
    """What each source recorded of one traffic, which begins and ends while all are attached."""
    firmware = Client()
    with ExitStack() as stack:
        recorders = [RecordingThread(stack.enter_context(source)) for source in sources]
        time.sleep(2)
        firmware.start(scenario)
        time.sleep(seconds)
        firmware.stop()
        time.sleep(2)
        return [recorder.stop() for recorder in recorders]


def plain(events: Events) -> Events:
    return events[events["kind"] < Kind.LOSS]


def losses(events: Events) -> int:
    return int(np.maximum(select(events, Kind.LOSS)["count"], 1).sum())


def quiet(stamps: list[int], near: int) -> int:
    """The first time after *near* with no event around it, so that both sides cut alike."""
    for one, following in zip(stamps, [*stamps[1:], 2**63], strict=True):
        if one >= near and following - one > 2 * GAP_NS:
            return one + GAP_NS
    raise AssertionError("no gap")


def rows(events: Events, begin: int, end: int) -> Counter[Row]:
    inside = events[(events["ts"] >= begin) & (events["ts"] < end)]
    return Counter(zip(*(inside[name].tolist() for name in WHAT), strict=True))


def test_the_same_events_as_bccs(pack: Pack) -> None:
    """If this fails, a pack's programs have another boot's addresses in their filters, another
    layout in their records or rings, or see what others do not: verdicts without bcc are worth
    nothing."""
    plan = resolve(read_facts(), backend="bpf")
    packed = BpfSource(plan, {}, buffer_kb=8192, pack=pack)
    compiled = BpfSource(plan, {}, buffer_kb=8192)
    ours, theirs = together([packed, compiled], SCENARIO, 25)
    both = plain(ours), plain(theirs)
    stamps = sorted(int(ts) for side in both for ts in side["ts"])
    starts, ends = ([int(f(side["ts"])) for side in both] for f in (np.min, np.max))
    begin = quiet(stamps, max(starts) + GAP_NS)
    end = quiet(stamps, min(ends) - 1_500_000_000)
    mine, other = (rows(side, begin, end) for side in both)
    seen, lost = mine.total(), losses(ours) + losses(theirs)
    differ = (mine - other).total() + (other - mine).total()
    kinds = Counter(int(row[2]) for row in mine.elements())
    print(
        f"{seen} events, {differ} differ, {lost} lost;", {Kind(k).name: n for k, n in kinds.items()}
    )
    assert seen > 2000
    assert {Kind.MAP, Kind.UNMAP, Kind.NOTIFY} <= kinds.keys()
    assert differ <= 2 * lost
    reports = [judge(plan, side) for side in (ours, theirs)]
    assert [report.findings for report in reports] == [[], []]
    assert len({report.verdict.word for report in reports}) == 1 or lost


def test_a_summary_judges_as_bccs_does(pack: Pack) -> None:
    """If this fails, the kernel judges by another boot's addresses: it sees no flush, and finds
    races, or no episode, and finds none."""
    plan = summarised(resolve(read_facts(), backend="bpf"))
    packed, compiled = SummarySource(plan, {}, pack=pack), SummarySource(plan, {})
    ours, theirs = together([compiled, packed], SCENARIO, 20)[::-1]
    mine, other = judge(plan, ours), judge(plan, theirs)
    lost = losses(ours) + losses(theirs)
    judged, expected = (sum(slot.episodes for slot in side.slots) for side in (mine, other))
    print(
        f"{judged} and {expected} episodes, {lost} lost; {mine.verdict.word}, {other.verdict.word}"
    )
    assert expected > 1000
    # The kernel polls all the time, twice a second, and one side is attached earlier.
    assert abs(judged - expected) <= 200 + lost
    assert all(slot.episodes > 100 for slot in mine.slots)
    assert mine.findings == other.findings == []


def test_the_addresses_are_this_boots(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a program asks for an address of the boot that it was built on: it records
    nothing of what it should, or something else. Here the kernel runs it by hand, with both."""
    monkeypatch.setattr(load, "find_preempt_count", lambda *_: ("0", {}))
    fields = {"handler": Fetch(1), "delta_ns": Fetch(2)}
    then, now, cpus = 0xFFFFFFFF81234560, 0xFFFFFFFFA1234560, os.cpu_count() or 1

    def plan(address: int) -> Plan:
        asked = equals("handler", [address])
        probe = Probe("n", "NMI_REF", "nmi:nmi_handler", "raw-tracepoint", fields, filter=asked)
        slots = (Slot("irq", 644, None, "report"),)
        return Plan(read_facts().arch, platform.release(), slots, (probe,), backend="bpf")

    def text(address: int, records: int) -> tuple[Placeholders, load.Written]:
        numbers = Placeholders()
        made = load.written(
            plan(address), {}, write=program.source, records=records, cpus=cpus, numbers=numbers
        )
        return numbers, made

    _, built = text(then, 256)
    compiled = bcc.compiled(built.text, built.functions)
    digest, programs = text_digest(built.text), programs_of(plan(then))
    entry = Entry(plan(then).arch, platform.release(), built.btf, False, digest, programs, compiled)
    numbers, wanted = text(now, 16)
    code = Pack("", (entry,)).entry(plan(now), wanted.btf, wanted.text)
    made = code.for_boot(numbers.values, records=16, cpus=cpus)
    fds = [
        syscalls.create_map(m.kind, m.key_size, m.value_size, m.entries, m.flags, m.name)
        for m in made.maps
    ]
    rings = [one.name for one in made.maps].index("cpus")
    fds.append(syscalls.load(17, made.with_maps("p0", fds), "p0"))  # a raw tracepoint's

    def counts() -> tuple[int, int]:
        """The events that were recorded, and those that were filtered."""
        size = made.maps[rings].value_size
        rows = [syscalls.lookup(fds[rings], cpu, size) for cpu in range(cpus)]
        found = np.frombuffer(b"".join(rows), cpu_dtype(1))["ring"]
        return int(found["head"].sum()), int(found["filtered"].sum())

    try:
        for address, expected in ((now, (10, 0)), (then, (10, 10)), (now + 1, (10, 20))):
            for _ in range(10):
                syscalls.test_run(fds[-1], address, 777)
            assert counts() == expected, hex(address)
    finally:
        for fd in fds:
            os.close(fd)


def command(
    placed: Path, hidden: Path, *more: str
) -> Callable[[], subprocess.CompletedProcess[str]]:
    """`ghesrace capture` in a process that can't import bcc."""
    (hidden / "bcc").mkdir(exist_ok=True)
    (hidden / "bcc/__init__.py").write_text("raise ImportError('hidden')\n")
    path = os.pathsep.join([str(hidden), os.environ.get("PYTHONPATH", "")])
    # What bcc made for other tests is not to be found either.
    env = {**os.environ, "PYTHONPATH": path, "RUNTIME_DIRECTORY": str(hidden / "run")}
    words = [sys.executable, "-m", "ghesrace", "capture", "--backend", "bpf", "-d", "6", *more]
    return lambda: subprocess.run(words, env=env, capture_output=True, text=True, timeout=300)


def test_without_bcc(placed: Path, tmp_path: Path) -> None:
    """If this fails, hosts with a pack need bcc, LLVM or headers all the same."""
    without = command(placed, tmp_path)()
    assert without.returncode == 3
    assert "bcc" in without.stderr
    digest = hashlib.sha256(placed.read_bytes()).hexdigest()
    for more in ([], ["--summary"]):
        file = tmp_path / f"{len(more)}.arrows"
        given = ["--pack", str(placed), "--pack-sha256", digest, "-o", str(file)]
        firmware = Client()
        firmware.start(SCENARIO)
        began = time.monotonic()
        done = command(placed, tmp_path, *more, *given)()
        firmware.stop()
        print(f"{time.monotonic() - began:.1f} s: {done.stderr.strip().splitlines()[-1:]}")
        assert done.returncode == 0, done.stderr
        assert "by bpf into" in done.stderr
        assert [path for path in (tmp_path / "run").rglob("*") if path.is_file()] == []
        found = np.concatenate(list(CaptureSource(file).batches()))
        assert len(found) > (20 if more else 300)


def test_another_pack_is_not_loaded(placed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, whoever can exchange the file, or its folder, runs code in the kernel."""
    digest = hashlib.sha256(placed.read_bytes()).hexdigest()
    given = ["capture", "--backend", "bpf", "--pack", str(placed), "--pack-sha256", digest]
    placed.write_text(placed.read_text() + "\n")
    assert cli.main(given) == 2
    assert "its SHA-256 is" in capsys.readouterr().err
    placed.write_text(placed.read_text()[:-1])
    placed.parent.chmod(0o777)
    try:
        assert cli.main(given) == 2
    finally:
        placed.parent.chmod(0o755)
    assert "others than root can write /etc/ghesrace" in capsys.readouterr().err
