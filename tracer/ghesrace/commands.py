"""What each command does with its parsed arguments; one function per command."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from . import provoke
from .check import Engine, Report, Verdict
from .errors import (
    EXIT_FINDING,
    EXIT_INCONCLUSIVE,
    EXIT_OK,
    GhesraceError,
    InputError,
    UsageError,
)
from .events import Kind
from .record import Progress, record, stop_on_signals
from .render import as_json
from .render.text import new_console, print_report
from .sources import Source, open_file
from .sources.capture import CaptureWriter

# Several files: the code of the worst one, in this order.
_PRECEDENCE = (4, 2, 1, 3, 0)


def exit_code(result: Report, fail_on: str) -> int:
    """The exit code of a report (README, "Exit codes")."""
    threshold = Verdict.OBSERVED if fail_on == "observed" else Verdict.PREDICTED
    if result.verdict >= threshold:
        return EXIT_FINDING
    if result.verdict is Verdict.INCONCLUSIVE or result.truncated or result.reasons:
        return EXIT_INCONCLUSIVE
    return EXIT_OK


# -- check -------------------------------------------------------------------------------


def check(args: argparse.Namespace) -> int:
    """`ghesrace check FILE...`"""
    codes, documents = [], []
    with ExitStack() as stack:
        out: Any = sys.stdout
        if args.output is not None:
            out = stack.enter_context(_open_report(args.output))
        console = new_console(out)
        for i, path in enumerate(args.files):
            try:
                result, host, warnings = _judge_file(path, args.map, args.all)
            except GhesraceError as error:
                print(f"ghesrace: {error}", file=sys.stderr)
                codes.append(error.exit_code)
                continue
            for warning in warnings:
                print(f"ghesrace: warning: {warning}", file=sys.stderr)
            codes.append(exit_code(result, args.fail_on))
            if args.format == "json":
                documents.append(as_json.report(result, host, str(path)))
                continue
            if i:
                console.rule(characters="=")
            print_report(console, result, host, str(path))
        if args.format == "json" and (documents or len(args.files) > 1):
            answer = documents if len(args.files) > 1 else documents[0]
            print(json.dumps(answer, indent=1), file=out)
    return next(code for code in _PRECEDENCE if code in codes)


def _open_report(path: Path) -> Any:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"can't write {path}: {error.strerror}", "choose another place with -o"
        ) from error


def _judge_file(
    path: Path, map_file: Path | None, all_occurrences: bool
) -> tuple[Report, dict[str, Any], list[str]]:
    source = open_file(path, map_file)
    engine = Engine(source.plan, all_occurrences=all_occurrences)
    try:
        _judge(source, engine, path.name)
    except InputError as error:
        if str(path) in error.what:
            raise
        raise InputError(f"{path}: {error.what}", error.hint) from error
    return engine.report(), source.host, source.warnings


def _judge(source: Source, engine: Engine, name: str) -> None:
    """Feed everything to the engine; on a terminal, say how far it is."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    console = new_console(sys.stderr)
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name)
        for batch in source.batches():
            engine.feed(batch)
            bar.update(task, description=f"{name}: {engine.events:,} events")
        engine.finish()


# -- capture -----------------------------------------------------------------------------


def capture(args: argparse.Namespace) -> int:
    """`ghesrace capture`"""
    # The probing modules read /sys and start threads: only this command pays for them.
    from . import backends
    from .kernel import read_facts
    from .measured import with_clock_error
    from .sources.live import LiveSource
    from .watch import Watch

    if args.output is not None and not os.access(args.output.absolute().parent, os.W_OK):
        raise UsageError(
            f"can't write into {args.output.absolute().parent}", "choose another place with -o"
        )
    if args.textfile is not None and not os.access(args.textfile / ".", os.W_OK):
        raise UsageError(f"can't write into {args.textfile}", "choose another folder: --textfile")
    if args.textfile is not None:
        from .textfile import once as write_metrics
    judging = args.check or args.until_finding or args.textfile is not None
    facts = read_facts()
    # A host that can't shall say so first.
    backends.make_plan(args.backend, facts, summary=args.summary)
    nmi_source = any(s.notification == "NMI" and s.enabled for s in facts.hest or ())
    if args.provoke:
        _agree_to_provoke(args, nmi_source)
    output = args.output
    if output is None and not judging:
        output = Path(time.strftime("ghesrace-%Y%m%d-%H%M%S.arrows"))
    host = facts.to_host()
    say = new_console(sys.stderr)
    sources: list[LiveSource] = []
    with ExitStack() as stack:
        # Before attaching: a signal must not cut that, nor the clean-up, in half.
        stack.enter_context(stop_on_signals(lambda: sources[-1].stop() if sources else None))
        source = backends.attach(
            args.backend,
            facts,
            finished=with_clock_error,
            started=sources.append,
            tell=say.print,
            buffer_kb=args.buffer_kb,
            summary=args.summary,
        )
        stack.push(source)
        plan = source.plan
        # Metrics need more than the engine counts; the whole capture is one window.
        watch = Watch(plan, math.inf, all_occurrences=args.all) if args.textfile else None
        engine = Engine(plan, all_occurrences=args.all) if judging else None
        if watch is not None:
            engine = watch.engine
        writer = None
        if output is not None:
            writer = stack.enter_context(CaptureWriter(output, plan, host))
        provoker = stack.enter_context(provoke.Provoker(args.provoke)) if args.provoke else None
        where = f" into {output}" if output else ""
        say.print(f"recording {len(plan.probes)} probes by {plan.backend}{where}; Ctrl-C ends it")
        columns = (SpinnerColumn(), TextColumn("{task.description}"))
        bar = stack.enter_context(
            Bar(*columns, console=say, transient=True, disable=not say.is_terminal)
        )
        task = bar.add_task("waiting for events")
        last = record(
            source,
            writer,
            watch or engine,
            duration=args.duration,
            until=(lambda: engine.found) if args.until_finding and engine else None,
            progress=lambda p: bar.update(task, description=_live(p, engine)),
        )
    say.print(_live(last, None))
    if provoker is not None and provoker.error is not None:
        print(f"ghesrace: warning: {provoker.error}", file=sys.stderr)
    if engine is None:
        return EXIT_OK
    if watch is None:
        engine.finish()
    else:
        write_metrics(args.textfile, watch, plan.backend)
    result = engine.report()
    if args.format == "json":
        file = None if output is None else str(output)
        print(json.dumps(as_json.report(result, host, file), indent=1))
    else:
        print_report(new_console(), result, host, str(output) if output else "live")
    return exit_code(result, args.fail_on)


def _agree_to_provoke(args: argparse.Namespace, nmi_source: bool) -> None:
    provoke.check(args.provoke, nmi_source=nmi_source)
    print(f"--provoke {args.provoke} will {provoke.description(args.provoke)}", file=sys.stderr)
    if args.yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to agree to --provoke", "add --yes if you do")
    if input("Go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise UsageError("not provoked: you said no", "record without --provoke")


def _live(p: Progress, engine: Engine | None) -> str:
    """One line of counters."""
    kinds = {Kind.NOTIFY: "notifications", Kind.MAP: "maps", Kind.READ: "reads"}
    parts = [f"{p.seconds:.0f} s", f"{p.events:,} events"]
    if engine is not None and engine.plan.summary:
        parts = [f"{p.seconds:.0f} s", f"{sum(s.episodes for s in engine.slots):,} episodes"]
        kinds = {}
    parts += [f"{p.kinds.get(kind, 0):,} {word}" for kind, word in kinds.items()]
    parts.append(f"{sum(n for k, n in p.counters.items() if k.startswith('lost:')):,} lost")
    if engine is not None:
        parts.append(f"{engine.observed:,} observed")
    return ", ".join(parts)


# -- plan, doctor ------------------------------------------------------------------------


def plan(args: argparse.Namespace) -> int:
    """`ghesrace plan`"""
    from . import backends, tracecmd
    from .kernel import read_facts
    from .render.plan import render_plan_text

    if args.format == "trace-cmd" and (args.backend == "bpf" or args.summary):
        raise UsageError("trace-cmd can't attach BPF programs", "leave --backend out")
    wanted: backends.Wanted = "ftrace" if args.format == "trace-cmd" else args.backend
    found = backends.make_plan(wanted, read_facts(), summary=args.summary)
    if args.format == "json":
        print(json.dumps(found.to_dict(), indent=1))
    elif args.format == "trace-cmd":
        print(tracecmd.script(found), end="")
    else:
        print(render_plan_text(found))
    return EXIT_OK


def doctor(args: argparse.Namespace) -> int:
    """`ghesrace doctor`"""
    from . import doctor as tries
    from .render.doctor import print_check, print_summary

    console, checks = new_console(), []
    for made in tries.run():
        checks.append(made)
        if args.format == "text":
            print_check(made, console)
    code = tries.exit_code(checks)
    if args.format == "json":
        document = {"ready": code == EXIT_OK, "checks": [c.to_dict() for c in checks]}
        print(json.dumps(document, indent=1))
    else:
        print_summary(code == EXIT_OK, console)
    return code


# -- daemon ------------------------------------------------------------------------------


def daemon(args: argparse.Namespace) -> int:
    """`ghesrace daemon`"""
    from . import daemon as service

    if args.check_config:
        service.check_config(args.config)
        return EXIT_OK
    if args.clean_up:
        service.clean_up()
        return EXIT_OK
    return service.run(args.config)
