# SPDX-License-Identifier: Apache-2.0
"""This module says what a foreign trace's events are in our words: by the probed symbol, by the
names of the arguments, or as a map file says. It knows no file format of traces. The symbols come
from probes/*.toml.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ghesrace.errors import InputError
from ghesrace.events import EVENT, Kind, dtype_of
from ghesrace.plan import FIELDS, Fetch, LockUnit
from ghesrace.points import ARCHES, IMPLIES, Candidate, Point, Wanted, families
from ghesrace.sources.ring.pages import EventFormat

# A probe less than so many bytes behind a function's address is on its entry, because an ENDBR or
# BTI instruction may be before the ftrace site.
ENTRY_BYTES = 16
_ADDRESS_BYTES = 8
# These are names that people give to what our fields hold, the most usual ones first.
ALIASES = {
    "addr": ("vaddr", "va", "virt", "address", "vaddr_ptr", "start", "ptr"),
    "phys": ("paddr", "pa", "phys_addr", "physaddr", "phys_address"),
    "pfn": ("pfn_nr",),
    "size": ("len", "length", "count", "n", "bytes", "nbytes"),
    "end": ("stop",),
    "index": ("idx", "fixmap_idx", "fixmap"),
    "prot": ("flags", "pgprot"),
    "from_phys": ("from",),
    "handler": (),
    "delta_ns": (),
    "func": ("callback",),
    "wait": (),
}
# The mapped page is `from` in memcpy_fromio(to, from, n), and `to` in memcpy_toio(to, from, n).
_ACCESS_ALIASES = {"READ": ("src", "from"), "WRITE": ("dst", "to", "dest")}
_RETURNED = ("ret", "retval", "rc", "arg1")
# An event can be judged only if it has all fields of one of its kind's sets.
_NEEDS = {
    "INV_PAGE": ({"addr"},),
    "INV_RANGE": ({"addr", "end"}, {"addr", "size"}),
    "BCAST_RANGE": ({"addr", "end"}, {"addr", "size"}),
    "EDIT": ({"addr", "end"}, {"addr", "size"}),
    "MAP": ({"phys"}, {"pfn"}),
    "READ": ({"addr"},),
    "WRITE": ({"addr"},),
    "NMI_REF": ({"handler", "delta_ns"},),
}
ENDS = {
    "MAP": "MAP_END",
    "UNMAP": "UNMAP_END",
    "COPY": "COPY_END",
    "NOTIFY": "NOTIFY_END",
    "BCAST_RANGE": "BCAST_END",
    "BCAST_ALL": "BCAST_END",
    "EDIT": "EDIT_END",
}
_OURS = re.compile(r"p\d+_(?:\d+_)?([A-Za-z]\w*?)(?:_\d+)?$")


@dataclass(frozen=True, slots=True)
class EventType:
    """This describes one type of event in a trace. `symbol` is the function that a probe event sits
    on ("" if the trace does not tell), and `module` is the module that has it. `returns` says that
    the probe is on the function's return, and `place` is its address, as perf prints no more.
    `printed` says that a text has no place at all, as what trace_printk() prints.
    """

    system: str
    name: str
    format: EventFormat
    symbol: str = ""
    module: str = ""
    returns: bool = False
    place: str = ""
    printed: bool = False

    @property
    def label(self) -> str:
        """Map files and messages use this name: `system/event`, or `event` if the system is not
        known."""
        return f"{self.system}/{self.name}" if self.system else self.name


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule says what one event type becomes. `fields` maps each of our fields to theirs. `role`
    names the slot that the function always serves, `scope` the function's module, and `point` the
    probe point ("" if the rule is a map file's).
    """

    kind: str
    fields: dict[str, str] = field(default_factory=dict)
    clear_kind: str | None = None
    point: str = ""
    family: str = ""
    symbol: str = ""
    scope: str = ""
    role: str = ""
    returns: bool = False
    candidate: Candidate | None = None
    implies: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class MappedSlot:
    """This is a slot that a map file names, by its fixmap index, by its virtual address, or only by
    the `slot` of its events."""

    name: str
    index: int | None = None
    address: int | None = None
    lock: LockUnit = "report"


@dataclass(frozen=True, slots=True)
class EventMap:
    """A map file gives a rule for each event label (None to ignore the event), slots, the
    architecture, and the clocks' error between CPUs (ns). `parse_map` has an example."""

    rules: dict[str, Rule | None] = field(default_factory=dict)
    slots: tuple[MappedSlot, ...] = ()
    arch: str = ""
    clock_error_ns: int | None = None
    path: str = ""

    def rule(self, event: EventType) -> tuple[bool, Rule | None]:
        """Return whether the map names this event, and what it becomes."""
        for label in (event.label, event.name):
            if label in self.rules:
                return True, self.rules[label]
        if not event.system:  # The text of ftrace does not print it.
            for label, rule in self.rules.items():
                if label.rpartition("/")[2] == event.name:
                    return True, rule
        return False, None


@dataclass(frozen=True, slots=True)
class Unusable:
    """This event was recognised but lacks what is needed to judge it; `why` says what. `point` is
    the probe point that it is of."""

    event: str
    kind: str
    why: str
    point: str = ""


def recognise(event: EventType, given: EventMap) -> Rule | Unusable | None:
    """Return what *event* becomes, or None if it does not concern us. A map file (*given*) has the
    first say.

    Raises InputError if the map file names a field that the event does not have.

    >>> event = EventType("sched", "sched_switch", EventFormat("sched_switch", 1, {}))
    >>> recognise(event, EventMap()) is None
    True
    """
    named, rule = given.rule(event)
    if named:
        if rule is not None:
            _has_fields(event, rule, given.path)
        return rule
    return _ours(event) or _by_symbol(event)


def _ours(event: EventType) -> Rule | Unusable | None:
    """Return what *event* becomes if it is one that the script of `ghesrace plan --format
    trace-cmd` or our own tracing instance made: its name holds the point's name, and its fields are
    ours."""
    match = _OURS.fullmatch(event.name)
    if match is None or (event.system and not event.system.startswith("ghesrace_")):
        return None
    for point in _points():
        if re.sub(r"\W", "_", point.name) == match[1]:
            known = [c for c in point.candidates if c.symbol == event.symbol]
            return _best(event, point, known or list(point.candidates))
    return None


def function_of(symbol: str) -> str:
    """Return the function that the probe on *symbol* is in, be it at its entry or not.

    >>> function_of("native_set_fixmap+0x4c"), function_of("f.cold.3"), function_of("f.isra.0")
    ('native_set_fixmap', 'f', 'f')
    """
    return re.split(r"[+.]", symbol)[0]


def _by_symbol(event: EventType) -> Rule | Unusable | None:
    for name in _symbol_names(event):
        for point in _points():
            fit = [c for c in point.candidates if name in (c.symbol, c.tracepoint)]
            if fit and point.kind == Kind.SHOOTDOWN.name:
                # Most of these IPIs are harmless, and only a filter like ours tells which are not.
                why = "which of its callbacks flush TLBs is not known; a map file can say so"
                return Unusable(event.label, point.kind, why)
            if fit and event.printed:
                why = (
                    "no place is behind its name, as trace_printk() prints; a map file can name it"
                )
                return Unusable(event.label, point.kind, why)
            if fit:
                return _best(replace(event, symbol=name), point, fit)
    inside = function_of(event.symbol)
    for point in _points() if inside else ():
        if any(c.symbol == inside for c in point.candidates) and point.kind != Kind.SHOOTDOWN.name:
            why = f"its probe is inside the function, at {event.symbol}, and not at its entry"
            return Unusable(event.label, point.kind, why, point.name)
    return None


def _symbol_names(event: EventType) -> Iterator[str]:
    """Yield the names that the probed function may have, the most certain first."""
    if event.symbol:
        # A .cold part is no function, and nobody knows how often the function itself was called.
        if not re.search(r"\.cold(\.\d+)?$", event.symbol):
            yield event.symbol.partition(".")[0]
        return
    yield f"{event.system}:{event.name}"
    # Unless told otherwise, the kernel names a kprobe event p_SYMBOL_OFFSET, and perf names it
    # SYMBOL or SYMBOL__return, and adds _N where it inlined the function at several places. Only
    # offset 0 is taken, because the arguments may have left their registers behind a function's
    # entry.
    plain = event.name.removesuffix("__return")
    yield plain
    numbered = re.fullmatch(r"(\w+?)(?:__return)?_\d{1,3}", plain)
    if numbered and event.place:
        yield numbered[1]
    made = re.fullmatch(r"[pr]_(?:\w+:)?(\w+?)_0", plain)
    if made:
        yield made[1]


def _points() -> Iterator[Point]:
    for family in families():
        yield from family.points


def _best(event: EventType, point: Point, fit: list[Candidate]) -> Rule | Unusable:
    """Return the rule of the candidate whose arguments the event has; the first one wins a tie."""
    returns = event.returns or re.search(r"__return(_\d+)?$", event.name) is not None
    kind = point.returns if returns else point.kind
    if kind is None:
        return Unusable(event.label, point.kind, "only the function's return is in the trace")
    ranked = []
    for number, candidate in enumerate(fit):
        wanted: Mapping[str, Wanted] = candidate.return_fields if returns else candidate.fields
        got = {}
        for ours, fetch in wanted.items():
            theirs = _field(event, ours, fetch, kind, returns)
            if theirs is not None:
                got[theirs[0]] = theirs[1]
        ranked.append((len(got) - len(wanted), len(got), -number, candidate, got))
    *_, candidate, got = max(ranked, key=lambda r: r[:3])
    if candidate.fields and not enough(kind, got.keys()):
        words = " or ".join(" and ".join(sorted(need)) for need in _NEEDS[kind])
        why = f"it has no field that is known to hold {words}"
        return Unusable(event.label, kind, why, point.name)
    scope = event.module
    return Rule(
        kind=kind,
        fields=got,
        clear_kind=None if returns else point.clear_kind,
        point=point.name,
        family=point.family,
        symbol=candidate.symbol or candidate.tracepoint,
        scope=scope,
        role=point.slot,
        returns=returns,
        candidate=None if returns else candidate,
        why="its return" if returns else candidate.why,
    )


def enough(kind: str, fields: Set[str]) -> bool:
    """Return whether events that become *kind* can be judged with these of our *fields*.

    >>> enough("INV_RANGE", {"addr"}), enough("INV_RANGE", {"addr", "size"})
    (False, True)
    """
    return any(need <= fields for need in _NEEDS.get(kind, (set(),)))


def _field(
    event: EventType, ours: str, fetch: Wanted, kind: str, returns: bool
) -> tuple[str, str] | None:
    """Return (our field, theirs) for what a probe point fetches as *ours*, or None if the event
    does not have it."""
    names = event.format.fields.keys()
    tried = [(ours, ours)]
    if returns:
        tried += [(ours, name) for name in _RETURNED]
    tried += [(ours, name) for name in _ACCESS_ALIASES.get(kind, ()) if ours == "addr"]
    tried += [(ours, name) for name in ALIASES[ours]]
    # A frame may be told by its number instead of its address, and the other way round.
    other = {"phys": "pfn", "pfn": "phys"}.get(ours)
    if other:
        tried += [(other, name) for name in (other, *ALIASES[other])]
    if ours == "end":
        tried += [("size", name) for name in ("size", *ALIASES["size"])]
    if isinstance(fetch, Fetch) and fetch.offset is None and fetch.argument != "return":
        tried.append((ours, f"arg{fetch.argument}"))
    return next((pair for pair in tried if pair[1] in names and _holds(event, *pair)), None)


def _holds(event: EventType, ours: str, theirs: str) -> bool:
    """Return whether their field has room for ours: two frames can have the same low 32 bits."""
    return ours != "phys" or event.format.fields[theirs].size >= _ADDRESS_BYTES


def _has_fields(event: EventType, rule: Rule, path: str) -> None:
    for ours, theirs in rule.fields.items():
        if theirs not in event.format.fields:
            known = ", ".join(n for n in event.format.fields if not n.startswith(("common_", "__")))
            raise InputError(
                f"{path}: event {event.label}: {ours} is to be in its field {theirs!r}, which it "
                "does not have",
                f"its fields are: {known or 'none'}",
            )


# -- the map file ------------------------------------------------------------------------

_MAP_KEYS = {"arch", "clock_error_ns", "slot", "event"}
_SLOT_KEYS = {"name", "index", "address", "lock"}
_EVENT_KEYS = {"event", "kind", "clear_kind", "slot", "fields", "implies", "end", "ignore"}
_END_KEYS = {"event", "fields"}
_MAX_MAP = 1 << 20


def load_map(path: Path) -> EventMap:
    """Read a map file (docs/foreign-traces.md). Raises InputError, which names the file and the
    key."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_MAP + 1)
        if len(data) > _MAX_MAP:
            raise InputError(f"{path}: a map file of more than 1 MiB", "is it one?")
        return parse_map(data.decode("utf-8"), str(path))
    except OSError as error:
        raise InputError(
            f"can't read {path}: {error.strerror or error}", "give the path of a map file"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text: {error.reason}", "it must be TOML") from error


def parse_map(text: str, path: str = "map") -> EventMap:
    """Read a map file's *text*; *path* is its name in messages. Raises InputError.

    >>> parse_map('[[event]]\\nevent = "e"\\nkind = "map"\\nfields.phys = "pa"').rules["e"].fields
    {'phys': 'pa'}
    """
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise InputError(f"{path}: {error}", "it must be TOML: docs/foreign-traces.md") from error
    _only(path, data, _MAP_KEYS)
    rules: dict[str, Rule | None] = {}
    for table in _tables(path, data, "event"):
        for label, rule in _mapped_event(path, table):
            if label in rules:
                raise InputError(f"{path}: event {label!r} is there twice")
            rules[label] = rule
    slots = tuple(_mapped_slot(path, table) for table in _tables(path, data, "slot"))
    names = [slot.name for slot in slots]
    if len(set(names)) < len(names):
        raise InputError(f"{path}: two slots have the same name")
    arch = _text(path, data, "arch", "")
    if arch and arch not in ARCHES:
        raise InputError(f"{path}: arch {arch!r} is not one of {', '.join(ARCHES)}")
    error_ns = data.get("clock_error_ns")
    if error_ns is not None:
        error_ns = _number(path, data, "clock_error_ns")
    return EventMap(rules, slots, arch, error_ns, path)


def _mapped_event(path: str, table: dict[str, Any]) -> Iterator[tuple[str, Rule | None]]:
    label = _text(path, table, "event")
    where = f"{path}: event {label!r}"
    _only(where, table, _EVENT_KEYS)
    ignore = table.get("ignore", False)
    if not isinstance(ignore, bool):
        raise InputError(f"{where}: ignore must be true or false")
    if ignore:
        yield label, None
        return
    kind = _kind(where, _text(where, table, "kind"))
    clear = table.get("clear_kind")
    rule = Rule(
        kind=kind,
        clear_kind=None if clear is None else _kind(where, _text(where, table, "clear_kind")),
        fields=_field_table(where, table),
        implies=_implied(where, table),
        symbol=label,
        role=_text(where, table, "slot", ""),
        why=f"{path} says so",
    )
    end = table.get("end")
    if end is not None and not isinstance(end, dict):
        raise InputError(f"{where}: end must be a table")
    needs = _NEEDS.get(kind)
    if needs and not any(need <= rule.fields.keys() for need in needs):
        words = " or ".join(" and ".join(sorted(need)) for need in needs)
        raise InputError(f"{where}: a {_word(kind)} needs the fields {words}")
    yield label, rule
    if end is None:
        return
    _only(f"{where}: end", end, _END_KEYS)
    if kind not in ENDS:
        raise InputError(f"{where}: a {_word(kind)} has no end")
    yield (
        _text(f"{where}: end", end, "event"),
        replace(
            rule,
            kind=ENDS[kind],
            clear_kind=None,
            fields=_field_table(f"{where}: end", end),
            implies=(),
            returns=True,
        ),
    )


def _mapped_slot(path: str, table: dict[str, Any]) -> MappedSlot:
    name = _text(path, table, "name")
    where = f"{path}: slot {name!r}"
    _only(where, table, _SLOT_KEYS)
    lock = _text(where, table, "lock", "report")
    if lock not in ("page", "report"):
        raise InputError(f"{where}: lock must be page or report")
    index = _number(where, table, "index") if "index" in table else None
    address = _number(where, table, "address") if "address" in table else None
    if address is not None and address % 4096:
        raise InputError(f"{where}: address {address:#x} is not the begin of a page")
    return MappedSlot(name, index, address, "page" if lock == "page" else "report")


def _field_table(where: str, table: dict[str, Any]) -> dict[str, str]:
    given = table.get("fields", {})
    if not isinstance(given, dict) or not all(isinstance(v, str) for v in given.values()):
        raise InputError(f"{where}: fields must be a table of strings: our field = theirs")
    for name in given:
        if name not in FIELDS:
            raise InputError(f"{where}: fields: {name!r} is not one of {', '.join(FIELDS)}")
    return dict(given)


def _implied(where: str, table: dict[str, Any]) -> tuple[str, ...]:
    given = table.get("implies", [])
    if not isinstance(given, list) or not all(what in IMPLIES for what in given):
        raise InputError(f"{where}: implies must be a list of {', '.join(IMPLIES)}")
    return tuple(given)


def _word(kind: str) -> str:
    return kind.lower().replace("_", "-")


def _kind(where: str, text: str) -> str:
    kinds = {_word(k.name): k.name for k in Kind if dtype_of(k) is EVENT and k != Kind.MARK}
    if text not in kinds:
        raise InputError(f"{where}: kind {text!r} is not one of {', '.join(kinds)}")
    return kinds[text]


def _text(where: str, table: dict[str, Any], key: str, default: str | None = None) -> str:
    value = table.get(key, default)
    if not isinstance(value, str) or (default is None and not value):
        raise InputError(f"{where}: {key} must be a string")
    return value


def _number(where: str, table: dict[str, Any], key: str) -> int:
    value = table[key]
    try:
        number = int(value, 0) if isinstance(value, str) else value
    except ValueError:
        number = None
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 1 << 64:
        raise InputError(f"{where}: {key} must be a number: {value!r}")
    return number


def _tables(path: str, data: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = data.get(key, [])
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise InputError(f"{path}: `{key}` must be a list of tables: [[{key}]]")
    return found


def _only(where: str, table: dict[str, Any], known: set[str]) -> None:
    for key in table:
        if key not in known:
            raise InputError(f"{where}: unknown key {key!r} (known: {', '.join(sorted(known))})")
