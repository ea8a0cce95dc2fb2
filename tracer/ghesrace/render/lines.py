# SPDX-License-Identifier: Apache-2.0
"""This writes events as lines of text, JSON or CSV, one event a line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

from ghesrace.checker.findings import Finding
from ghesrace.events import ALL_CPUS, Context, Events, Flag, Kind
from ghesrace.plan import Plan

from .layout import printable
from .redact import Redactor
from .selection import Addresses
from .sentences import NO_EVENT, Row, Sentences, cause_word, rows

Form = Literal["text", "json", "csv"]

# What a line of JSON or CSV says, in this order; docs/reading.md tells what each means.
COLUMNS = (
    *("ts", "since", "cpu", "context", "kind", "slot", "addr", "phys", "size", "pid", "seq"),
    *("symbol", "irqs_off", "write", "step", "begin", "count", "cause", "text"),
)
_HEAD = ("stamp (s)", "since (us)", "CPU", "context", "", "what")
_PHYS = (Kind.MAP, Kind.COPY)
_CONTEXTS = [context.name.lower() for context in Context]

StepKey = tuple[int, int, str]  # ts, cpu and event of a numbered step


def seconds(ns: int, digits: Literal[6, 9] = 6) -> str:
    """Return the stamp *ns* in seconds as `trace-cmd report` writes it, rounded to us, or with nine
    digits as `trace-cmd report -t` does.

    >>> seconds(321_624_550_960), seconds(321_624_550_960, 9)
    ('321.624551', '321.624550960')
    """
    unit = 10 ** (9 - digits)
    whole, part = divmod((ns + unit // 2) // unit, 10**digits)
    return f"{whole}.{part:0{digits}}"


def microseconds(ns: int) -> str:
    """Return the difference *ns* in us, with all its digits.

    >>> microseconds(-1_234_567)
    '-1,234.567'
    """
    whole, part = divmod(abs(ns), 1000)
    return f"{'-' * (ns < 0)}{whole:,}.{part:03}"


def numbered(finding: Finding) -> dict[StepKey, int]:
    """Return the numbers of those steps of a *finding*'s witness that were traced."""
    return {(s.ts, s.cpu, s.event): s.n for s in finding.steps if s.n and s.ts is not None}


def _as_it_is(address: int) -> int:
    return address


def plan_to_show(plan: Plan, redactor: Redactor | None) -> Plan:
    """Return *plan*, with a *redactor* with names of slots and symbols that hold no addresses.

    >>> from ghesrace.plan import Slot
    >>> plan = Plan("x86_64", "6.12", (Slot("0xffffffff12345000", None, None, "page"),), ())
    >>> plan_to_show(plan, Redactor()).slots[0].name
    '0xffff800000545000'
    """
    if redactor is None:
        return plan
    slots = tuple(replace(slot, name=redactor.text(slot.name)) for slot in plan.slots)
    probes = tuple(replace(probe, symbol=redactor.text(probe.symbol)) for probe in plan.probes)
    return replace(plan, slots=slots, probes=probes)


def head(form: Form) -> str:
    """Return the line above all others, or "" if the *form* has none.

    >>> head("csv")[:18]
    'ts,since,cpu,conte'
    """
    if form == "csv":
        return ",".join(COLUMNS)
    if form == "json":
        return ""
    stamp, since, cpu, context, step, what = _HEAD
    return f"{'# ' + stamp:>16} {since:>14} {cpu:>4} {context:<7} {step:1} {what}"


class Lines:
    """This writes the events of one plan in one form. *zero* (ns) is what times are relative to,
    *steps* are the numbers of a witness (`numbered`), *digits* those of a stamp in text. With a
    *redactor* addresses are relative.

    >>> from ghesrace.events import Cause, loss
    >>> plan = Plan("x86_64", "6.12", (), ())
    >>> lines = Lines(plan, Addresses(plan), "text", zero=0)
    >>> list(lines.of(loss(1_000, 2_500, Cause.OVERRUN, cpu=1, count=3)))
    ['        0.000003          2.500    1           3 events lost since 0.000001: overrun']
    """

    def __init__(
        self,
        plan: Plan,
        addresses: Addresses,
        form: Form,
        *,
        zero: int,
        steps: dict[StepKey, int] | None = None,
        digits: Literal[6, 9] = 6,
        redactor: Redactor | None = None,
    ) -> None:
        self._form, self._zero, self._digits = form, zero, digits
        self._steps = steps or {}
        self._contexts = plan.contexts
        virtual = _as_it_is if redactor is None else redactor.virtual
        physical = _as_it_is if redactor is None else redactor.physical
        self._virtual: Callable[[int], str] = lambda address: hex(virtual(address))
        self._physical: Callable[[int], str] = lambda address: hex(physical(address))
        self._say = Sentences(
            plan_to_show(plan, redactor),
            addresses,
            self._virtual,
            self._physical,
            lambda ns: seconds(ns, digits),
        )

    def of(self, events: Events) -> Iterator[str]:
        """Yield one line for each of *events* (EVENT, shape (n,)), in their order."""
        write = {"text": self._text, "json": self._json, "csv": self._csv}[self._form]
        yield from map(write, rows(events))

    def _text(self, row: Row) -> str:
        where = "all" if row.cpu == ALL_CPUS else str(row.cpu)
        symbol = self._say.symbol(row)
        by = "" if symbol is None else f"  ({symbol})"
        return printable(
            f"{seconds(row.ts, self._digits):>16} {microseconds(row.ts - self._zero):>14} "
            f"{where:>4} {self._context(row) or '':<7} {self._step(row) or '':1} "
            f"{self._say.of(row)}{by}"
        )

    def _json(self, row: Row) -> str:
        return json.dumps(self._record(row), ensure_ascii=True)

    def _csv(self, row: Row) -> str:
        out = io.StringIO()
        csv.writer(out, lineterminator="").writerow(self._record(row).values())
        return out.getvalue()

    def _context(self, row: Row) -> str | None:
        if row.kind == Kind.LOSS:
            return None
        return _CONTEXTS[row.ctx] if self._contexts else f"{_CONTEXTS[row.ctx]}?"

    def _step(self, row: Row) -> int | None:
        if not self._steps:
            return None
        return self._steps.get((row.ts, row.cpu, Kind(row.kind).name.lower()))

    def _record(self, row: Row) -> dict[str, Any]:
        kind = Kind(row.kind)
        event = kind not in NO_EVENT
        copy = kind == Kind.COPY
        return {
            "ts": row.ts,
            "since": row.ts - self._zero,
            "cpu": None if row.cpu == ALL_CPUS else row.cpu,
            "context": self._context(row),
            "kind": kind.name.lower().replace("_", "-"),
            "slot": self._say.slot(row),
            "addr": self._virtual(row.addr) if row.addr else None,
            "phys": self._frame(kind, row),
            "size": row.size or None,
            "pid": row.pid if event else None,
            "seq": row.seq,
            "symbol": self._say.symbol(row),
            "irqs_off": bool(row.flags & Flag.IRQS_OFF) if event else None,
            "write": bool(row.flags & Flag.WRITE) if copy else None,
            "step": self._step(row),
            "begin": None if event else row.begin,
            "count": row.number or None,
            "cause": cause_word(row.cause) or None,
            "text": self._say.of(row),
        }

    def _frame(self, kind: Kind, row: Row) -> str | None:
        if kind in _PHYS:
            return self._physical(row.phys)
        return self._physical(row.frame) if row.frame else None
