# SPDX-License-Identifier: Apache-2.0
"""Some things only trying tells: this is what `doctor` does to the running kernel, and undoes."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from ghesrace.errors import HostError, TransientError
from ghesrace.host import clocks, syscalls
from ghesrace.plan import Plan
from ghesrace.sources import tracefs
from ghesrace.sources.tracefs_text import condition, definition

_SOCKET_FILTER = 1
# This is `r0 = 0; exit`, the smallest program that the verifier accepts.
_PROGRAM = bytes.fromhex("b700000000000000") + bytes.fromhex("9500000000000000")


class Attempts:
    """Each method tries one thing, leaves nothing behind, and raises what it met.

    For example:

        Attempts().instance(Path("/sys/kernel/tracing"))
    """

    def instance(self, root: Path) -> None:
        """Make and remove a private instance in the tracefs at *root*. Raises HostError or
        TransientError if that fails."""
        tracefs.Instance.create(root).remove()

    def probe(self, root: Path, letter: str, symbol: str) -> None:
        """Define and remove one probe event on *symbol*; its *letter* is `p` (kprobe) or `f`
        (fprobe). Raises HostError or TransientError if that fails."""
        instance = tracefs.Instance.create(root)
        try:
            instance.define(f"{letter}:{instance.name}/doctor {symbol}")
        finally:
            instance.remove()

    def refused(self, root: Path, plan: Plan) -> dict[str, str]:
        """Define every probe of *plan* with its filter, and return those that the kernel refused,
        as {symbol: why}.

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
        """Return whether Python can import the BPF Compiler Collection, which PyPI's `bcc` is
        not."""
        found = importlib.util.find_spec("bcc")
        return bool(found and found.origin and (Path(found.origin).parent / "libbcc.py").exists())

    def clocks(self) -> clocks.Comparison:
        """Compare the clocks of the CPUs. Raises OSError if a CPU cannot be used."""
        return clocks.compare()
