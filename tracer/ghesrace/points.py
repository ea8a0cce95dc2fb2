# SPDX-License-Identifier: Apache-2.0
"""This module loads and validates the declarative probe points of probes/*.toml.

What differs between kernels is data in those files; this module only gives it types. A key that
is misspelt or has the wrong type is an InputError that names the file and the key.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import resources
from typing import Any, TypeVar, get_args

from .errors import InputError
from .events import Kind
from .plan import FIELDS, Fetch, Fetched, LockUnit, Text
from .plan.fetch import read_fetch

ARCHES = ("x86_64", "arm64")
HOST_FEATURES = ("xen-pv", "pti", "hypervisor", "kvm")
IMPLIES = (
    "page-after-set",
    "page-after-clear",
    "broadcast-after-clear",
    "flush-inside",
    "may-allocate",  # page-table pages, under init_mm.page_table_lock
    "may-free",  # page-table pages
    "unmaps-status",  # the status word that a source's NMI handler reads
)
# Of these the kernel's code says whether they hold (planning/implied).
PROVABLE = IMPLIES[:4]
FILTERS = (
    "slot-index",  # the fixmap indices of the slots
    "slot-address",  # addr is in a slot
    "slot-range",  # [addr, end) touches a slot
    "mapped-page",  # addr is in a slot, or where a vm area may be
    "kernel-address",  # addr is not a user's
    "ghes-nmi-handler",  # handler is a ghes_notify_nmi
    "slot-table",  # [addr, end) touches the page-table page of a slot
    "tlb-flush",  # func is one of the callbacks, wait is set, and this context forbids it
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Implication:
    """An implication says that the symbol does `what` besides (one of IMPLIES).

    It does not hold if one of the points `unless` is resolved, as that shows it by itself, nor if
    points are `given` of which none is resolved. One of PROVABLE is looked for in the kernel's
    code, where a call of what a `given` point watches is that point's event. With `instead` it is
    what remains where the code contradicts that other one, or does it without such a call, and is
    believed only if the code holds it. Where it is a call of `by`, it is believed unless the code
    calls that only `behind` this other function, and behind a removal from a list before it.
    """

    what: str
    arch: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    given: tuple[str, ...] = ()
    instead: str = ""
    by: str = ""
    behind: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """A member is a value in the candidate's `struct`, to which argument number `argument` points.

    It lies at another place in the struct on every kernel: `at` makes the fetch of one kernel.

    >>> Member(1, "start").at({"start": 8})
    Fetch(argument=1, bits=64, signed=False, offset=8)
    """

    argument: int
    member: str
    bits: int = 64
    signed: bool = False

    def at(self, offsets: dict[str, int]) -> Fetch:
        """Return the fetch for a kernel with these *offsets* of members (bytes)."""
        return Fetch(self.argument, self.bits, self.signed, offsets[self.member])


Wanted = Fetched | Member


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate is a symbol (or tracepoint, `system:event`) that can serve a point; of a point's
    candidates the first that fits wins.

    It fits on the architectures `arch` (empty: on all), on a host with the features `when` ("!x":
    without x), if BTF gives the function `arity` parameters (`unknown_arity` accepts a kernel
    without BTF), and if the symbols `with_`, but none of `without`, are there: in the same vmlinux
    or module for a point of scope "any", else in any.

    `fields` says what to fetch, as a plan does (plan/fetch.py). `struct` names the BTF struct of a
    `Member` there, and `struct_default` gives its members' offsets (bytes) for a kernel without
    BTF. `raw_fields` are a tracepoint's fields as arguments of its raw form, for BPF. `sdei_path`
    marks code that runs in an SDEI handler, where arm64 allows no kprobe, and `needs_flags` a point
    that must know whether interrupts are off. Where BTF has no `member` (`struct.member`), the
    point cannot matter. `callbacks` are the functions that the filter `tlb-flush` passes, and
    `through` are those through which the symbol does what it `implies`, or `invalidates`: with that
    the symbol does not fit where this kernel's code does not invalidate the page at its `addr`.
    """

    symbol: str = ""
    tracepoint: str = ""
    arch: tuple[str, ...] = ()
    when: tuple[str, ...] = ()
    arity: int | None = None
    unknown_arity: bool = False
    with_: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    fields: dict[str, Wanted] = field(default_factory=dict)
    return_fields: dict[str, Fetched] = field(default_factory=dict)
    raw_fields: dict[str, Fetched] = field(default_factory=dict)
    struct: str = ""
    struct_default: dict[str, int] = field(default_factory=dict)
    filter: str = ""
    implies: tuple[Implication, ...] = ()
    sdei_path: bool = False
    needs_flags: bool = False
    member: str = ""
    callbacks: tuple[str, ...] = ()
    through: tuple[str, ...] = ()
    invalidates: bool = False
    why: str = ""

    def implied(self, arch: str, present: Collection[str]) -> tuple[Implication, ...]:
        """Return what the symbol does besides on *arch* if the points *present* are resolved."""
        return tuple(
            implication
            for implication in self.implies
            if (not implication.arch or arch in implication.arch)
            and not any(name in present for name in implication.unless)
            and (not implication.given or any(name in present for name in implication.given))
        )


@dataclass(frozen=True, slots=True)
class Point:
    """A point is one logical event, of kind `kind` (events.Kind).

    With the `scope` "any" its symbol is looked for in every module too. `role` marks a point that a
    slot needs. `bare` accepts a symbol whose arguments the compiler changed (.isra.0): its events
    only say that it ran. `returns` is the kind of the function's return, and `slot` the slot that
    it always serves. `unless` names points that make this one superfluous, and `host` the features
    without which the event cannot matter. If the point is unresolved and not `optional`, the plan
    says so, with `what` and the `patterns` that suffer.
    """

    name: str
    kind: str
    what: str
    family: str
    candidates: tuple[Candidate, ...]
    clear_kind: str | None = None
    returns: str | None = None
    scope: str = "vmlinux"
    role: str = ""
    slot: str = ""
    bare: bool = False
    optional: bool = False
    unless: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SlotRule:
    """A rule says where a family's slots come from: they have one fixed `name`, or they are the
    enumerators of a BTF `enum`.

    `match` is the prefix of those enumerators, and `prefix` is cut off to name the slot. `lock` is
    the unit of the slots' lock. `page_lock` names the slot whose lock was per page while the copy
    had no index argument. `unnamed` says how many slots to leave open, by architecture, where there
    is no BTF.
    """

    name: str = ""
    enum: str = ""
    match: str = ""
    prefix: str = ""
    lock: LockUnit = "report"
    page_lock: str = ""
    unnamed: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Never:
    """This names a symbol that exists but is not on the path that the point `instead_of` watches,
    and says why."""

    symbol: str
    instead_of: str
    why: str


@dataclass(frozen=True, slots=True)
class Blind:
    """A blind spot can never be seen on these architectures and hosts, by a plan that has a probe
    of these mechanisms (an empty tuple means any); `why` says why. With `forced_broadcast` the
    plan's is true there.
    """

    what: str
    why: str
    arch: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    mechanisms: tuple[str, ...] = ()
    forced_broadcast: bool = False


@dataclass(frozen=True, slots=True)
class ContextRule:
    """A context rule says where BPF programs find the preempt count on the architectures `arch`.

    It is the `member` of the per-CPU variable `variable` ("": the variable itself), or in the
    current task, behind the path of members `task`. Where BTF has the variable `wide_with`, the
    count has the wide layout. `helper` is the kernel's function behind the BPF helper that finds
    the variable or the task.
    """

    arch: tuple[str, ...]
    helper: str
    variable: str = ""
    member: str = ""
    task: tuple[str, ...] = ()
    wide_with: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """A family is one probe file. If none of its points is resolved, `pattern` can't be checked."""

    name: str
    points: tuple[Point, ...]
    pattern: str = ""
    slots: tuple[SlotRule, ...] = ()
    never: tuple[Never, ...] = ()
    blind: tuple[Blind, ...] = ()
    contexts: tuple[ContextRule, ...] = ()


@cache
def families() -> tuple[Family, ...]:
    """Return the shipped probe files, in the order of `load`. Raises InputError if one is invalid.

    >>> "ghes_copy_tofrom_phys" in symbols(families())
    True
    """
    directory = resources.files("ghesrace_probes")
    texts = {
        entry.name: entry.read_text("utf-8")
        for entry in directory.iterdir()
        if entry.name.endswith(".toml")
    }
    return load(texts)


def load(texts: dict[str, str]) -> tuple[Family, ...]:
    """Parse probe files, given as {file name: TOML text}, and return them by file name, those
    without a pattern first. Raises InputError, which names the file and the key.

    >>> load({"mine.toml": 'family = "mine"'})[0].name
    'mine'
    """
    found = [_family(name, texts[name]) for name in sorted(texts)]
    loaded = tuple(sorted(found, key=lambda family: bool(family.pattern)))  # slots' own first
    names = [point.name for family in loaded for point in family.points]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"probe point {name!r} is defined twice")
    for family in loaded:
        for point in family.points:
            implied = [
                name for c in point.candidates for i in c.implies for name in i.unless + i.given
            ]
            _known(f"{family.name}: point {point.name!r}: unless", point.unless, names)
            _known(f"{family.name}: point {point.name!r}: implies", implied, names)
        for never in family.never:
            _known(f"{family.name}: never {never.symbol!r}", [never.instead_of], names)
    return loaded


def symbols(loaded: tuple[Family, ...]) -> frozenset[str]:
    """Return every symbol that the probe files *loaded* name, in whatever role."""
    return frozenset(_symbols(loaded))


def _symbols(loaded: tuple[Family, ...]) -> Iterator[str]:
    for family in loaded:
        yield from (never.symbol for never in family.never)
        for point in family.points:
            for candidate in point.candidates:
                yield candidate.symbol
                yield from candidate.with_
                yield from candidate.callbacks
                yield from candidate.without
                yield from candidate.through
                for implication in candidate.implies:
                    yield from {implication.by, implication.behind} - {""}


def _family(file: str, text: str) -> Family:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{file}: {error}") from error
    _keys(file, data, ("family", "pattern", "slot", "point", "never", "blind", "context"))
    name = data.get("family")
    if not isinstance(name, str):
        raise InputError(f"{file}: `family` must be a string")
    pattern = data.get("pattern", "")
    if not isinstance(pattern, str):
        raise InputError(f"{file}: `pattern` must be a string")
    return Family(
        name=name,
        pattern=pattern,
        points=tuple(_point(file, name, raw) for raw in _tables(file, data, "point")),
        slots=tuple(_make(SlotRule, f"{file}: slot", raw) for raw in _tables(file, data, "slot")),
        never=tuple(_make(Never, f"{file}: never", raw) for raw in _tables(file, data, "never")),
        blind=tuple(_make(Blind, f"{file}: blind", raw) for raw in _tables(file, data, "blind")),
        contexts=tuple(
            _make(ContextRule, f"{file}: context", raw) for raw in _tables(file, data, "context")
        ),
    )


def _point(file: str, family: str, raw: dict[str, Any]) -> Point:
    where = f"{file}: point {raw.get('name')!r}"
    given = [_candidate(where, table) for table in _tables(where, raw, "candidate")]
    rest = {key: value for key, value in raw.items() if key != "candidate"}
    point = _make(Point, where, {**rest, "family": family, "candidates": given})
    if not given:
        raise InputError(f"{where}: has no candidate")
    kinds = [kind for kind in (point.kind, point.clear_kind, point.returns) if kind is not None]
    _known(f"{where}: kind", kinds, Kind.__members__)
    _known(f"{where}: scope", [point.scope], ("vmlinux", "any"))
    _known(f"{where}: role", [point.role], ("", "map", "unmap"))
    _known(f"{where}: host", point.host, HOST_FEATURES)
    return point


def _candidate(where: str, raw: dict[str, Any]) -> Candidate:
    where = f"{where}: candidate {raw.get('symbol') or raw.get('tracepoint')!r}"
    implied = [
        _make(Implication, f"{where}: implies", table) for table in _tables(where, raw, "implies")
    ]
    rest = {("with_" if key == "with" else key): value for key, value in raw.items()}
    for key in ("fields", "return_fields", "raw_fields"):
        rest[key] = _fetches(f"{where}: {key}", rest.get(key, {}), members=key == "fields")
    candidate = _make(Candidate, where, {**rest, "implies": implied})
    members = [w.member for w in candidate.fields.values() if isinstance(w, Member)]
    _known(f"{where}: fields: member", members, candidate.struct_default)
    if bool(candidate.symbol) == bool(candidate.tracepoint):
        raise InputError(f"{where}: needs either `symbol` or `tracepoint`")
    _known(f"{where}: arch", candidate.arch, ARCHES)
    _known(f"{where}: when", [w.removeprefix("!") for w in candidate.when], HOST_FEATURES)
    _known(f"{where}: implies", [i.what for i in implied], IMPLIES)
    _known(f"{where}: implies: instead", [i.instead for i in implied], ("", *PROVABLE))
    if candidate.invalidates and "addr" not in candidate.fields:
        raise InputError(f"{where}: `invalidates` needs the field `addr`")
    if candidate.filter:
        _known(f"{where}: filter", [candidate.filter], FILTERS)
    return candidate


def _fetches(where: str, raw: Any, *, members: bool) -> dict[str, Wanted]:
    """Return the fetches of a table, by field; with *members*, some may be members of a struct."""
    if not isinstance(raw, dict):
        raise InputError(f"{where}: {raw!r} is not a table of fetches by field")
    _known(where, raw, FIELDS)
    made: dict[str, Wanted] = {}
    for name, table in raw.items():
        if members and isinstance(table, dict) and "member" in table:
            made[name] = _make(Member, f"{where}: {name}", table)
            continue
        try:
            made[name] = read_fetch(table)
        except InputError as error:
            raise InputError(f"{where}: {name}: {error.what}") from error
        if isinstance(made[name], Text):
            raise InputError(f"{where}: {name}: text says nothing about what to fetch")
    return made


def _make(kind: type[T], where: str, raw: dict[str, Any]) -> T:
    """Build dataclass *kind* from a TOML table, checking every key and type."""
    known = {f.name: str(f.type) for f in fields(kind)}  # type: ignore[arg-type]
    _keys(where, raw, tuple(known))
    values: dict[str, Any] = {}
    for key, value in raw.items():
        expected = known[key]
        if expected.startswith("tuple["):
            if not isinstance(value, list) or (
                expected == "tuple[str, ...]" and not all(isinstance(v, str) for v in value)
            ):
                raise InputError(f"{where}: `{key}` must be a list of strings")
            values[key] = tuple(value)
            continue
        allowed = {"bool": bool, "int": int, "int | None": int, "dict": dict}.get(
            expected.partition("[")[0], str
        )
        if not isinstance(value, allowed) or (
            expected == "LockUnit" and value not in get_args(LockUnit)
        ):
            raise InputError(f"{where}: `{key}` is {value!r}, not a {expected}")
        values[key] = value
    try:
        return kind(**values)
    except TypeError as error:
        raise InputError(f"{where}: {error}") from error


def _tables(where: str, data: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = data.get(key, [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise InputError(f"{where}: `{key}` must be a list of tables")
    return found


def _keys(where: str, raw: dict[str, Any], known: tuple[str, ...]) -> None:
    shown = ["with" if key == "with_" else key for key in known]
    for key in raw:
        if key not in known:
            raise InputError(f"{where}: unknown key `{key}` (known: {', '.join(shown)})")


def _known(where: str, names: Any, known: Any) -> None:
    for name in names:
        if name not in known:
            raise InputError(f"{where}: {name!r} is not one of {', '.join(map(str, known))}")
