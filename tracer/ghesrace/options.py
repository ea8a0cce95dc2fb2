# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have. Each function adds some to a command.

>>> parser = Parser()
>>> size_option(parser)
>>> parser.parse_args(["--max-size", "1G"]).max_size
1073741824
"""

from __future__ import annotations

from argparse import ArgumentParser as Parser
from pathlib import Path

from . import arguments
from .unknowns import UNKNOWNS


def pack_options(command: Parser) -> None:
    """Take BPF programs from a program pack."""
    command.add_argument(
        "--pack",
        type=Path,
        metavar="PACK",
        help="take BPF programs from this program pack, and compile nothing (bpf)",
    )
    command.add_argument(
        "--pack-sha256", default="", metavar="SHA256", help="the pack is the one that has this"
    )
    command.add_argument(
        "--pack-key",
        type=Path,
        metavar="KEY",
        help="PACK.sig is its signature by this Ed25519 key (PEM)",
    )


def file_options(command: Parser) -> None:
    """Read any file that `check` reads."""
    map_option(command)
    command.add_argument(
        "--run",
        type=arguments.number,
        metavar="N",
        help="read only this run, or buffer, of a trace that has several; the report lists them",
    )
    size_option(command)


def map_option(command: Parser) -> None:
    """Say what the events of a foreign trace are."""
    command.add_argument(
        "--map", type=Path, metavar="MAP", help="TOML: what a foreign trace's events are"
    )


def size_option(command: Parser) -> None:
    """Bound what is expanded."""
    command.add_argument(
        "--max-size",
        type=arguments.size,
        metavar="SIZE",
        help="expand no file, and read no pipe, beyond this (default: 8G)",
    )


def backend_option(command: Parser) -> None:
    """Say what attaches the probes, and whether the kernel judges."""
    command.add_argument(
        "--backend",
        choices=("auto", "ftrace", "bpf"),
        default="auto",
        help="what attaches the probes (default: bpf where trampolines serve them all)",
    )
    command.add_argument(
        "--summary",
        action="store_true",
        help="let the kernel judge, and record no events: cheapest; stale reads only (bpf)",
    )


def format_option(command: Parser, *formats: str) -> None:
    """Say what is printed: text, or one of *formats*."""
    command.add_argument(
        "--format",
        choices=("text", *formats),
        default="text",
        help="what is printed (default: text)",
    )


def report_options(command: Parser, *formats: str) -> None:
    """Say what of a report counts, and how it is printed."""
    format_option(command, "json", *formats)
    command.add_argument(
        "--fail-on",
        choices=("observed", "predicted"),
        default="predicted",
        help="exit 1 for findings of this severity and worse (default: predicted)",
    )
    accept_option(command)
    command.add_argument(
        "--all",
        action="store_true",
        help="leave nothing out: every occurrence, variant, and thing that was not seen",
    )
    redact_option(command)
    colour_option(command)


def accept_option(command: Parser) -> None:
    """Say on which unknowns clean may rest."""
    command.add_argument(
        "--accept-unknown",
        type=arguments.unknowns,
        default=(),
        metavar="NAME,...",
        help="let clean be exit code 0 though it rests on these, which the recording can't tell: "
        + ", ".join(UNKNOWNS),
    )


def redact_option(command: Parser) -> None:
    """Hand on no addresses and no names."""
    command.add_argument(
        "--redact",
        action="store_true",
        help="hand on no addresses (they become relative) and no name of host or file",
    )


def colour_option(command: Parser) -> None:
    """Say whether text has colours."""
    command.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="colours in text (default: on a terminal)",
    )
