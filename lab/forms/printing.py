# SPDX-License-Identifier: Apache-2.0
"""Print a recorded run in every form of trace-cmd's and perf's, with this host's tools and with
newer ones of Debian's, which are unpacked beside."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.inside.forms import DAT, PERF_DATA, PRINTED
from lab.kernels.debian import unpack
from lab.kernels.fetch import CACHE, fetch, made

SUITES = ("trixie", "sid")  # whose trace-cmd is newer than that of bookworm
# What of `trace-cmd report` and `perf script` changes a line, or whether it is there.
REPORT = ("", "-l", "-t", "-t -l", "-R", "-w", "--ts-diff", "--raw-ts", "--align-ts")
SCRIPT = (
    "",
    "--ns",
    "--show-lost-events",
    "--header",
    "--show-task-events",
    "--reltime",
    "--deltatime",
    "-L",
    "-F comm,pid,tid,cpu,time,event,trace",
    "-F pid,tid,cpu,time,event,trace",
    "-F +period",
    "-F +misc",
    "-F -cpu",
    "-F -time",
    "-D",
)


@dataclass(frozen=True, slots=True)
class Form:
    """What a tool printed: the tool's name and version, the command, and the file with the text."""

    tool: str
    command: str
    file: str


def newer(suite: str) -> tuple[str, ...]:
    """Return the words that run the trace-cmd of *suite*, with its own C library; fetch it if it is
    not there. Raises HostError."""

    def make(folder: Path) -> None:
        unpack(fetch(suite, "amd64", ["trace-cmd"]), folder)

    tree = made(CACHE / f"trace-cmd-{suite}", make)
    libraries = tree / "usr/lib/x86_64-linux-gnu"
    loader = str(libraries / "ld-linux-x86-64.so.2")
    return loader, "--library-path", str(libraries), str(tree / "usr/bin/trace-cmd")


def print_all(folder: Path) -> list[Form]:
    """Print what was recorded in *folder* into files there; return what they are. Raises HostError
    if a tool can't be had."""
    printed: dict[str, str] = json.loads((folder / PRINTED).read_text())
    forms = [Form("ftrace", command, file) for command, file in printed.items()]
    for words in (("trace-cmd",), *(newer(suite) for suite in SUITES)):
        forms += _reports(folder, words)
    version = _version(["perf", "--version"])
    for number, options in enumerate(SCRIPT):
        file = f"perf-{number:02}.txt"
        command = ["perf", "script", "-i", str(folder / PERF_DATA), *options.split()]
        _keep(command, folder / file)
        forms.append(Form(f"perf {version}", _as_typed("perf script", options), file))
    return forms


def _reports(folder: Path, words: tuple[str, ...]) -> Iterator[Form]:
    version = _version([*words, "--version"])
    for number, options in enumerate(REPORT):
        file = f"report-{version}-{number:02}.txt"
        _keep([*words, "report", *options.split(), str(folder / DAT)], folder / file)
        yield Form(f"trace-cmd {version}", _as_typed("trace-cmd report", options), file)


def _as_typed(command: str, options: str) -> str:
    return f"`{command} {options}`" if options else f"`{command}`"


def _version(command: list[str]) -> str:
    """Return the version that *command* prints.

    >>> _version(["echo", "trace-cmd version 3.1.6 (not-a-git-repo)"])
    '3.1.6'
    """
    done = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"\d+(?:\.\d+)+", done.stdout + done.stderr)
    return found[0] if found else "of no version"


def _keep(command: list[str], path: Path) -> None:
    """Write what *command* prints to *path*. What it says on stderr is no part of the text."""
    with path.open("wb") as out:
        subprocess.run(command, stdout=out, stderr=subprocess.DEVNULL, check=False)
