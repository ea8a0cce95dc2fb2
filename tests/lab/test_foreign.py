# SPDX-License-Identifier: Apache-2.0
"""Foreign traces of a live kernel: the same run recorded by others and by ghesrace itself."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ghesrace.checker.report import Report, Verdict
from ghesrace.events import Kind
from ghesrace.sources import FileSource
from ghesrace.sources.files import open_file
from lab.inside.forms import MAP, PRINTED, record
from lab.module.device import Parameters
from lab.module.run import inserted
from tests.build.judging import judge_source

LINE = re.compile(r"-(\d+)\s+\[(\d+)\]\s+(\d+)\.(\d{9}): (\w+):\s+\S.*?\)?\s?((?:\w+=\w+ ?)*)$")


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
        record(folder, Parameters(rounds=30, torn=2))
    printed = json.loads((folder / PRINTED).read_text())
    (folder / "trace.txt").write_bytes((folder / printed["`cat trace`"]).read_bytes())
    return folder


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


def test_perf_script_gives_the_same_findings(recorded: Path, tmp_path: Path) -> None:
    """perf script prints no functions, and its events are sorted by time."""
    events, text = tmp_path / "map.toml", tmp_path / "perf.txt"
    events.write_text(MAP)
    with text.open("w") as out:
        perf = ["perf", "script", "--ns", "-i", recorded / "perf.data"]
        subprocess.run(perf, stdout=out, check=True)
    expected = findings(judge(open_file(recorded / "run.arrows")), ":irq")
    report = judge(open_file(text, events))
    assert sorted((f.severity, f.cpus, f.frames, f.count) for f in report.findings) == expected


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
