# SPDX-License-Identifier: Apache-2.0
"""The commands: parse, call, print. No logic lives here."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias

from ghesrace import __version__, compiled

from . import arguments, epilogs, options
from .errors import EXIT_INCONCLUSIVE, EXIT_INTERNAL, GhesraceError, HostError
from .streams import OutputError, ReaderGone, give_up, take_over

# What setup.cfg's extras bring, by the names that are imported, and what needs them.
_EXTRAS = {
    ("bcrypt", "msgspec", "prometheus_client", "psutil", "yaml"): (
        "daemon",
        "the daemon and --textfile need",
    ),
    ("jinja2", "markupsafe"): ("html", "--format html needs"),
    ("perfetto", "google"): ("perfetto", "--format perfetto needs"),
    # No extra: that of the command's name.
    ("aiohttp", "dask", "distributed", "fsspec", "paramiko"): ("", "this command needs"),
}
Parser = argparse.ArgumentParser
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


class Help(argparse.RawDescriptionHelpFormatter):
    """This formatter fills the description, which is prose, and leaves the epilog as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


class Version(argparse.Action):
    """This option prints the version, and whether the compiled parts run: all of their bytes are
    read for that, which no other command needs."""

    def __call__(self, parser: Parser, *_: object) -> NoReturn:
        """Print it and exit, as argparse's own does."""
        print(f"{parser.prog} {__version__} ({compiled.describe()})")
        parser.exit()


def parser() -> Parser:
    """The command line of `ghesrace`."""
    top = argparse.ArgumentParser(
        "ghesrace",
        description="Watch how Linux maps firmware error records (ACPI APEI GHES) and tell "
        "whether one CPU can read through a stale TLB entry of another record.",
        epilog=epilogs.TOP,
        formatter_class=Help,
    )
    top.add_argument(
        "--version", action=Version, nargs=0, help="show program's version number and exit"
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    capture = _command(
        commands,
        "capture",
        "record this host, and judge it if asked",
        "Record what this host does when firmware reports errors, until Ctrl-C or --duration, and "
        "judge it if asked. Needs root; leaves nothing behind in the kernel.",
    )
    capture.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="capture file to write; in a folder, a new one whose name has time and process",
    )
    capture.add_argument(
        "-d", "--duration", type=arguments.seconds, metavar="SECONDS", help="stop after this time"
    )
    options.backend_option(capture)
    capture.add_argument("--check", action="store_true", help="judge while recording")
    capture.add_argument(
        "--until-finding", action="store_true", help="stop at the first finding (implies --check)"
    )
    capture.add_argument(
        "--textfile",
        type=Path,
        metavar="DIR",
        help="write metrics there at the end, for node_exporter (implies --check)",
    )
    capture.add_argument(
        "--provoke", choices=("nmi", "einj"), help="make harmless traffic; asks before it does"
    )
    capture.add_argument("--yes", action="store_true", help="do not ask before provoking")
    capture.add_argument(
        "--buffer-kb",
        type=arguments.kilobytes,
        metavar="KB",
        help="ring buffer per CPU (default: by memory)",
    )
    options.pack_options(capture)
    options.report_options(capture)

    check = _command(
        commands,
        "check",
        "judge captures, and traces of other tools",
        "Judge each FILE: could one CPU read through a stale TLB entry of another record? Needs "
        "no root, and no kernel that can be traced.",
    )
    check.add_argument("files", nargs="+", type=Path, metavar="FILE", help=_FILE)
    options.file_options(check)
    check.add_argument("-o", "--output", type=Path, metavar="OUT", help="write the report here")
    check.add_argument("-q", "--quiet", action="store_true", help="one line per file, in text")
    options.report_options(check, "junit", "html", "perfetto")

    _show_command(commands)
    _diff_command(commands)
    _survey_command(commands)

    explain = _command(
        commands,
        "explain",
        "say what a word of a report means",
        "Say what a word of a report means (class, pattern, verdict, cause, reason) and what to "
        "do.",
    )
    explain.add_argument("word", nargs="*", metavar="WORD", help="default: list all words")
    options.colour_option(explain)

    plan = _command(
        commands,
        "plan",
        "show what would be attached on this kernel, and why",
        "Show what would be attached on this kernel and why, what its code is proven to do, and "
        "what stays unseen. Attaches nothing.",
    )
    options.format_option(plan, "json", "trace-cmd")
    options.backend_option(plan)
    doctor = _command(
        commands,
        "doctor",
        "try everything that a capture needs",
        "Try everything that a capture needs on this host, and say what is missing and how to get "
        "it. Needs root; what it attaches is removed at once.",
    )
    options.format_option(doctor, "json")
    doctor.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="write what this host is, the plan and a minute's counts there, to be sent: JSON, "
        "without names and addresses",
    )
    doctor.add_argument(
        "--seconds",
        type=arguments.seconds,
        metavar="SECONDS",
        help="count for so long (default: 60)",
    )
    doctor.add_argument(
        "--config", type=Path, metavar="FILE", help="try the pack that this configuration names"
    )
    options.pack_options(doctor)

    daemon = _command(
        commands,
        "daemon",
        "watch this host for good: metrics, evidence",
        "Watch this host for months: metrics for Prometheus, and a capture of each kind of "
        "finding as evidence. systemd runs it as ghesrace.service.",
    )
    daemon.add_argument(
        "--config", type=Path, metavar="FILE", help="default: /etc/ghesrace/ghesrace.toml"
    )
    daemon.add_argument(
        "--check-config", action="store_true", help="check the configuration and end"
    )
    daemon.add_argument(
        "--clean-up", action="store_true", help="remove what killed runs left in the kernel and end"
    )
    ship = _command(
        commands,
        "ship",
        "send new captures of this host to a store, once each",
        "Send the captures that the daemon made since the last call to the store that ship.toml "
        "names, each with a manifest of this host. systemd runs it as ghesrace-ship.service.",
    )
    ship.add_argument(
        "--config", type=Path, metavar="FILE", help="default: /etc/ghesrace/ship.toml"
    )
    ship.add_argument("--check-config", action="store_true", help="check the configuration and end")
    _bpf_command(commands)
    return top


_FILE = (
    "a capture, a trace.dat, or text of ftrace, trace-cmd or perf; also compressed (gzip, xz, "
    "zstd), a pipe, or - for standard input"
)


def _command(commands: Commands, name: str, summary: str, description: str) -> Parser:
    """Add the command *name*, with its epilog, and return its parser."""
    return commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilogs.EPILOGS[name],
        formatter_class=Help,
    )


def _show_command(commands: Commands) -> None:
    show = _command(
        commands,
        "show",
        "print the events of a capture or trace, one a line",
        "Print the events of FILE, which is anything that `check` reads, one a line, in the order "
        "of time; each CPU's own order is that of its buffer.",
    )
    show.add_argument("file", type=Path, metavar="FILE", help=_FILE)
    show.add_argument("--cpu", type=arguments.cpus, metavar="LIST", help="of these CPUs: 0,2-3")
    show.add_argument(
        "--slot",
        type=arguments.names,
        metavar="NAME,...",
        help="that concern these slots: name them, cover their page, or the whole TLB",
    )
    show.add_argument(
        "--kind", type=arguments.names, metavar="KIND,...", help="map, inv-page, loss, ..."
    )
    show.add_argument(
        "--context", type=arguments.names, metavar="NAME,...", help="task, softirq, irq, nmi"
    )
    show.add_argument(
        "--from", dest="begin", type=arguments.time, metavar="TIME", help="not before it"
    )
    show.add_argument("--to", dest="end", type=arguments.time, metavar="TIME", help="not after it")
    show.add_argument(
        "--around",
        metavar="FINDING[:BEFORE,AFTER]",
        help="about a finding by its number in `check`: 1, or 1.2; 50 us before and after",
    )
    show.add_argument("--ns", action="store_true", help="stamps with nine digits, in text")
    options.format_option(show, "json", "csv")
    options.file_options(show)
    options.redact_option(show)
    show.add_argument("-o", "--output", type=Path, metavar="OUT", help="write the lines here")


def _diff_command(commands: Commands) -> None:
    diff = _command(
        commands,
        "diff",
        "say what changed from one recording to another, and whether it is worse",
        "Compare two recordings: of a kernel before and after a patch, or under two firmwares.",
    )
    either = "what `check` reads, or a file that `check --format json` wrote"
    diff.add_argument("a", type=Path, metavar="A", help=f"the one before: {either}")
    diff.add_argument("b", type=Path, metavar="B", help="the one after, likewise")
    options.map_option(diff)
    diff.add_argument(
        "--run",
        dest="runs",
        type=arguments.two_numbers,
        metavar="N[,M]",
        help="read only this run, or buffer, of traces that have several: N of A, M (or N) of B",
    )
    options.size_option(diff)
    diff.add_argument("-o", "--output", type=Path, metavar="OUT", help="write the report here")
    diff.add_argument("-q", "--quiet", action="store_true", help="one line, in text")
    options.format_option(diff, "json", "html")
    options.accept_option(diff)
    options.redact_option(diff)
    options.colour_option(diff)


def _survey_command(commands: Commands) -> None:
    survey = _command(
        commands,
        "survey",
        "judge a store of captures, and say which kernels are safe and by what",
        "Judge every capture in the stores that the URLs name, on all CPUs or on a cluster, keep "
        "what came of it as a Parquet data set, and report on all that is in it. What this version "
        "has judged already is not judged again.",
    )
    survey.add_argument(
        "urls",
        nargs="+",
        metavar="URL",
        help="a folder, a file or a glob that fsspec reaches: /srv/captures, s3://bucket/2026, ...",
    )
    survey.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        default=Path("ghesrace-survey"),
        help="the data set to make or to go on with (default: ghesrace-survey)",
    )
    survey.add_argument(
        "--workers",
        type=arguments.workers,
        metavar="N",
        help="worker processes (default: one per CPU)",
    )
    survey.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="judge on the Dask cluster of this scheduler instead, such as tls://host:8786",
    )
    survey.add_argument("-o", "--output", type=Path, metavar="OUT", help="write the report here")
    options.format_option(survey, "json", "html")
    survey.add_argument(
        "--fail-on",
        choices=("observed", "predicted"),
        default="predicted",
        help="exit 1 for findings of this severity and worse (default: predicted)",
    )
    options.accept_option(survey)
    survey.add_argument("--all", action="store_true", help="leave no row of a table out")
    options.colour_option(survey)


def _bpf_command(commands: Commands) -> None:
    bpf = _command(
        commands,
        "bpf",
        "build program packs, for hosts without bcc and kernel headers",
        "Build a program pack: the BPF programs of kernels' plans, made by bcc on this host, for "
        "others to load. Take the facts of a host, of which a pack is built. Show a pack.",
    )
    bpf.add_argument(
        "action",
        choices=("build", "facts", "show"),
        metavar="ACTION",
        help="build a pack, write the facts of this host, or show a pack",
    )
    bpf.add_argument("pack", nargs="?", type=Path, metavar="PACK", help="the pack to show")
    bpf.add_argument(
        "--for",
        dest="facts",
        nargs="+",
        type=Path,
        metavar="FACTS",
        help="build for the kernels of these hosts (default: for this one)",
    )
    bpf.add_argument(
        "--summary",
        action="store_true",
        help="build the programs of `capture --summary` too",
    )
    bpf.add_argument(
        "-o", "--output", type=Path, metavar="OUT", help="write the pack, or the facts"
    )


def _run(args: argparse.Namespace) -> int:
    """Run the command that *args* name, and return its exit code. Raises HostError where a package
    is missing that only an extra brings."""
    try:
        # Imported here so that each command loads only what it needs.
        module = importlib.import_module(f"ghesrace.commands.{args.command}")
        command: Callable[[argparse.Namespace], int] = getattr(module, args.command)
        return command(args)
    except ModuleNotFoundError as error:
        for names, (extra, needs) in _EXTRAS.items():
            if (error.name or "").partition(".")[0] in names:
                raise HostError(
                    f"{needs} the Python package {error.name!r}",
                    "install ghesrace with its extra: "
                    f"pip install '.[{extra or args.command}]' in a clone",
                ) from error
        raise


def _main(argv: Sequence[str] | None) -> int:
    """Run one command, and return its exit code. Raises SystemExit where argparse ends it."""
    try:
        args = parser().parse_args(argv)
    except SystemExit:
        sys.stdout.flush()  # Help and the version were printed.
        raise
    # Before NumPy: it would start a thread for each CPU, for matrices that nobody multiplies here.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if args.command == "daemon":
        # Before NumPy and Arrow: threads of theirs would keep what is dropped after attaching.
        os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
    return _run(args)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    take_over()
    try:
        code = _main(argv)
        sys.stdout.flush()
        return code
    except OutputError as error:
        give_up()
        print(f"ghesrace: {error}", file=sys.stderr)
        return error.exit_code
    except GhesraceError as error:
        print(f"ghesrace: {error}", file=sys.stderr)
        return error.exit_code
    except compiled.StaleError as error:
        print(f"ghesrace: {error}", file=sys.stderr)
        return EXIT_INCONCLUSIVE
    except KeyboardInterrupt:
        return 130
    except ReaderGone:
        give_up()
        return 141
    except Exception:
        return _internal_error()


def _internal_error() -> int:
    """Tell of the exception that is being handled, and return the exit code."""
    traceback.print_exc()
    print("ghesrace: internal error: please report it with the lines above", file=sys.stderr)
    return EXIT_INTERNAL
