# SPDX-License-Identifier: Apache-2.0
"""Foreign traces of a live kernel: the same run recorded by others and by ghesrace itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from ghesrace.checker.report import Report, Verdict
from ghesrace.events import Kind
from ghesrace.host.facts import read_facts
from ghesrace.planning.resolve import resolve
from ghesrace.render import tracecmd
from ghesrace.sources import FileSource
from ghesrace.sources.files import open_file
from lab.inside.recording import capture_while
from lab.module.device import Outcome, Parameters
from lab.module.run import inserted, run
from tests.build.judging import judge_source
from tests.build.paths import TRACEFS

LINE = re.compile(r"-(\d+)\s+\[(\d+)\]\s+(\d+)\.(\d{9}): (\w+):\s+\S.*?\)?\s?((?:\w+=\w+ ?)*)$")
# As others would do it: names and arguments of their own, the address from the map's return.
OTHERS = """\
p:other/map ghes2015:ghes_ioremap_pfn_irq pfn=$arg1:u64
r:other/mapped ghes2015:ghes_ioremap_pfn_irq ret=$retval:x64
p:other/unmap ghes2015:ghes_iounmap_irq vaddr=$arg1:x64
p:other/flush ghes2015:arch_apei_flush_tlb_one addr=$arg1:x64
p:other/fetch memcpy_fromio src=$arg2:x64 n=$arg3:u64
"""
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


def judge(source: FileSource) -> Report:
    return judge_source(source)


def findings(report: Report, slot: str) -> list[tuple[object, ...]]:
    """What was found at the slot of that role, whatever the slot is called."""
    return sorted(
        (f.severity, f.cpus, f.frames, f.count) for f in report.findings if f.slot.endswith(slot)
    )


@pytest.fixture(scope="module")
def recorded(share: Path) -> Path:
    """A folder with one run of the control module, recorded by four tools at once."""
    folder = share / "foreign"
    folder.mkdir(exist_ok=True)
    with inserted():
        script = folder / "record.sh"
        script.write_text(tracecmd.script(resolve(read_facts())))
        (TRACEFS / "kprobe_events").write_text(OTHERS)
        instance = TRACEFS / "instances/foreign"
        instance.mkdir()
        try:
            (instance / "trace_clock").write_text("mono")
            (instance / "buffer_size_kb").write_text("8192")
            (instance / "events/other/enable").write_text("1")
            _record(folder, script)
            (instance / "events/other/enable").write_text("0")
            (folder / "trace.txt").write_bytes((instance / "trace").read_bytes())
        finally:
            (instance / "events/other/enable").write_text("0")
            instance.rmdir()
            (TRACEFS / "kprobe_events").write_text("")
    return folder


def _record(folder: Path, script: Path) -> None:
    out = folder / "run.dat"
    with subprocess.Popen(
        ["sh", script, "600", out], start_new_session=True, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            deadline = time.monotonic() + 120
            while not _all_enabled():
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < deadline
                time.sleep(0.2)
            time.sleep(2)
            outcomes: list[Outcome] = []
            code = capture_while(
                lambda: outcomes.append(run(Parameters(rounds=30, torn=2))), folder / "run.arrows"
            )
            assert code == 0
        finally:
            # Ctrl-C, as a user ends it.
            os.killpg(process.pid, signal.SIGINT)
        told = process.communicate(timeout=120)[1]
    assert out.exists(), told


def _all_enabled() -> bool:
    """Whether the script's trace-cmd has enabled its last event."""
    for path in (TRACEFS / "instances").glob("ghesrace*"):
        enable = path / "events" / path.name / "enable"
        if enable.exists() and enable.read_text().startswith("1"):
            return True
    return False


def test_trace_dat_gives_the_findings_of_the_live_capture(recorded: Path) -> None:
    """The same run would be a race for one reader and clean for the other."""
    live = judge(open_file(recorded / "run.arrows"))
    foreign = judge(open_file(recorded / "run.dat"))
    assert live.verdict is foreign.verdict is Verdict.OBSERVED
    assert findings(live, ":irq") == findings(foreign, ":irq") != []


def test_edits_are_in_the_foreign_trace_too(recorded: Path) -> None:
    """A torn edit would be found live, and not in the file of the script."""
    live, foreign = (
        judge(open_file(recorded / name)).patterns["torn_edit"]
        for name in ("run.arrows", "run.dat")
    )
    assert live.checked
    assert foreign.checked
    assert live.predicted == foreign.predicted > 0


def test_every_version_and_compression_gives_the_same_events(recorded: Path) -> None:
    """A recording that trace-cmd converted would be judged otherwise."""
    source = recorded / "run.dat"
    expected = np.concatenate(list(open_file(source).batches()))
    for name, arguments in {
        "v6": ["--file-version", "6"],
        "v7": ["--file-version", "7", "--compression", "none"],
        "zstd": ["--file-version", "7", "--compression", "zstd"],
    }.items():
        made = recorded / f"{name}.dat"
        subprocess.run(
            ["trace-cmd", "convert", "-i", source, "-o", made, *arguments],
            check=True,
            capture_output=True,
        )
        (recorded / f"{name}.dat.missed").write_bytes((recorded / "run.dat.missed").read_bytes())
        got = np.concatenate(list(open_file(made).batches()))
        assert np.array_equal(got, expected), name


def test_events_equal_those_of_trace_cmd_report(recorded: Path) -> None:
    """Event by event: a wrong CPU, stamp, order or argument would go unnoticed."""
    text = subprocess.run(
        ["trace-cmd", "report", "-t", recorded / "run.dat"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    lines = [match for line in text.splitlines() if (match := LINE.search(line))]
    source = open_file(recorded / "run.dat")
    events = np.concatenate(list(source.batches()))
    events = events[events["kind"] < Kind.LOSS]
    assert len(events) == len(lines) > 300
    for cpu in np.unique(events["cpu"]).tolist():
        mine = events[events["cpu"] == cpu]
        theirs = [line for line in lines if int(line[2]) == cpu]
        for event, line in zip(mine, theirs, strict=True):
            assert int(event["ts"]) == int(line[3]) * 10**9 + int(line[4])
            assert int(event["pid"]) == int(line[1])
            assert source.plan.probes[event["point"]].why.split(":")[0].endswith(line[5])
            values = dict(pair.split("=") for pair in line[6].split())
            for name in {"addr", "phys", "size"} & values.keys():
                assert int(event[name]) == int(values[name], 0)
            if "pfn" in values:
                assert int(event["phys"]) == int(values["pfn"], 0) << 12


@pytest.mark.parametrize("options", [["-t"], [], ["-l"]])
def test_report_text_gives_the_same_findings(recorded: Path, options: list[str]) -> None:
    """Somebody who sends the text instead of the file would get another verdict."""
    text = recorded / "report.txt"
    with text.open("w") as out:
        subprocess.run(
            ["trace-cmd", "report", *options, recorded / "run.dat"], stdout=out, check=True
        )
    expected = findings(judge(open_file(recorded / "run.dat")), ":irq")
    assert findings(judge(open_file(text)), ":irq") == expected != []


def test_other_peoples_probes_are_recognised_by_symbol(recorded: Path) -> None:
    """ftrace prints the probed symbols: no map file may be needed."""
    expected = findings(judge(open_file(recorded / "run.arrows")), ":irq")
    assert findings(judge(open_file(recorded / "trace.txt")), ":irq") == expected != []


def test_map_file_gives_the_address_from_the_return(recorded: Path, tmp_path: Path) -> None:
    """A trace whose names say nothing could not be judged at all."""
    text = (recorded / "trace.txt").read_text()
    hidden = tmp_path / "hidden.txt"
    hidden.write_text(re.sub(r": \([^)]*\)", ": (0)", text))
    events = tmp_path / "map.toml"
    events.write_text(MAP)
    report = judge(open_file(hidden, events))
    expected = findings(judge(open_file(recorded / "run.arrows")), ":irq")
    assert sorted((f.severity, f.cpus, f.frames, f.count) for f in report.findings) == expected
