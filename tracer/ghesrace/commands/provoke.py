# SPDX-License-Identifier: Apache-2.0
"""This makes harmless GHES traffic on a healthy host, for `capture --provoke`, never by default.

`nmi` asks for backtraces (sysrq l), so that every other CPU takes an NMI, in which
ghes_notify_nmi() looks at its error blocks. `einj` injects corrected memory errors (EINJ type 0x8,
and no other) through ACPI.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from ghesrace.errors import HostError, TransientError, UsageError

WAYS = ("nmi", "einj")
_SYSRQ = "proc/sysrq-trigger"
_EINJ = "sys/kernel/debug/apei/einj"
# Table 18.30 of ACPI 6.5 has EINJ's error types. Only a corrected memory error may be injected.
_MEMORY_CORRECTED = 0x8
# A backtrace prints to the console, and more than a few a second can stall a slow one.
_PERIOD_S = {"nmi": 0.5, "einj": 1.0}


def description(kind: str) -> str:
    """Return in one sentence what `--provoke KIND` will do to this host. Raises UsageError for an
    unknown kind.

    >>> description("einj").startswith("ask the firmware once a second")
    True
    """
    try:
        return {
            "nmi": "write 'l' to /proc/sysrq-trigger twice a second: every CPU takes an NMI and "
            "prints its stack to the kernel log; nothing else changes",
            "einj": "ask the firmware once a second, through EINJ, for one corrected memory error "
            "(type 0x8): no data is harmed, but the platform's error log and counters will "
            "show them",
        }[kind]
    except KeyError:
        raise UsageError(
            f"nothing can be provoked by {kind!r}", f"choose one of {', '.join(WAYS)}"
        ) from None


def check(kind: str, *, nmi_source: bool, root: Path = Path("/")) -> None:
    """Raise HostError, with the remedy, unless *kind* can make GHES traffic on this host.

    *nmi_source* says whether HEST has an enabled source that notifies by NMI, which
    host.facts.read_facts tells. *root* is where /proc and /sys are.
    """
    description(kind)
    if kind == "nmi":
        if not nmi_source:
            raise HostError(
                "no GHES source of this host notifies by NMI, so NMIs make no GHES traffic",
                "use --provoke einj if the firmware has EINJ, or wait for real errors",
            )
        if not (root / _SYSRQ).exists():
            raise HostError(
                "there is no /proc/sysrq-trigger",
                "this kernel has no CONFIG_MAGIC_SYSRQ: use --provoke einj, or `perf record -a`",
            )
        return
    try:
        types = (root / _EINJ / "available_error_type").read_text()
    except OSError as error:
        raise HostError(
            f"no EINJ at /{_EINJ}: {error.strerror}",
            "modprobe einj (and mount debugfs); without an EINJ table in the firmware, or under "
            "lockdown, it can't work",
        ) from error
    if _MEMORY_CORRECTED not in _types(types):
        raise HostError(
            "the firmware's EINJ offers no corrected memory error (type 0x8)",
            "nothing else is safe to inject: wait for real errors",
        )


def _types(text: str) -> set[int]:
    found = set()
    for line in text.splitlines():
        word = line.split()[:1]
        if word and word[0].startswith("0x"):
            found.add(int(word[0], 16))
    return found


class Provoker:
    """A provoker makes traffic of *kind* in a thread, from __enter__ to __exit__.

    It does so every *period_s* seconds, by default at a low rate. `count` is the number of
    provocations so far, and `error` the TransientError that ended them early, or None. Call `check`
    and ask the user first.

        check("einj", nmi_source=False)
        with Provoker("einj") as provoker:
            time.sleep(10)
        print(provoker.count, provoker.error)
    """

    def __init__(self, kind: str, *, period_s: float | None = None, root: Path = Path("/")) -> None:
        description(kind)
        self.count = 0
        self.error: TransientError | None = None
        self._once: Callable[[], None] = {"nmi": self._nmi, "einj": self._einj}[kind]
        self._period_s = _PERIOD_S[kind] if period_s is None else period_s
        self._root = root
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"provoke-{kind}", daemon=True)

    def __enter__(self) -> Provoker:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._period_s):
            try:
                self._once()
            except OSError as error:
                self.error = TransientError(
                    f"provoking failed after {self.count} times: {error}",
                    "the recording goes on without; see the kernel log",
                )
                return
            self.count += 1

    def _nmi(self) -> None:
        (self._root / _SYSRQ).write_text("l")

    def _einj(self) -> None:
        einj = self._root / _EINJ
        (einj / "error_type").write_text(f"{_MEMORY_CORRECTED:#x}")
        (einj / "error_inject").write_text("1")
