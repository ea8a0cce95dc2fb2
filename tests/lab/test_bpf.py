# SPDX-License-Identifier: Apache-2.0
"""The BPF source on a real kernel, beside the ftrace source."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from ghesrace.checker.engine import Engine
from ghesrace.checker.model import Class, Judged, Why
from ghesrace.checker.report import Report, Verdict
from ghesrace.errors import HostError
from ghesrace.events import Cause, Context, Events, Kind
from ghesrace.host import syscalls
from ghesrace.host.code import Kcore
from ghesrace.host.code_by_bpf import CodeByBpf
from ghesrace.host.facts import BPF_FEATURES, KPROBES, Facts, read_facts
from ghesrace.plan import Backend, Fetch, Plan, Probe
from ghesrace.planning.resolve import resolve
from ghesrace.sources.bpf.attach import BpfProgram, attached
from ghesrace.sources.bpf.compile import compiled
from ghesrace.sources.bpf.perf import PerfBuffers
from ghesrace.sources.bpf.source import BpfSource
from ghesrace.sources.ftrace.source import FtraceSource
from ghesrace.sources.live import LiveSource
from lab.inside.client import Client
from lab.inside.recording import RecordingThread
from lab.kernels.corefile import Recording
from lab.module.device import Parameters
from lab.module.run import inserted, run

# (frame, context), class, whether a hand-off, time, whether a loss alone makes it uncertain
Row = tuple[tuple[int, int], Class, bool, int, bool]
SOURCES: dict[Backend, type[LiveSource]] = {"ftrace": FtraceSource, "bpf": BpfSource}
MARGIN_NS = 500_000_000
SLACK_NS = 20_000_000  # between the two backends' stamps of one event, under emulation


def attach(backend: Backend, facts: Facts) -> LiveSource:
    source: LiveSource = SOURCES[backend](resolve(facts, backend=backend), {}, buffer_kb=8192)  # type: ignore[call-arg]
    return source


def record_both(traffic: Callable[[], None]) -> dict[Backend, tuple[Plan, Events, LiveSource]]:
    """Both backends record the same traffic at the same time."""
    facts = read_facts()
    found: dict[Backend, tuple[Plan, Events, LiveSource]] = {}
    with attach("ftrace", facts) as ftrace, attach("bpf", facts) as bpf:
        recorders = {"ftrace": RecordingThread(ftrace), "bpf": RecordingThread(bpf)}
        traffic()
        for name, recorder in recorders.items():
            found[name] = recorder.source.plan, recorder.stop(), recorder.source  # type: ignore[index]
    return found


def judge(plan: Plan, events: Events) -> tuple[Report, list[Judged]]:
    # In pieces, as live: all at once, a record with many losses takes five times as long.
    engine, judged = Engine(plan), list[Judged]()
    for piece in np.split(events, np.flatnonzero(events["kind"] == Kind.MARK) + 1):
        judged += engine.feed(piece) if len(piece) else []
    return engine.report(), judged + engine.finish()


def of(events: Events, kind: Kind) -> Events:
    return events[events["kind"] == kind]


def losses(events: Events) -> dict[str, int]:
    lost = of(events, Kind.LOSS)
    return {Cause(c).name: int((lost["aux"] == c).sum()) for c in np.unique(lost["aux"]).tolist()}


def rows(judged: list[Judged], plan: Plan, cpu: int, begin: int, end: int) -> dict[str, list[Row]]:
    """Per slot, the episodes of one CPU in a window."""
    found: dict[str, list[Row]] = {slot.name: [] for slot in plan.slots}
    for slot in judged:
        columns = (slot.episodes, slot.cls, slot.handoff, slot.why)
        for row, cls, handoff, why in zip(*columns, strict=True):
            if row["cpu"] == cpu and begin < row["t_map"] < end:
                what = int(row["frame"]), int(row["ctx"])
                when, lossy = int(row["t_map"]), why == Why.LOSS
                entry = what, Class(int(cls)), bool(handoff), when, lossy
                found[plan.slots[slot.slot].name].append(entry)
    return found


def matched(ours: list[Row], theirs: list[Row]) -> tuple[list[tuple[Row, Row]], list[Row]]:
    """Pairs of the same episode as the two sides saw it, and what only one of them saw."""
    pairs, alone, i, j = [], [], 0, 0
    while i < len(ours) and j < len(theirs):
        a, b = ours[i], theirs[j]
        if a[0] == b[0] and abs(a[3] - b[3]) < SLACK_NS:
            pairs.append((a, b))
            i, j = i + 1, j + 1
        elif a[3] < b[3]:
            alone.append(a)
            i += 1
        else:
            alone.append(b)
            j += 1
    return pairs, alone + ours[i:] + theirs[j:]


def near_loss(lost: Events, when: int, since: int | None = None) -> bool:
    """Whether an accounted loss, one of *lost*, touches this time, or that from *since* on."""
    begin = (when if since is None else since) - SLACK_NS
    return bool(((lost["addr"] <= when + SLACK_NS) & (lost["ts"] >= begin)).any())


def test_both_backends_see_the_same(share: Path) -> None:
    """If this fails, one backend invents or misses episodes, or stamps them into another class."""

    def traffic() -> None:
        firmware = Client()
        firmware.start("mixed")
        run(Parameters(rounds=60, nmi=1))
        time.sleep(15)
        firmware.stop()
        time.sleep(1)

    with inserted():
        both = record_both(traffic)
    stamps = [
        events[events["kind"] < Kind.LOSS]["ts"].astype(np.int64) for _, events, _ in both.values()
    ]
    begin = max(int(ts.min()) for ts in stamps) + MARGIN_NS
    end = min(int(ts.max()) for ts in stamps) - MARGIN_NS
    assert end - begin > 10 * MARGIN_NS
    judged = {name: judge(plan, events)[1] for name, (plan, events, _) in both.items()}
    lost = [of(events, Kind.LOSS) for _, events, _ in both.values()]
    compared = different = 0
    for cpu in (0, 1):
        sides = {n: rows(judged[n], both[n][0], cpu, begin, end) for n in both}
        assert list(sides["ftrace"]) == list(sides["bpf"])
        for slot, ours in sides["bpf"].items():
            theirs = sides["ftrace"][slot]
            assert len(ours) > 15, f"{slot} on CPU {cpu}: no traffic"
            pairs, alone = matched(ours, theirs)
            compared += len(pairs)
            different += len(alone)
            inner = [a for a in alone if begin + SLACK_NS < a[3] < end - SLACK_NS]
            for entry in inner:  # one side lacks it
                assert any(near_loss(each, entry[3]) for each in lost), (slot, cpu, entry)
            for (our, their), before in zip(pairs, [pairs[0], *pairs], strict=False):
                if our[1:3] == their[1:3]:
                    continue
                different += 1
                # What came before it on another CPU, or on this one, was lost on one side.
                between = any(near_loss(each, our[3], before[0][3]) for each in lost)
                assert between or our[4] or their[4], (slot, cpu, our, their)
    print(f"{compared} episodes compared, {different} differ, all near an accounted loss;", end=" ")
    print({name: losses(events) for name, (_, events, _) in both.items()})
    assert compared > 500
    assert different < compared / 5
    assert both["bpf"][2].counters["violations"] == 0


def test_an_nmi_inside_our_own_programs_is_never_silent(share: Path) -> None:
    """If this fails, NMIs that land in our own programs vanish, and what is left looks clean."""
    facts = read_facts()
    firmware = Client()
    with attach("bpf", facts) as source:
        recorder = RecordingThread(source)
        # Both: interrupts keep our programs busy in lower contexts, for the NMIs to land in.
        firmware.start("hard")
        time.sleep(62)
        firmware.stop()
        time.sleep(1)
        events = recorder.stop()
        counters = source.counters.copy()
    references, notified = of(events, Kind.NMI_REF), of(events, Kind.NOTIFY)
    seen = int((notified["ctx"] == Context.NMI).sum())
    lost = of(events, Kind.LOSS)
    unmatched = int((lost["aux"] == Cause.NMI_UNMATCHED).sum())
    print(len(events), losses(events), counters)
    assert len(references) > 500
    assert abs(len(references) - seen - unmatched) <= 2
    assert counters["violations"] == 0
    assert counters["kept"] == int((events["kind"] < Kind.LOSS).sum())
    # What the programs saw after the last read was dropped on purpose; nothing else is missing.
    missing = counters["seen"] - counters["kept"] - counters["other"] - counters["lost:dropped"]
    assert 0 <= missing - counters["lost:overrun"] <= 200
    # The maps of an NMI handler come in pairs where no loss says otherwise.
    report, judged = judge(source.plan, events)
    assert report.findings == []
    for slot in judged:
        for row, cls, why in zip(slot.episodes, slot.cls, slot.why, strict=True):
            if cls not in (Class.MAP_FLUSH, Class.FRESH, Class.BROADCAST, Class.SAME_FRAME):
                assert why == Why.LOSS or near_loss(lost, int(row["t_map"])), (row, cls)
    # A handler that is missed whole, or one hit, may hide nothing unsafe: it is told all the same.
    assert bool(report.losses) == bool(len(lost))
    harmless = np.isin(lost["aux"], (Cause.NMI_UNMATCHED, Cause.MISSED)).all()
    assert report.verdict is Verdict.INCONCLUSIVE or harmless, report.reasons


def read_late(source: LiveSource) -> Events:
    """What is left of a storm that nobody read for ten seconds."""
    firmware, batches = Client(), source.batches()
    firmware.start("hard")
    time.sleep(10)
    got = [next(batches)]
    firmware.stop()
    source.stop()
    return np.concatenate([*got, *batches])


def test_a_lapped_ring_is_never_clean(share: Path) -> None:
    """If this fails, what the rings dropped unread may have been the race."""
    facts = read_facts()
    plan = resolve(facts, backend="bpf")
    with BpfSource(plan, {}, buffer_kb=1, tick=0.25) as source:
        events = read_late(source)
    lost = of(events, Kind.LOSS)
    lost = lost[lost["aux"] == Cause.OVERRUN]
    assert len(lost), "no ring was lapped: nothing was tested"
    assert (lost["size"] > 0).all()
    assert judge(plan, events)[0].verdict is not Verdict.CLEAN


def without_mapping(facts: Facts) -> Facts:
    """A kernel before 5.5: neither arrays that can be mapped nor trampolines."""
    old = {name: found for name, found in facts.symbols.items() if name not in BPF_FEATURES}
    return replace(facts, symbols=old)


def test_a_kernel_without_mappable_arrays(share: Path) -> None:
    """If this fails, 5.4 is refused, or its perf buffers say something else than the rings."""
    facts = read_facts()
    old = resolve(without_mapping(facts), backend="bpf")
    assert old.transport == "perf"
    assert {p.mechanism for p in old.probes} == {"kprobe", "kretprobe", "raw-tracepoint"}
    found: dict[str, tuple[Events, LiveSource]] = {}
    firmware = Client()
    with attach("bpf", facts) as mapped, BpfSource(old, {}, buffer_kb=8192) as perf:
        recorders = {"mapped": RecordingThread(mapped), "perf": RecordingThread(perf)}
        time.sleep(1)
        begin = time.monotonic_ns()
        firmware.start("mixed")
        time.sleep(10)
        firmware.stop()
        time.sleep(1)
        end = time.monotonic_ns()
        time.sleep(1)
        for name, recorder in recorders.items():
            found[name] = recorder.stop(), recorder.source
    for name, (events, source) in found.items():
        counters, lost = source.counters, of(events, Kind.LOSS)
        print(name, len(events), losses(events), dict(counters))
        assert counters["violations"] == counters["late"] == 0
        assert counters["kept"] == int((events["kind"] < Kind.LOSS).sum())
        inside = int(lost["size"][np.isin(lost["aux"], (Cause.OVERRUN, Cause.DROPPED))].sum())
        missing = counters["seen"] - counters["kept"] - counters["other"] - inside
        # The programs run on until they are detached: what they see then is read by nobody.
    assert 0 <= missing <= 200, "the identity: what came after the last read, and no more"
    kinds = {}
    for name, (events, source) in found.items():
        during = (events["ts"] > begin) & (events["ts"] < end) & (events["kind"] < Kind.LOSS)
        points = events["point"][during]
        names = [source.plan.probes[point].kind for point in range(len(source.plan.probes))]
        kinds[name] = Counter(names[point] for point in points.tolist())
    print(kinds)
    counted = [source.counters for _, source in found.values()]
    skipped = sum(n for one in counted for name, n in one.items() if name.startswith("lost:"))
    for kind, count in kinds["mapped"].items():
        assert abs(count - kinds["perf"][kind]) <= skipped, kind
    assert kinds["mapped"]["NOTIFY"] > 200
    verdicts = {n: judge(s.plan, events)[0].verdict for n, (events, s) in found.items()}
    lossy = {n: len(of(events, Kind.LOSS)) > 0 for n, (events, _) in found.items()}
    print(verdicts, lossy)
    for name, verdict in verdicts.items():
        # A loss that can hide nothing unsafe leaves a healthy kernel clean.
        excused = lossy[name] and verdict is Verdict.INCONCLUSIVE
        assert verdict is Verdict.CLEAN or excused, name


def test_a_full_perf_buffer_is_never_clean(share: Path) -> None:
    """If this fails, what a perf buffer could not take is missing without a word."""
    facts = read_facts()
    plan = resolve(without_mapping(facts), backend="bpf")
    with BpfSource(plan, {}, buffer_kb=1, tick=0.25) as source:
        events = read_late(source)
        assert isinstance(source._rings, PerfBuffers)
        announced = source._rings.announced
    lost = of(events, Kind.LOSS)
    lost = lost[lost["aux"] == Cause.OVERRUN]
    print(len(events), int(lost["size"].sum()), announced, dict(source.counters))
    assert len(lost), "no buffer was full: nothing was tested"
    assert np.unique(lost["cpu"]).tolist() == [0, 1]
    # The kernel announces a loss with the next event that it keeps.
    assert 0 < announced <= int(lost["size"].sum())
    counters = source.counters
    missing = counters["seen"] - counters["kept"] - counters["other"]
    missing -= counters["lost:overrun"] + counters["lost:dropped"]
    # The programs run on until they are detached: what they see then is read by nobody.
    assert 0 <= missing <= 200, "the identity: what came after the last read, and no more"
    assert judge(plan, events)[0].verdict is not Verdict.CLEAN


# The kernel's read enters the program, whose own read enters it again: one miss each time.
INTO_ITSELF = """
int p0(unsigned long long *ctx)
{
	char byte;

	bpf_probe_read_kernel(&byte, sizeof(byte), ctx);
	return 0;
}
"""


def test_misses_are_told_without_the_system_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, the daemon ends on kernels before 5.19 once its capabilities are gone."""

    def refuse(*_: object) -> bytes:
        raise PermissionError(1, "Operation not permitted")

    facts, target = read_facts(), "copy_from_kernel_nofault"
    assert facts.btf is not None
    number = facts.btf.function_id(target)
    assert number is not None
    program = BpfProgram("p0", "tracing", "fentry", target, number)
    code = compiled(INTO_ITSELF, ("p0",))
    loaded = attached(code, (program,), maps=(), variables={}, cpu=0)
    try:
        (readable,) = facts.symbols[KPROBES]
        assert Kcore(Path("/proc/kcore")).read(readable.address, 64)
        loaded.detach()
        told = loaded.misses()
        monkeypatch.setattr(syscalls, "info", refuse)
        assert loaded.misses() == told
        assert sum(told) > 0, "nothing was missed: nothing was tested"
    finally:
        loaded.close()


def test_code_copied_by_a_program_is_the_core_files() -> None:
    """If this fails, the daemon believes of the kernel what other bytes say, or nothing."""
    facts = read_facts()
    assert facts.code_from == "/proc/kcore"
    assert facts.code is not None
    recording = Recording(facts.code)
    resolve(replace(facts, code=recording))
    assert recording.blocks
    begin = time.monotonic()
    copied = CodeByBpf()
    for address, block in recording.blocks.items():
        assert copied.read(address, len(block)) == block, hex(address)
    seconds = time.monotonic() - begin
    print(f"{len(recording.blocks)} blocks by BPF in {seconds:.2f} s")
    assert copied.read(0xFFFF_F000_0000_0000, 8) == b"", "nothing is there on either architecture"


@pytest.mark.parametrize(
    ("capabilities", "state", "where"),
    [
        ("+syslog,+bpf,+perfmon", "proven", " (read from memory, by BPF)"),
        ("+syslog,+sys_admin", "proven", " (read from memory, by BPF)"),
        ("+syslog,+bpf", "assumed", "the kernel's code can't be read: /proc/kcore: Operation not "),
        ("+syslog", "assumed", "the kernel's code can't be read: /proc/kcore: Operation not "),
    ],
)
def test_code_is_read_with_what_the_units_may_do(capabilities: str, state: str, where: str) -> None:
    """If this fails, the daemon takes on trust what it could read, or claims what it did not."""
    done = subprocess.run(
        ["setpriv", "--bounding-set", f"-all,{capabilities}", "--no-new-privs",
         sys.executable, "-m", "ghesrace", "plan", "--format", "json"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)["implications"]
    assert said
    assert {one["state"] for one in said} == {state}
    assert all(where in one["where"] for one in said), said


def test_two_processes_at_once(share: Path) -> None:
    """If this fails, two users of one host, one of each backend, disturb each other."""
    files = [share / f"at-once-{number}.arrows" for number in range(3)]
    for file in files:
        file.unlink(missing_ok=True)
    capture = [sys.executable, "-m", "ghesrace", "capture", "--check", "-d", "600"]
    running = [
        subprocess.Popen(
            [*capture, "--backend", backend, "-o", str(file)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for backend, file in zip(("bpf", "ftrace", "bpf"), files, strict=True)
    ]
    deadline = time.monotonic() + 400
    while not all(file.exists() for file in files):  # Then everything is attached.
        assert time.monotonic() < deadline
        assert not any(process.poll() for process in running)
        time.sleep(0.5)
    sizes = [psutil.Process(p.pid).memory_info().rss >> 20 for p in running]
    Client().report("nmi", 5)
    time.sleep(2)
    for process in running:
        process.send_signal(signal.SIGINT)
    for process in running:
        out, err = process.communicate(timeout=400)
        assert process.returncode in (0, 3), err
        assert "GHES_NMI" in out
    print(f"RSS: bpf {sizes[0]} MiB, ftrace {sizes[1]} MiB")
    # LLVM alone is 100 MB: it went with the process that compiled.
    assert sizes[0] < 200
    assert sizes[0] < sizes[1] + 60


def test_refusals_say_what_is_wrong(share: Path) -> None:
    """If this fails, a user meets "Failed to load BPF program" and nothing more."""
    facts = read_facts()
    plan = resolve(facts, backend="bpf")
    bad = Probe("bad", "INV_PAGE", "no_such_function", "fentry")
    broken = Plan(plan.arch, plan.release, plan.slots, (bad,), cpus=plan.cpus, backend="bpf")
    with pytest.raises(HostError, match="no_such_function"):
        BpfSource(broken, {}).__enter__()
    wild = Probe("wild", "NMI_REF", "nmi:nmi_handler", "raw-tracepoint", {"addr": Fetch(9)})
    broken = Plan(plan.arch, plan.release, plan.slots, (wild,), cpus=plan.cpus, backend="bpf")
    with pytest.raises(HostError, match=r"our BPF program.*nmi_handler"):
        BpfSource(broken, {}).__enter__()
