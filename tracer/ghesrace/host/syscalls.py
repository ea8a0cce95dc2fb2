# SPDX-License-Identifier: Apache-2.0
"""This module makes the two system calls that BPF takes, bpf(2) and perf_event_open(2), which
Python lacks.

Numbers and structures are those of include/uapi/linux/bpf.h and perf_event.h. bcc's library has
functions for maps and programs too, but loading it loads LLVM, and for each program that hangs on a
function it reads all of the kernel's BTF again. All functions here raise OSError with the kernel's
error number.

    array, four_bytes, entries = 2, 4, 8  # BPF_MAP_TYPE_ARRAY
    fd = create_map(array, four_bytes, four_bytes, entries, 0, "mine")
    update(fd, 0, 7)
    assert lookup(fd, 0, 4) == b"\\x07\\0\\0\\0"
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

INSTRUCTION = 8  # bytes of struct bpf_insn
_MACHINES = {"x86_64": (321, 298), "aarch64": (280, 241)}  # the calls' numbers
_MAP_CREATE, _MAP_LOOKUP_ELEM, _MAP_UPDATE_ELEM, _PROG_LOAD = 0, 1, 2, 5
_PROG_TEST_RUN, _OBJ_GET_INFO_BY_FD, _RAW_TRACEPOINT_OPEN = 10, 15, 17
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
    """Call bpf(2) with the first members of union bpf_attr, whose *layout* is written as the struct
    module has it."""
    return _exchanged(command, struct.pack(f"<{layout}", *members))[0]


def _exchanged(command: int, attr: bytes) -> tuple[int, bytes]:
    """Call bpf(2) with the attributes *attr*, and return its result and what the kernel made of
    them."""
    text = ctypes.create_string_buffer(attr, len(attr))
    return _call(0, command, text, len(attr)), text.raw


def create_map(
    kind: int, key_size: int, value_size: int, entries: int, flags: int, name: str
) -> int:
    """Make a map and return its descriptor. *kind* is one of enum bpf_map_type, sizes are in bytes,
    and *name* is cut to 15 characters. Raises OSError."""
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
    """Load a program of the instructions *code*, and return its descriptor. *kind* is one of enum
    bpf_prog_type.

    For a program that hangs on a function, *attach* is its enum bpf_attach_type and *btf_id* the
    function's id in the BTF of vmlinux. *log* is filled with what the verifier says. Raises
    OSError.
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
    """Attach the program *fd* to the raw tracepoint *name*, or, without a name, to the function
    that it was loaded for. Return the descriptor of the attachment. Raises OSError."""
    text = ctypes.create_string_buffer(name.encode()) if name else None
    return _bpf(_RAW_TRACEPOINT_OPEN, "QI4x", ctypes.addressof(text) if text else 0, fd)


def test_run(fd: int, *arguments: int) -> int:
    """Run the program *fd* once, as if its raw tracepoint (Linux 5.10) had been hit with these
    64-bit *arguments*, and return what it returned, as a signed number of 32 bits. Raises
    OSError."""
    context = ctypes.create_string_buffer(struct.pack(f"<{len(arguments)}Q", *arguments))
    size = 8 * len(arguments)
    # The second member is what the program returned.
    members = fd, 0, 0, 0, 0, 0, 0, 0, size, 0, ctypes.addressof(context), 0, 0, 0
    _, attr = _exchanged(_PROG_TEST_RUN, struct.pack("<4I2Q4I2Q2I", *members))
    return int(struct.unpack_from("<i", attr, 4)[0])


def lookup(fd: int, key: int, size: int) -> bytearray:
    """Return the element with the number *key* in the array *fd*, which has *size* bytes. Raises
    OSError."""
    where, value = ctypes.c_uint32(key), bytearray(size)
    target = (ctypes.c_char * size).from_buffer(value)
    _bpf(_MAP_LOOKUP_ELEM, "I4x3Q", fd, ctypes.addressof(where), ctypes.addressof(target), 0)
    return value


def update(fd: int, key: int, value: int) -> None:
    """Set the element with the number *key* in the array *fd* of 32-bit values. Raises OSError."""
    where, what = ctypes.c_uint32(key), ctypes.c_uint32(value)
    _bpf(_MAP_UPDATE_ELEM, "I4x3Q", fd, ctypes.addressof(where), ctypes.addressof(what), 0)


def info(fd: int, size: int) -> bytes:
    """Return the first *size* bytes of what the kernel says of *fd*: struct bpf_prog_info of a
    program, or struct bpf_map_info of a map. Raises OSError."""
    found = ctypes.create_string_buffer(size)
    _bpf(_OBJ_GET_INFO_BY_FD, "2IQ", fd, size, ctypes.addressof(found))
    return found.raw


def perf_event(kind: int, config: int, cpu: int, *, sample_type: int = 0) -> int:
    """Open an event of every task on one CPU and return its descriptor. *kind* and *config* are the
    type and config of struct perf_event_attr. The sample period is 1, so that every occurrence is
    sampled. Raises OSError."""
    attr = (ctypes.c_uint64 * (_ATTR_SIZE // 8))(kind | _ATTR_SIZE << 32, config, 1, sample_type)
    return _call(1, ctypes.byref(attr), -1, cpu, -1, _FLAG_FD_CLOEXEC)
