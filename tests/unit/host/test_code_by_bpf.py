# SPDX-License-Identifier: Apache-2.0
"""The running kernel's code, copied by a BPF program: its instructions are carried out here."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from ghesrace.host import code_by_bpf, syscalls
from ghesrace.host.code import BLOCK
from ghesrace.host.code_by_bpf import CodeByBpf

TEXT = 0xFFFFFFFF81000000
CODE = bytes(n % 251 + 1 for n in range(2 * BLOCK))
CONTEXT, STACK, VALUE = 1 << 32, 2 << 32, 3 << 32  # where the pretended kernel has them


class Kernel:
    """It has CODE at TEXT, makes maps and programs, and carries programs out."""

    def __init__(self) -> None:
        self.memory = dict(enumerate(CODE, TEXT))
        self.value = bytearray(BLOCK)
        self.open: dict[int, Any] = {}
        self.opened = 0
        self.refuses: dict[str, int] = {}

    def _new(self, what: str, thing: Any) -> int:
        if what in self.refuses:
            raise OSError(self.refuses[what], os.strerror(self.refuses[what]))
        self.opened += 1
        self.open[1000 + self.opened] = thing
        return 1000 + self.opened

    def create_map(self, kind: int, key: int, value: int, entries: int, *_: object) -> int:
        assert (kind, key, value, entries) == (2, 4, BLOCK, 1)
        return self._new("map", "map")

    def load(self, kind: int, code: bytes, name: str) -> int:
        assert kind == 17
        return self._new("load", code)

    def lookup(self, fd: int, key: int, size: int) -> bytearray:
        assert self.open[fd] == "map"
        assert (key, size) == (0, BLOCK)
        return self.value

    def close(self, fd: int) -> None:
        del self.open[fd]

    def test_run(self, fd: int, *arguments: int) -> int:
        """Carry out the program as Documentation/bpf/standardization/instruction-set.rst says."""
        if "run" in self.refuses:
            raise OSError(self.refuses["run"], "no")
        steps = list(struct.iter_unpack("<BBhi", self.open[fd]))
        given = dict(zip(range(CONTEXT, CONTEXT + 80, 8), arguments, strict=False))
        stack: dict[int, int] = {}
        registers: dict[int, int] = {1: CONTEXT, 10: STACK}
        at = 0
        while True:
            operation, pair, offset, number = steps[at]
            target, source = pair & 15, pair >> 4
            at += 1
            if operation == 0x79:
                registers[target] = given[registers[source] + offset]
            elif operation == 0x62:
                stack[registers[target] + offset] = number
            elif operation == 0x18:
                assert source == 1
                registers[target] = number
                at += 1
            elif operation == 0xBF:
                registers[target] = registers[source]
            elif operation == 0xB7:
                registers[target] = number
            elif operation == 0x07:
                registers[target] += number
            elif operation == 0x55:
                at += offset if registers[target] != number else 0
            elif operation == 0x85:
                self._call(number, registers, stack)
            else:
                assert operation == 0x95
                return registers[0]

    def _call(self, which: int, registers: dict[int, int], stack: dict[int, int]) -> None:
        first, second, third = (registers.get(n, 0) for n in (1, 2, 3))
        for number in (1, 2, 3, 4, 5):
            registers.pop(number, None)  # A call leaves nothing in them.
        if which == 1:
            assert self.open[first] == "map"
            registers[0] = VALUE if stack[second] == 0 else 0
            return
        assert (which, first, second) == (113, VALUE, BLOCK)
        found = [self.memory.get(third + n) for n in range(second)]
        good = None not in found
        self.value[:] = bytes(n or 0 for n in found) if good else bytes(BLOCK)
        registers[0] = 0 if good else -errno.EFAULT


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    made = Kernel()
    for name in ("create_map", "load", "lookup", "test_run"):
        monkeypatch.setattr(syscalls, name, getattr(made, name))
    monkeypatch.setattr(code_by_bpf.os, "close", made.close)
    yield made
    assert not made.open, "a program that reads the kernel's memory outlives the reading"


def test_code_is_read_by_address(kernel: Kernel) -> None:
    """If this fails, the daemon takes other bytes for the setter's."""
    read = CodeByBpf().read
    assert read(TEXT, 8) == CODE[:8]
    assert read(TEXT + BLOCK - 3, 15) == CODE[BLOCK - 3 : BLOCK + 12]
    assert read(TEXT + len(CODE) - 2, 15) == CODE[-2:]


def test_each_block_is_read_once(kernel: Kernel) -> None:
    """If this fails, a plan loads thousands of programs."""
    code = CodeByBpf()
    before = kernel.opened
    for offset in range(0, 100, 4):
        code.read(TEXT + offset, 4)
    assert kernel.opened - before == 2


def test_what_can_not_be_read_is_no_code(kernel: Kernel) -> None:
    """If this fails, the zeros that the kernel leaves are followed as instructions."""
    code = CodeByBpf()
    assert code.read(TEXT - BLOCK, 8) == b""
    assert code.read(TEXT + len(CODE), 8) == b""


@pytest.mark.parametrize("what", ["map", "load", "run"])
def test_a_kernel_that_refuses_later_gives_no_code(kernel: Kernel, what: str) -> None:
    """If this fails, a daemon that has given up its capabilities ends with a traceback."""
    code = CodeByBpf()
    kernel.refuses[what] = errno.EPERM
    assert code.read(TEXT, 8) == b""


@pytest.mark.parametrize(
    ("what", "number", "said"),
    [
        ("map", errno.EPERM, "Operation not permitted"),
        ("load", errno.EPERM, "Operation not permitted"),
        ("load", errno.EINVAL, "may not read the kernel's memory"),
    ],
)
def test_a_kernel_that_refuses_is_told(kernel: Kernel, what: str, number: int, said: str) -> None:
    """If this fails, a plan says that the code was read where nothing could be."""
    kernel.refuses[what] = number
    with pytest.raises(OSError, match=said):
        CodeByBpf()
