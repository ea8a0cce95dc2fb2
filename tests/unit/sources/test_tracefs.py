# SPDX-License-Identifier: Apache-2.0
"""The tracefs instance and the removal of strays, on a fake tree of plain files."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from ghesrace.errors import HostError
from ghesrace.sources import tracefs

LOG = (
    "[   21.1] trace_kprobe: error: Invalid probed address or symbol\n"
    "  Command: p:g/a nosuch\n"
    "                 ^\n"
    "[   22.5] event filter parse error: error: Field not found\n"
    "  Command: bogus == 3\n"
    "                 ^\n"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "instances").mkdir()
    (tmp_path / "dynamic_events").write_text("p:other/mine do_exit\n")
    (tmp_path / "error_log").write_text(LOG)
    return tmp_path


def stray(root: Path, name: str) -> Path:
    path = root / "instances" / name
    path.mkdir()
    return path


def test_own_name_tells_process_and_start() -> None:
    """If this fails, instances of different runs can have one name."""
    _, pid, start = tracefs.own_name().split("_")
    assert int(pid) == os.getpid()
    assert int(start) > 0


def test_error_log_gives_the_kernels_reason(root: Path) -> None:
    """If this fails, a refused probe is reported as an errno only, or with another's reason."""
    assert "Invalid probed address" in tracefs.error_log(root, "p:g/a nosuch")
    assert "Field not found" in tracefs.error_log(root, "bogus == 3")
    assert tracefs.error_log(root, "p:g/b other") == ""
    assert tracefs.error_log(root / "nowhere", "x") == ""


def test_defining_an_event_keeps_everybody_elses(root: Path) -> None:
    """If this fails, starting a recording deletes the probes of every other tool."""
    tracefs.write(root / "dynamic_events", "p:ghesrace_1_2/e do_exit")
    assert (root / "dynamic_events").read_text() == (
        "p:other/mine do_exit\np:ghesrace_1_2/e do_exit\n"
    )


def test_failures_are_typed_and_say_what_to_do(root: Path, tmp_path: Path) -> None:
    """If this fails, a missing feature ends in a traceback."""
    with pytest.raises(HostError, match="kprobe_profile"):
        tracefs.read(root / "kprobe_profile")
    with pytest.raises(HostError, match=r"lacks the symbol or the tracing feature"):
        tracefs.write(root / "nothing", "1")
    with pytest.raises(HostError, match="no tracefs"):
        tracefs.check(tmp_path / "nowhere")
    (root / "dynamic_events").unlink()
    with pytest.raises(HostError, match="CONFIG_KPROBE_EVENTS"):
        tracefs.dynamic_file(root)
    (root / "kprobe_events").touch()
    assert tracefs.dynamic_file(root).name == "kprobe_events"


def test_strays_go_the_living_and_foreign_stay(root: Path) -> None:
    """If this fails, a start kills a running capture, or a crash leaves probes for good."""
    dead, living = stray(root, "ghesrace_10_20"), stray(root, "ghesrace_11_21")
    foreign = stray(root, "ghesrace-notes")
    with (root / "dynamic_events").open("a") as events:
        for group in ("ghesrace_10_20", "ghesrace_11_21", "ghesrace_12_22"):
            events.write(f"r64:{group}/e do_exit\n")
    lock = os.open(living, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        assert tracefs.remove_strays(root) == ["ghesrace_10_20", "ghesrace_12_22"]
    finally:
        os.close(lock)
    assert not dead.exists()
    assert living.is_dir()
    assert foreign.is_dir()
    removals = [x for x in (root / "dynamic_events").read_text().split("\n") if x.startswith("-")]
    assert removals == ["-:ghesrace_10_20/e", "-:ghesrace_12_22/e"]


def test_stray_that_is_busy_waits_for_the_next_start(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, one stuck leftover keeps every later capture from starting."""
    monkeypatch.setattr(tracefs, "_BUSY_WAIT_S", 0)
    busy = stray(root, "ghesrace_10_20")

    def rmdir(self: Path) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "rmdir", rmdir)
    assert tracefs.remove_strays(root) == []
    assert busy.is_dir()


def test_instance_that_cannot_be_set_up_is_removed(root: Path) -> None:
    """If this fails, a half-made instance stays behind when its set-up fails."""
    # In this fake tree a new instance has no tracing_on.
    with pytest.raises(HostError, match="tracing_on"):
        tracefs.Instance.create(root)
    assert list((root / "instances").iterdir()) == []
