# SPDX-License-Identifier: Apache-2.0
"""A plan holds the probe points as resolved on one kernel. It is plain data, and every capture
stores one.

`planning/resolve.py` makes a plan, the sources attach it, and the checker reads from it what an
event implies and what stays unseen.

>>> plan = Plan("x86_64", "6.12", (Slot("GHES_IRQ", 644, None, "report"),), ())
>>> Plan.from_dict(plan.to_dict()) == plan
True
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ghesrace.errors import InputError
from ghesrace.events import ALL_CPUS, Kind
from ghesrace.unknowns import UNKNOWNS

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
    "INVALIDATES",
    "MAX_SLOTS",
    "PLAN_VERSION",
    "UNPROVEN_NS",
    "AllOf",
    "AnyOf",
    "Backend",
    "Compare",
    "Condition",
    "Constant",
    "Fetch",
    "Fetched",
    "FieldOf",
    "Implied",
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
UNPROVEN_NS = 10**10 - 1  # the clock error of which nothing is proven
MAX_SLOTS = 1024  # the x86 fixmap has fewer indices in all

LockUnit = Literal["page", "report"]
Backend = Literal["ftrace", "bpf"]
# BPF programs hand over what they see through arrays that user space maps, or a perf event array.
Transport = Literal["mapped", "perf"]
Mechanism = Literal[
    "kprobe", "kretprobe", "fprobe", "fretprobe", "fentry", "fexit", "tracepoint", "raw-tracepoint"
]


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot is one page-aligned kernel virtual address that GHES maps through.

    `index` is its value in enum fixed_addresses (None for a vm-area page), and `address` its
    virtual address, or None until that is observed. `lock` is the unit of its lock: one `page`
    (the legacy IRQ slot) or one whole `report` (the legacy NMI slot, and every slot since the locks
    moved to the notification helpers, Linux 5.1). `family` names the probe file that it came from,
    and `module` the module whose functions use it ("" for vmlinux).
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
    """A probe is one probe point on one symbol.

    Its hits become events of `kind` (an events.Kind), or of `clear_kind` when their `phys` and
    `prot` arguments are both 0 (fixmap setters). `fields` says what is fetched, by the names in
    `fetch.FIELDS`, and sources/values.py makes an event of it. A hit that `filter` refuses is not
    recorded. `slot` is the index of the slot of a function that serves one slot only. `implies`
    says what the symbol does besides and has no probe of its own, such as "page-after-set",
    "page-after-clear" (local) or "broadcast-after-clear" (points.IMPLIES).

    >>> Probe("unmap", "UNMAP", "__native_set_fixmap", "kprobe", {"index": Fetch(1)}).kind
    'UNMAP'
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


# What is asked of the function that shows an invalidation (`Implied.what`); points.IMPLIES has the
# rest.
INVALIDATES = "invalidates"


@dataclass(frozen=True, slots=True)
class Implied:
    """This says on what the plan believes, or does not, that the function `symbol` of the probe
    point `point` does `what` besides, or (INVALIDATES) what its probe is there for.

    It is "proven" if this kernel's code does it on every path, and `where` says by which
    instruction; "contradicted" if a path does not, and then no probe implies it; and "assumed",
    from Linux's source, if the code can't be read or followed, and then `where` says why.
    """

    point: str
    symbol: str
    what: str
    state: Literal["proven", "contradicted", "assumed"]
    where: str


@dataclass(frozen=True, slots=True)
class Unseen:
    """This names something that the plan cannot see, and says why, and which patterns and slots
    that affects."""

    what: str
    why: str
    patterns: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan lists the slots, probes and blind spots of one kernel.

    `not_checked` maps a pattern to the reason why its probe points could not be resolved.
    `pti` says that kernel entries are not global, and `forced_broadcast` that the hypervisor makes
    this guest's local invalidations broadcasts, which they are not on bare metal. `cpus` are the
    CPUs online at the time. `clock_error_ns` bounds how wrong the order of two stamps of different
    CPUs can be. Where that is assumed, `clock_proven_ns` is the larger bound that was proven, or
    UNPROVEN_NS where nothing was; None says that `clock_error_ns` is the proven one.
    `pair_errors_ns` gives another bound for the pairs of CPUs for which one is proven, as
    (x, y, ns) with x < y, and `clock_drift_ns` says how far two CPUs' stamps drift apart in a
    second. With `contexts` the source can tell an event's context; otherwise all events seem to be
    a task's, or an NMI's an interrupt's. `backend` attaches the probes, and `transport` matters to
    BPF only. With `summary` the kernel judges and keeps no events (sources/bpf/summary). With
    `numbered_arguments` tracefs knows `$argN`; before Linux 4.20 a probe event has to name the
    registers instead. With `hexadecimal_types` it knows `x64` (4.9), and with `maxactive` a return
    probe may say how many calls can be in flight (4.12); a kernel that can't takes `r64:NAME` for a
    probe without a name, and names it as it likes. `unknowns` names what the recording can't tell,
    on which the verdict rests (`unknowns.UNKNOWNS`); a recording of ours tells everything, but for
    what its kernel's code does where that could not be read. `implications` says of what probes
    imply whether the code holds
    it; of what it does not name nothing was read.
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
    clock_proven_ns: int | None = None
    pair_errors_ns: tuple[tuple[int, ...], ...] = ()
    clock_drift_ns: int = 0
    contexts: bool = True
    backend: Backend = "ftrace"
    transport: Transport = "mapped"
    summary: bool = False
    numbered_arguments: bool = True
    hexadecimal_types: bool = True
    maxactive: bool = True
    unknowns: tuple[str, ...] = ()
    implications: tuple[Implied, ...] = ()

    def proves(self, probe: Probe, what: str) -> bool:
        """Return whether the kernel's code holds that *probe*'s function does *what*.

        >>> Plan("arm64", "6.12", (), ()).proves(Probe("p", "MAP", "f", "kprobe"), "flush-inside")
        False
        """
        return any(
            (i.point, i.symbol, i.what, i.state) == (probe.point, probe.symbol, what, "proven")
            for i in self.implications
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready form that plan.schema.json describes; `from_dict` reads it."""
        return {"version": PLAN_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Any) -> Plan:
        """Return the plan of which `to_dict` made *data*, in this version or in version 1, whose
        fetches and filters become `Text`.

        Raises InputError for anything that is no such dict, and for what no plan of ours could be.
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
            rest["unknowns"] = _listed(rest.get("unknowns", ()))
            rest["implications"] = tuple(
                Implied(**i) for i in _listed(rest.get("implications", ()))
            )
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
        for part in (*self.slots, *self.probes, *self.unseen, *self.implications, self):
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
        proven = self.clock_proven_ns
        if proven is not None and not self.clock_error_ns <= proven <= UNPROVEN_NS:
            raise InputError("the plan in the file has an impossible proven clock error")
        for pair in self.pair_errors_ns:
            if len(pair) != 3 or not (0 <= pair[0] < pair[1] < ALL_CPUS and 0 <= pair[2] < 10**10):
                raise InputError("the plan in the file has an impossible clock error of two CPUs")
        if not set(self.unknowns) <= UNKNOWNS.keys():
            raise InputError("the plan in the file names an impossible unknown")
        if not 0 <= self.clock_drift_ns < 10**9:
            raise InputError("the plan in the file has an impossible clock drift")

    @classmethod
    def from_json(cls, text: str | bytes) -> Plan:
        """Return the plan in the JSON *text*. Raises InputError as `from_dict` does, and for text
        that is not JSON."""
        try:
            return cls.from_dict(json.loads(text))
        except (ValueError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"the plan in the file is not JSON: {error}") from error


def _listed(data: Any) -> tuple[Any, ...]:
    """Return a list as a tuple. Raises TypeError for anything else, even a string."""
    if not isinstance(data, list | tuple):
        raise TypeError(f"{data!r:.80} is no list")
    return tuple(data)


def _probe(data: Any, version: int) -> Probe:
    """Return a probe of a plan of *version*. Raises InputError, or KeyError, TypeError,
    AttributeError or ValueError, if the file is damaged."""
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
