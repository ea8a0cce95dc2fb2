# SPDX-License-Identifier: Apache-2.0
"""The trace-cmd script, run against stand-ins for tracefs and trace-cmd."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ghesrace.host.facts import read_facts
from ghesrace.plan import Plan
from ghesrace.planning.resolve import resolve
from ghesrace.render import tracecmd
from tests.build import trees

FAKE = """#!/bin/sh
case $0 in
*uname) echo "$RELEASE" ;;
*) printf '%s\\n' "$@" >"$ARGUMENTS"; cp "$TRACING/kprobe_events" "$DEFINED" ;;
esac
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    root = trees.tree(tmp_path / "host", vmlinux_btf=trees.x86_btf())
    return resolve(read_facts(root))


def run(
    tmp_path: Path, plan: Plan, release: str, named: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the script, on a kernel that calls each probe *named* if that is given."""
    tracing = tmp_path / "tracing"
    tracing.mkdir()
    for name in ("trace_clock", "kprobe_events"):
        (tracing / name).touch()
    commands = tmp_path / "bin"
    commands.mkdir()
    for name in ("trace-cmd", "uname"):
        (commands / name).write_text(FAKE)
        (commands / name).chmod(0o755)
    text = tracecmd.script(plan).replace("/sys/kernel/tracing", str(tracing))
    if named is not None:
        ours = '"$1:$group/$2_$$ $3"'
        assert text.count(ours) == 1
        text = text.replace(ours, f'"$1:{named} $3"')
    return subprocess.run(
        ["sh", "-c", text, "script", "1", str(tmp_path / "out.dat")],
        env={
            "PATH": f"{commands}:{os.environ['PATH']}",
            "RELEASE": release,
            "TRACING": str(tracing),
            "ARGUMENTS": str(tmp_path / "arguments"),
            "DEFINED": str(tmp_path / "defined"),
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_defines_records_and_removes(tmp_path: Path, plan: Plan):
    """A probe would be left out, its definition mangled by the shell, or left in the kernel."""
    done = run(tmp_path, plan, plan.release)
    assert done.returncode == 0, done.stderr
    defined = (tmp_path / "defined").read_text().splitlines()
    functions = [p for p in plan.probes if p.mechanism != "tracepoint"]
    assert len(defined) == len(functions)
    assert defined[0].endswith(" native_set_fixmap index=$arg1:u32 phys=$arg2:x64 prot=$arg3:x64")
    assert any(line.endswith("addr=+8($arg1):x64 end=+16($arg1):x64") for line in defined)
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments.count("-e") == len(plan.probes)
    assert arguments.count("-f") == sum(p.filter is not None for p in plan.probes)
    assert "nmi:nmi_handler" in arguments
    assert arguments[arguments.index("-C") + 1] == "mono"
    left = (tmp_path / "tracing/kprobe_events").read_text().splitlines()[len(defined) :]
    made = [line.split()[0].partition(":")[2] for line in defined]
    assert [line.removeprefix("-:") for line in left] == made


def test_removes_what_an_old_kernel_named_otherwise(tmp_path: Path, plan: Plan):
    """A kernel before 4.12 takes `r64:g/e f` for a return probe without a name: it would stay
    armed, and its events would be missing."""
    done = run(tmp_path, plan, plan.release, "kprobes/p_native_set_fixmap_0")
    assert done.returncode == 3
    assert "named it otherwise (kprobes/p_native_set_fixmap_0)" in done.stderr
    first, *rest = (tmp_path / "tracing/kprobe_events").read_text().splitlines()
    assert first.startswith("p:kprobes/p_native_set_fixmap_0 native_set_fixmap ")
    assert rest == ["-:kprobes/p_native_set_fixmap_0"]
    assert not (tmp_path / "arguments").exists()


def test_refuses_another_kernel(tmp_path: Path, plan: Plan):
    """Filters hold addresses: on another kernel they would silently match nothing."""
    done = run(tmp_path, plan, "6.1.0-other")
    assert done.returncode == 3
    assert "made for 6.1.0-test" in done.stderr
    assert (tmp_path / "tracing/kprobe_events").read_text() == ""


def test_fprobes_go_to_dynamic_events(tmp_path: Path):
    """kprobe_events refuses fprobes: nothing could be recorded on newer kernels."""
    readme = trees.README
    readme += "\t           f[:[<group>/][<event>]] <func-name>[%return] [<args>]\n"
    root = trees.tree(tmp_path, readme=readme, vmlinux_btf=trees.x86_btf())
    text = tracecmd.script(resolve(read_facts(root)))
    assert "$tracing/dynamic_events" in text
    assert "kprobe_events" not in text
    assert "add f " in text
    assert "flush_tlb_all%return" in text
