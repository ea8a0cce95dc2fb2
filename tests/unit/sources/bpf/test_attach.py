# SPDX-License-Identifier: Apache-2.0
"""Order and clean-up of loading; what the kernel takes is seen in tests/lab/test_bpf.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ghesrace.sources.bpf import attach
from ghesrace.sources.bpf.attach import BpfProgram, Loaded, attached
from ghesrace.sources.bpf.cache import Compiled, Map
from ghesrace.sources.bpf.compile import Refused

MAPS = tuple(Map(2, 4, 8, 1, 0, name) for name in ("cpus", "records", "scratch"))
PROGRAMS = (
    BpfProgram("p0", "tracing", "fentry", "map_it", 3, lateness=2),
    BpfProgram("p1", "kprobe", "kprobe", "17"),
    BpfProgram("p2", "raw-tracepoint", "raw-tracepoint", "nmi:nmi_handler", lateness=1),
)
CODE = Compiled(MAPS, {program.function: bytes(16) for program in PROGRAMS})


class Kernel:
    """Hands out real descriptors, and fails at call number `fails`."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.names: dict[int, str] = {}
        self.fails = -1
        self.error: BaseException = PermissionError(1, "Operation not permitted")

    def __call__(self, what: str) -> int:
        if len(self.calls) == self.fails:
            raise self.error
        self.calls.append(what)
        fd = os.open("/dev/null", os.O_RDONLY)
        self.names[fd] = what
        return fd


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    call = attach.syscalls
    monkeypatch.setattr(call, "create_map", lambda *of: made(f"map {of[-1]}"))
    monkeypatch.setattr(call, "load", lambda kind, code, name, **_: made(f"load {name}"))
    monkeypatch.setattr(call, "open_raw_tracepoint", lambda fd, name: made(f"attach {name}"))
    monkeypatch.setattr(call, "perf_event", lambda kind, event, cpu: made(f"event {event}"))
    monkeypatch.setattr(attach.fcntl, "ioctl", lambda *_: 0)
    monkeypatch.setattr(attach.resource, "setrlimit", lambda *_: None)
    return made


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def test_maps_come_last_and_go_first(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, an episode is seen without its end, or an NMI without its entry."""
    before = descriptors()
    loaded = attached(CODE, PROGRAMS, variables={}, cpu=0)
    assert kernel.calls[3:] == [
        *("load p1", "event 17"),
        *("load p2", "attach nmi_handler"),
        *("load p0", "attach None"),
    ]
    assert [kernel.names[fd] for fd in loaded.programs] == ["load p0", "load p1", "load p2"]
    assert [kernel.names[fd] for fd in loaded.maps] == ["map cpus", "map records"]
    closed: list[str] = []
    close = os.close
    with monkeypatch.context() as patch:
        patch.setattr(os, "close", lambda fd: (closed.append(kernel.names[fd]), close(fd)))
        loaded.close()
    assert closed[:3] == ["attach None", "attach nmi_handler", "event 17"]
    assert descriptors() == before


@pytest.mark.parametrize("fails", range(9))
@pytest.mark.parametrize("error", [PermissionError(1, "no"), KeyboardInterrupt()], ids=repr)
def test_a_failure_leaves_nothing_behind(kernel: Kernel, fails: int, error: BaseException) -> None:
    """If this fails, programs of a start that failed run on for as long as the daemon does."""
    before = descriptors()
    kernel.fails, kernel.error = fails, error
    with pytest.raises(Refused if isinstance(error, OSError) else KeyboardInterrupt):
        attached(CODE, PROGRAMS, variables={}, cpu=0)
    assert descriptors() == before


def test_an_event_that_takes_no_program_is_closed(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, each refused start leaves a perf event open."""

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    before = descriptors()
    monkeypatch.setattr(attach.fcntl, "ioctl", refuse)
    with pytest.raises(Refused, match="kprobe on event 17: Permission denied") as refused:
        attached(CODE, PROGRAMS, variables={}, cpu=0)
    assert refused.value.stage == "attach"
    assert descriptors() == before


def test_what_the_verifier_says_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a rejected program is "Invalid argument" and nobody knows why."""

    def load(*_: object, log: bytearray | None, **__: object) -> int:
        if log is not None:
            log[:9] = b"R1 is bad"
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(attach.syscalls, "load", load)
    with pytest.raises(Refused, match="fentry on f: Permission denied") as refused:
        attach._load(BpfProgram("p0", "tracing", "fentry", "f", 3), bytes(16))
    assert refused.value.log == "R1 is bad"


def test_detaching_twice_is_once(kernel: Kernel) -> None:
    """If this fails, a descriptor that is somebody else's by now is closed."""
    loaded = attached(CODE, PROGRAMS, variables={}, cpu=0)
    loaded.detach()
    assert loaded == Loaded(loaded.maps, loaded.programs, {})
    loaded.close()
    loaded.close()
    assert (loaded.maps, loaded.programs) == ([], [])
