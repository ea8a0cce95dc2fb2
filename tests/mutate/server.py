# SPDX-License-Identifier: Apache-2.0
"""Tries mutants: a process forked for each, which imports the mutated module and runs the suite.

The parent has imported the libraries once. A child forgets every module of the program and of the
tests and imports them anew from source, the mutated one with its fault: so a name that another
module took with `from ... import` is the mutant's too, and a compiled module never runs.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import resource
import select
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Literal, NoReturn

from .mutator import Module, Mutant

# "timeout": it used up its CPU time, so it is killed too; "undecided": it did not even get that.
Outcome = Literal["killed", "survived", "timeout", "undecided"]
MEMORY = 4 << 30  # bytes of address space beyond what the parent has: a mutant may loop over it
PATIENCE = 30  # times its CPU time: how long a mutant may wait for a CPU


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of one mutant. `by` is the check that failed, and how; "" of a survivor.
    `seconds` is the CPU time that it took.
    """

    mutant: Mutant
    outcome: Outcome
    by: str
    seconds: float


class _Finder(importlib.abc.MetaPathFinder):
    """Loads the modules of *codes* from these code objects, whatever else there is of them."""

    def __init__(self, codes: dict[str, CodeType], paths: dict[str, Path]) -> None:
        self.codes, self.paths = codes, paths

    def find_spec(
        self, fullname: str, path: object = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self.codes:
            return None
        source = self.paths[fullname]
        folder = [str(source.parent)] if source.name == "__init__.py" else None
        loader = _Loader(fullname, str(source))
        loader.code = self.codes[fullname]
        return importlib.util.spec_from_file_location(
            fullname, source, loader=loader, submodule_search_locations=folder
        )


class _Loader(importlib.machinery.SourceFileLoader):
    code: CodeType

    def get_code(self, fullname: str) -> CodeType:
        return self.code


class Server:
    """Knows the mutants of some modules, and tries them against a suite.

    *suite* is the name of a module with a function `checks`. *forget* are the top-level packages
    that a child imports anew. *budget* is how many seconds of CPU time a mutant may take: a busy
    host must not make an endless loop of what is only slow.
    """

    def __init__(
        self, paths: dict[str, Path], suite: str, forget: Sequence[str], budget: int = 60
    ) -> None:
        self.paths, self.suite, self.forget, self.budget = paths, suite, tuple(forget), budget
        os.environ["GHESRACE_PURE"] = "1"
        self.modules = {}
        for name, path in paths.items():
            names = vars(importlib.import_module(name))
            self.modules[name] = Module(name, path.read_text("utf-8"), str(path), names)
        self._codes = {name: module.code() for name, module in self.modules.items()}
        importlib.import_module(suite)  # so that each child finds the libraries loaded

    @property
    def mutants(self) -> list[Mutant]:
        """All mutants, module by module."""
        return [mutant for module in self.modules.values() for mutant in module.mutants]

    def shuffled(self, seed: int) -> list[Mutant]:
        """All mutants in the order of that *seed*: each first part of it is a fair sample."""
        order = self.mutants
        random.Random(seed).shuffle(order)
        return order

    def unchanged(self) -> Tried:
        """What the suite says without any fault: it must "survive"."""
        (tried,) = self.attempts([None], 1)
        return tried

    def attempts(self, mutants: Sequence[Mutant | None], jobs: int) -> Iterator[Tried]:
        """Try them all, *jobs* at a time; each as soon as it is decided. None: no fault at all."""
        waiting = list(reversed(mutants))
        running: dict[int, tuple[Mutant | None, int, float]] = {}  # pipe -> mutant, pid, start
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    mutant = waiting.pop()
                    pipe, pid = self._start(mutant)
                    running[pipe] = mutant, pid, time.monotonic()
                limit = self.budget * PATIENCE
                late = min(start for _, _, start in running.values()) + limit
                ready, _, _ = select.select(list(running), [], [], max(0, late - time.monotonic()))
                for pipe in ready or [p for p, r in running.items() if _over(r[2], limit)]:
                    mutant, pid, _ = running.pop(pipe)
                    yield _ended(mutant, pipe, pid, pipe in ready)
        finally:
            for pipe, (_, pid, _) in running.items():
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                os.close(pipe)

    def _start(self, mutant: Mutant | None) -> tuple[int, int]:
        theirs, ours = os.pipe()
        pid = os.fork()
        if not pid:
            self._child(mutant, ours)
        os.close(ours)
        return theirs, pid

    def _child(self, mutant: Mutant | None, pipe: int) -> NoReturn:
        """Never returns: whatever happens here, the parent must not go on twice."""
        try:
            _be_small(self.budget)
            failed = self._run(mutant)
        except BaseException as error:  # a mutant may do anything, exit included
            failed = f"import: {type(error).__name__}: {error}"
        try:
            os.write(pipe, json.dumps(failed[:300]).encode())
        finally:
            os._exit(0)

    def _run(self, mutant: Mutant | None) -> str:
        """The first check that fails, and how; "" if none does."""
        codes = dict(self._codes)
        if mutant is not None:
            codes[mutant.module] = self.modules[mutant.module].code(mutant.n)
        for name in [n for n in sys.modules if n.partition(".")[0] in self.forget]:
            del sys.modules[name]
        for package in self.forget:
            if package not in codes:  # what finds modules for it stands behind what comes next
                importlib.import_module(package)
        sys.meta_path.insert(0, _Finder(codes, self.paths))
        for name, check in importlib.import_module(self.suite).checks():
            try:
                wrong = check()
            except Exception as error:
                wrong = f"{type(error).__name__}: {error}"
            if wrong:
                return f"{name}: {wrong}"
        return ""


def _over(start: float, budget: float) -> bool:
    return time.monotonic() - start >= budget


def _be_small(seconds: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))  # of this process: forks begin at 0


def _ended(mutant: Mutant | None, pipe: int, pid: int, spoke: bool) -> Tried:
    if not spoke:
        os.kill(pid, signal.SIGKILL)
    with os.fdopen(pipe, "rb") as file:
        said = file.read() if spoke else b""
    _, status, usage = os.wait4(pid, 0)
    seconds = round(usage.ru_utime + usage.ru_stime, 3)
    nothing = Mutant("", "", 0, 0, "no fault")
    if not spoke:
        return Tried(mutant or nothing, "undecided", "waited too long", seconds)
    if said:
        by = json.loads(said)
        return Tried(mutant or nothing, "killed" if by else "survived", by, seconds)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL):
        return Tried(mutant or nothing, "timeout", "took too long", seconds)
    return Tried(mutant or nothing, "killed", "died", seconds)
