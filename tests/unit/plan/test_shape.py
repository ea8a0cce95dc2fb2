# SPDX-License-Identifier: Apache-2.0
"""Type hints, held against values of a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from ghesrace.plan.shape import misfit


@dataclass
class Inner:
    number: int = 1


@dataclass
class Outer:
    text: str = "a"
    flag: bool = False
    maybe: int | None = None
    word: Literal["on", "off"] = "on"
    many: tuple[str, ...] = ()
    table: dict[str, Inner | str] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)


def test_what_fits() -> None:
    """If this fails, plans of ours are refused."""
    assert misfit(Outer(many=("a", "b"), table={"x": Inner(), "y": "z"}, maybe=3)) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text", 1),
        ("text", "\x1b[31m"),
        ("flag", 1),
        ("maybe", True),
        ("maybe", 1.0),
        ("word", "neither"),
        ("word", ["on"]),
        ("many", ["a"]),
        ("many", ("a", 1)),
        ("table", [("x", "y")]),
        ("table", {1: "y"}),
        ("table", {"x": 1}),
        ("table", {"x": Inner("1")}),
        ("inner", Inner(True)),
        ("inner", None),
    ],
)
def test_what_does_not_fit_is_named(name: str, value: Any) -> None:
    """If this fails, a value of the wrong type reaches code that trusts its type hint."""
    made = Outer()
    setattr(made, name, value)
    assert misfit(made) == name
