# SPDX-License-Identifier: Apache-2.0
"""Makes the completion of bash, zsh and fish by shtab, from the parsers.

What completes a path is set here and not in cli.py, so that shtab is needed to build only.
"""

from __future__ import annotations

import argparse

import shtab

from ghesrace import cli
from ghesrace.render.words import WORDS

from .parsers import arguments, commands, is_file, is_folder, summaries

# Where each shell looks for it, below the prefix, as Debian has it.
PLACES = {
    "bash": "share/bash-completion/completions/ghesrace",
    "zsh": "share/zsh/vendor-completions/_ghesrace",
    "fish": "share/fish/vendor_completions.d/ghesrace.fish",
}


def script(shell: str) -> str:
    """Return the completion for *shell*, one of PLACES.

    >>> script("bash").startswith("#")
    True
    """
    top = cli.parser()
    said = summaries(top)
    for name, command in commands(top).items():
        # Beside a command stands its summary: the description is too long for a line.
        command.description = said[name]
        for action in arguments(command):
            _complete(action)
    return shtab.complete(top, shell=shell)


def _complete(action: argparse.Action) -> None:
    """Tell shtab what completes *action*: files, folders, or words; its choices it knows."""
    if is_folder(action):
        action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    elif is_file(action):
        action.complete = shtab.FILE  # type: ignore[attr-defined]
    elif action.metavar == "WORD":
        action.choices = sorted({word.name.split()[0] for word in WORDS})
