# SPDX-License-Identifier: Apache-2.0
"""This module says where the repository lies and names the files that host and guest share."""

from __future__ import annotations

from pathlib import Path

REPO = Path(__file__).resolve().parent.parent

ENV = "LAB_SHARE"  # names the shared folder in the guest; its path is the same as on the host

STDOUT = "stdout"  # of the command
STDERR = "stderr"
CONSOLE = "console"  # of the guest's kernel
FIRMWARE = "firmware.json"  # ground truth, from the host
GUEST = "guest.json"  # interrupt counts, from the guest
COLLECTED = "collected"  # tests that are to be run, one name a line
RAN = "ran"  # what became of each test; a second boot leaves out what passed
FAILURES = "failures"  # why tests failed, of a guest that then died too


def private(share: Path) -> Path:
    """Return the sub-folder of *share* through which the two sides talk; results go elsewhere.

    >>> private(Path("/srv/share"))
    PosixPath('/srv/share/.lab')
    """
    return share / ".lab"


def spec(share: Path) -> Path:
    """Return the file that says what the guest is to do (JSON, written by the host before boot)."""
    return private(share) / "spec.json"


def agent(share: Path) -> Path:
    """Return the file with the agent's own output on arm64; on amd64 it is in vng's output."""
    return private(share) / "agent"


def ready(share: Path) -> Path:
    """Return the file that exists once the guest is up and starts the command."""
    return private(share) / "ready"


def exit_code(share: Path) -> Path:
    """Return the file with the command's exit code; the guest writes it after everything else."""
    return private(share) / "exit"


def playing(share: Path) -> Path:
    """Return the file in which the host tells the guest its part in the scenario being played.

    It is JSON with the fields of `_Told` (`lab.firmware.server`).
    """
    return private(share) / "playing.json"


def requests(share: Path) -> Path:
    """Return the folder that holds each request to the firmware, ID.request, and its ID.reply."""
    return private(share) / "control"


def publish(path: Path, text: str) -> None:
    """Write *text* so that a reader on the other side sees all of it or nothing."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.rename(path)
