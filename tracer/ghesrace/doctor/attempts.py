# SPDX-License-Identifier: Apache-2.0
"""The things that only trying tells: what `doctor` does to the running kernel, and undoes."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from ghesrace.errors import HostError, TransientError
from ghesrace.host import clocks
from ghesrace.plan import Plan
from ghesrace.sources import tracefs
from ghesrace.sources.bpf import syscalls
from ghesrace.sources.tracefs_text import condition, definition

_SOCKET_FILTER = 1
# r0 = 0; exit: the smallest program the verifier accepts.
_PROGRAM = bytes.fromhex("b700000000000000") + bytes.fromhex("9500000000000000")


class Attempts:
    """Each method tries one thing, leaves nothing behind, and raises what it met."""

    def instance(self, root: Path) -> None:
        """Make and remove a private tracefs instance. Raises HostError, TransientError."""
        tracefs.Instance.create(root).remove()

    def probe(self, root: Path, letter: str, symbol: str) -> None:
        """Define and remove one probe event (`p` or `f`) on *symbol*. Raises HostError."""
        instance = tracefs.Instance.create(root)
        try:
            instance.define(f"{letter}:{instance.name}/doctor {symbol}")
        finally:
            instance.remove()

    def refused(self, root: Path, plan: Plan) -> dict[str, str]:
        """Define every probe of *plan* with its filter; {symbol: why} of those refused.

        Raises HostError or TransientError if there is no instance to do it in.
        """
        why: dict[str, str] = {}
        instance = tracefs.Instance.create(root)
        try:
            for number, probe in enumerate(plan.probes):
                event = probe.symbol.replace(":", "/")
                try:
                    if probe.mechanism != "tracepoint":
                        event = f"{instance.name}/p{number}"
                        instance.define(definition(plan, probe, instance.name, f"p{number}"))
                    if (only := condition(probe)) is not None:
                        instance.set(f"events/{event}/filter", only)
                except (HostError, TransientError) as error:
                    why[probe.symbol] = error.what
        finally:
            instance.remove()
        return why

    def bpf(self) -> None:
        """Load the smallest BPF program. Raises OSError with the kernel's reason."""
        os.close(syscalls.load(_SOCKET_FILTER, _PROGRAM, "doctor"))

    def bcc(self) -> bool:
        """Whether Python can import the BPF Compiler Collection (and not PyPI's other `bcc`)."""
        found = importlib.util.find_spec("bcc")
        return bool(found and found.origin and (Path(found.origin).parent / "libbcc.py").exists())

    def clocks(self) -> clocks.Comparison:
        """Compare the clocks of the CPUs. Raises OSError."""
        return clocks.compare()
