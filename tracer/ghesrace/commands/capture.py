# SPDX-License-Identifier: Apache-2.0
"""`ghesrace capture` records this host, and judges the record if asked."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TextColumn

from ghesrace.checker.engine import Engine
from ghesrace.commands import provoke
from ghesrace.errors import EXIT_OK, UsageError
from ghesrace.events import Kind
from ghesrace.render import as_json
from ghesrace.render.judgement import Judgement
from ghesrace.render.layout import new_console
from ghesrace.render.redact import Redactor
from ghesrace.render.text import print_report
from ghesrace.sources.capture.file import CaptureWriter

from .judging import exit_code
from .record import Progress, record, stop_on_signals


def capture(args: argparse.Namespace) -> int:
    """Record this host as the command line *args* says, and return the exit code.

    Raises UsageError, HostError, TransientError or InputError, of which each carries its exit code.

        ghesrace capture --check --duration 60 -o host.arrows
    """
    # The probing modules read /sys and start threads, so only this command pays for them.
    from ghesrace import backends, packs
    from ghesrace.host.facts import read_facts
    from ghesrace.planning.clock_error import with_clock_error
    from ghesrace.service.watch import Watch
    from ghesrace.sources.live import LiveSource

    if args.output is not None and not os.access(args.output.absolute().parent, os.W_OK):
        raise UsageError(
            f"can't write into {args.output.absolute().parent}", "choose another place with -o"
        )
    if args.textfile is not None and not os.access(args.textfile / ".", os.W_OK):
        raise UsageError(f"can't write into {args.textfile}", "choose another folder: --textfile")
    if args.textfile is not None:
        from ghesrace.service.metrics.textfile import once as write_metrics
    judging = args.check or args.until_finding or args.textfile is not None
    if args.pack is not None and args.backend == "ftrace":
        raise UsageError("the ftrace backend takes no program pack", "leave --pack out")
    pack = packs.given(args.pack, args.pack_sha256, args.pack_key)
    facts = read_facts()
    # A host that can't record shall say so first.
    backends.make_plan(args.backend, facts, summary=args.summary, packed=pack is not None)
    nmi_source = any(s.notification == "NMI" and s.enabled for s in facts.hest or ())
    if args.provoke:
        _agree_to_provoke(args, nmi_source)
    output = _file(args.output, judging)
    host = facts.to_host()
    say = new_console(sys.stderr)
    sources: list[LiveSource] = []
    with ExitStack() as stack:
        # This comes before attaching: a signal must not cut that, nor the clean-up, in half.
        stack.enter_context(stop_on_signals(lambda: sources[-1].stop() if sources else None))
        source = backends.attach(
            args.backend,
            facts,
            finished=with_clock_error,
            started=sources.append,
            tell=say.print,
            buffer_kb=args.buffer_kb,
            summary=args.summary,
            pack=pack,
        )
        stack.push(source)
        plan = source.plan
        # Metrics need more than the engine counts, and the whole capture is one window.
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
    code = exit_code(result, args.fail_on, args.accept_unknown)
    one = Judgement(str(output) if output else None, result, plan, host, code)
    if args.redact:
        one = one.redact(Redactor(), "file 1")
    if args.format == "json":
        print(json.dumps(as_json.document(one), indent=1))
    else:
        print_report(new_console(colour=args.color), one, args.all)
    return code


def _file(output: Path | None, judging: bool) -> Path | None:
    """Return the file to write. In a folder it is one that no other capture has or had."""
    if output is None:
        return None if judging else Path(time.strftime("ghesrace-%Y%m%d-%H%M%S.arrows"))
    if output.is_dir():
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        return output / f"capture-{stamp}-{os.getpid()}.arrows"
    return output


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
    """Return one line of counters."""
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
