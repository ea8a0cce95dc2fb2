# SPDX-License-Identifier: Apache-2.0
"""Talk to a running QEMU over its two sockets: QMP (NMIs, quit) and qtest (interrupt pins)."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from qemu.qmp import QMPError
from qemu.qmp.legacy import QEMUMonitorProtocol

from ghesrace.errors import TransientError

_PATIENCE_S = 60.0  # QEMU's main loop may wait long for the vCPUs' lock on a busy host.


class Wires(Protocol):
    """This is all that the firmware needs of a machine: the two ways to interrupt a CPU."""

    def nmi(self) -> None:
        """Raise an NMI on every CPU that takes external NMIs."""

    def irq(self, gsi: int) -> None:
        """Pulse the interrupt line *gsi* once."""


class Machine:
    """A machine is a running QEMU, reached through its QMP and qtest sockets (paths).

    A lock lets one caller at a time use them. Every method but `quit` and `close` raises
    TransientError when QEMU is gone.

        with Machine(home / "qmp", home / "qtest") as machine:
            machine.wire("/machine/i440fx/ioapic")
            machine.irq(11)  # the line that GHES and the e1000 share on `pc`
            machine.nmi()
    """

    def __init__(self, qmp: Path, qtest: Path) -> None:
        self._lock = threading.Lock()
        self._controller, self._first = "", 0
        self._qmp = QEMUMonitorProtocol(str(qmp))
        self._qtest = socket.socket(socket.AF_UNIX)
        try:
            self._qmp.connect()
            self._qmp.settimeout(_PATIENCE_S)
            self._qtest.settimeout(_PATIENCE_S)
            self._qtest.connect(str(qtest))
        except (OSError, EOFError, QMPError) as error:
            self.close()
            raise TransientError(f"QEMU does not answer on its sockets: {error!r}") from error

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def wire(self, controller: str, first: int = 0) -> None:
        """Raise interrupts at *controller* (a QOM path), whose first input is GSI *first*.

        Raises TransientError if the machine has no such object.
        """
        if not self.children(controller):
            raise TransientError(f"QEMU's machine has no interrupt controller at {controller}")
        self._controller, self._first = controller, first

    def children(self, path: str) -> dict[str, str]:
        """Return {property: type} of the object at QOM *path*, empty if there is none."""
        answer = self._execute("qom-list", path=path)
        return {child["name"]: child["type"] for child in answer.get("return", [])}

    def nmi(self) -> None:
        """Raise an NMI through LINT1 of every CPU (QMP inject-nmi)."""
        self._must("inject-nmi")

    def stop(self) -> None:
        """Stop all vCPUs."""
        self._must("stop")

    def resume(self) -> None:
        """Let stopped vCPUs run on."""
        self._must("cont")

    def _must(self, command: str) -> None:
        answer = self._execute(command)
        if "error" in answer:
            raise TransientError(f"QEMU refused {command}: {answer['error']}")

    def _execute(self, command: str, **arguments: object) -> dict[str, Any]:
        with self._lock:
            try:
                answer = self._qmp.cmd_obj({"execute": command, "arguments": arguments})
            except (OSError, EOFError, QMPError) as error:
                raise TransientError(f"QEMU is gone: {command}: {error!r}") from error
        return dict(answer)

    def irq(self, gsi: int) -> None:
        """Raise and drop the line *gsi*, which makes one interrupt of a level-triggered line too.

        Both commands go out in one message, and QEMU lets no vCPU run between them. A line that
        is still up when the guest ends the interrupt fires again, ten times on a busy host.
        """
        pin = f"set_irq_in {self._controller} unnamed-gpio-in {gsi - self._first}"
        with self._lock:
            self._ask(f"{pin} 1\n{pin} 0\n", answers=2)

    def _ask(self, lines: str, answers: int) -> None:
        try:
            self._qtest.sendall(lines.encode())
            answer = b""
            while answer.count(b"\n") < answers:
                chunk = self._qtest.recv(4096)
                if not chunk:
                    raise TransientError("QEMU is gone: its qtest socket is closed")
                answer += chunk
        except OSError as error:
            if isinstance(error, TransientError):
                raise
            raise TransientError(f"QEMU is gone: qtest: {error!r}") from error
        if answer != b"OK\n" * answers:
            raise TransientError(f"QEMU refused {lines!r}: {answer.decode().strip()}")

    def quit(self) -> None:
        """Tell QEMU to end at once; what the guest wrote over 9p is already on the host."""
        with self._lock:
            try:
                self._qmp.cmd_obj({"execute": "quit"})
            except (OSError, EOFError, QMPError):
                return  # QEMU is gone already, which is what was asked for.

    def close(self) -> None:
        """Close both sockets; QEMU runs on."""
        with self._lock:
            self._qtest.close()
            try:
                self._qmp.close()
            except (OSError, EOFError, QMPError):
                return  # QEMU has dropped the connection, so nothing is left to close.
