# SPDX-License-Identifier: Apache-2.0
"""The two lines to a QEMU, whose part a thread plays."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ghesrace.errors import TransientError
from lab.qemu import Machine

GREETING = {"QMP": {"version": {"qemu": {"major": 9}}, "capabilities": []}}


class Qemu:
    """Answers on both sockets. `refuses`: QMP commands that fail; `qtest`: what each line gets."""

    def __init__(self, folder: Path) -> None:
        self.said: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self.refuses: set[str] = set()
        self.children = [{"name": "unnamed-gpio-in[0]", "type": "irq"}]
        self.qtest = "OK\n"
        self.paths = folder / "qmp", folder / "qtest"
        self._listening = [socket.socket(socket.AF_UNIX) for _ in self.paths]
        for one, path in zip(self._listening, self.paths, strict=True):
            one.bind(str(path))
            one.listen(1)
        self._threads = [
            threading.Thread(target=serve, args=(one,), daemon=True)
            for serve, one in zip((self._qmp, self._pins), self._listening, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def _qmp(self, listening: socket.socket) -> None:
        line, _ = listening.accept()
        with line:
            line.sendall(json.dumps(GREETING).encode() + b"\n")
            while text := line.recv(4096):  # one request a time, which the client's lock sees to
                request = json.loads(text)
                self.said.append(request)
                command = request["execute"]
                answer: dict[str, Any] = {"return": {}}
                if command == "qom-list":
                    answer = {"return": self.children}
                if command in self.refuses:
                    answer = {"error": {"class": "GenericError", "desc": "not now"}}
                if "id" in request:
                    answer["id"] = request["id"]
                line.sendall(json.dumps(answer).encode() + b"\n")
                if command == "quit":
                    return

    def _pins(self, listening: socket.socket) -> None:
        line, _ = listening.accept()
        with line:
            while text := line.recv(4096):
                if not self.qtest:
                    return  # it is gone
                self.lines += text.decode().splitlines()
                line.sendall(self.qtest.encode() * text.count(b"\n"))

    def commands(self) -> list[str]:
        return [request["execute"] for request in self.said]

    def close(self) -> None:
        for one in self._listening:
            one.close()


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[Qemu]:
    made = Qemu(tmp_path)
    yield made
    made.close()


@pytest.fixture
def machine(qemu: Qemu) -> Iterator[Machine]:
    with Machine(*qemu.paths) as made:
        yield made


def test_a_pulse_goes_up_and_down_in_one_message(qemu: Qemu, machine: Machine) -> None:
    """A line that stays up fires again and again; one of another controller fires elsewhere."""
    machine.wire("/machine/gpio", first=32)
    machine.irq(40)
    assert qemu.lines == [f"set_irq_in /machine/gpio unnamed-gpio-in 8 {level}" for level in (1, 0)]


def test_no_controller_is_said_at_once(qemu: Qemu, machine: Machine) -> None:
    """Every interrupt would be lost, and the kernel be blamed."""
    qemu.children = []
    with pytest.raises(TransientError, match="no interrupt controller at /machine/none"):
        machine.wire("/machine/none")


def test_commands_by_their_names(qemu: Qemu, machine: Machine) -> None:
    """vCPUs would stay stopped, or an NMI be something else."""
    machine.stop()
    machine.resume()
    machine.nmi()
    assert qemu.commands()[-3:] == ["stop", "cont", "inject-nmi"]


def test_a_refusal_is_told(qemu: Qemu, machine: Machine) -> None:
    """A notification that was never raised would count as raised."""
    qemu.refuses.add("inject-nmi")
    with pytest.raises(TransientError, match=r"refused inject-nmi.*not now"):
        machine.nmi()
    qemu.qtest = "FAIL no such pin\n"
    machine.wire("/machine/gpio")
    with pytest.raises(TransientError, match="FAIL no such pin"):
        machine.irq(3)


def test_a_qemu_that_is_gone(qemu: Qemu, machine: Machine) -> None:
    """A crash of QEMU would end in a traceback, or in waiting for ever."""
    machine.wire("/machine/gpio")
    qemu.qtest = ""
    with pytest.raises(TransientError, match="gone"):
        machine.irq(3)
    machine.quit()
    with pytest.raises(TransientError, match="QEMU is gone: stop"):
        machine.stop()
    machine.quit()  # gone already, which is what we want
    machine.close()
    machine.close()


def test_sockets_that_nobody_serves(tmp_path: Path) -> None:
    """A QEMU that did not start would be a FileNotFoundError."""
    with pytest.raises(TransientError, match="does not answer"):
        Machine(tmp_path / "qmp", tmp_path / "qtest")
