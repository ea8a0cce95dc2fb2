# SPDX-License-Identifier: Apache-2.0
"""What each mutant of the kernel must be called, as it was written down before it was run."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ghesrace.errors import InputError
from lab.paths import REPO

from .build import CONFIGS, Built
from .verdict import Judged

MUTANTS = REPO / "lab" / "mutants"
NOT_RUN = "not run"
_WORDS = ("clean", "inconclusive", "race-predicted", "race-observed")
_PATTERNS = ("stale", "overlap", "shootdown", "torn_edit")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A mutant of the kernel, and the verdict that was expected of it before it was run.

    `finding` is the pattern by which it must be found, or "" if it is `safe`. `configs` are names
    in lab/patched/configs that are merged into the usual configuration. With a `flavour` it is
    Debian's package of that name ("rt", "cloud"; "generic" is the usual one) instead of a kernel
    that is built here. `suite` has the source, or the package. `removed` is a device of the GHES
    driver that is unbound and bound again while the storm lasts. `otherwise` alone was written
    afterwards: what else came, and why.
    """

    name: str
    arch: str
    safe: bool
    expected: str
    why: str
    patches: tuple[Path, ...]
    finding: str = ""
    configs: tuple[str, ...] = ()
    flavour: str = ""
    suite: str = "bookworm"
    removed: str = ""
    otherwise: str = ""


def expected(folder: Path = MUTANTS) -> list[Mutant]:
    """Return the mutants of *folder* as its expected.toml has them.

    Raises InputError if an entry makes no sense, lacks its patch, or a patch lacks its entry.
    """
    with (folder / "expected.toml").open("rb") as file:
        entries = tomllib.load(file)["mutant"]
    found = [_mutant(entry, folder) for entry in entries]
    names = [one.name for one in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"expected.toml has two entries of {', '.join(sorted(twice))}")
    used = {patch for one in found for patch in one.patches}
    for patch in sorted(set(folder.glob("*.patch")) - used):
        raise InputError(f"{patch.name} has no entry in expected.toml", "say first what must come")
    return found


def _mutant(entry: dict[str, Any], folder: Path) -> Mutant:
    name = str(entry.get("name", "?"))
    patches = tuple(folder / str(n) for n in entry.get("patches", [f"{name}.patch"]))
    try:
        configs = tuple(entry.get("configs", ()))
        one = Mutant(**{**entry, "patches": patches, "configs": configs})
    except TypeError as error:
        raise InputError(f"the entry of {name} in expected.toml is wrong: {error}") from None
    for patch in patches:
        if not patch.is_file():
            raise InputError(f"{name} has no patch {patch.name}")
    if one.expected not in _WORDS or one.arch not in ("amd64", "arm64") or not one.why:
        raise InputError(f"{name}: verdict, architecture or reason are not as they should be")
    for config in one.configs:
        if not (CONFIGS / f"{config}.config").is_file():
            raise InputError(f"{name} has no configuration {config}.config")
    if one.flavour and (one.patches or one.configs):
        raise InputError(f"{name}: a package of Debian takes no patches and no configuration")
    if one.safe != (one.finding == "") or (one.finding and one.finding not in _PATTERNS):
        raise InputError(f"{name}: an unsafe mutant names its finding, a safe one has none")
    if one.safe != (_WORDS.index(one.expected) < 2):
        raise InputError(f"{name}: what is unsafe is found, and what is safe is not")
    return one


def as_expected(one: Mutant, judged: Judged) -> bool:
    """Say whether the mutant *one* was called what was expected of it.

    An unsafe one must be found by its pattern; a safe one must be what was expected in the calm
    recordings, and nothing may be found in a storm.
    """
    if one.safe:
        found = any(recording.findings for recording in judged.recordings)
        return judged.of("calm") == one.expected and not found
    patterns = {pattern for recording in judged.recordings for pattern, *_ in recording.findings}
    return judged.verdict == one.expected and one.finding in patterns


def false_clean(one: Mutant, judged: Judged) -> bool:
    """Say whether an unsafe mutant was called clean: the worst bug that there is."""
    return not one.safe and judged.verdict == "clean"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a mutant: `error` says why it could not be built or judged, or is NOT_RUN."""

    mutant: Mutant
    built: Built | None
    judged: Judged | None
    error: str = ""
