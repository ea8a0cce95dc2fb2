# SPDX-License-Identifier: Apache-2.0
"""`ghesrace doctor` tries everything that a capture needs, and reports on the host if asked."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ghesrace.errors import EXIT_OK, GhesraceError, HostError, UsageError
from ghesrace.render.layout import new_console

from .output import opened

if TYPE_CHECKING:
    from ghesrace.doctor.check import Check
    from ghesrace.doctor.pack import GivenPack
    from ghesrace.host.facts import Facts
    from ghesrace.render.host_report import Counted

_SECONDS = 60.0
_V = TypeVar("_V")


def doctor(args: argparse.Namespace) -> int:
    """Try and print everything that a capture needs, and return 0 if one can run here.

    Raises UsageError if the report that *args* ask for can't be written.

    For example:

        ghesrace doctor --report host.json
    """
    from ghesrace.doctor import checks as tries
    from ghesrace.doctor.text import print_check, print_summary

    pack = _pack(args)
    if args.seconds is not None and args.report is None:
        raise UsageError("--seconds is the time that a report counts for", "add --report FILE")
    console, checks = new_console(), []
    with ExitStack() as stack:
        # Before the minute: a name that can't be written shall not cost it.
        file = None if args.report is None else stack.enter_context(opened(args.report))
        for made in tries.run(pack=pack):
            checks.append(made)
            if args.format == "text":
                print_check(made, console)
        code = tries.exit_code(checks)
        if args.format == "json":
            document = {"ready": code == EXIT_OK, "checks": [c.to_dict() for c in checks]}
            print(json.dumps(document, indent=1))
        else:
            print_summary(code == EXIT_OK, console)
        if file is not None:
            seconds = _SECONDS if args.seconds is None else args.seconds
            json.dump(_report(checks, code == EXIT_OK, seconds), file, indent=1)
            file.write("\n")
    if file is not None:
        new_console(sys.stderr).print(
            f"wrote {args.report}: no name of this host, no address but relative ones; "
            "read it before you send it"
        )
    return code


def _pack(args: argparse.Namespace) -> GivenPack | None:
    """Return the program pack that the command line *args* or their configuration name. Raises
    UsageError if both do, or if the configuration can't be read."""
    from ghesrace.doctor.pack import GivenPack

    if args.config is None:
        if args.pack is not None:
            return GivenPack(args.pack, args.pack_sha256, args.pack_key)
        if args.pack_sha256 or args.pack_key is not None:
            raise UsageError("a SHA-256 or a key is given, and no program pack", "add --pack PACK")
        return None
    if args.pack is not None or args.pack_sha256 or args.pack_key is not None:
        raise UsageError("the configuration names the pack", "leave out --config or --pack")
    from ghesrace.service import config  # It takes the daemon's packages.

    source = config.load(args.config).source
    path, sha256, key = source.pack_given()
    return None if path is None else GivenPack(path, sha256, key, source.backend)


def _report(checks: list[Check], ready: bool, seconds: float) -> dict[str, object]:
    """Return the report. What this host can't do stands in it as such; nothing is raised."""
    from ghesrace import backends
    from ghesrace.host import clocks
    from ghesrace.host.facts import read_facts
    from ghesrace.host.machine import read_machine
    from ghesrace.render.host_report import Host, document

    facts = read_facts()

    def compared() -> clocks.Comparison:
        try:
            return clocks.compare()
        except OSError as error:
            raise HostError(f"the clocks can't be compared: {error.strerror or error}") from error

    plan = _or_error(lambda: backends.make_plan("auto", facts))
    return document(
        Host(
            facts,
            read_machine(),
            ready,
            [check.to_dict() for check in checks],
            plan,
            _or_error(compared),
            # What can't be planned for can't be counted, for the same reason.
            plan if isinstance(plan, GhesraceError) else _or_error(lambda: _count(facts, seconds)),
            host_names(),
        )
    )


def _or_error(do: Callable[[], _V]) -> _V | GhesraceError:
    try:
        return do()
    except GhesraceError as error:
        return error


def host_names(root: Path = Path("/")) -> frozenset[str]:
    """Return what this host is called: its name, that with and without the domain, the domain. The
    folders of whoever calls are named by people, too."""
    names = {os.uname().nodename}
    for place in ("etc/hostname", "proc/sys/kernel/domainname"):
        try:
            names.add((root / place).read_text("utf-8", "replace").strip())
        except OSError:
            continue
    for name in tuple(names):
        names.update(name.split(".", 1))
    names |= {str(Path.cwd()), str(Path.home())}
    return frozenset(names - {"", "(none)", "localhost", "/", "/root"})


def _count(facts: Facts, seconds: float) -> Counted:
    """Record for *seconds* and judge, and keep the counts. Raises HostError or TransientError."""
    from ghesrace import backends
    from ghesrace.checker.engine import Engine
    from ghesrace.commands.record import record, stop_on_signals
    from ghesrace.events import Kind
    from ghesrace.planning.clock_error import with_clock_error
    from ghesrace.render.host_report import Counted
    from ghesrace.render.judgement import Judgement
    from ghesrace.sources.live import LiveSource

    say = new_console(sys.stderr)
    sources: list[LiveSource] = []
    with ExitStack() as stack:
        stack.enter_context(stop_on_signals(lambda: sources[-1].stop() if sources else None))
        source = backends.attach(
            "auto", facts, finished=with_clock_error, started=sources.append, tell=say.print
        )
        stack.push(source)
        say.print(f"counting for {seconds:.0f} s; Ctrl-C ends it sooner, and still reports")
        engine = Engine(source.plan)
        last = record(source, None, engine, duration=seconds)
    engine.finish()
    judged = Judgement(None, engine.report(), source.plan, facts.to_host())
    kinds = {Kind(kind).name: n for kind, n in sorted(last.kinds.items())}
    return Counted(last.seconds, kinds, last.losses, last.counters, judged)
