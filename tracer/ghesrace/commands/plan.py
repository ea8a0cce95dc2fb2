# SPDX-License-Identifier: Apache-2.0
"""`ghesrace plan` tells what would be attached on this kernel, and why."""

from __future__ import annotations

import argparse
import json

from ghesrace.errors import EXIT_OK, UsageError


def plan(args: argparse.Namespace) -> int:
    """Print the plan for this kernel in the format that *args* names, and return 0.

    Raises HostError if no slot is observable, and UsageError if the format can't say that plan.

        ghesrace plan --format trace-cmd > record.sh
    """
    from ghesrace import backends
    from ghesrace.host.facts import read_facts
    from ghesrace.render import tracecmd
    from ghesrace.render.layout import new_console
    from ghesrace.render.plan import render_plan_text

    if args.format == "trace-cmd" and (args.backend == "bpf" or args.summary):
        raise UsageError("trace-cmd can't attach BPF programs", "leave --backend out")
    wanted: backends.Wanted = "ftrace" if args.format == "trace-cmd" else args.backend
    found = backends.make_plan(wanted, read_facts(), summary=args.summary)
    if args.format == "json":
        print(json.dumps(found.to_dict(), indent=1))
    elif args.format == "trace-cmd":
        print(tracecmd.script(found), end="")
    else:
        print(render_plan_text(found, new_console().width))
    return EXIT_OK
