# SPDX-License-Identifier: Apache-2.0
"""What the compiler is told by hand is what the source says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import ghesrace.checker
from ghesrace.checker.core import edits, words
from ghesrace.checker.model import EPISODE
from ghesrace.events import EVENT, Kind

CHECKER = Path(ghesrace.checker.__file__).parent
C_TYPES = {
    "unsigned char": "u1",
    "short": "i2",
    "unsigned short": "u2",
    "unsigned int": "u4",
    "long long": "i8",
    "unsigned long long": "u8",
}


def test_the_constants_are_those_of_the_source() -> None:
    """A word that has another number in C would be another kind of event, class or cause there,
    and one that C lacks is a slow object."""
    text = (CHECKER / "core/words.pxd").read_text()
    numbers = dict(re.findall(r"#define GHESRACE_(\w+) (-?\d+)U?L*\n", text))
    declared = re.findall(r'const ((?:unsigned )?long long) (\w+) "GHESRACE_(\w+)"', text)
    assert all(name == of for _, name, of in declared)
    source = {name: value for name, value in vars(words).items() if isinstance(value, int)}
    assert {name: int(value) for name, value in numbers.items()} == source
    assert {name for _, name, _ in declared} == set(source)
    fits = {"long long": np.int64, "unsigned long long": np.uint64}
    for kind, name, _ in declared:
        assert int(fits[kind](source[name])) == source[name]


@pytest.mark.parametrize(
    ("file", "name", "dtype"), [("columns.pxd", "Row", EPISODE), ("core/run.pxd", "Event", EVENT)]
)
def test_the_structs_are_the_records(file: str, name: str, dtype: np.dtype) -> None:
    """NumPy and the compiler compare types and places only: two fields that were exchanged would
    be read as each other."""
    _, _, rest = (CHECKER / file).read_text().partition(f"cdef packed struct {name}:\n")
    fields = re.findall(r"^    ([a-z ]+) (\w+)\n", rest.partition("\n\n")[0] + "\n", re.M)
    stated = [(field, C_TYPES[kind]) for kind, field in fields]
    assert np.dtype(stated).descr == dtype.descr


@pytest.mark.parametrize(
    ("mask", "kinds"),
    [
        (words.OWN, {Kind.INV_PAGE, Kind.INV_RANGE, Kind.INV_ALL}),
        (words.TOLD, {Kind.BCAST_RANGE, Kind.BCAST_ALL}),
        (words.ACCESSES, {Kind.READ, Kind.WRITE}),
        (words.BEGINS, {Kind.NOTIFY, Kind.COPY}),
        (edits.WRITE_KINDS, {Kind.MAP, Kind.MAP_END, Kind.UNMAP, Kind.UNMAP_END}),
        (edits.CALL_KINDS, {Kind.NOTIFY, Kind.NOTIFY_END}),
        (edits.EDIT_KINDS, {Kind.EDIT, Kind.EDIT_END}),
    ],
)
def test_a_mask_names_its_kinds(mask: int, kinds: set[Kind]) -> None:
    """A loss that hides a kind that is left out would be asked for nothing: what it may have
    hidden, such as the broadcast that saved an episode, would be taken for absent."""
    assert {kind for kind in Kind if mask >> kind & 1} == kinds
