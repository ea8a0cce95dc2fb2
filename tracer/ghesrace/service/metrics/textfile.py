# SPDX-License-Identifier: Apache-2.0
"""Metrics as a file for node_exporter's textfile collector, for hosts with no open port."""

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
    """What a capture that is over found, for `capture --textfile`: a watch that was fed with it.

    `ghesrace_watching` is 0 in it. Raises HostError if the folder can't be written.
    """
    watch.finish()
    watch.look(now=True)
    return write(directory, publish(watch, Health(HealthState.STOPPING, backend)), ONCE)


def write(directory: Path, published: Published, name: str = NAME) -> Path:
    """Put *published* into DIRECTORY/ghesrace.prom, atomically: a scrape never sees half of it.

    Raises HostError if the folder can't be written.
    """
    path = directory / name
    part = directory / f".{name}.{os.getpid()}"  # the collector takes *.prom only
    try:
        part.write_bytes(generate_latest(published.registry))
        part.chmod(0o644)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise HostError(f"can't write {path}: {error.strerror}", "choose another folder") from error
    return path
