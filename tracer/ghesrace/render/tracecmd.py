# SPDX-License-Identifier: Apache-2.0
"""This makes of a plan a POSIX shell script that records the same events with trace-cmd alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from shlex import quote

from ghesrace.plan import Plan, Probe
from ghesrace.sources.tracefs_text import body, condition, letter

_HEAD = """\
#!/bin/sh
# Record the GHES map, unmap and TLB events of {release} ({arch}) with trace-cmd alone.
# Made by `ghesrace plan --format trace-cmd` for exactly this kernel and boot: addresses in
# filters change with the next one.
#
#     sh SCRIPT [SECONDS [FILE]]        default: 10 ghesrace.dat; as root; Ctrl-C ends it early
#
# Writes FILE for trace-cmd report, and FILE.missed: the hits and misses of each probe.
set -eu

seconds=${{1:-10}}
file=${{2:-ghesrace.dat}}
case $file in /*) ;; *) file=$PWD/$file ;; esac
group=ghesrace_$$

command -v trace-cmd >/dev/null || {{ echo "$0: trace-cmd is not installed" >&2; exit 3; }}
tracing=/sys/kernel/tracing
[ -e $tracing/trace_clock ] || tracing=/sys/kernel/debug/tracing
[ -e $tracing/trace_clock ] ||
    {{ echo "$0: tracefs is not there: mount -t tracefs tracefs /sys/kernel/tracing" >&2; exit 3; }}
[ "$(uname -r)" = {release} ] ||
    {{ echo "$0: made for {release}, this is $(uname -r)" >&2; exit 3; }}

cleanup() {{
    trap '' INT TERM HUP
    grep "_$$ " $tracing/kprobe_profile >"$file.missed" 2>/dev/null || :
    # trace-cmd removes its instance itself, unless it was killed.
    for try in 1 2 3 4 5; do
        [ -d $tracing/instances/$group ] || break
        rmdir $tracing/instances/$group 2>/dev/null || sleep 1
    done
    for event in $made; do
        echo "-:$group/$event" >>$tracing/{control} || :
    done
}}
made=
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# add TYPE NAME DEFINITION
add() {{
    printf '%s\\n' "$1:$group/$2_$$ $3" >>$tracing/{control} ||
        {{ echo "$0: the kernel refused: $1 $3" >&2; exit 3; }}
    if ! grep -q ":$group/$2_$$ " $tracing/{control}; then
        # An old kernel gave it a name of its own, which stands last.
        other=$(tail -n 1 $tracing/{control} | sed 's/^[^:]*:\\([^ ]*\\) .*/\\1/')
        echo "-:$other" >>$tracing/{control} || :
        echo "$0: the kernel named it otherwise ($other): $1 $3" >&2
        exit 3
    fi
    made="$made $2_$$"
}}

"""

_TAIL = """
# With an instance, trace-cmd puts its temporary files where it stands, whatever -o says.
cd "$(dirname "$file")"
# Ctrl-C reaches trace-cmd too: it writes its file, then the trap above cleans up.
trace-cmd record -q -o "$file" -b 4096 -B "$group" -C {clock} "$@" sleep "$seconds"
echo "$file: trace-cmd report -l $file" >&2
"""


def script(plan: Plan) -> str:
    """Return the script's text. The script exits 3 if the machine is not the plan's or lacks
    something.

    Its events are called pN_POINT_PID in the group ghesrace_PID; N is the index into the plan's
    probes.

    >>> script(Plan("x86_64", "6.12", (), ())).splitlines()[0]
    '#!/bin/sh'
    """
    fprobes = any(probe.mechanism in ("fprobe", "fretprobe") for probe in plan.probes)
    control = "dynamic_events" if fprobes else "kprobe_events"
    head = _HEAD.format(release=quote(plan.release), arch=plan.arch, control=control)
    body = [*_definitions(plan), "set --", *_records(plan)]
    return head + "\n".join(body) + "\n" + _TAIL.format(clock=quote(plan.clock))


def _name(number: int, probe: Probe) -> str:
    return f"p{number}_{re.sub('[^A-Za-z0-9_]', '_', probe.point)}"


def _definitions(plan: Plan) -> Iterator[str]:
    for number, probe in enumerate(plan.probes):
        if probe.mechanism == "tracepoint":
            continue
        yield f"add {letter(plan, probe)} {_name(number, probe)} {quote(body(plan, probe))}"


def _records(plan: Plan) -> Iterator[str]:
    for number, probe in enumerate(plan.probes):
        if probe.mechanism == "tracepoint":
            event = quote(probe.symbol)
        else:
            event = f'"$group:{_name(number, probe)}_$$"'
        only = condition(probe)
        yield f'set -- "$@" -e {event}' + ("" if only is None else f" -f {quote(only)}")
