# SPDX-License-Identifier: Apache-2.0
"""Measure in a guest what each way of tracing adds to a GHES NMI, in guest instructions.

With one vCPU and `-icount shift=0` a guest's nanosecond is one instruction. The kernel measures
each NMI handler itself (`delta_ns` of nmi:nmi_handler), so the measurement costs nothing that is
counted.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import TypeVar

from ghesrace.backends import attach
from ghesrace.host.facts import Facts, read_facts
from ghesrace.plan import Backend, Fetch, Plan
from ghesrace.planning.resolve import resolve
from ghesrace.render import tracecmd
from ghesrace.sources import tracefs
from lab.inside.client import Client

T = TypeVar("T")
NMIS = 30
SETTLE_S = 3.0
PATIENCE_S = 300.0
# Somebody would write this by hand: the functions of the race, each with its arguments.
BPFTRACE = """
kprobe:ghes_copy_tofrom_phys { printf("%llu %d copy %lx\\n", nsecs, cpu, arg1); }
kprobe:native_set_fixmap { printf("%llu %d set %d %lx\\n", nsecs, cpu, arg0, arg1); }
kprobe:flush_tlb_one_kernel { printf("%llu %d flush %lx\\n", nsecs, cpu, arg0); }
kprobe:ghes_notify_nmi { printf("%llu %d nmi\\n", nsecs, cpu); }
kretprobe:ghes_notify_nmi { printf("%llu %d end\\n", nsecs, cpu); }
"""


class Meter:
    """Reads delta_ns of the GHES NMI handler through a tracing instance of its own.

    The instance has to be removed by the caller:

        meter = Meter(read_facts())
        print(meter.median())
        meter.instance.remove()
    """

    def __init__(self, facts: Facts) -> None:
        self.instance = tracefs.Instance.create(facts.tracefs or tracefs.TRACEFS)
        [handler] = facts.symbols["ghes_notify_nmi"]
        self.instance.set("buffer_size_kb", "256")
        self.instance.set("events/nmi/nmi_handler/filter", f"handler == {handler.address:#x}")
        self.instance.set("events/nmi/nmi_handler/enable", "1")
        self.instance.set("tracing_on", "1")
        self.firmware = Client()

    def median(self) -> int:
        """Return the instructions of one NMI with one corrected error, the median of NMIS."""
        self.firmware.report("nmi", 2)  # The first ones warm the caches.
        with (self.instance.path / "trace").open("w"):
            pass
        self.firmware.report("nmi", NMIS)
        found = re.findall(r"delta_ns: (\d+)", self.instance.get("trace"))
        assert len(found) >= NMIS, f"{len(found)} NMIs were seen of {NMIS}"
        return int(median(int(value) for value in found))


@contextmanager
def running(command: list[str], log: Path, ready: str) -> Iterator[None]:
    """Run *command* for the length of the context, which begins when its output has *ready* in it.

    The output goes to *log*. Raises AssertionError if the command ends first or does not start
    within 5 minutes.
    """
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            end = time.monotonic() + PATIENCE_S
            while ready not in log.read_text(errors="replace"):
                assert process.poll() is None, log.read_text(errors="replace")
                assert time.monotonic() < end, f"{command[0]} did not start"
                time.sleep(0.5)
            time.sleep(SETTLE_S)
            yield
        finally:
            os.killpg(process.pid, signal.SIGINT)  # Ctrl-C would end all that it started, too.
            process.wait(PATIENCE_S)


def bpftrace(script: str, share: Path) -> AbstractContextManager[None]:
    """Run bpftrace with *script*, which prints a line for each event, as `running` does."""
    begin = 'BEGIN { printf("ready\\n"); }'
    return running(["bpftrace", "-e", begin + script], share / "bpftrace", "ready")


def same_events(plan: Plan) -> str:
    """Return a bpftrace script with a probe for each of the *plan*'s.

    It records by hand what ghesrace records.
    """
    lines = []
    for probe in (p for p in plan.probes if p.mechanism in ("kprobe", "kretprobe")):
        direct = [f for f in probe.fields.values() if isinstance(f, Fetch) and f.offset is None]
        arguments = [f"arg{f.argument - 1}" for f in direct if f.argument != "return"]
        form = " ".join(["%llu %d", probe.kind, *["%lx"] * len(arguments)])
        values = ", ".join(["nsecs", "cpu", *arguments])
        lines.append(f'{probe.mechanism}:{probe.symbol} {{ printf("{form}\\n", {values}); }}')
    return "\n".join(lines)


@contextmanager
def ghesrace(backend: Backend, facts: Facts, *, summary: bool = False) -> Iterator[None]:
    """Attach ghesrace's own source inside; what it recorded is read once, at the end."""
    with ExitStack() as stack:
        source = attach(
            backend, facts, finished=_as_is, started=_as_is, tell=print, summary=summary
        )
        stack.push(source)
        yield
        source.stop()
        for _ in source.batches():
            pass


def _as_is(thing: T) -> T:
    return thing


@contextmanager
def trace_cmd(plan: Plan, share: Path) -> Iterator[None]:
    """Run the script of `ghesrace plan --format trace-cmd` inside, with its files in *share*."""
    script = share / "record.sh"
    text = tracecmd.script(plan).replace("trace-cmd record", "echo ready; trace-cmd record")
    script.write_text(text)
    command = ["sh", str(script), "100000", str(share / "bench.dat")]
    with running(command, share / "trace-cmd", "ready"):
        time.sleep(SETTLE_S)
        yield


def measure(share: Path) -> dict[str, int]:
    """Return {way of tracing: median instructions per GHES NMI}, with "none" first."""
    facts = read_facts()
    plan = resolve(facts)
    meter = Meter(facts)
    found = {"none": meter.median()}
    ways = {
        "bpftrace, 4 functions": lambda: bpftrace(BPFTRACE, share),
        "bpftrace, the same events": lambda: bpftrace(same_events(plan), share),
        "trace-cmd": lambda: trace_cmd(plan, share),
        "ghesrace, ftrace": lambda: ghesrace("ftrace", facts),
        "ghesrace, bpf": lambda: ghesrace("bpf", facts),
        "ghesrace, bpf --summary": lambda: ghesrace("bpf", facts, summary=True),
    }
    for name, way in ways.items():
        with way():
            found[name] = meter.median()
        print(f"{name:28} {found[name]:8,}  adds {found[name] - found['none']:8,}", flush=True)
        time.sleep(SETTLE_S)
    meter.instance.remove()
    return found
