# SPDX-License-Identifier: Apache-2.0
"""Takes argparse's parsers apart: commands, options, and what completes an argument.

argparse has no public way to list them, so what is private to it is used in this module alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from ghesrace import cli


def commands(top: argparse.ArgumentParser | None = None) -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command of *top* (default: the real one) by name, in order.

    >>> list(commands())[:2]
    ['capture', 'check']
    """
    parser = top or cli.parser()
    (found,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return dict(found.choices)


def summaries(top: argparse.ArgumentParser | None = None) -> dict[str, str]:
    """Return what `ghesrace --help` says of each command.

    >>> summaries()["doctor"]
    'try everything that a capture needs'
    """
    parser = top or cli.parser()
    (found,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return {choice.dest: choice.help or "" for choice in found._choices_actions}


def arguments(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments and options of *parser*, in the order of its help, without `--help`.

    >>> [action.dest for action in arguments(commands()["explain"])]
    ['word', 'color']
    """
    for action in sorted(parser._actions, key=lambda a: bool(a.option_strings)):
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            yield action


def is_file(action: argparse.Action) -> bool:
    """Return whether *action* takes the path of a file.

    >>> [a.dest for a in arguments(commands()["check"]) if is_file(a)]
    ['files', 'map', 'output']
    """
    return action.type is Path and not is_folder(action)


def is_folder(action: argparse.Action) -> bool:
    """Return whether *action* takes the path of a folder, which its metavar says.

    >>> [a.dest for a in arguments(commands()["capture"]) if is_folder(a)]
    ['textfile']
    """
    return action.type is Path and action.metavar == "DIR"
