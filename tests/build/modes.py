# SPDX-License-Identifier: Apache-2.0
"""A part of compiled.MODULES twice: its extension and its source, side by side in one process."""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from ghesrace import compiled

# What a field of 8 bytes may hold that sums and signs stumble over.
EDGES = (0, 1, 2**31, 2**32 - 1, 2**62 - 1, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1)


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def both(name: str) -> tuple[ModuleType, ModuleType]:
    """The compiled module and the same one uncompiled, whichever the process runs."""
    source = compiled.source_of(name)
    extension = compiled.extension_of(source)
    if extension is None:
        pytest.skip(f"{name} is not compiled here")
    assert compiled.carried(extension) == compiled.digest(source), "stale: make quick"
    running = importlib.import_module(name)
    if str(running.__file__).endswith(".py"):
        return _load(name, extension), running
    return running, _load(f"{name}_uncompiled", source)
