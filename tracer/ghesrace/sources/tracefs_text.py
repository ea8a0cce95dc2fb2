# SPDX-License-Identifier: Apache-2.0
"""This module writes a plan's probes in tracefs's words: as definitions of probe events and as
filters.

Their syntax is in the kernel's Documentation/trace/kprobetrace.rst, fprobetrace.rst and events.rst.
"""

from __future__ import annotations

from ghesrace.errors import HostError
from ghesrace.plan import Compare, Constant, Fetch, FieldOf, InTask, Plan, Probe, Text
from ghesrace.plan.condition import Leaf, State, number, rendered
from ghesrace.plan.fetch import HEXADECIMAL

# The bits of common_flags are TRACE_FLAG_* of include/linux/trace_events.h. They are the same from
# 2.6.38 to 7.x, except that an NMI (0x40) was counted as HARDIRQ before 4.7.
FLAG_OF: dict[State, int] = {"interrupts-off": 0x01, "irq": 0x08, "softirq": 0x10, "nmi": 0x40}
# These registers hold the arguments; they are named where the kernel does not know $argN.
_REGISTERS = {
    "x86_64": ("%di", "%si", "%dx", "%cx", "%r8", "%r9"),
    "arm64": ("%x0", "%x1", "%x2", "%x3", "%x4", "%x5"),
}
_AGAIN = "make a plan on this kernel: `ghesrace plan`"
_RETURN_INSTANCES = 64  # So many calls may be in flight before a return probe misses one.
_LETTER = {"kprobe": "p", "kretprobe": "r", "fprobe": "f", "fretprobe": "f"}


def definition(plan: Plan, probe: Probe, group: str, event: str) -> str:
    """Return the line of dynamic_events that makes *probe* (not a tracepoint) as *group*/*event*.

    Raises HostError if the plan is too old to be attached, or fetches what tracefs can't.

    >>> from ghesrace.plan import Fetch
    >>> probe = Probe("m", "MAP", "__native_set_fixmap", "kprobe", {"index": Fetch(1, 32)})
    >>> definition(Plan("x86_64", "6.12", (), (probe,)), probe, "ghesrace_1_2", "p0_1_2_m")
    'p:ghesrace_1_2/p0_1_2_m __native_set_fixmap index=$arg1:u32'
    """
    return f"{letter(plan, probe)}:{group}/{event} {body(plan, probe)}"


def letter(plan: Plan, probe: Probe) -> str:
    """Return what the definition of *probe* (not a tracepoint) begins with.

    >>> letter(Plan("x86_64", "6.12", (), ()), Probe("e", "EDIT_END", "vunmap", "kretprobe"))
    'r64'
    """
    made = _LETTER[probe.mechanism]
    return f"{made}{_RETURN_INSTANCES}" if made == "r" and plan.maxactive else made


def body(plan: Plan, probe: Probe) -> str:
    """Return what stands behind the name in the definition of *probe*, for example
    `native_set_fixmap index=$arg1:u32 phys=$arg2:x64 prot=$arg3:x64`. Raises HostError as
    `definition` does.
    """
    symbol = place(probe) + ("%return" if probe.mechanism == "fretprobe" else "")
    return " ".join((symbol, *(f"{name}={_fetched(plan, probe, name)}" for name in probe.fields)))


def place(probe: Probe) -> str:
    """Return what *probe* sits on: a symbol, which may have a module or tracepoint system before it
    and an offset behind it.

    Raises HostError for any other text, which a plan from a file may hold.

    >>> place(Probe("m", "MAP", "einj:setup+0", "kprobe", {}))
    'einj:setup+0'
    """
    symbol = probe.symbol
    if not symbol.isascii() or not all(c.isalnum() or c in "_.:+" for c in symbol or " "):
        raise HostError(f"{symbol!r:.80} is no place for a probe", _AGAIN)
    return symbol


def _fetched(plan: Plan, probe: Probe, name: str) -> str:
    fetch = probe.fields[name]
    if isinstance(fetch, Text):
        raise _too_old()
    if isinstance(fetch, Constant):
        return f"\\{fetch.constant}:u64"
    if isinstance(fetch, FieldOf):
        raise HostError(
            f"the plan takes {name} of {probe.symbol} from a record of another tool",
            _AGAIN,
        )
    value = _argument(plan, fetch)
    if fetch.offset is not None:
        value = f"+{fetch.offset}({value})"
    shown = "x" if name in HEXADECIMAL and plan.hexadecimal_types else "u"
    return f"{value}:{'s' if fetch.signed else shown}{fetch.bits}"


def _argument(plan: Plan, fetch: Fetch) -> str:
    if fetch.argument == "return":
        return "$retval"
    if plan.numbered_arguments:
        return f"$arg{fetch.argument}"
    registers = _REGISTERS.get(plan.arch, ())
    if fetch.argument > len(registers):
        raise HostError(
            f"nothing says in which register {plan.arch} has argument {fetch.argument}",
            "trace a newer kernel (4.20)",
        )
    return registers[fetch.argument - 1]


def condition(probe: Probe) -> str | None:
    """Return the filter of *probe* in tracefs's words, for example `index == 644 || index == 645`,
    or None if it has no filter. Raises HostError if the plan is too old to be attached.

    >>> condition(Probe("m", "MAP", "f", "kprobe", {}, filter=InTask(7)))
    'common_pid == 7'
    """
    if isinstance(probe.filter, Text):
        raise _too_old()
    return shown_condition(probe)


def shown_condition(probe: Probe) -> str | None:
    """Return the filter of *probe* for people to read, or None if it has no filter. A filter of an
    old plan, which can't be attached, is returned too."""
    if probe.filter is None:
        return None
    if isinstance(probe.filter, Text):
        return probe.filter.text
    return rendered(probe.filter, lambda leaf: _leaf(probe, leaf))


def _leaf(probe: Probe, leaf: Leaf) -> str:
    if isinstance(leaf, InTask):
        return f"common_pid == {leaf.task}"
    if isinstance(leaf, Compare):
        fetch = probe.fields.get(leaf.field)
        # Only the fields of a tracepoint have names that are not ours.
        theirs = fetch.field if isinstance(fetch, FieldOf) else leaf.field
        return f"{theirs} {leaf.operator} {number(leaf)}"
    return f"common_flags & {sum(FLAG_OF[state] for state in set(leaf.context)):#x}"


def _too_old() -> HostError:
    return HostError(
        "the plan is of version 1: its fetches and filters can be shown, not attached",
        _AGAIN,
    )
