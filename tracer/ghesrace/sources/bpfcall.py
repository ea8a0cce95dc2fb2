"""The two system calls of the BPF backend, bpf(2) and perf_event_open(2): Python has neither.

Numbers and structures: include/uapi/linux/bpf.h and perf_event.h.
"""

from __future__ import annotations

import ctypes
import os
import platform

_MACHINES = {"x86_64": (321, 298), "aarch64": (280, 241)}  # the calls' numbers
_MAP_LOOKUP_ELEM, _MAP_UPDATE_ELEM, _OBJ_GET_INFO_BY_FD = 1, 2, 15
_FLAG_FD_CLOEXEC = 8
_ATTR_SIZE = 64  # PERF_ATTR_SIZE_VER0


def _call(which: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = int(libc.syscall(_MACHINES[platform.machine()][which], *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _bpf(command: int, *words: int) -> None:
    attr = (ctypes.c_uint64 * len(words))(*words)
    _call(0, command, ctypes.byref(attr), ctypes.sizeof(attr))


def lookup(fd: int, key: int, size: int) -> bytearray:
    """The element of *size* bytes with this number in the array *fd*. Raises OSError."""
    where, value = ctypes.c_uint32(key), bytearray(size)
    target = (ctypes.c_char * size).from_buffer(value)
    _bpf(_MAP_LOOKUP_ELEM, fd, ctypes.addressof(where), ctypes.addressof(target), 0)
    return value


def update(fd: int, key: int, value: int) -> None:
    """Set an element of an array of 32-bit values. Raises OSError."""
    where, what = ctypes.c_uint32(key), ctypes.c_uint32(value)
    _bpf(_MAP_UPDATE_ELEM, fd, ctypes.addressof(where), ctypes.addressof(what), 0)


def info(fd: int, size: int) -> bytes:
    """The first *size* bytes of struct bpf_prog_info of a program. Raises OSError."""
    found = ctypes.create_string_buffer(size)
    # union bpf_attr: u32 bpf_fd, u32 info_len, u64 info
    _bpf(_OBJ_GET_INFO_BY_FD, fd | size << 32, ctypes.addressof(found))
    return found.raw


def perf_event(kind: int, config: int, cpu: int, *, sample_type: int = 0) -> int:
    """A descriptor of an event (perf_event_attr's type and config) of every task on one CPU, of
    which every occurrence counts. Raises OSError."""
    attr = (ctypes.c_uint64 * (_ATTR_SIZE // 8))(kind | _ATTR_SIZE << 32, config, 1, sample_type)
    return _call(1, ctypes.byref(attr), -1, cpu, -1, _FLAG_FD_CLOEXEC)
