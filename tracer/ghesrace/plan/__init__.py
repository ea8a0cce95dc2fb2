# SPDX-License-Identifier: Apache-2.0
"""The plan: probe points as resolved on one kernel. Plain data, stored in every capture.

`resolve.py` makes a plan, the sources attach it, the checker reads from it what an event
implies and what stays unseen.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ghesrace.errors import InputError
from ghesrace.events import ALL_CPUS, Kind

from .condition import (
    AllOf,
    AnyOf,
    Compare,
    Condition,
    InContext,
    InTask,
    leaves,
    read_condition,
)
from .fetch import FIELDS, Constant, Fetch, Fetched, FieldOf, Text, read_fetch
from .shape import misfit

__all__ = [
    "FIELDS",
    "MAX_SLOTS",
    "PLAN_VERSION",
    "AllOf",
    "AnyOf",
    "Backend",
    "Compare",
    "Condition",
    "Constant",
    "Fetch",
    "Fetched",
    "FieldOf",
    "InContext",
    "InTask",
    "LockUnit",
    "Mechanism",
    "Plan",
    "Probe",
    "Slot",
    "Text",
    "Transport",
    "Unseen",
]

PLAN_VERSION = 2
_TEXT_VERSION = 1  # its fetches and filters are text, in tracefs's words
MAX_SLOTS = 1024  # the x86 fixmap has fewer indices in all

LockUnit = Literal["page", "report"]
Backend = Literal["ftrace", "bpf"]
# How BPF programs hand over what they see: arrays that user space maps, or a perf event array.
Transport = Literal["mapped", "perf"]
Mechanism = Literal[
    "kprobe", "kretprobe", "fprobe", "fretprobe", "fentry", "fexit", "tracepoint", "raw-tracepoint"
]


@dataclass(frozen=True, slots=True)
class Slot:
    """One page-aligned kernel virtual address that GHES maps through.

    `index` is the enum fixed_addresses value (None for a vm-area page), `address` the virtual
    address or None until it is observed, `lock` the unit of its lock: one `page` (legacy IRQ
    slot) or one whole `report` (legacy NMI; every slot since the locks moved to the
    notification helpers, Linux 5.1). `family` names the probe file it came from and `module`
    the module whose functions use it ("" for vmlinux).
    """

    name: str
    index: int | None
    address: int | None
    lock: LockUnit
    family: str = "fixmap"
    module: str = ""

    def _nonsense(self, _plan: Plan) -> str | None:
        if self.address is not None and not 0 <= self.address < 2**64:
            return "address"
        return None if self.index is None or 0 <= self.index < 2**32 else "index"


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe point on one symbol.

    `kind` is the events.Kind it becomes; `clear_kind` the one it becomes instead when its
    `phys` and `prot` arguments are both 0 (fixmap setters). `fields` says what is fetched, by
    `fetch.FIELDS`; sources/values.py is how that becomes an event. Of what `filter` refuses nothing
    is recorded. `slot` is the slot of a function that serves one slot only. `implies` says what the
    symbol does besides and has no probe of its own: "page-after-set", "page-after-clear" (local),
    "broadcast-after-clear".
    """

    point: str
    kind: str
    symbol: str
    mechanism: Mechanism
    fields: dict[str, Fetched] = field(default_factory=dict)
    clear_kind: str | None = None
    filter: Condition | None = None
    slot: int | None = None
    implies: tuple[str, ...] = ()
    why: str = ""

    def _nonsense(self, plan: Plan) -> str | None:
        if self.kind not in Kind.__members__:
            return "kind"
        if self.clear_kind is not None and self.clear_kind not in Kind.__members__:
            return "clear_kind"
        if not self.fields.keys() <= set(FIELDS):
            return "fields"
        asked = leaves(self.filter) if self.filter is not None else ()
        if any(isinstance(leaf, Compare) and leaf.field not in self.fields for leaf in asked):
            return "filter"
        return None if self.slot is None or 0 <= self.slot < len(plan.slots) else "slot"


@dataclass(frozen=True, slots=True)
class Unseen:
    """Something that this plan cannot see, why, and which patterns and slots that affects."""

    what: str
    why: str
    patterns: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Slots, probes and blind spots of one kernel.

    `not_checked` maps a pattern to the reason why its probe points could not be resolved.
    `pti` says that kernel entries are not global, `forced_broadcast` that the hypervisor makes
    this guest's local invalidations broadcasts, which they are not on bare metal; `cpus` are the
    CPUs online at the time. `clock_error_ns` bounds how wrong the order of two stamps of different
    CPUs can be; `pair_errors_ns` says so of pairs for which another bound is proven (CPUs x < y,
    ns), `clock_drift_ns` how far two CPUs' stamps drift apart in a second. `contexts`: the source
    can tell an event's context, else all seem to be a task's. `backend` is what attaches the
    probes; `transport` is of the BPF one only. `summary`: the kernel judges, and keeps no events
    (summary.py). `numbered_arguments`: tracefs knows `$argN`; before Linux 4.20 a probe event has
    to name the registers instead.
    """

    arch: str
    release: str
    slots: tuple[Slot, ...]
    probes: tuple[Probe, ...]
    unseen: tuple[Unseen, ...] = ()
    not_checked: dict[str, str] = field(default_factory=dict)
    pti: bool = False
    forced_broadcast: bool = False
    cpus: tuple[int, ...] = ()
    clock: str = "mono"
    clock_error_ns: int = 1000
    pair_errors_ns: tuple[tuple[int, ...], ...] = ()
    clock_drift_ns: int = 0
    contexts: bool = True
    backend: Backend = "ftrace"
    transport: Transport = "mapped"
    summary: bool = False
    numbered_arguments: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready form, by plan.schema.json; `from_dict` reads it back."""
        return {"version": PLAN_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Any) -> Plan:
        """Read `to_dict` back, or what version 1 wrote: its fetches and filters become `Text`.

        Raises InputError on anything that is no such dict, or that no plan of ours could be.
        """
        try:
            version = data["version"]
            if version not in (_TEXT_VERSION, PLAN_VERSION) or isinstance(version, bool):
                raise InputError(
                    f"the plan in the file is of version {version!r:.20}, this ghesrace reads "
                    f"{_TEXT_VERSION} and {PLAN_VERSION}",
                    "read the file with the ghesrace that wrote it, or with a newer one",
                )
            rest = {k: v for k, v in data.items() if k != "version"}
            rest["slots"] = tuple(Slot(**s) for s in rest["slots"])
            rest["probes"] = tuple(_probe(p, version) for p in rest["probes"])
            rest["unseen"] = tuple(
                Unseen(u["what"], u["why"], _listed(u["patterns"]), _listed(u["slots"]))
                for u in rest["unseen"]
            )
            rest["cpus"] = _listed(rest["cpus"])
            rest["pair_errors_ns"] = tuple(map(_listed, _listed(rest.get("pair_errors_ns", ()))))
            plan = cls(**rest)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"the plan in the file is not one of ours: {error!r}") from error
        plan._refuse_nonsense()
        return plan

    def _refuse_nonsense(self) -> None:
        """Raise InputError unless every value is one that `resolve` could have made."""
        for part in (*self.slots, *self.probes, *self.unseen, self):
            wrong = misfit(part)
            if wrong is None:
                wrong = part._nonsense(self) if isinstance(part, Slot | Probe) else None
            if wrong is not None:
                name = type(part).__name__.lower()
                raise InputError(
                    f"the plan in the file is damaged: `{wrong}` of a {name} is not possible",
                    "record the capture again",
                )
        if not all(0 <= cpu < ALL_CPUS for cpu in self.cpus):
            raise InputError("the plan in the file names an impossible CPU")
        if not 0 <= self.clock_error_ns < 10**10 or len(self.slots) > MAX_SLOTS:
            raise InputError("the plan in the file has an impossible clock error or slot count")
        for pair in self.pair_errors_ns:
            if len(pair) != 3 or not (0 <= pair[0] < pair[1] < ALL_CPUS and 0 <= pair[2] < 10**10):
                raise InputError("the plan in the file has an impossible clock error of two CPUs")
        if not 0 <= self.clock_drift_ns < 10**9:
            raise InputError("the plan in the file has an impossible clock drift")

    @classmethod
    def from_json(cls, text: str | bytes) -> Plan:
        """Read a plan from JSON text. Raises InputError."""
        try:
            return cls.from_dict(json.loads(text))
        except (ValueError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"the plan in the file is not JSON: {error}") from error


def _listed(data: Any) -> tuple[Any, ...]:
    """A list as a tuple. Raises TypeError for what is none, a string too."""
    if not isinstance(data, list | tuple):
        raise TypeError(f"{data!r:.80} is no list")
    return tuple(data)


def _probe(data: Any, version: int) -> Probe:
    """A probe of a plan of *version*. Raises InputError, or what a damaged file leads to."""
    rest = {**data, "implies": _listed(data["implies"])}
    fields, only = data["fields"].items(), data["filter"]
    if version == _TEXT_VERSION:
        rest["fields"] = {name: Text(fetch) for name, fetch in fields}
        rest["filter"] = None if only is None else Text(only)
        return Probe(**rest)
    try:
        rest["fields"] = {name: read_fetch(fetch) for name, fetch in fields}
        rest["filter"] = None if only is None else read_condition(only)
    except InputError as error:
        what = f"the plan in the file is damaged: {error.what}"
        raise InputError(what, "record the capture again") from error
    return Probe(**rest)
