# SPDX-License-Identifier: Apache-2.0
"""A plan's probes in tracefs's words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ghesrace.errors import HostError
from ghesrace.plan import (
    AllOf,
    AnyOf,
    Compare,
    Constant,
    Fetch,
    Fetched,
    FieldOf,
    InContext,
    InTask,
    Plan,
    Probe,
    Text,
)
from ghesrace.sources.tracefs_text import body, condition, definition, shown_condition

FIELDS: dict[str, Fetched] = {"index": Fetch(1, 32), "phys": Fetch(2)}
PLAN = Plan("x86_64", "t", (), ())
OLD = replace(PLAN, numbered_arguments=False)
OLDER = replace(OLD, hexadecimal_types=False, maxactive=False)


@pytest.mark.parametrize(
    ("mechanism", "line"),
    [
        ("kprobe", "p:g/e m:f index=$arg1:u32 phys=$arg2:x64"),
        ("kretprobe", "r64:g/e m:f index=$arg1:u32 phys=$arg2:x64"),
        ("fprobe", "f:g/e m:f index=$arg1:u32 phys=$arg2:x64"),
        ("fretprobe", "f:g/e m:f%return index=$arg1:u32 phys=$arg2:x64"),
    ],
)
def test_definitions_follow_the_kernels_syntax(mechanism: str, line: str) -> None:
    """If this fails, the kernel refuses a probe, or takes an entry probe for a return probe."""
    probe = Probe("x", "MAP", "m:f", mechanism, FIELDS)  # type: ignore[arg-type]
    assert definition(PLAN, probe, "g", "e") == line


def test_an_old_kernel_is_not_told_how_many_calls_may_be_in_flight() -> None:
    """Before 4.12 it takes `r64:g/e` for a probe without a name, and nobody finds the probe."""
    probe = Probe("x", "EDIT_END", "f", "kretprobe", {})
    assert definition(OLDER, probe, "g", "e") == "r:g/e f"
    assert definition(OLD, probe, "g", "e") == "r64:g/e f"


@pytest.mark.parametrize(
    ("plan", "name", "fetch", "text"),
    [
        (PLAN, "addr", Fetch(1, offset=8), "f addr=+8($arg1):x64"),
        (PLAN, "addr", Fetch(1, offset=0), "f addr=+0($arg1):x64"),
        (PLAN, "addr", Fetch("return"), "f addr=$retval:x64"),
        (PLAN, "from_phys", Fetch(4, 32, signed=True), "f from_phys=$arg4:s32"),
        (PLAN, "wait", Fetch(4, 8), "f wait=$arg4:u8"),
        (PLAN, "size", Fetch(3), "f size=$arg3:u64"),
        (PLAN, "size", Constant(4096), "f size=\\4096:u64"),
        (OLDER, "addr", Fetch(1), "f addr=%di:u64"),
        (OLDER, "from_phys", Fetch(4, 32, signed=True), "f from_phys=%cx:s32"),
        (OLD, "end", Fetch(1, offset=16), "f end=+16(%di):x64"),
        (OLD, "addr", Fetch("return"), "f addr=$retval:x64"),
        (replace(OLD, arch="arm64"), "phys", Fetch(2), "f phys=%x1:x64"),
    ],
)
def test_fetches(plan: Plan, name: str, fetch: Fetched, text: str) -> None:
    """If this fails, a value of an event is another argument's, or is read with the wrong sign."""
    assert body(plan, Probe("x", "MAP", "f", "kprobe", {name: fetch})) == text


@pytest.mark.parametrize(
    ("plan", "fetch", "words"),
    [
        (PLAN, Text("$arg1:u32"), "version 1"),
        (PLAN, FieldOf("index"), "another tool"),
        (OLD, Fetch(7), "argument 7"),
        (replace(OLD, arch="mips"), Fetch(1), "mips"),
    ],
)
def test_what_cannot_be_attached_is_refused(plan: Plan, fetch: Fetched, words: str) -> None:
    """If this fails, the kernel gets words that nobody meant for it."""
    with pytest.raises(HostError, match=words):
        body(plan, Probe("x", "MAP", "f", "kprobe", {"index": fetch}))


@pytest.mark.parametrize("symbol", ["", "f x=$arg1:string", "f*/", "f\n", "\u03c6"])
def test_a_symbol_is_a_name(symbol: str) -> None:
    """If this fails, a symbol of a file brings words of its own to tracefs, or to a C comment."""
    with pytest.raises(HostError, match="no place"):
        body(PLAN, Probe("x", "MAP", symbol, "kprobe"))


def test_filters() -> None:
    """If this fails, the kernel refuses a filter, or filters by something else."""
    page = AllOf((Compare("addr", ">=", 0xFFFF), Compare("addr", "<", 0x1FFFF)))
    probe = Probe("x", "MAP", "f", "kprobe", {"addr": Fetch(1), "index": Fetch(2)})

    def text(tree: AllOf | AnyOf | Compare | InContext | InTask | Text | None) -> str | None:
        return condition(replace(probe, filter=tree))

    assert text(None) is None
    assert text(Compare("index", "==", 644)) == "index == 644"
    assert text(AnyOf((page,))) == "(addr >= 0xffff && addr < 0x1ffff)"
    assert text(InTask(7)) == "common_pid == 7"
    # TRACE_FLAG_IRQS_OFF, _HARDIRQ, _SOFTIRQ, _NMI; a state that is named twice counts once.
    assert text(InContext(("interrupts-off", "nmi", "nmi"))) == "common_flags & 0x41"
    assert text(InContext(("irq", "softirq"))) == "common_flags & 0x18"
    with pytest.raises(HostError, match="version 1"):
        text(Text("index == 644"))
    assert shown_condition(replace(probe, filter=Text("index == 644"))) == "index == 644"


def test_a_tracepoints_filter_has_its_fields_names() -> None:
    """If this fails, the kernel refuses the filter of a tracepoint that has its own names."""
    fields: dict[str, Fetched] = {"handler": FieldOf("handler_address")}
    only = AnyOf((Compare("handler", "==", 0xABC),))
    probe = Probe("r", "NMI_REF", "nmi:nmi_handler", "tracepoint", fields, filter=only)
    assert condition(probe) == "handler_address == 0xabc"
