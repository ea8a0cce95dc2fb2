# SPDX-License-Identifier: Apache-2.0
"""Starting a guest, following it, and leaving nothing behind."""

from __future__ import annotations

import io
import subprocess
import time
from pathlib import Path

from lab import boot


def test_private_files_are_gone_afterwards() -> None:
    """A RAM file left in /dev/shm is memory that the host has lost."""
    with boot._private(1) as (home, ram):
        assert ram.stat().st_size == 1 << 20
        assert home.is_dir()
    assert not ram.exists()
    assert not ram.parent.exists()
    assert not home.exists()


def test_the_ram_of_other_guests_is_counted_before_they_fill_it(tmp_path: Path) -> None:
    """Two guests at once would each find /dev/shm empty, and die of a page that is not there."""
    before = boot._free(tmp_path)
    (tmp_path / "ghesrace-lab-x").mkdir()
    with (tmp_path / "ghesrace-lab-x" / "ram").open("wb") as ram:
        ram.truncate(1 << 40)
    assert boot._free(tmp_path) < before - (1 << 39)


def test_output_is_followed(tmp_path: Path) -> None:
    """The user sees the command's output while it runs, all of it and once."""
    path = tmp_path / "out"
    path.write_bytes(b"")
    stream = io.StringIO()
    follow = boot._Follow(path, stream)
    with path.open("ab", buffering=0) as file:
        for text in (b"one\n", b"two \xc3", b"\xa4\n"):
            file.write(text)
            follow.pump()
    follow.pump()
    follow.close()
    assert stream.getvalue() == "one\ntwo \u00e4\n"


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_hanging_guest_is_killed_with_its_children() -> None:
    """vng starts shells and QEMU below it: killing vng alone would leave the guest running."""
    process = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; sleep 1000 & echo $!; wait"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout
    child = int(process.stdout.readline())
    boot._end(process, 0.1)
    assert process.returncode is not None
    process.stdout.close()
    end = time.monotonic() + 10
    while _alive(child):
        assert time.monotonic() < end
        time.sleep(0.01)
