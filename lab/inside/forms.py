# SPDX-License-Identifier: Apache-2.0
"""Record one run of the control module with several tools at once, and print what ftrace recorded
in every form that it has.

    python -m lab.inside.forms

It runs in a guest and imports nothing that only the host has. `lab.forms` prints the files of
trace-cmd and perf, and judges all of them.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ghesrace.errors import TransientError
from ghesrace.host.facts import read_facts
from ghesrace.planning.resolve import resolve
from ghesrace.render import tracecmd
from lab import paths
from lab.module.device import Parameters
from lab.module.run import inserted, run

from .recording import capture_while

TRACEFS = Path("/sys/kernel/tracing")
LIVE, DAT, PERF_DATA, PRINTED = "run.arrows", "run.dat", "perf.data", "printed.json"
# As others would do it: names and arguments of their own, the address from the map's return.
OTHERS = """\
p:other/map ghes2015:ghes_ioremap_pfn_irq pfn=$arg1:u64
r:other/mapped ghes2015:ghes_ioremap_pfn_irq ret=$retval:x64
p:other/unmap ghes2015:ghes_iounmap_irq vaddr=$arg1:x64
p:other/flush ghes2015:arch_apei_flush_tlb_one addr=$arg1:x64
p:other/fetch memcpy_fromio src=$arg2:x64 n=$arg3:u64
"""
# What OTHERS are, where a text does not say on which functions they sit.
MAP = """\
[[event]]
event = "other/map"
kind = "map"
fields = { pfn = "pfn" }
end = { event = "other/mapped", fields = { addr = "ret" } }
[[event]]
event = "other/unmap"
kind = "unmap"
fields = { addr = "vaddr" }
[[event]]
event = "other/flush"
kind = "inv-page"
fields = { addr = "addr" }
[[event]]
event = "other/fetch"
kind = "read"
fields = { addr = "src", size = "n" }
"""
CLOCK = "mono"  # of the instance whose text is printed with each option
# Options of ftrace's that change how `trace` is printed; the last ones are on unless switched off.
OPTIONS = ("latency-format", "sym-addr", "sym-offset", "verbose", "fields", "raw", "hex", "bin")
LEFT_OUT = ("irq-info", "context-info")
_START_S = 240
_NO_MODULES = 'mount -t tmpfs none /lib/modules && mkdir "/lib/modules/$(uname -r)" && exec "$@"'


def record(folder: Path, parameters: Parameters, clocks: tuple[str, ...] = ()) -> None:
    """Record one run of the loaded module in *folder*: live (LIVE), with trace-cmd and our script
    (DAT), with perf (PERF_DATA), and with ftrace and OTHERS, printed as in PRINTED.

    *clocks* are ftrace's besides CLOCK. Raises TransientError if a tool does not start in time.

        with inserted():
            record(Path("out"), Parameters(rounds=30))
    """
    script = folder / "record.sh"
    script.write_text(tracecmd.script(resolve(read_facts())))
    with ExitStack() as stack:
        (TRACEFS / "kprobe_events").write_text(OTHERS)
        stack.callback((TRACEFS / "kprobe_events").write_text, "")
        main = stack.enter_context(_instance("foreign", CLOCK))
        more = {
            clock: stack.enter_context(_instance(f"foreign-{clock}", clock)) for clock in clocks
        }
        tgid = stack.enter_context(_instance("foreign-tgid", CLOCK))
        (tgid / "options/record-tgid").write_text("1")
        with ExitStack() as tools:
            tools.enter_context(_perf(folder / PERF_DATA))
            tools.enter_context(_tool(["sh", str(script), "600", str(folder / DAT)]))
            _await_script()
            time.sleep(2)
            for instance in (main, tgid, *more.values()):
                (instance / "events/other/enable").write_text("1")
            code = capture_while(lambda: _run(parameters), folder / LIVE, "--backend", "ftrace")
            for instance in (main, tgid, *more.values()):
                (instance / "events/other/enable").write_text("0")
        if code:
            raise TransientError(f"the capture ended with exit code {code}")
        _print(folder, main, tgid, more)


def _run(parameters: Parameters) -> None:
    run(parameters)


def _names() -> Iterator[str]:
    for line in OTHERS.splitlines():
        yield line.split()[0].partition("/")[2]


@contextmanager
def _instance(name: str, clock: str) -> Iterator[Path]:
    instance = TRACEFS / "instances" / name
    instance.mkdir()
    try:
        (instance / "trace_clock").write_text(clock)
        (instance / "buffer_size_kb").write_text("8192")
        yield instance
    finally:
        (instance / "events/other/enable").write_text("0")
        instance.rmdir()


@contextmanager
def _tool(command: list[str]) -> Iterator[None]:
    """Run *command* inside the context, and end it with Ctrl-C, as a user does."""
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(_START_S)


@contextmanager
def _perf(file: Path) -> Iterator[None]:
    """Have perf record the events of OTHERS in *file*. Raises TransientError if perf does not start
    in time.

    perf walks all of /lib/modules first, minutes on a slow host that shares it with its guest. The
    events are no module's, so perf is shown an empty one.
    """
    events = [one for name in _names() for one in ("-e", f"other:{name}")]
    with tempfile.TemporaryDirectory() as folder:
        fifos = [f"{folder}/{name}" for name in ("control", "answer")]
        for fifo in fifos:
            os.mkfifo(fifo)
        control, answer = (os.open(fifo, os.O_RDWR) for fifo in fifos)
        options = ["-q", "-a", "-D", "-1", "--control", f"fifo:{','.join(fifos)}"]
        perf = ["perf", "record", *options, "-o", str(file), *events]
        with _tool(["unshare", "--mount", "sh", "-c", _NO_MODULES, "perf", *perf]):
            os.write(control, b"enable\n")
            if not select.select([answer], [], [], _START_S)[0]:
                raise TransientError("perf did not start in time")
            yield


def _await_script() -> None:
    """Wait until the script's trace-cmd has enabled its last event."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        for path in (TRACEFS / "instances").glob("ghesrace*"):
            enable = path / "events" / path.name / "enable"
            if enable.exists() and enable.read_text().startswith("1"):
                return
        time.sleep(0.2)
    raise TransientError("trace-cmd did not start in time")


def _print(folder: Path, main: Path, tgid: Path, more: dict[str, Path]) -> None:
    """Print what the instances recorded, and say in PRINTED what is in which file."""
    printed: dict[str, str] = {}

    def keep(what: str, data: bytes) -> None:
        name = f"trace-{len(printed):02}.txt"
        (folder / name).write_bytes(data)
        printed[what] = name

    keep("`cat trace`", (main / "trace").read_bytes())
    for option, value in [*((one, "1") for one in OPTIONS), *((one, "0") for one in LEFT_OUT)]:
        switch = main / "options" / option
        if switch.exists():  # Kernels before 6.4 have no `fields`.
            switch.write_text(value)
            no = "" if value == "1" else "no"
            keep(f"`cat trace`, option `{no}{option}`", (main / "trace").read_bytes())
            switch.write_text("0" if value == "1" else "1")
    keep("`cat trace`, option `record-tgid`", (tgid / "trace").read_bytes())
    of_cpus = [path.read_bytes() for path in sorted(main.glob("per_cpu/*/trace"))]
    keep("`cat per_cpu/*/trace`", b"".join(of_cpus))
    keep("`cat per_cpu/cpu0/trace` alone", of_cpus[0])
    for clock, instance in more.items():
        keep(f"`cat trace`, clock `{clock}`", (instance / "trace").read_bytes())
    keep("`cat trace_pipe`", _piped(main / "trace_pipe"))
    (folder / PRINTED).write_text(json.dumps(printed, indent=1))


def _piped(path: Path) -> bytes:
    """Return all that is in a trace_pipe, which is gone from the buffer then."""
    found = bytearray()
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        while data := os.read(file, 1 << 16):
            found += data
    except BlockingIOError:
        pass
    finally:
        os.close(file)
    return bytes(found)


def main() -> None:
    """Record a short run in the share, with each clock that this kernel has."""
    clocks = (TRACEFS / "trace_clock").read_text().replace("[", "").replace("]", "").split()
    with inserted():
        record(
            Path(os.environ[paths.ENV]),
            Parameters(rounds=12, torn=2),
            tuple(clock for clock in clocks if clock != CLOCK),
        )


if __name__ == "__main__":
    main()
