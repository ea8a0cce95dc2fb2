# SPDX-License-Identifier: Apache-2.0
"""This reads the running kernel's code by a BPF program, where /proc/kcore can't be opened: under
the units in systemd/, which give no CAP_SYS_RAWIO, but CAP_BPF and CAP_PERFMON until the probes are
attached.

The program is run by hand (BPF_PROG_TEST_RUN of a raw tracepoint, Linux 5.10), so nothing is
attached and nothing of the host is disturbed. It is written here as instructions, because a
compiler would take seconds. Programs have no bpf_probe_read_kernel() without CAP_PERFMON and where
the kernel is locked down for confidentiality (bpf_base_func_proto in kernel/bpf/helpers.c).
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from . import syscalls
from .code import BLOCK, Blockwise

_ARRAY, _RAW_TRACEPOINT = 2, 17  # of enum bpf_map_type and enum bpf_prog_type
_MAP_LOOKUP_ELEM, _PROBE_READ_KERNEL = 1, 113  # of enum bpf_func_id
_NAME = "ghesrace_code"


def _program(fd: int) -> bytes:
    """Return the instructions that copy BLOCK bytes from the address that is the first argument
    into the only element of the array *fd*. They return 0, or what the helper says is wrong."""
    r0, r1, r2, r3, r6, r10 = 0, 1, 2, 3, 6, 10
    load, store, move, move_number, add = 0x79, 0x62, 0xBF, 0xB7, 0x07
    constant, map_fd, call, not_equal, leave = 0x18, 1, 0x85, 0x55, 0x95
    steps = [
        (load, r6, r1, 0, 0),
        (store, r10, 0, -4, 0),
        (constant, r1, map_fd, 0, fd),
        (0, 0, 0, 0, 0),
        (move, r2, r10, 0, 0),
        (add, r2, 0, 0, -4),
        (call, 0, 0, 0, _MAP_LOOKUP_ELEM),
        (not_equal, r0, 0, 2, 0),
        (move_number, r0, 0, 0, -errno.EFAULT),
        (leave, 0, 0, 0, 0),
        (move, r1, r0, 0, 0),
        (move_number, r2, 0, 0, BLOCK),
        (move, r3, r6, 0, 0),
        (call, 0, 0, 0, _PROBE_READ_KERNEL),
        (leave, 0, 0, 0, 0),
    ]
    return b"".join(
        struct.pack("<BBhi", code, target | source << 4, offset, number)
        for code, target, source, offset, number in steps
    )


class CodeByBpf(Blockwise):
    """The code of the running kernel, copied by a BPF program.

    The program is loaded only while something is read, so that whoever gives up privileges later
    keeps nothing of it. Raises OSError if the kernel refuses it.

        CodeByBpf().read(symbol.address, 64)
    """

    def __init__(self) -> None:
        super().__init__()
        with _loaded():
            pass

    def _block(self, begin: int) -> bytes:
        try:
            with _loaded() as (array, program):
                if syscalls.test_run(program, begin) != 0:
                    return b""
                return bytes(syscalls.lookup(array, 0, BLOCK))
        except OSError:
            return b""


@contextmanager
def _loaded() -> Iterator[tuple[int, int]]:
    """Give the descriptors of the array and of the program, which are closed at the end. Raises
    OSError."""
    array = syscalls.create_map(_ARRAY, 4, BLOCK, 1, 0, _NAME)
    try:
        program = syscalls.load(_RAW_TRACEPOINT, _program(array), _NAME)
    except OSError as error:
        if error.errno == errno.EINVAL:  # The verifier knows no such helper.
            raise OSError(error.errno, "programs may not read the kernel's memory") from error
        raise
    else:
        try:
            yield array, program
        finally:
            os.close(program)
    finally:
        os.close(array)
