# SPDX-License-Identifier: Apache-2.0
"""The plan: probe points as resolved on one kernel. Plain data, stored in every capture.

`resolve.py` makes a plan, the sources attach it, the checker reads from it what an event
implies and what stays unseen.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .errors import InputError
from .events import ALL_CPUS, Kind

PLAN_VERSION = 1
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
    `phys` and `prot` arguments are both 0 (fixmap setters). `fields` maps event fields to
    fetch expressions: addr, phys (bytes), pfn (page frame number, becomes phys), size (bytes),
    end (virtual address, becomes size), index (fixmap index, becomes slot), prot, from_phys
    (int: 0 means that the copy writes), handler, delta_ns. `slot` is the slot of a function
    that serves one slot only. `implies` says what the symbol does besides and has no probe
    of its own: "page-after-set", "page-after-clear" (local), "broadcast-after-clear".
    """

    point: str
    kind: str
    symbol: str
    mechanism: Mechanism
    fields: dict[str, str] = field(default_factory=dict)
    clear_kind: str | None = None
    filter: str | None = None
    slot: int | None = None
    implies: tuple[str, ...] = ()
    why: str = ""

    def _nonsense(self, plan: Plan) -> str | None:
        if self.kind not in Kind.__members__:
            return "kind"
        if self.clear_kind is not None and self.clear_kind not in Kind.__members__:
            return "clear_kind"
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
    CPUs can be. `backend` is what attaches the probes; `transport` is of the BPF one only.
    `summary`: the kernel judges, and keeps no events (summary.py).
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
    backend: Backend = "ftrace"
    transport: Transport = "mapped"
    summary: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; `from_dict` reads it back."""
        return {"version": PLAN_VERSION, **asdict(self)}

    @classmethod
    def from_dict(cls, data: Any) -> Plan:
        """Read `to_dict` back. Raises InputError on anything that is not such a dict."""
        try:
            if data["version"] != PLAN_VERSION:
                raise InputError(
                    f"plan version {data['version']!r} is not {PLAN_VERSION}",
                    "read the file with the ghesrace that wrote it",
                )
            rest = {k: v for k, v in data.items() if k != "version"}
            rest["slots"] = tuple(Slot(**s) for s in rest["slots"])
            rest["probes"] = tuple(
                Probe(**{**p, "implies": tuple(p["implies"])}) for p in rest["probes"]
            )
            rest["unseen"] = tuple(
                Unseen(u["what"], u["why"], tuple(u["patterns"]), tuple(u["slots"]))
                for u in rest["unseen"]
            )
            rest["cpus"] = tuple(rest["cpus"])
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
            wrong = _misfit(part)
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

    @classmethod
    def from_json(cls, text: str | bytes) -> Plan:
        """Read a plan from JSON text. Raises InputError."""
        try:
            return cls.from_dict(json.loads(text))
        except (ValueError, RecursionError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"the plan in the file is not JSON: {error}") from error


def _misfit(instance: Any) -> str | None:
    """The first field of a dataclass *instance* that its type hint does not allow, or None.

    It knows what a plan uses: int, str, bool, None, Literal, unions, dict, tuple[T, ...]. A str
    must be printable: it ends on a terminal.
    """
    hints = get_type_hints(type(instance))
    names = (f.name for f in fields(instance))
    return next((n for n in names if not _fits(getattr(instance, n), hints[n])), None)


def _fits(value: Any, hint: Any) -> bool:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return isinstance(value, str) and value in parts
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(v, parts[0]) for v in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            _fits(k, parts[0]) and _fits(v, parts[1]) for k, v in value.items()
        )
    if hint is str:
        return isinstance(value, str) and value.isprintable()
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, None, NoneType):
        return isinstance(value, hint or NoneType)
    return isinstance(value, hint)
