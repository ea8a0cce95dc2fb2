# SPDX-License-Identifier: Apache-2.0
"""A module of compiled.MODULES twice: its extension and its source, side by side in one process."""

from __future__ import annotations

import importlib
import os
import sys
from functools import cache
from types import ModuleType
from unittest import mock

import pytest

from ghesrace import compiled

# What a field of 8 bytes may hold that sums and signs stumble over.
EDGES = (0, 1, 2**31, 2**32 - 1, 2**62 - 1, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1)

# Of each package, its modules in the mode that the process does not run.
_OTHERS: dict[str, dict[str, ModuleType]] = {}


def _swap(package: str, modules: dict[str, ModuleType]) -> dict[str, ModuleType]:
    """Let *modules* be those below *package*; return the ones that were."""
    parent = importlib.import_module(package)
    before = {name: sys.modules[name] for name in sys.modules if name.startswith(f"{package}.")}
    for name in before:
        del sys.modules[name]
        if name.rpartition(".")[0] == package:
            delattr(parent, name.rpartition(".")[2])
    sys.modules.update(modules)
    for name, module in modules.items():
        if name.rpartition(".")[0] == package:
            setattr(parent, name.rpartition(".")[2], module)
    return before


def _other(name: str, pure: bool) -> ModuleType:
    """Import *name*, and what it needs of its package, in the mode that *pure* says."""
    package = name.rpartition(".")[0]
    running = _swap(package, _OTHERS.get(package, {}))
    try:
        with mock.patch.dict(os.environ, {compiled.PURE: "1" if pure else ""}):
            return importlib.import_module(name)
    finally:
        _OTHERS[package] = _swap(package, running)


@cache
def both(name: str) -> tuple[ModuleType, ModuleType]:
    """The module *name* with the compiled modules of its package, and with their sources."""
    if compiled.missing():
        pytest.skip("nothing is compiled here")
    assert compiled.stale() == [], "make quick"
    running = importlib.import_module(name)
    other = _other(name, pure=not compiled.pure())
    return (other, running) if compiled.pure() else (running, other)
