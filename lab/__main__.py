# SPDX-License-Identifier: Apache-2.0
"""Run a command, or the lab tests, in a guest with real GHES errors: python -m lab."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from ghesrace.errors import GhesraceError, TransientError
from lab.firmware.scenario import SCENARIOS
from lab.testing import command as testing
from lab.testing.outcomes import Outcomes
from lab.testing.turns import forget

from . import paths

# 125 means that the lab failed, any other code is the command's own (`docker run` and `timeout` use
# the same convention).
_EXIT_LAB = 125
_EXIT_INTERRUPTED = 130
_EXIT_NO_TESTS = 5  # pytest ends with this when it was given no test to run.


def _guest_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--arch", choices=("amd64", "arm64"), default="amd64")
    parser.add_argument(
        "--kernel", metavar="IMAGE", help="default: newest in /boot; with arm64 a Debian suite"
    )
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--memory", type=int, default=2048, metavar="MIB")
    parser.add_argument(
        "--append", action="append", default=[], metavar="ARGS", help="more kernel arguments"
    )
    parser.add_argument("--share", type=Path, metavar="DIR", help="results; default: a new folder")
    parser.add_argument("--timeout", type=float, default=1800, metavar="S", help="of the command")
    parser.add_argument("--boot-timeout", type=float, default=400, metavar="S")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lab", description=__doc__)
    commands = parser.add_subparsers(dest="verb", required=True)

    run = commands.add_parser("run", help="run COMMAND in a guest")
    _guest_options(run)
    run.add_argument("--scenario", default="idle", help=", ".join(SCENARIOS))
    run.add_argument("command", nargs="+", metavar="COMMAND")

    test = commands.add_parser("test", help="run pytest on tests/lab in a guest")
    _guest_options(test)
    test.add_argument(
        "--boots",
        type=int,
        choices=range(1, 10),
        default=3,
        metavar="N",
        help="when the guest itself fails, boot again and go on behind the tests that passed",
    )
    test.add_argument(
        "--guests",
        type=int,
        choices=range(1, 10),
        default=1,
        metavar="N",
        help="so many at once, which take the files of tests in turn; default: %(default)s",
    )
    test.add_argument(
        "--arm64",
        action="append",
        default=[],
        metavar="SUITE",
        help=f"run {testing.ARM64_TESTS} too, on this suite's arm64 kernel, beside the others",
    )
    test.add_argument("--turns", action="store_true", help=argparse.SUPPRESS)  # with others
    test.add_argument("pytest", nargs="*", metavar="PYTEST_ARGUMENT", help="after --")

    firmware = commands.add_parser("firmware", help="in a guest: tell the firmware what to do")
    verbs = firmware.add_subparsers(dest="firmware_verb", required=True)
    verbs.add_parser("start").add_argument("scenario", help=", ".join(SCENARIOS))
    verbs.add_parser("stop", help="prints the counts")
    verbs.add_parser("counts")
    report = verbs.add_parser("report", help="post a record, notify, await the kernel")
    report.add_argument("source")
    report.add_argument("count", type=int, nargs="?", default=1)
    verbs.add_parser("post", help="post a record, tell nobody").add_argument("source")
    notify = verbs.add_parser("notify", help="notify, post nothing")
    notify.add_argument("kind", choices=("nmi", "irq", "hed"))
    notify.add_argument("count", type=int, nargs="?", default=1)

    patched = commands.add_parser("patched", help="build a kernel with patches, and judge it")
    patched.add_argument(
        "--source",
        metavar="DEB|DIR|SUITE",
        default="bookworm",
        help="a linux-source package, a git work tree, or a suite of Debian; default: %(default)s",
    )
    patched.add_argument("--arch", choices=("amd64", "arm64"), default="amd64")
    patched.add_argument(
        "--config",
        type=Path,
        action="append",
        default=[],
        metavar="FRAGMENT",
        help="more lines of .config; the last one wins",
    )
    patched.add_argument("--part", type=float, default=1.0, help="of the usual time of recording")
    patched.add_argument(
        "--share", type=Path, metavar="DIR", help="captures; default: a new folder"
    )
    patched.add_argument("patches", nargs="*", type=Path, metavar="PATCH")

    commands.add_parser("scenarios", help="list the scenarios")
    return parser


def _run(args: argparse.Namespace, command: list[str], scenario: str) -> int:
    # These are imported here, as a guest lacks QEMU's Python library and does not need them.
    from lab.boards.board import Board, Settings
    from lab.boards.pc import Pc
    from lab.boards.virt import Virt

    from .boot import run

    board: Board
    if args.arch == "arm64":
        board = Virt(args.kernel) if args.kernel else Virt()
    else:
        board = Pc(Path(args.kernel) if args.kernel else None)
    args.share = args.share or Path(tempfile.mkdtemp(prefix="ghesrace-share-"))
    settings = Settings(
        share=args.share.resolve(),
        scenario=scenario,
        cpus=args.cpus,
        memory=args.memory,
        append=tuple(args.append),
        boot_s=args.boot_timeout,
        command_s=args.timeout,
    )
    try:
        return run(board, settings, command)
    finally:
        print(f"lab: results are in {settings.share}", file=sys.stderr)


def _test(args: argparse.Namespace) -> int:
    from .paths import REPO

    if args.guests > 1 or args.arm64:
        return testing.command(args)
    tests = [] if any("tests/lab" in a for a in args.pytest) else ["tests/lab"]
    # The guest sees the repository read-only, so pytest runs without what keeps files in it.
    pytest = (
        "exec python3 -m pytest -p no:cacheprovider -p no:hypothesispytest -o addopts= --rootdir=. "
        '--junitxml="$LAB_SHARE/junit.xml" -v -rs "$@"'
    )
    command = ["sh", "-c", f'cd "$0" && {pytest}', str(REPO), *tests, *args.pytest]
    args.share = args.share or Path(tempfile.mkdtemp(prefix="ghesrace-share-"))
    Outcomes(args.share).forget()
    if not args.turns:
        forget(args.share)
    for boot in range(1, args.boots + 1):
        try:
            code = _run(args, command, "idle")
        except TransientError as error:
            if boot == args.boots:
                raise
            print(f"lab: {error}\n{_console_of(boot, args.share)}")
            print(f"lab: boot {boot + 1}, behind the tests that passed")
        else:
            # If every test had passed before, the guest failed only at its end.
            return 0 if boot > 1 and code == _EXIT_NO_TESTS else code
    return _EXIT_LAB


def _console_of(boot: int, share: Path) -> str:
    """Return what the guest that failed said last, and rename its console before the next boot."""
    from .boot import tail

    console = share / paths.CONSOLE
    if not console.exists():
        return "lab: it has no console"
    kept = console.rename(share / f"{paths.CONSOLE}.{boot}")
    return f"{tail(kept)}\nlab: its whole console is in {kept}"


def _firmware(args: argparse.Namespace) -> int:
    from lab.inside.client import Client

    client = Client()
    match args.firmware_verb:
        case "start":
            client.start(args.scenario)
        case "stop":
            print(json.dumps(client.stop(), indent=2))
        case "counts":
            print(json.dumps(client.counts(), indent=2))
        case "report":
            done = client.report(args.source, args.count)
            print(f"{done} of {args.count} acknowledged")
            return 0 if done == args.count else 1
        case "post":
            return 0 if client.post(args.source) else 1
        case "notify":
            client.notify(args.kind, args.count)
    return 0


def _patched(args: argparse.Namespace) -> int:
    """Return what `ghesrace check` would exit with, so that it can gate a merge."""
    from lab.patched import command

    try:
        return command.run(args)
    except GhesraceError as error:
        print(f"lab: {error}", file=sys.stderr)
        return error.exit_code


def main(argv: list[str] | None = None) -> int:
    """Parse *argv*, do what it says, and return the exit code.

    It is the command's own, 125 if the lab failed, and 130 after Ctrl-C.

        main(["run", "--scenario", "mixed", "--", "uname", "-r"])
        main(["test", "--", "-k", "crossing"])
    """
    args = _parser().parse_args(argv)
    try:
        match args.verb:
            case "run":
                return _run(args, args.command, args.scenario)
            case "test":
                return _test(args)
            case "firmware":
                return _firmware(args)
            case "patched":
                return _patched(args)
        for name, scenario in SCENARIOS.items():
            print(f"{name:12} {scenario.about}")
    except GhesraceError as error:
        print(f"lab: {error}", file=sys.stderr)
        return _EXIT_LAB
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
