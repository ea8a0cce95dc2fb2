# SPDX-License-Identifier: Apache-2.0
"""Where things lie: this repository, and the files in the folder that host and guest share."""

from __future__ import annotations

from pathlib import Path

REPO = Path(__file__).resolve().parent.parent

ENV = "LAB_SHARE"  # in the guest: the shared folder, the same path as on the host

STDOUT = "stdout"  # of the command
STDERR = "stderr"
CONSOLE = "console"  # of the guest's kernel
FIRMWARE = "firmware.json"  # ground truth, from the host
GUEST = "guest.json"  # interrupt counts, from the guest
PASSED = "passed"  # of the lab's tests, one name a line: a second boot goes on behind them


def private(share: Path) -> Path:
    """The sub-folder through which the two sides talk; not for results."""
    return share / ".lab"


def spec(share: Path) -> Path:
    """What the guest is to do (JSON, written by the host before boot)."""
    return private(share) / "spec.json"


def agent(share: Path) -> Path:
    """What the agent itself says, where its output is not the process's (arm64)."""
    return private(share) / "agent"


def ready(share: Path) -> Path:
    """Exists once the guest is up and starts the command."""
    return private(share) / "ready"


def exit_code(share: Path) -> Path:
    """The command's exit code, written when everything else is."""
    return private(share) / "exit"


def playing(share: Path) -> Path:
    """What the guest has to do with what is played (JSON: scenario, bounce, loads); by the host."""
    return private(share) / "playing.json"


def requests(share: Path) -> Path:
    """Folder of the guest's requests to the firmware, ID.request, and their ID.reply."""
    return private(share) / "control"


def publish(path: Path, text: str) -> None:
    """Write *text* so that a reader on the other side sees all of it or nothing."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    part.rename(path)
