# SPDX-License-Identifier: Apache-2.0
"""This module gives up every capability once the probes are attached.

The daemon stays user 0, because tracefs belongs to root and the probes must be removed at the
end. Without capabilities that user can do what file modes allow and nothing else, and
no_new_privs makes it final. capset(2) changes only the calling thread, so it must be called before
another thread is started.
"""

from __future__ import annotations

import ctypes
import os
import struct

from ghesrace.errors import HostError

from .health import threads_with_capabilities

# These numbers are those of include/uapi/linux/prctl.h and capability.h.
_PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _AMBIENT_CLEAR = 38, 24, 47, 4
_VERSION_3 = 0x20080522
_LAST_CAP = 63


def drop() -> None:
    """Drop all capabilities for good. Raises HostError if that fails or if a thread keeps one.

    Probes that were attached before go on:

        source = stack.enter_context(BpfSource(plan, host))  # takes root
        drop()
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR, 0, 0, 0)
    for capability in range(_LAST_CAP + 1):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # It may fail; no_new_privs suffices.
    header = struct.pack("<Ii", _VERSION_3, 0)
    if libc.capset(header, bytes(24)) != 0:
        raise HostError(
            f"can't drop capabilities: {os.strerror(ctypes.get_errno())}", "start it by systemd"
        )
    if held := threads_with_capabilities():
        raise HostError(
            f"threads {', '.join(map(str, held))} keep their capabilities",
            "start it as `ghesrace daemon`, which tells NumPy and Arrow to make no threads",
        )
