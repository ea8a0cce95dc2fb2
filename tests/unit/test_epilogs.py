# SPDX-License-Identifier: Apache-2.0
"""What `--help` says below the options, for every command: formats, exit codes, an example."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import pytest

from ghesrace import cli, epilogs
from handbook.epilog import Section, read
from handbook.parsers import arguments, commands
from tests.build.paths import EXAMPLES

COMMANDS = list(commands())


def sections(name: str) -> dict[str, Section]:
    _, found = read(commands()[name].epilog or "")
    return {section.heading: section for section in found}


def examples(name: str) -> list[str]:
    return [line for key, found in sections(name).items() if "example" in key
            for line in found.commands]  # fmt: skip


def test_every_command_has_an_epilog_and_no_other() -> None:
    """A command that is gone would still be told of, or a new one has no help for scripts."""
    assert {command.epilog for command in commands().values()} >= set(epilogs.EPILOGS.values())
    assert all(command.epilog for command in commands().values())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_a_terminal(name: str) -> None:
    """Lines that a terminal of 80 columns breaks make a table a riddle."""
    text = f"{commands()[name].epilog}{epilogs.TOP}"
    assert [line for line in text.splitlines() if len(line) > 79] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_does(name: str) -> None:
    """An option that only its name explains."""
    unsaid = [action.dest for action in arguments(commands()[name]) if not action.help]
    assert unsaid == []


@pytest.mark.parametrize("name", COMMANDS)
def test_formats_are_those_that_the_option_takes(name: str) -> None:
    """A format that nobody can ask for, or one that nobody is told of."""
    taken = [a.choices for a in arguments(commands()[name]) if "--format" in a.option_strings]
    told = [term for key, s in sections(name).items() if key == "formats" for term, _ in s.entries]
    assert told == (list(taken[0] or ()) if taken else [])


@pytest.mark.parametrize("name", COMMANDS)
def test_exit_codes_are_told_in_order(name: str) -> None:
    """Whoever writes a script would meet a code that no help names."""
    codes = [int(term) for term, _ in sections(name)["exit codes"].entries]
    assert codes == sorted(set(codes))
    # Whatever the command: done, bad usage (argparse's), a fault of ours (cli.main's).
    assert {0, 2, 4} <= set(codes)
    judges = any("--fail-on" in a.option_strings for a in arguments(commands()[name]))
    assert (1 in codes) == judges or name == "diff"


@pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt, 130), (BrokenPipeError, 141)])
def test_codes_of_an_end_in_between_are_told(
    raised: type[BaseException], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end by Ctrl-C or by `| head` gives a code that help does not name."""
    from ghesrace.streams import ReaderGone

    def stop(args: argparse.Namespace) -> int:
        raise ReaderGone if raised is BrokenPipeError else raised

    monkeypatch.setattr("ghesrace.commands.explain.explain", stop)
    monkeypatch.setattr(cli, "give_up", lambda: None)
    assert cli.main(["explain"]) == code
    assert str(code) in dict(sections("explain")["exit codes"].entries)


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_commands_that_parse(name: str) -> None:
    """The first line that a newcomer copies would be refused."""
    found = examples(name)
    assert found
    for line in found:
        program, *words = shlex.split(line)
        assert (program, words[0]) == ("ghesrace", name)
        assert cli.parser().parse_args(words).command == name


@pytest.mark.parametrize("name", ["check", "show", "explain"])
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An example that parses and then fails."""
    for file in ("host.arrows", "trace.dat"):
        (tmp_path / file).write_bytes((EXAMPLES / "control.arrows").read_bytes())
    monkeypatch.chdir(tmp_path)
    for line in examples(name):
        assert cli.main(shlex.split(line)[1:]) == (1 if name == "check" else 0), line
