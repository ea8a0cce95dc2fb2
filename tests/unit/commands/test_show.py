# SPDX-License-Identifier: Apache-2.0
"""`ghesrace show`: the events that were recorded, and which."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from ghesrace import cli
from tests.build.captures import capture
from tests.build.paths import CORPUS, EXAMPLES, FIXTURES
from tests.build.trace import Trace

CONTROL = EXAMPLES / "control.arrows"
_REPORTED = re.compile(r"\[(\d+)\] +(\d+\.\d+): ")


def show(*arguments: object) -> int:
    return cli.main(["show", *map(str, arguments)])


def shown(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, object]]:
    assert show(*arguments, "--format", "json") == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.skipif(shutil.which("trace-cmd") is None, reason="trace-cmd is not installed")
@pytest.mark.parametrize("name", ["v6.dat", "v7-zstd.dat"])
@pytest.mark.parametrize(("ours", "theirs"), [([], []), (["--ns"], ["-t"])])
def test_stamps_and_order_are_those_of_trace_cmd_report(
    name: str, ours: list[str], theirs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, an engineer who looks at both can't find an event of one in the other."""
    path = str(CORPUS / name)
    done = subprocess.run(
        ["trace-cmd", "report", *theirs, path], capture_output=True, text=True, check=True
    )
    reported = [(int(cpu), stamp) for cpu, stamp in _REPORTED.findall(done.stdout)]
    assert show(path, *ours) == 0
    lines = [
        line.split() for line in capsys.readouterr().out.splitlines()[1:] if " lost " not in line
    ]
    assert [(int(fields[2]), fields[0]) for fields in lines] == reported
    assert len(reported) > 1000


@pytest.mark.slow
def test_every_file_that_check_reads_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, somebody has a verdict on a file and can't look at it."""
    files = [*CORPUS.glob("*.txt"), *CORPUS.glob("*.dat"), *EXAMPLES.glob("*.arrows")]
    files += (FIXTURES / "captures").glob("*.arrows")
    assert len(files) > 25
    read = 0
    for path in files:
        for more in ([], ["--map", CORPUS / "old.toml"]):
            code = cli.main(["check", str(path), *map(str, more)])
            capsys.readouterr()
            out = show(path, *more)
            lines = capsys.readouterr().out.splitlines()
            assert (out == 2) == (code == 2), path
            read += len(lines) > 1
    assert read > 25


def test_around_a_finding_its_steps_are_numbered(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, the events that make up a finding can't be found among the others."""
    for name in ("1", "1.1", "1.2"):
        events = shown(capsys, CONTROL, "--around", name)
        steps = {event["step"]: event for event in events if event["step"]}
        assert list(steps) == [1, 2, 5, 6, 7, 8]
        assert steps[1]["since"] == 0
        assert steps[2]["cpu"] != steps[7]["cpu"]
        assert steps[8]["kind"] == "read"
    wide = shown(capsys, CONTROL, "--around", "1:1s,1s")
    narrow = shown(capsys, CONTROL, "--around", "1:0,0")
    assert len(wide) > len(events) > len(narrow)
    assert (narrow[0]["step"], narrow[-1]["ts"]) == (1, max(e["ts"] for e in narrow))
    begin, end = wide[0]["ts"], narrow[3]["ts"]
    cut = shown(capsys, CONTROL, "--around", "1:0,0", "--to", f"{end}ns")
    assert [event["ts"] for event in cut] == [event["ts"] for event in narrow[:4]]
    late = shown(capsys, CONTROL, "--around", "1:0,0", "--from", f"{end}ns", "--to", "+999s")
    assert [event["ts"] for event in late] == [event["ts"] for event in narrow[3:]]
    assert shown(capsys, CONTROL, "--around", "1", "--to", f"{begin}ns") == []
    with pytest.raises(SystemExit):
        show(CONTROL, "--from", "soon")
    capsys.readouterr()
    for wrong in ("7", "1:1,2,3", "1:soon", "x"):
        assert show(CONTROL, "--around", wrong) == 2
        assert "Traceback" not in capsys.readouterr().err
    assert show(EXAMPLES / "stock.arrows", "--around", "1") == 2
    assert "nothing was found: clean" in capsys.readouterr().err


def test_filters_together(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, one filter switches off another."""
    everything = shown(capsys, CONTROL)
    begin = everything[0]["ts"]
    some = shown(
        capsys,
        *(CONTROL, "--cpu", "1", "--slot", "ghes2015:irq", "--kind", "map,unmap"),
        *("--context", "irq", "--from", "+172000", "--to", "+600ms"),
    )
    expected = [
        event
        for event in everything
        if event["cpu"] == 1
        and event["slot"] == "ghes2015:irq"
        and event["kind"] in ("map", "unmap")
        and event["context"] == "irq"
        and 172_000_000 <= event["ts"] - begin <= 600_000_000  # type: ignore[operator]
    ]
    assert 0 < len(expected) < len(everything)
    assert [event["ts"] for event in some] == [event["ts"] for event in expected]
    for option, wrong in (("--slot", "nowhere"), ("--kind", "mapp"), ("--context", "user")):
        assert show(CONTROL, option, wrong) == 2
        assert "one of" in capsys.readouterr().err


def test_csv_has_every_event_of_every_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, a spreadsheet misses events, or shows a CPU's in another order."""
    assert show(CONTROL, "--format", "csv") == 0
    table = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert len(table) == 284
    of: dict[str, list[int]] = defaultdict(list)
    for row in table:
        of[row["cpu"]].append(int(row["seq"]))
    assert set(of) == {"0", "1"}
    assert all(sequence == sorted(sequence) for sequence in of.values())


def test_a_file_without_events_has_a_head_all_the_same(
    quiet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a spreadsheet that joins many files stumbles over the empty one."""
    for form, lines in (("text", 1), ("csv", 1), ("json", 0)):
        assert show(quiet, "--format", form) == 0
        assert len(capsys.readouterr().out.splitlines()) == lines


def test_pipes_compressed_files_and_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a file that `check` reads can't be looked at."""
    packed = tmp_path / "v6.dat.gz"
    packed.write_bytes(gzip.compress((CORPUS / "v6.dat").read_bytes()))
    plain = shown(capsys, CORPUS / "v6.dat", "--around", "1")
    assert shown(capsys, packed, "--around", "1") == plain
    boots = CORPUS / "two-boots.txt"
    second = shown(capsys, boots, "--run", "2", "--kind", "map")
    assert 0 < len(second) < len(shown(capsys, boots, "--kind", "map"))
    assert show(packed, "--max-size", "1K") == 2


def test_output_goes_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, -o is ignored, or a full disk ends in a traceback."""
    assert show(CONTROL, "-o", tmp_path / "out.txt") == 0
    assert capsys.readouterr().out == ""
    assert len((tmp_path / "out.txt").read_text().splitlines()) == 285
    assert show(CONTROL, "-o", tmp_path / "absent" / "out.txt") == 2
    assert show(CONTROL, "-o", "/dev/full") == 2
    assert "can't write /dev/full: No space left" in capsys.readouterr().err


def test_a_truncated_or_damaged_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, a script takes the part that was shown for all there is."""
    trace = Trace()
    for _ in range(3):
        trace.report(0, 0x70000000)
    path = capture(tmp_path / "cut.arrows", trace)
    path.write_bytes(path.read_bytes()[:-4])
    assert show(path) == 3
    captured = capsys.readouterr()
    assert "ends without its end marker" in captured.err or "ends in the middle" in captured.err
    assert "truncated" in captured.out
    path.write_bytes(b"junk" * 100)
    assert show(path) == 2


@pytest.mark.slow
def test_a_closed_pipe_is_no_traceback() -> None:
    """If this fails, `ghesrace show FILE | head` ends in a traceback."""
    command = [sys.executable, "-m", "ghesrace", "show", str(CORPUS / "v7-zstd.dat")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ
    ) as running:
        assert running.stdout is not None
        running.stdout.readline()
        running.stdout.close()
        assert running.stderr is not None
        assert running.stderr.read() == b""
    assert running.returncode == 141
