"""Metrics as a file for node_exporter's textfile collector, for hosts with no open port."""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import generate_latest

from .errors import HostError
from .metrics import Published

NAME = "ghesrace.prom"


def write(directory: Path, published: Published, name: str = NAME) -> Path:
    """Put *published* into DIRECTORY/ghesrace.prom, atomically: a scrape never sees half of it.

    Raises HostError if the folder can't be written.
    """
    path = directory / name
    part = directory / f".{name}.{os.getpid()}"  # the collector takes *.prom only
    try:
        part.write_bytes(generate_latest(published))
        part.chmod(0o644)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise HostError(
            f"can't write {path}: {error.strerror}", "correct textfile.directory"
        ) from error
    return path
