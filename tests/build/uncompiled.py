# SPDX-License-Identifier: Apache-2.0
"""The source of a compiled module: only there can Python call what is the module's own."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

from ghesrace import compiled
from ghesrace.checker.core import run

from .modes import both


def uncompiled(module: ModuleType) -> Any:
    """*module*, or a second one made from its source, if that was compiled."""
    if not run.COMPILED:
        return module
    path = compiled.source_of(module.__name__)
    spec = importlib.util.spec_from_file_location(f"uncompiled_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def all_uncompiled(module: ModuleType) -> Any:
    """The same, with the sources of all compiled modules of its package behind it: what inherits
    from a compiled class takes what is compiled only."""
    return both(module.__name__)[1] if run.COMPILED else module
