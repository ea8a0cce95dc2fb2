# SPDX-License-Identifier: Apache-2.0
"""The two system calls of the BPF backend, bpf(2) and perf_event_open(2): Python has neither.

Numbers and structures: include/uapi/linux/bpf.h and perf_event.h. bcc's library has functions for
maps and programs too, but loading it loads LLVM, and for each program that hangs on a function it
reads all of the kernel's BTF again.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

from .instructions import INSTRUCTION

_MACHINES = {"x86_64": (321, 298), "aarch64": (280, 241)}  # the calls' numbers
_MAP_CREATE, _MAP_LOOKUP_ELEM, _MAP_UPDATE_ELEM, _PROG_LOAD = 0, 1, 2, 5
_OBJ_GET_INFO_BY_FD, _RAW_TRACEPOINT_OPEN = 15, 17
_FLAG_FD_CLOEXEC = 8
_ATTR_SIZE = 64  # PERF_ATTR_SIZE_VER0


def _call(which: int, *arguments: object) -> int:
    machine = platform.machine()
    if machine not in _MACHINES:
        raise OSError(errno.ENOSYS, f"the system calls of {machine} are not known here")
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(_MACHINES[machine][which], *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _bpf(command: int, layout: str, *members: int | bytes) -> int:
    """bpf(2) with the first members of union bpf_attr, *layout* as struct has it."""
    attr = struct.pack(f"<{layout}", *members)
    return _call(0, command, ctypes.create_string_buffer(attr, len(attr)), len(attr))


def create_map(
    kind: int, key_size: int, value_size: int, entries: int, flags: int, name: str
) -> int:
    """The descriptor of a new map (enum bpf_map_type; sizes in bytes). Raises OSError."""
    no_inner, no_node = 0, 0
    members = kind, key_size, value_size, entries, flags, no_inner, no_node, name.encode()[:15]
    return _bpf(_MAP_CREATE, "7I16s", *members)


def load(
    kind: int,
    code: bytes,
    name: str,
    *,
    attach: int = 0,
    btf_id: int = 0,
    log: bytearray | None = None,
) -> int:
    """The descriptor of a new program (enum bpf_prog_type) of these instructions.

    One that hangs on a function: *attach* is its enum bpf_attach_type and *btf_id* the function's
    in vmlinux. *log* is filled with what the verifier says. Raises OSError.
    """
    text, free = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"GPL")
    told = (ctypes.c_char * len(log)).from_buffer(log) if log is not None else None
    return _bpf(
        _PROG_LOAD,
        "2I2Q2IQ2I16s2I2IQ2IQ2I",
        *(kind, len(code) // INSTRUCTION, ctypes.addressof(text), ctypes.addressof(free)),
        *(int(told is not None), len(log or b""), ctypes.addressof(told) if told else 0),
        *(0, 0),  # kern_version, prog_flags
        name.encode()[:15],
        *(0, attach),  # prog_ifindex
        *(0, 0, 0, 0, 0, 0, 0),  # BTF of its own
        btf_id,
    )


def open_raw_tracepoint(fd: int, name: str | None) -> int:
    """Attach program *fd* to a raw tracepoint, or to the function that it was loaded for; the
    descriptor of the attachment. Raises OSError."""
    text = ctypes.create_string_buffer(name.encode()) if name else None
    return _bpf(_RAW_TRACEPOINT_OPEN, "QI4x", ctypes.addressof(text) if text else 0, fd)


def lookup(fd: int, key: int, size: int) -> bytearray:
    """The element of *size* bytes with this number in the array *fd*. Raises OSError."""
    where, value = ctypes.c_uint32(key), bytearray(size)
    target = (ctypes.c_char * size).from_buffer(value)
    _bpf(_MAP_LOOKUP_ELEM, "I4x3Q", fd, ctypes.addressof(where), ctypes.addressof(target), 0)
    return value


def update(fd: int, key: int, value: int) -> None:
    """Set an element of an array of 32-bit values. Raises OSError."""
    where, what = ctypes.c_uint32(key), ctypes.c_uint32(value)
    _bpf(_MAP_UPDATE_ELEM, "I4x3Q", fd, ctypes.addressof(where), ctypes.addressof(what), 0)


def info(fd: int, size: int) -> bytes:
    """The first *size* bytes of struct bpf_prog_info of a program. Raises OSError."""
    found = ctypes.create_string_buffer(size)
    _bpf(_OBJ_GET_INFO_BY_FD, "2IQ", fd, size, ctypes.addressof(found))
    return found.raw


def perf_event(kind: int, config: int, cpu: int, *, sample_type: int = 0) -> int:
    """A descriptor of an event (perf_event_attr's type and config) of every task on one CPU, of
    which every occurrence counts. Raises OSError."""
    attr = (ctypes.c_uint64 * (_ATTR_SIZE // 8))(kind | _ATTR_SIZE << 32, config, 1, sample_type)
    return _call(1, ctypes.byref(attr), -1, cpu, -1, _FLAG_FD_CLOEXEC)
