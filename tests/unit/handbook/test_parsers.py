# SPDX-License-Identifier: Apache-2.0
"""What the parsers are asked, for a parser of our own."""

from __future__ import annotations

import argparse
from pathlib import Path

from handbook.parsers import arguments, commands, is_file, is_folder, summaries


def made() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser("x")
    added = top.add_subparsers().add_parser("one", help="what it does")
    added.add_argument("--into", type=Path, metavar="DIR")
    added.add_argument("--level", type=int)
    added.add_argument("file", type=Path)
    return top


def test_commands_and_arguments_are_found() -> None:
    """A command or an option would be missing from man pages and completion."""
    found = commands(made())
    assert list(found) == ["one"]
    assert [a.dest for a in arguments(found["one"])] == ["file", "into", "level"]
    assert summaries(made()) == {"one": "what it does"}


def test_files_and_folders_are_told_apart() -> None:
    """Completion would offer files where a folder is wanted, or nothing at all."""
    found = list(arguments(commands(made())["one"]))
    assert [is_file(a) for a in found] == [True, False, False]
    assert [is_folder(a) for a in found] == [False, True, False]
