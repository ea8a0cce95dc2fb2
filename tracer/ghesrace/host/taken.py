# SPDX-License-Identifier: Apache-2.0
"""This takes the files of a host from which `read_facts` reads, so that another host can plan for
its kernel, and plants them there.

What is taken is a .tar.gz of files under their own names: symbols with addresses, BTF, what tracefs
and kprobes offer, the error sources. `python -m lab.facts` keeps such archives of Debian's kernels.
"""

from __future__ import annotations

import io
import os
import platform
import re
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from ghesrace.errors import InputError

from .facts import Facts, find_tracefs, wanted_tracepoints

_FILES = (
    "proc/cpuinfo",
    "proc/kallsyms",
    "proc/sys/kernel/osrelease",
    "proc/vmallocinfo",
    "sys/class/dmi/id/product_name",
    "sys/devices/system/clocksource/clocksource0/current_clocksource",
    "sys/devices/system/cpu/online",
    "sys/firmware/acpi/tables/HEST",
    "sys/hypervisor/guest_type",
    "sys/kernel/btf/vmlinux",
    "sys/kernel/debug/kprobes/blacklist",
    "sys/kernel/security/lockdown",
)
_ARCH = "proc/sys/kernel/arch"
_TRACEFS = "sys/kernel/tracing"
_OF_TRACEFS = ("README", "trace_clock", "available_filter_functions")
_THERE = ("kprobe_events", "dynamic_events")  # These count by being there.
_INSTANCES = "instances"
# These two are of lab.facts: PATH/SYSTEM/EVENT/id:NUMBER a line, and the names in tracefs.
_EVENT_IDS, _NAMES = "event-ids", "tracefs-names"
_MOST_BYTES = 1 << 30
_MOST_MEMBERS = 10_000


def take(facts: Facts, root: Path = Path("/")) -> bytes:
    """Return the archive of the files below *root* from which *facts* were read. A file that is not
    there, or that we may not read, is left out: it is among `facts.problems`.

        Path("facts.tar.gz").write_bytes(take(read_facts()))
    """
    found: dict[str, bytes] = {_ARCH: _machine(facts).encode()}
    names = [*_FILES, *(f"sys/kernel/btf/{module}" for module in sorted(facts.module_btf))]
    for name in names:
        _add(found, name, root / name)
    if (tracefs := find_tracefs(root)) is not None:
        for name in _OF_TRACEFS:
            _add(found, f"{_TRACEFS}/{name}", tracefs / name)
        for tracepoint in wanted_tracepoints():
            path = f"events/{tracepoint.replace(':', '/')}/id"
            _add(found, f"{_TRACEFS}/{path}", tracefs / path)
        for name in _THERE:
            if (tracefs / name).exists():
                found[f"{_TRACEFS}/{name}"] = b""
        if (tracefs / _INSTANCES).is_dir():
            found[f"{_TRACEFS}/{_INSTANCES}/.keep"] = b""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz", compresslevel=6) as archive:
        for name, data in sorted(found.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return made.getvalue()


def _machine(facts: Facts) -> str:
    return "aarch64" if facts.arch == "arm64" else facts.arch


def _add(found: dict[str, bytes], name: str, path: Path) -> None:
    try:
        found[name] = path.read_bytes()
    except OSError:
        return


@contextmanager
def planted(archive: Path) -> Iterator[Path]:
    """Give a folder below which the files of the *archive* lie, for as long as the block runs.
    Raises InputError if it is none of ours.

        with planted(Path("facts.tar.gz")) as root:
            facts = read_facts(root)
    """
    with tempfile.TemporaryDirectory(prefix="ghesrace-facts-") as folder:
        root = Path(folder)
        try:
            with tarfile.open(archive, "r:gz") as tar:
                _unpack(tar, root)
        except (tarfile.TarError, OSError, EOFError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise InputError(
                f"{archive} holds no facts of a kernel: {why}", "take them: `ghesrace bpf facts`"
            ) from error
        _from_lab(root)
        if not (root / "proc/sys/kernel/osrelease").exists():
            raise InputError(
                f"{archive} does not say of which kernel it is", "take it: `ghesrace bpf facts`"
            )
        yield root


def _unpack(tar: tarfile.TarFile, root: Path) -> None:
    """Write the plain files of *tar* below *root*, and nothing outside of it."""
    size = 0
    for count, member in enumerate(tar):
        name = PurePosixPath(member.name)
        source = tar.extractfile(member) if member.isfile() else None
        if source is None or ".." in name.parts or name.is_absolute():
            continue
        size += member.size
        if size > _MOST_BYTES or count > _MOST_MEMBERS:
            raise ValueError("it is larger than any host's")
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with source, target.open("wb") as file:
            while piece := source.read(1 << 20):
                file.write(piece)


def _from_lab(root: Path) -> None:
    """Lay out as a host has it what lab.facts keeps in a shorter form."""
    tracefs = root / _TRACEFS
    ids, names = root / _EVENT_IDS, root / _NAMES
    if ids.exists():
        text = ids.read_text("ascii", "replace")
        for system, event, number in re.findall(r"([\w-]+)/([\w-]+)/id:(\d+)$", text, re.MULTILINE):
            if f"{system}:{event}" in set(wanted_tracepoints()):
                path = tracefs / "events" / system / event / "id"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(number)
    if names.exists():
        there = names.read_text("ascii", "replace").split()
        for name in set(there) & {*_THERE, _INSTANCES}:
            path = tracefs / name
            path.mkdir(exist_ok=True) if name == _INSTANCES else path.touch()
    if not (root / _ARCH).exists():  # Linux before 6.1 has no such file.
        (root / _ARCH).parent.mkdir(parents=True, exist_ok=True)
        (root / _ARCH).write_text(platform.machine())


def save(data: bytes, path: Path) -> None:
    """Write facts, which hold kernel addresses, so that nobody else can read them."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
