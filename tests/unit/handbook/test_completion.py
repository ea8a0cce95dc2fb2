# SPDX-License-Identifier: Apache-2.0
"""Completion: bash's is run, as bash runs it; the others are read."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from handbook.completion import PLACES, script
from handbook.parsers import arguments, commands

# Calls what `complete` registered as bash does: COMP_WORDS, COMP_CWORD; prints what it offers.
_ASK = """\
source "$1"; shift
function=$(complete -p ghesrace | sed 's/.*-F \\([^ ]*\\).*/\\1/')
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE} COMPREPLY=()
"$function" ghesrace "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "ghesrace"
    path.write_text(script("bash"))
    return path


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "host.arrows").touch()
    (tmp_path / "folder").mkdir()
    return tmp_path


def offered(bash: Path, words: list[str], folder: Path) -> list[str]:
    done = subprocess.run(
        ["bash", "--norc", "-c", _ASK, "bash", bash, *words],
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_bash_offers_the_commands(bash: Path, files: Path) -> None:
    """The first tab of a newcomer finds nothing."""
    assert set(commands()) <= set(offered(bash, ["ghesrace", ""], files))
    assert offered(bash, ["ghesrace", "ch"], files) == ["check"]


@pytest.mark.parametrize("name", commands())
def test_bash_offers_every_option(name: str, bash: Path, files: Path) -> None:
    """An option that has to be typed in full."""
    wanted = {
        option
        for action in arguments(commands()[name])
        for option in action.option_strings
        if option.startswith("--")
    }
    assert wanted <= set(offered(bash, ["ghesrace", name, "--"], files))


@pytest.mark.slow
def test_bash_offers_an_options_values(bash: Path, files: Path) -> None:
    """`--format` would offer files."""
    for name, command in commands().items():
        for action in arguments(command):
            if action.choices and action.option_strings:
                words = ["ghesrace", name, action.option_strings[-1], ""]
                assert offered(bash, words, files) == list(action.choices), words


@pytest.mark.parametrize(
    "line",
    ["check h", "check other.arrows h", "check --map h", "show h", "capture -o h", "check -q h"],
)
def test_bash_completes_files(line: str, bash: Path, files: Path) -> None:
    """The argument that is typed most has to be typed in full."""
    assert offered(bash, ["ghesrace", *shlex.split(line)], files) == ["host.arrows"]


def test_bash_completes_folders_and_words(bash: Path, files: Path) -> None:
    """--textfile would offer files that it refuses."""
    assert offered(bash, ["ghesrace", "capture", "--textfile", ""], files) == ["folder"]
    assert offered(bash, ["ghesrace", "explain", "map-f"], files) == ["map-flush"]


@pytest.mark.parametrize("shell", PLACES)
def test_every_shell_knows_every_option(shell: str) -> None:
    """zsh or fish would be left behind when an option comes."""
    text = script(shell)
    for command in commands().values():
        for action in arguments(command):
            for option in (o for o in action.option_strings if o.startswith("--")):
                spelled = rf"-l {option[2:]}\b" if shell == "fish" else rf"{option}\b"
                assert re.search(spelled, text), option


def test_what_stands_beside_a_command_fits_a_line() -> None:
    """fish would show three lines for each command."""
    lines = [x for x in script("fish").splitlines() if re.search(r"-a '?(capture|check)\b", x)]
    assert len(lines) == 2
    assert all(len(line.rpartition(" -d ")[2]) < 60 for line in lines)


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_can_read_theirs(shell: str, tmp_path: Path) -> None:
    """A script that the shell refuses completes nothing and prints errors at each tab."""
    if not shutil.which(shell):
        pytest.skip(f"needs {shell}")
    path = tmp_path / "completion"
    path.write_text(script(shell))
    assert subprocess.run([shell, "-n", path], capture_output=True).stderr == b""
