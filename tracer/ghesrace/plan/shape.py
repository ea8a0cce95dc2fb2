# SPDX-License-Identifier: Apache-2.0
"""This checks that a dataclass which was built from a file holds what its type hints say."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def misfit(instance: Any) -> str | None:
    """Return the name of the first field of a dataclass *instance* whose value its type hint does
    not allow, or None.

    It knows the types that a plan uses: int, str, bool, None, Literal, unions, dict,
    tuple[T, ...] and other dataclasses. A str must be printable, because it ends on a terminal.

    >>> from ghesrace.plan import Slot
    >>> misfit(Slot("GHES_IRQ", "644", None, "report"))
    'index'
    """
    kind: Any = type(instance)
    hints = _hints(kind)
    names = (f.name for f in fields(instance))
    return next((n for n in names if not _fits(getattr(instance, n), hints[n])), None)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _fits(value: Any, hint: Any) -> bool:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return isinstance(value, str) and value in parts
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(v, parts[0]) for v in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            _fits(k, parts[0]) and _fits(v, parts[1]) for k, v in value.items()
        )
    if hint is str:
        return isinstance(value, str) and value.isprintable()
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, None, NoneType):
        return isinstance(value, hint or NoneType)
    return isinstance(value, hint) and not (is_dataclass(value) and misfit(value))
