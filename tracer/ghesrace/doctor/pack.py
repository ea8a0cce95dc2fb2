# SPDX-License-Identifier: Apache-2.0
"""Would this host take a program pack?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ghesrace import packs
from ghesrace.backends import Wanted, why_not_bpf
from ghesrace.errors import GhesraceError
from ghesrace.host.facts import Facts

from .check import Check


@dataclass(frozen=True, slots=True)
class GivenPack:
    """This is the program pack that a capture, or the daemon's configuration, names: what
    `packs.given` takes, and the backend that is wanted."""

    path: Path
    sha256: str = ""
    key: Path | None = None
    backend: Wanted = "auto"


def of_pack(given: GivenPack, facts: Facts, root: Path) -> Check:
    """Return what the loader would say of the pack; nothing of it is loaded."""
    name = "program pack"
    try:
        pack = packs.given(given.path, given.sha256, given.key)
    except GhesraceError as error:
        meaning = "a capture or daemon that is told to take it does not start"
        return Check(name, "missing", error.what, meaning, error.hint, needed=True)
    if given.backend == "ftrace":
        return Check(name, "degraded", "not used: the ftrace backend takes none")
    if given.backend == "auto" and (reason := why_not_bpf(facts, root, packed=True)):
        return Check(name, "degraded", f"not used: `auto` watches by ftrace here: {reason}")
    assert pack is not None
    try:
        entry = packs.entry_for(pack, facts, root)
    except GhesraceError as error:
        only = given.backend == "bpf"
        meaning = "nothing can watch: `bpf` is wanted" if only else "`auto` watches by ftrace"
        return Check(name, "missing", error.what, meaning, error.hint, needed=only)
    found = f"its {len(entry.programs)} programs are for this kernel and plan"
    return Check(name, "ok", f"{found}; neither bcc nor headers are needed")
