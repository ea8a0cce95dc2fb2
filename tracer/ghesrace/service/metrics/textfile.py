# SPDX-License-Identifier: Apache-2.0
"""This module writes metrics to a file for node_exporter's textfile collector, for hosts with no
open port.
"""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import generate_latest

from ghesrace.errors import HostError
from ghesrace.service.health import Health, HealthState
from ghesrace.service.watch import Watch

from .families import Published, publish

NAME = "ghesrace.prom"
ONCE = "ghesrace_capture.prom"


def once(directory: Path, watch: Watch, backend: str) -> Path:
    """Write what a capture that is over found, for `capture --textfile`, and return the file's
    path. *watch* was fed with the capture, and *backend* recorded it.

    `ghesrace_watching` is 0 in the file, and every series is labelled mode="capture": so it does
    not collide with a daemon's file in the same folder, and no alert takes a capture that is over
    for a daemon that is blind. Raises HostError if the folder can't be written.

    >>> import tempfile
    >>> from ghesrace.plan import Plan
    >>> folder = Path(tempfile.mkdtemp())
    >>> once(folder, Watch(Plan("x86_64", "6.12", (), ()), 3600.0), "bpf").name
    'ghesrace_capture.prom'
    """
    watch.finish()
    watch.look(now=True)
    shown = publish(watch, Health(HealthState.STOPPING, backend))
    for family in shown.families:
        family.samples = [
            sample._replace(labels={**sample.labels, "mode": "capture"})
            for sample in family.samples
        ]
    return write(directory, shown, ONCE)


def write(directory: Path, published: Published, name: str = NAME) -> Path:
    """Write *published* to the file *name* in *directory*, and return its path. The file is
    replaced atomically, so that a scrape never sees half of it.

    Raises HostError if the folder can't be written.

        write(Path("/var/lib/node_exporter"), publish(watch, health))
    """
    path = directory / name
    part = directory / f".{name}.{os.getpid()}"  # The collector takes only *.prom.
    try:
        part.write_bytes(generate_latest(published.registry))
        part.chmod(0o644)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise HostError(f"can't write {path}: {error.strerror}", "choose another folder") from error
    return path
