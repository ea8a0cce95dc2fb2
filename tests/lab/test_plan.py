# SPDX-License-Identifier: Apache-2.0
"""Plan, doctor and the trace-cmd script on a live kernel. Runs in the guest."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from ghesrace.doctor import checks as doctor
from ghesrace.host.facts import read_facts
from ghesrace.planning.resolve import resolve
from ghesrace.render import tracecmd
from lab.inside.client import Client
from tests.build.paths import TRACEFS


def test_every_probe_of_the_plan_is_accepted(tmp_path: Path):
    """The plan would name a symbol, argument or filter that this kernel refuses."""
    checks = {c.name: c for c in doctor.run(output=tmp_path)}
    assert checks["the plan's probes"].state == "ok", checks["the plan's probes"].found
    assert checks["HEST"].found.endswith("all status blocks located")
    assert doctor.exit_code(checks.values()) == 0


def ours() -> list[str]:
    events = [x for x in (TRACEFS / "kprobe_events").read_text().splitlines() if "ghesrace" in x]
    return events + [p.name for p in (TRACEFS / "instances").glob("ghesrace*")]


def names_below(pid: int) -> list[str]:
    """Names of the processes that *pid* started, directly or not."""
    names = []
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            names.append(child.name())
    return names


@pytest.mark.parametrize("end", [None, signal.SIGINT, signal.SIGTERM])
def test_trace_cmd_script(tmp_path: Path, firmware: Client, end: signal.Signals | None):
    """The script would record nothing, or leave its probes in the kernel when interrupted."""
    script, out = tmp_path / "record.sh", tmp_path / "out.dat"
    script.write_text(tracecmd.script(resolve(read_facts())))
    before = ours()
    seconds = "6" if end is None else "600"
    process = subprocess.Popen(
        ["sh", script, seconds, out], start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 400
    # trace-cmd starts the `sleep` that it records when it is ready for a Ctrl-C.
    while "sleep" not in names_below(process.pid):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(3)
    if end is not None:
        os.killpg(process.pid, end)
    told = process.communicate(timeout=400)[1]
    assert ours() == before, told
    assert (tmp_path / "out.dat.missed").read_text().count("fixmap_set") == 1
    assert process.returncode == (0 if end is None else 128 + end), told
    if end == signal.SIGTERM:
        return  # trace-cmd itself dies of it and writes nothing
    report = subprocess.run(
        ["trace-cmd", "report", out], capture_output=True, text=True, check=True
    ).stdout
    # The polled source alone is read once a second.
    assert "fixmap_set" in report
    assert "inv_page" in report
