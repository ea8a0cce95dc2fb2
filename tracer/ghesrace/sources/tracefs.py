# SPDX-License-Identifier: Apache-2.0
"""This module makes a private tracefs instance with its probe events, and removes them again,
whatever happened to the process that made them.

Every run owns `instances/ghesrace_<pid>_<start time>` and an event group of the same name.
The run holds a lock (flock) on its instance directory for as long as it lives; the kernel drops the
lock with the process, however that dies. So a stray is an instance or a group whose lock
nobody holds, which is also true across PID namespaces. Creation and clean-up take the lock of the
`instances` directory, so that nobody takes a half-made instance for a stray.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ghesrace.errors import HostError, TransientError
from ghesrace.plan import Probe

TRACEFS = "/sys/kernel/tracing"
_OURS = re.compile(r"ghesrace_\d+_\d+")
_BUSY_TRIES, _BUSY_WAIT_S = 20, 0.05


def own_name(proc: Path = Path("/proc")) -> str:
    """Return the name of this process's instance, `ghesrace_<pid>_<start time in clock ticks>`.

    >>> own_name().startswith(f"ghesrace_{os.getpid()}_")
    True
    """
    try:
        # By proc(5), comm may hold spaces and parentheses, and field 22 is the start time.
        start = (proc / "self/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        start = "0"
    return f"ghesrace_{os.getpid()}_{start}"


def error_log(root: Path, command: str) -> str:
    """Return the kernel's own words on the last failure of *command*, which are in the error_log
    below *root*, or "" if it has none."""
    try:
        entries = re.split(r"^\[[^\]]*\] ", (root / "error_log").read_text(), flags=re.M)
    except OSError:  # There is no error_log before Linux 5.2.
        return ""
    for entry in reversed(entries):
        if command.strip() in entry:
            return " ".join(entry.split("Command:")[0].replace("error:", "").split())
    return ""


def read(path: Path) -> str:
    """Return the text of a tracefs file. Raises HostError if it can't be read, or TransientError if
    it can't be read now.

        clocks = read(Path("/sys/kernel/tracing/trace_clock"))
    """
    try:
        return path.read_text()
    except OSError as error:
        raise _typed(f"can't read {path}", error, "") from error


def write(path: Path, text: str, *, log: Path | None = None) -> None:
    """Write *text* to a tracefs file in one call. The file is never truncated, because opening
    kprobe_events or dynamic_events with O_TRUNC would delete everybody's probes.

    *log* is the directory whose error_log explains a refusal. Raises HostError if the kernel
    refuses, or TransientError if it may accept the same text later.

        write(Path("/sys/kernel/tracing/dynamic_events"), "-:ghesrace_1_2/p0_1_2_m")
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode() + b"\n")
        finally:
            os.close(fd)
    except OSError as error:
        why = error_log(log, text) if log else ""
        raise _typed(f"can't write {text!r} to {path}", error, why) from error


def _typed(what: str, error: OSError, why: str) -> HostError | TransientError:
    what = f"{what}: {why or error.strerror}"
    code = error.errno
    if code in (errno.EBUSY, errno.EAGAIN, errno.EINTR):
        return TransientError(what, "another tracer uses it: stop that one, then try again")
    if code in (errno.ENOMEM, errno.ENOSPC):
        return TransientError(what, "free some memory or ask for a smaller buffer (buffer_kb)")
    if code in (errno.EACCES, errno.EPERM):
        return HostError(
            what,
            "run as root; if you are, kernel lockdown or the container forbids tracing "
            "(see /sys/kernel/security/lockdown)",
        )
    if code == errno.ENOENT:
        return HostError(
            what, "this kernel lacks the symbol or the tracing feature: see `ghesrace plan`"
        )
    if code == errno.ENODEV:
        return TransientError(what, "the tracing instance is gone: start again")
    return HostError(what, "this kernel refuses the probe: see `ghesrace plan` and `doctor`")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _try_lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock of the directory *path*, or None if somebody else
    holds it."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def check(root: Path) -> None:
    """Raise HostError unless *root* is a tracefs that we may change."""
    if not (root / "instances").is_dir():
        raise HostError(
            f"no tracefs at {root}",
            "mount it (mount -t tracefs tracefs /sys/kernel/tracing); if that fails, this kernel "
            "has no CONFIG_FTRACE or you are not root",
        )
    if not os.access(root / "instances", os.W_OK):
        raise HostError(f"{root} is read-only for this user", "run as root")


def dynamic_file(root: Path) -> Path:
    """Return the file that defines probe events: dynamic_events, or kprobe_events where that is
    missing (before Linux 5.0). Raises HostError if there is neither."""
    for name in ("dynamic_events", "kprobe_events"):
        if (root / name).exists():
            return root / name
    raise HostError(
        f"{root} has neither dynamic_events nor kprobe_events",
        "this kernel was built without CONFIG_KPROBE_EVENTS: see `ghesrace doctor`",
    )


def _defined(root: Path) -> list[tuple[str, str]]:
    """Return the (group, event) of every probe event that any ghesrace has defined."""
    found = []
    with suppress(HostError):
        for line in read(dynamic_file(root)).splitlines():
            group, _, event = line.split()[0].partition(":")[2].partition("/")
            if _OURS.fullmatch(group):
                found.append((group, event))
    return found


def _remove(root: Path, name: str) -> None:
    """Remove the instance *name*, which disables its events, and then the events of that group.

    Raises TransientError if somebody keeps one of them busy.
    """
    path = root / "instances" / name
    for attempt in range(_BUSY_TRIES):
        try:
            path.rmdir()
        except FileNotFoundError:
            break
        except OSError as error:
            if error.errno != errno.EBUSY or attempt == _BUSY_TRIES - 1:
                raise TransientError(
                    f"can't remove the tracing instance {path}: {error.strerror}",
                    "another process has one of its files open: end it; the next start of "
                    "ghesrace removes the instance",
                ) from error
            time.sleep(_BUSY_WAIT_S)
        else:
            break
    for group, event in _defined(root):
        if group == name:
            write(dynamic_file(root), f"-:{group}/{event}", log=root)


def remove_strays(root: Path | str = TRACEFS) -> list[str]:
    """Remove the instances and probe events of ghesrace runs that are dead, and return their names.

    A stray that somebody keeps busy is left for the next start. Raises HostError if *root* is no
    tracefs that we may change.

        for name in remove_strays():
            print(f"removed {name}")
    """
    root = Path(root)
    check(root)
    with _locked(root / "instances"):
        return _remove_strays(root)


def _remove_strays(root: Path) -> list[str]:
    instances = root / "instances"
    names = {p.name for p in instances.iterdir() if _OURS.fullmatch(p.name)}
    names |= {group for group, _ in _defined(root)}
    removed = []
    for name in sorted(names):
        lock: int | None = -1
        if (instances / name).is_dir():
            lock = _try_lock(instances / name)
        if lock is None:
            continue
        try:
            _remove(root, name)
            removed.append(name)
        except TransientError:
            pass  # Somebody keeps it busy, which is not ours to break; the next start tries again.
        finally:
            if lock >= 0:
                os.close(lock)
    return removed


class Instance:
    """This is one private tracing instance and its group of probe events, both called `name`.

    `create` makes it and `remove` removes it; nothing else on the system is changed.

        instance = Instance.create()
        try:
            instance.define(f"p:{instance.name}/my_event do_exit")
            print(instance.get("trace"))
        finally:
            instance.remove()
    """

    def __init__(self, root: Path, name: str, lock: int) -> None:
        self.root = root
        self.name = name
        self.path = root / "instances" / name
        self._lock: int | None = lock

    @classmethod
    def create(cls, root: Path | str = TRACEFS) -> Instance:
        """Remove strays, then make this process's instance, with tracing off, and return it.

        Raises HostError if there is no tracefs below *root* or if we may not change it, or
        TransientError if the instance can't be made now.
        """
        root = Path(root)
        check(root)
        with _locked(root / "instances"):
            _remove_strays(root)
            base = own_name()
            # A process may hold several instances. A name that exists is in use by us, since strays
            # are gone, so the next one is taken.
            serial = int(base.rpartition("_")[2])
            prefix = base.rpartition("_")[0]
            while (root / "instances" / f"{prefix}_{serial}").exists():
                serial += 1
            path = root / "instances" / f"{prefix}_{serial}"
            try:
                path.mkdir()
                lock = _try_lock(path)
            except OSError as error:
                raise _typed(f"can't make the tracing instance {path}", error, "") from error
        if lock is None:
            raise TransientError(f"{path} is locked by somebody else", "try again")
        instance = cls(root, path.name, lock)
        try:
            instance.set("tracing_on", "0")
        except BaseException:
            instance.remove()
            raise
        return instance

    def set(self, file: str, value: str) -> None:
        """Write *value* to a file of the instance, given by its relative path. Raises HostError or
        TransientError, as `write` does."""
        write(self.path / file, value, log=self.path)

    def get(self, file: str) -> str:
        """Return the text of a file of the instance. Raises HostError or TransientError, as `read`
        does."""
        return read(self.path / file)

    def define(self, definition: str) -> None:
        """Add one probe event; *definition* is a line of dynamic_events for our group.

        Raises HostError with the kernel's reason if it refuses.
        """
        write(dynamic_file(self.root), definition, log=self.root)

    def remove(self) -> None:
        """Remove the instance and its events, and release the lock. A second call does nothing.

        Raises TransientError if another process keeps them busy.
        """
        if self._lock is None:
            return
        try:
            with suppress(HostError, TransientError):
                self.set("tracing_on", "0")
            with _locked(self.root / "instances"):
                _remove(self.root, self.name)
        finally:
            os.close(self._lock)
            self._lock = None


def event_name(instance: Instance, point: int, probe: Probe) -> str:
    """Return the name of the probe event of *point*. It must be ours alone on this system, because
    kprobe_profile prints no group."""
    serial = instance.name.removeprefix("ghesrace_")
    return f"p{point}_{serial}_{re.sub(r'[^A-Za-z0-9_]', '_', probe.point)}"[:60]
