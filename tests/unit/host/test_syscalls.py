# SPDX-License-Identifier: Apache-2.0
"""What is handed to bpf(2): the members' places are those of union bpf_attr."""

from __future__ import annotations

import ctypes
import struct

import pytest

from ghesrace.host import syscalls

RETURN_0 = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)


@pytest.fixture
def texts() -> list[bytes]:
    """Code and licence of each program that was loaded."""
    return []


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, texts: list[bytes]) -> list[tuple[int, bytes]]:
    """Command and attributes of each call."""
    calls: list[tuple[int, bytes]] = []

    def call(which: int, command: int, attr: object, size: int) -> int:
        assert which == 0
        assert isinstance(attr, ctypes.Array)
        calls.append((command, bytes(attr)))
        assert len(calls[-1][1]) == size
        if command == 5:
            (count, code, free) = struct.unpack_from("<IQQ", calls[-1][1], 4)
            texts.extend([ctypes.string_at(code, count * 8), ctypes.string_at(free, 4)])
        return 7

    monkeypatch.setattr(syscalls, "_call", call)
    return calls


def test_a_map(asked: list[tuple[int, bytes]]) -> None:
    """If this fails, the kernel makes another map, or none."""
    assert syscalls.create_map(2, 4, 64, 1024, 0x400, "records") == 7
    [(command, attr)] = asked
    assert command == 0
    assert struct.unpack("<IIIII", attr[:20]) == (2, 4, 64, 1024, 0x400)
    assert attr[20:28] == bytes(8)  # inner_map_fd, numa_node
    assert attr[28:44] == b"records".ljust(16, b"\0")


@pytest.mark.parametrize("told", [False, True])
def test_a_program(asked: list[tuple[int, bytes]], texts: list[bytes], told: bool) -> None:
    """If this fails, a program hangs on another function, or on none."""
    log = bytearray(64) if told else None
    assert syscalls.load(26, RETURN_0, "a_very_long_name", attach=24, btf_id=99, log=log) == 7
    [(command, attr)] = asked
    assert command == 5
    assert texts == [RETURN_0, b"GPL\0"]
    assert struct.unpack_from("<II", attr, 0) == (26, 2)
    level, size, where = struct.unpack_from("<IIQ", attr, 24)
    assert (level, size, bool(where)) == (int(told), 64 * told, told)
    assert attr[48:64] == b"a_very_long_nam\0"
    assert struct.unpack_from("<I", attr, 68) == (24,)
    assert struct.unpack_from("<I", attr, 108) == (99,)
    assert not any(attr[72:108])


def test_an_attachment(asked: list[tuple[int, bytes]]) -> None:
    """If this fails, a program is loaded and never runs."""
    syscalls.open_raw_tracepoint(5, None)
    syscalls.open_raw_tracepoint(5, "nmi_handler")
    (first, none), (second, named) = asked
    assert (first, second) == (17, 17)
    assert struct.unpack("<QI", none[:12]) == (0, 5)
    assert struct.unpack("<QI", named[:12])[1] == 5
    assert struct.unpack("<Q", named[:8])[0]


def test_a_run_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a program copies from another address, or its refusal is taken for success."""

    def call(which: int, command: int, attr: ctypes.Array[ctypes.c_char], size: int) -> int:
        program, _, *sizes = struct.unpack_from("<4I", attr, 0)
        repeat, duration, length, out = struct.unpack_from("<4I", attr, 32)
        (context,) = struct.unpack_from("<Q", attr, 48)
        assert (which, command, size) == (0, 10, 72)
        assert (program, sizes, repeat, duration, out) == (5, [0, 0], 0, 0, 0)
        assert ctypes.string_at(context, length) == struct.pack("<2Q", 1 << 63, 7)
        assert not any(attr.raw[56:])
        struct.pack_into("<i", attr, 4, -14)
        return 0

    monkeypatch.setattr(syscalls, "_call", call)
    assert syscalls.test_run(5, 1 << 63, 7) == -14
