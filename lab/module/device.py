# SPDX-License-Identifier: Apache-2.0
"""Talk to the loaded control module: set parameters, start, wait, read the ground truth.

This needs root and debugfs. `lab.module.run` is what most callers want.
"""

from __future__ import annotations

import errno
import json
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ghesrace.errors import HostError, TransientError, UsageError

# This is struct truth of ghes2015.h. Times are in ns of ktime_get_mono_fast_ns(), which is what
# trace_clock=mono shows. `addr` is the virtual address of the slot's page. `expected` and `seen`
# are page-aligned physical addresses; `seen` is 0 if no frame of the module's holds the bytes read.
TRUTH = np.dtype(
    [
        ("ts_map", "<u8"),
        ("ts_access", "<u8"),
        ("ts_end", "<u8"),
        ("addr", "<u8"),
        ("expected", "<u8"),
        ("seen", "<u8"),
        ("round", "<u4"),
        ("cpu", "<u2"),
        ("slot", "u1"),  # 0 irq, 1 nmi
        ("flags", "u1"),
        ("size", "<u4"),
        ("walked", "<u4"),
    ]
)
assert TRUTH.itemsize == 64

# These are the bits of `flags`, TRUTH_* in ghes2015.h.
JUNK, WRITE, NMI, MIXED = 1, 2, 4, 8

Truth = npt.NDArray[np.void]

_MODULE = Path("/sys/module/ghes2015")
_DEBUGFS = Path("/sys/kernel/debug")
_FILES = _DEBUGFS / "ghes2015"
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Parameters:
    """These are the parameters of one run; `modinfo ghes2015.ko` describes them. Times are in us.

    >>> Parameters(rounds=1000, turns="free").fix
    'none'
    """

    fix: Literal["none", "flush-on-map", "broadcast-at-unmap"] = "none"
    rounds: int = 400
    period_us: int = 200
    linger_us: int = 2000
    pages: int = 1
    nmi: int = 0
    write_back: int = 0
    buffers: int = 1
    window: int = 0
    torn: int = 0
    shootdown: int = 0
    walker: bool = True
    same_frame: bool = False
    turns: Literal["alternate", "free"] = "alternate"


@dataclass(frozen=True, slots=True)
class Outcome:
    """An outcome is the ground truth of one run.

    `truth` has one record of dtype TRUTH for each access; `summary` is what the function of
    that name returned, with the run's parameters added.
    """

    truth: Truth
    summary: dict[str, Any]


def _tool(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise HostError(f"{command[0]} is not installed", "apt-get install kmod mount") from None
    if done.returncode:
        raise HostError(f"{' '.join(command)}: {done.stderr.strip()}", "see dmesg; root is needed")


def loaded() -> bool:
    """Say whether the module is in this kernel."""
    return _MODULE.exists()


def load(ko: Path) -> None:
    """Insert *ko*, and mount debugfs if need be. Raises HostError if either fails."""
    _tool("insmod", str(ko))
    if not _FILES.exists():
        _tool("mount", "-t", "debugfs", "debugfs", str(_DEBUGFS))


def unload() -> None:
    """Remove the module, which ends its run if there is one. Raises HostError if that fails."""
    _tool("rmmod", "ghes2015")


def summary() -> dict[str, Any]:
    """Return the module's state, counters, slot addresses (virtual) and frames (physical).

    Raises HostError if the module is not loaded.
    """
    result: dict[str, Any] = json.loads(_read(_FILES / "summary"))
    return result


def truth() -> Truth:
    """Return a copy of the last run's records so far, an array of dtype TRUTH.

    Raises HostError if the module is not loaded.
    """
    return np.frombuffer(_read(_FILES / "truth"), TRUTH).copy()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise HostError(
            f"{path}: {error.strerror}", "load the control module first, as root"
        ) from error


def start(parameters: Parameters) -> None:
    """Start a run and return at once; the truth and the counters of the last run are dropped.

        start(Parameters(rounds=100))
        junk = wait(60.0)["junk_reads"]

    Raises UsageError if the module rejects *parameters*, TransientError if a run is under way,
    HostError if the module is not loaded.
    """
    try:
        for name, value in asdict(parameters).items():
            text = str(int(value)) if isinstance(value, bool) else str(value)
            (_MODULE / "parameters" / name).write_text(text)
        (_FILES / "run").write_text("1")
    except OSError as error:
        match error.errno:
            case errno.EBUSY:
                raise TransientError("a run of the control module is under way") from error
            case errno.EINVAL | errno.ERANGE | errno.ENOSPC:
                raise UsageError(
                    f"the control module rejects {parameters}",
                    "dmesg says why, modinfo what is valid",
                ) from error
        raise HostError(
            f"{error.filename}: {error.strerror}", "load the control module first, as root"
        ) from error


def stop() -> None:
    """End the run that is under way, if there is one."""
    (_FILES / "run").write_text("0")


def wait(timeout_s: float) -> dict[str, Any]:
    """Wait for the run's end and return its summary.

    Raises TransientError, after stopping it, if it takes longer than *timeout_s*.
    """
    end = time.monotonic() + timeout_s
    while (now := summary())["state"] == "running":
        if time.monotonic() > end:
            stop()
            raise TransientError(
                f"the control module's run did not end in {timeout_s:.0f} s: {summary()}",
                "ask for fewer rounds or more time",
            )
        time.sleep(_POLL_S)
    return now
