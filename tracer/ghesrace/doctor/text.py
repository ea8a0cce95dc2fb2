# SPDX-License-Identifier: Apache-2.0
"""This prints the doctor's checks as text, as wide as the console, in colour only on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from .check import Check

_NAME, _STATE = 19, 10
_COLOUR = {"ok": "green", "degraded": "yellow", "missing": "red"}


def print_check(check: Check, console: Console) -> None:
    """Print one check: first what was found, then what it means and what to do.

    A missing thing that no capture needs is not shown as an alarm.

        for check in checks.run():
            print_check(check, Console(width=80))
    """
    alarm = check.state != "missing" or check.needed
    head = Text(check.name.ljust(_NAME), "bold")
    head.append(check.state.ljust(_STATE), _COLOUR[check.state if alarm else "degraded"])
    indent = _NAME + _STATE
    rest = [(check.found, ""), (check.meaning, ""), (check.remedy, "-> ")]
    lines = [
        line
        for text, mark in rest
        if text
        for line in _wrap(mark + text, console.width - indent, console)
    ]
    for number, line in enumerate(lines):
        prefix = head if number == 0 else Text(" " * indent)
        console.print(prefix + line, soft_wrap=True)


def print_summary(ready: bool, console: Console) -> None:
    """Print the last line, which says whether a capture can run here.

    >>> print_summary(True, Console(width=80))
    A capture can run here.
    """
    if ready:
        console.print(Text("A capture can run here.", "bold green"), soft_wrap=True)
    else:
        text = "No capture can run here: see what is missing above."
        console.print(Text(text, "bold red"), soft_wrap=True)


def _wrap(text: str, width: int, console: Console) -> list[Text]:
    return list(Text(text).wrap(console, width))
