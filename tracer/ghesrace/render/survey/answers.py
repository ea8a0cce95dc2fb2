# SPDX-License-Identifier: Apache-2.0
"""What a survey answers: which kernels and firmwares are safe, and by what."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ghesrace import __version__

# survey.schema.json has the same `$id`; the version grows as that of check.schema.json does.
SCHEMA = "urn:ghesrace:survey:1"
SCHEMA_VERSION = "1.0"

VERDICTS = ("race-observed", "race-predicted", "inconclusive", "clean")


@dataclass(slots=True)
class Group:
    """A group is all captures of one kernel on one architecture with one firmware; each of these is
    None where it is not known. `mechanisms` says for each slot on what its episodes rested, and in
    how many captures; `lost` is None if a capture could not count what it lost."""

    kernel: str | None
    arch: str | None
    firmware: str | None
    hosts: int = 0
    captures: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    mechanisms: dict[str, dict[str, int]] = field(default_factory=dict)
    implications: dict[str, int] = field(default_factory=dict)
    episodes: int = 0
    handoffs: int = 0
    lost: int | None = 0

    @property
    def worst(self) -> str:
        """This is the worst verdict of its captures."""
        return next(word for word in VERDICTS if self.verdicts.get(word))


@dataclass(slots=True)
class Shape:
    """A shape is what findings of any host have in common: what was found, where, and the shape of
    the witness. `example` is the URL of a capture that has one, `name` its number there."""

    pattern: str
    severity: str
    title: str
    witness: str
    explanation: str
    captures: int = 0
    hosts: int = 0
    observed: int = 0
    predicted: int = 0
    kernels: list[str] = field(default_factory=list)
    example: str = ""
    name: str = ""


@dataclass(slots=True)
class Outlier:
    """An outlier is a host at one of whose slots something else protects than at most hosts of the
    same kernel, architecture and firmware: at `like` of `hosts` it is the `usual` mechanism."""

    host: str
    kernel: str | None
    arch: str | None
    firmware: str | None
    slot: str
    mechanism: str
    usual: str
    like: int
    hosts: int
    example: str


@dataclass(slots=True)
class Period:
    """A period is a day or a month of the trend, by the captures' time of recording."""

    name: str
    captures: int = 0
    hosts: int = 0
    handoffs: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Broken:
    """This is one kind of error that kept captures from being judged."""

    error: str
    what: str
    captures: int
    example: str


@dataclass(slots=True)
class Survey:
    """A survey has all answers. `exit_code` is that of the command, `unread` counts what could not
    be read this time, and `losses` has for each cause the captures and the events that it took."""

    captures: int = 0
    judged: int = 0
    hosts: int = 0
    unread: int = 0
    exit_code: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)
    findings: list[Shape] = field(default_factory=list)
    outliers: list[Outlier] = field(default_factory=list)
    trend: list[Period] = field(default_factory=list)
    losses: dict[str, tuple[int, int]] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)


def document(survey: Survey) -> dict[str, Any]:
    """Return the JSON-ready form of a *survey*, which survey.schema.json describes.

    >>> document(Survey(captures=1))["captures"]
    1
    """
    told = asdict(survey)
    told["losses"] = {
        cause: {"captures": captures, "events": events}
        for cause, (captures, events) in survey.losses.items()
    }
    for group, one in zip(told["groups"], survey.groups, strict=True):
        group["worst"] = one.worst
    return {
        "schema": {"id": SCHEMA, "version": SCHEMA_VERSION},
        "tool": {"name": "ghesrace", "version": __version__},
        **told,
    }


def mechanism_text(counts: dict[str, int]) -> str:
    """Return what the episodes of a slot rested on, as in "map-flush (12), none (1)": mechanisms
    with the number of captures, which is left out where there is one mechanism only.

    >>> mechanism_text({"map-flush": 12, "": 3}), mechanism_text({"map-flush": 2, "none": 1})
    ('map-flush', 'map-flush (2), none (1)')
    """
    found = sorted(((n, word) for word, n in counts.items() if word), reverse=True)
    if len(found) < 2:
        return found[0][1] if found else "nothing to protect"
    return ", ".join(f"{word} ({n:,})" for n, word in found)


def verdict_text(verdicts: dict[str, int]) -> str:
    """Return counted *verdicts*, the worst first.

    >>> verdict_text({"clean": 3, "race-observed": 1})
    '1 race-observed, 3 clean'
    """
    return ", ".join(f"{verdicts[word]:,} {word}" for word in VERDICTS if verdicts.get(word))
