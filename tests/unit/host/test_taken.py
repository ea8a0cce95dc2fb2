# SPDX-License-Identifier: Apache-2.0
"""Facts that travel: taken on one host, planted on another."""

from __future__ import annotations

import io
import platform
import stat
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ghesrace.errors import InputError
from ghesrace.host.facts import Facts, read_facts
from ghesrace.host.taken import planted, save, take
from ghesrace.planning.resolve import resolve
from tests.build import trees
from tests.build.plans import bpf_facts_of


def archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def same(facts: Facts) -> Facts:
    """Facts without where they were read."""
    return replace(facts, tracefs=None, btf=None, module_btf={}, code_from="", problems={})


def test_a_plan_is_the_same_elsewhere(tmp_path: Path) -> None:
    """If this fails, a pack is built for another plan than its host has, and is refused there."""
    facts = bpf_facts_of(tmp_path / "host", modules={"m": trees.VMAREA})
    (tmp_path / "facts").write_bytes(take(facts, tmp_path / "host"))
    with planted(tmp_path / "facts") as root:
        found = read_facts(root)
        assert same(found) == same(facts)
        for backend in ("bpf", "ftrace"):
            assert resolve(found, backend=backend) == resolve(facts, backend=backend)
    assert not root.exists()


def test_what_the_lab_keeps_is_taken(tmp_path: Path) -> None:
    """If this fails, no pack can be built for a kernel that `python -m lab.facts` has."""
    facts = bpf_facts_of(tmp_path / "host")
    tracefs = "sys/kernel/tracing"
    kept: dict[str, bytes] = {
        name: (tmp_path / "host" / name).read_bytes()
        for name in (
            "proc/kallsyms",
            "proc/sys/kernel/osrelease",
            "sys/kernel/btf/vmlinux",
            *(f"{tracefs}/{of}" for of in ("README", "trace_clock", "available_filter_functions")),
        )
    }
    kept["event-ids"] = f"{tracefs}/events/nmi/nmi_handler/id:97\n/x/sched/wake/id:5\n".encode()
    kept["tracefs-names"] = b"kprobe_events\ndynamic_events\ninstances\nREADME\n../x\n"
    with planted(archive(tmp_path / "lab", kept)) as root:
        found = read_facts(root)
        assert (root / "proc/sys/kernel/arch").read_text() == platform.machine()
    assert found.features == facts.features
    assert found.tracepoints == facts.tracepoints == {"nmi:nmi_handler": 97}


def test_nothing_is_written_elsewhere(tmp_path: Path) -> None:
    """If this fails, an archive that somebody sent overwrites the files of the build host."""
    absolute = tmp_path / "absolute"
    bad = {"../evil": b"1", str(absolute): b"1", "proc/../../evil": b"1"}
    good = {"proc/sys/kernel/osrelease": b"6.1"}
    with planted(archive(tmp_path / "x", bad | good)) as root:
        there = {path.name for path in root.rglob("*") if path.is_file()}
        assert there == {"osrelease", "arch"}
        assert not (root.parent / "evil").exists()
    assert not absolute.exists()


@pytest.mark.parametrize("data", [b"", b"junk", b"\x1f\x8b\x08\x00"])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    """If this fails, a wrong file shows a traceback."""
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(InputError, match="x holds no facts"), planted(tmp_path / "x"):
        pass
    with pytest.raises(InputError, match="No such file"), planted(tmp_path / "none"):
        pass
    with pytest.raises(InputError, match="of which kernel"), planted(archive(tmp_path / "e", {})):
        pass


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_archives_are_refused(tmp_path: Path, data: st.DataObject) -> None:
    """If this fails, half a download shows a traceback."""
    whole = archive(tmp_path / "whole", {"proc/sys/kernel/osrelease": b"6.1"}).read_bytes()
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for at in data.draw(st.lists(st.integers(0, max(len(damaged) - 1, 0)), max_size=3)):
        if damaged:
            damaged[at] ^= data.draw(st.integers(1, 255))
    (tmp_path / "x").write_bytes(damaged)
    try:
        with planted(tmp_path / "x") as root:
            assert (root / "proc/sys/kernel/osrelease").exists()
    except InputError:
        pass


def test_facts_are_for_their_owner(tmp_path: Path) -> None:
    """If this fails, any user of the host reads kernel addresses, which defeat KASLR."""
    save(b"x", tmp_path / "facts")
    assert stat.S_IMODE((tmp_path / "facts").stat().st_mode) == 0o600
