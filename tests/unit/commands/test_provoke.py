# SPDX-License-Identifier: Apache-2.0
"""Provoking harmless traffic, on fake /proc and /sys."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ghesrace.commands import provoke
from ghesrace.errors import HostError, UsageError
from tests.build.trees import write_files

EINJ = "sys/kernel/debug/apei/einj"


def make(root: Path, path: str, text: str = "") -> Path:
    return write_files(root, {path: text}) / path


def test_says_what_it_will_do() -> None:
    """If this fails, the user agrees to something that was not said."""
    assert "sysrq" in provoke.description("nmi")
    assert "0x8" in provoke.description("einj")
    with pytest.raises(UsageError, match="reboot"):
        provoke.description("reboot")


def test_nmis_need_an_nmi_source(tmp_path: Path) -> None:
    """If this fails, NMIs are thrown at a host where they make no GHES traffic."""
    make(tmp_path, "proc/sysrq-trigger")
    with pytest.raises(HostError, match="NMI"):
        provoke.check("nmi", nmi_source=False, root=tmp_path)
    provoke.check("nmi", nmi_source=True, root=tmp_path)
    with pytest.raises(HostError, match="sysrq"):
        provoke.check("nmi", nmi_source=True, root=tmp_path / "proc")


def test_only_corrected_errors_are_injected(tmp_path: Path) -> None:
    """If this fails, a host can be killed by an uncorrected error."""
    with pytest.raises(HostError, match="EINJ"):
        provoke.check("einj", nmi_source=False, root=tmp_path)
    types = make(tmp_path, f"{EINJ}/available_error_type", "0x00000010\tMemory Uncorrectable\n")
    with pytest.raises(HostError, match="0x8"):
        provoke.check("einj", nmi_source=False, root=tmp_path)
    types.write_text("0x00000008\tMemory Correctable\n0x00000010\tMemory Uncorrectable\n")
    provoke.check("einj", nmi_source=False, root=tmp_path)
    with provoke.Provoker("einj", period_s=0.01, root=tmp_path) as provoker:
        deadline = time.monotonic() + 10
        while provoker.count < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert provoker.count >= 3
    assert provoker.error is None
    assert (tmp_path / EINJ / "error_type").read_text() == "0x8"
    assert (tmp_path / EINJ / "error_inject").read_text() == "1"


@pytest.mark.slow
def test_nmis_stop_with_the_recording(tmp_path: Path) -> None:
    """If this fails, NMIs go on after the recording ended."""
    trigger = make(tmp_path, "proc/sysrq-trigger")
    with provoke.Provoker("nmi", period_s=0.01, root=tmp_path) as provoker:
        time.sleep(0.2)
    assert trigger.read_text() == "l"
    after = provoker.count
    trigger.write_text("")
    time.sleep(0.1)
    assert (provoker.count, trigger.read_text()) == (after, "")


def test_failure_ends_provoking_not_the_recording(tmp_path: Path) -> None:
    """If this fails, a host that refuses an injection loses its recording to a traceback."""
    with provoke.Provoker("nmi", period_s=0.01, root=tmp_path) as provoker:
        time.sleep(0.2)
    assert provoker.count == 0
    assert provoker.error is not None
    assert "goes on" in str(provoker.error)
