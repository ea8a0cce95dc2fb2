# SPDX-License-Identifier: Apache-2.0
"""A program pack holds BPF programs that bcc made on one host, for others without bcc, LLVM and
kernel headers: docs/packs.md.

A pack has an entry for each kernel. Its programs are those of one C text, which has placeholders
for what differs from boot to boot (numbers.py). A host that loads it makes that text anew, from its
own plan, BTF and probe files, and takes an entry only if both texts are the same, to the byte. So a
pack does not decide what is traced: it saves the host the compiler. Packs are JSON; trust.py says
whose are read, and the reader here raises InputError for whatever is no pack.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from ghesrace.errors import HostError, InputError
from ghesrace.host.syscalls import INSTRUCTION
from ghesrace.plan import Plan

from . import instructions
from . import program as c_program
from .attach import RING_MAPS, STATES
from .cache import Compiled, Map
from .numbers import patched

FORMAT = 1
MOST_BYTES = 16 << 20  # 60 kB for a kernel's events, 150 more for its summary
MOST_ENTRIES = 256
_MOST_PROGRAMS, _MOST_MAPS = 4096, 16
_MOST_CODE = 8 * 1_000_000  # bytes of one program: what the verifier takes at most
_TEXT = re.compile(r"[ -~]{0,512}")  # printable, so that it can be shown
_KEYS = ("arch", "release", "btf", "summary", "text", "programs", "maps", "code")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FUNCTION = re.compile(r"p\d{1,4}")
_ARRAY = 2  # BPF_MAP_TYPE_ARRAY


class NotForThisHost(HostError):
    """This host's kernel, or its plan, has no entry in the pack."""


@dataclass(frozen=True, slots=True)
class PackedProgram:
    """This names one program: its C function, its type (program.PROGRAM_TYPE's), and what it is
    attached to and how."""

    function: str
    type: str
    mechanism: str
    symbol: str


def programs_of(plan: Plan) -> tuple[PackedProgram, ...]:
    """Return the programs that *plan* takes.

    >>> from ghesrace.plan import Probe
    >>> programs_of(Plan("x86_64", "6.1", (), (Probe("c", "COPY", "ghes_copy", "fentry"),)))
    (PackedProgram(function='p0', type='tracing', mechanism='fentry', symbol='ghes_copy'),)
    """
    return tuple(
        PackedProgram(
            c_program.program_name(point),
            c_program.PROGRAM_TYPE[probe.mechanism],
            probe.mechanism,
            probe.symbol,
        )
        for point, probe in enumerate(plan.probes)
    )


def text_digest(text: str) -> str:
    """Return what names a C text."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """This is what a pack has for one plan of one kernel: the kernel's architecture, release and
    SHA-256 of its BTF; whether the plan is a summary's; the SHA-256 of the C text; its programs;
    and what bcc made of it. In the code of `compiled` numbers.Placeholders stand for what differs
    from boot to boot, and the maps that are sized by the host (`sized`) have any size."""

    arch: str
    release: str
    btf: str
    summary: bool
    text: str
    programs: tuple[PackedProgram, ...]
    compiled: Compiled

    def for_boot(self, values: dict[int, int], *, records: int, cpus: int) -> Compiled:
        """Return the programs and maps of this boot, whose numbers are *values*, with rings of so
        many *records* on *cpus* CPUs. Raises InputError if the code has other placeholders."""
        try:
            code = {name: patched(text, values) for name, text in self.compiled.code.items()}
        except ValueError as error:
            raise NotForThisHost(f"the pack is damaged: {error}", "build it again") from error
        return Compiled(sized(self.compiled.maps, records=records, cpus=cpus), code)

    def to_dict(self) -> dict[str, Any]:
        """Return what `Pack.to_json` writes of it."""
        return {
            **{key: getattr(self, key) for key in ("arch", "release", "btf", "summary", "text")},
            "programs": [asdict(one) for one in self.programs],
            "maps": [asdict(one) for one in self.compiled.maps],
            "code": {name: code.hex() for name, code in self.compiled.code.items()},
        }


def sized(maps: Iterable[Map], *, records: int, cpus: int) -> tuple[Map, ...]:
    """Return *maps* as large as a host takes them that has so many *cpus* and *records* in each
    ring."""
    ring, all_rings = RING_MAPS[0], RING_MAPS[1]
    made = []
    for one in maps:
        if one.name in (ring, STATES):
            one = replace(one, entries=cpus)
        elif one.name == all_rings:  # Each CPU has one perf buffer, or a ring for each context.
            rings = cpus * c_program.CONTEXTS * records if one.kind == _ARRAY else cpus
            one = replace(one, entries=rings)
        made.append(one)
    return tuple(made)


@dataclass(frozen=True, slots=True)
class Pack:
    """This is a whole pack; `made_by` says what made it.

    >>> Pack.read(Pack("bcc 0.26.0", ()).to_json().encode(), "empty.pack")
    Pack(made_by='bcc 0.26.0', entries=())
    """

    made_by: str
    entries: tuple[Entry, ...]

    def to_json(self) -> str:
        """Return the text from which `read` makes the same again."""
        entries = [entry.to_dict() for entry in self.entries]
        made = {"ghesrace_pack": FORMAT, "made_by": self.made_by, "entries": entries}
        return json.dumps(made, indent=1) + "\n"

    @classmethod
    def read(cls, data: bytes, name: str) -> Pack:
        """Read the bytes of a pack, which messages call *name*. Raises InputError for whatever is
        none."""
        if len(data) > MOST_BYTES:
            raise InputError(f"{name} is no program pack: {len(data):,} bytes", "build it again")
        try:
            return cls._of(json.loads(data.decode()))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{name} is no program pack: {error}", "build it again") from error

    @classmethod
    def _of(cls, data: Any) -> Pack:
        found = _members(data, ("ghesrace_pack", "made_by", "entries"), "a pack")
        if found["ghesrace_pack"] != FORMAT or isinstance(found["ghesrace_pack"], bool):
            raise ValueError(f"format {str(found['ghesrace_pack'])[:20]!r}, and not {FORMAT}")
        entries = _list(found["entries"], MOST_ENTRIES, "entries")
        return cls(_string(found["made_by"]), tuple(_entry(one) for one in entries))

    def entry(self, plan: Plan, btf: str, text: str) -> Entry:
        """Return the entry for *plan* on a kernel with this SHA-256 of its BTF, where the plan
        makes this C text. Raises NotForThisHost, which says what differs."""
        again = "build a pack for this kernel: `ghesrace bpf build`"
        found = [one for one in self.entries if one.arch == plan.arch]
        if not found:
            raise NotForThisHost(f"the pack has nothing for {plan.arch}", again)
        found = [one for one in found if one.release == plan.release]
        if not found:
            raise NotForThisHost(f"the pack has nothing for Linux {plan.release}", again)
        found = [one for one in found if one.btf == btf]
        if not found:
            what = f"the pack is for another build of Linux {plan.release}: its BTF differs"
            raise NotForThisHost(what, again)
        found = [one for one in found if one.summary == plan.summary]
        if not found:
            which = "summary" if plan.summary else "events"
            raise NotForThisHost(f"the pack has no programs for {which} on this kernel", again)
        wanted = programs_of(plan)
        same = [one for one in found if one.programs == wanted]
        if not same:
            raise NotForThisHost(_difference(found[0].programs, wanted), again)
        for one in same:
            if one.text == text_digest(text):
                return one
        raise NotForThisHost(
            "the pack's programs are not those that this ghesrace makes of this host's plan",
            "build the pack with the same version of ghesrace, from facts of a host like this one",
        )


def _difference(there: tuple[PackedProgram, ...], wanted: tuple[PackedProgram, ...]) -> str:
    def names(one: PackedProgram) -> str:
        return f"{one.mechanism} on {one.symbol}"

    have, want = {names(one) for one in there}, {names(one) for one in wanted}
    lacks, more = sorted(want - have), sorted(have - want)
    said = [f"it lacks {lacks[0]}"] if lacks else []
    said += [f"it has {more[0]}"] if more else []
    return f"the pack's programs are for another plan: {', '.join(said) or 'their order differs'}"


def _entry(data: Any) -> Entry:
    found = _members(data, _KEYS, "an entry")
    for digest in ("btf", "text"):
        if not _SHA256.fullmatch(_string(found[digest])):
            raise ValueError(f"{digest!r} is no SHA-256")
    if not isinstance(found["summary"], bool):
        raise ValueError("'summary' is neither true nor false")
    programs = tuple(_program(one) for one in _list(found["programs"], _MOST_PROGRAMS, "programs"))
    maps = tuple(_map(one) for one in _list(found["maps"], _MOST_MAPS, "maps"))
    code = found["code"]
    if not isinstance(code, dict) or code.keys() != {one.function for one in programs}:
        raise ValueError("'code' is not that of the programs")
    compiled = Compiled(maps, {name: _code(text, len(maps)) for name, text in code.items()})
    return Entry(
        _string(found["arch"]),
        _string(found["release"]),
        found["btf"],
        found["summary"],
        found["text"],
        programs,
        compiled,
    )


def _program(data: Any) -> PackedProgram:
    found = _members(data, ("function", "type", "mechanism", "symbol"), "a program")
    made = PackedProgram(**{key: _string(value) for key, value in found.items()})
    if not _FUNCTION.fullmatch(made.function):
        raise ValueError(f"{made.function!r} is no program's function")
    if c_program.PROGRAM_TYPE.get(made.mechanism) != made.type:
        raise ValueError(f"no {made.mechanism!r} is a program of type {made.type!r}")
    return made


def _map(data: Any) -> Map:
    keys = ("kind", "key_size", "value_size", "entries", "flags")
    found = _members(data, (*keys, "name"), "a map")
    for key in keys:
        number = found[key]
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 1 << 32:
            raise ValueError(f"{key!r} of a map is no number of 32 bits")
    name = _string(found["name"])
    if not re.fullmatch(r"\w{1,15}", name, re.ASCII):
        raise ValueError(f"{name!r} is no map's name")
    return Map(**{key: found[key] for key in keys}, name=name)


def _code(data: Any, maps: int) -> bytes:
    if not isinstance(data, str) or not re.fullmatch(r"(?:[0-9a-f]{2})+", data):
        raise ValueError("code that is not hexadecimal")
    code = bytes.fromhex(data)
    if len(code) % INSTRUCTION or len(code) > _MOST_CODE:
        raise ValueError(f"code of {len(code):,} bytes")
    if any(index >= maps for index in instructions.maps(code)):
        raise ValueError("code that names a map which is not there")
    return code


def _members(data: Any, keys: tuple[str, ...], what: str) -> dict[str, Any]:
    if not isinstance(data, dict) or data.keys() != set(keys):
        raise ValueError(f"{what} has {', '.join(keys)}, and no more")
    return data


def _list(data: Any, most: int, what: str) -> list[Any]:
    if not isinstance(data, list) or len(data) > most:
        raise ValueError(f"{what!r} is no list of at most {most}")
    return data


def _string(data: Any) -> str:
    if not isinstance(data, str) or not _TEXT.fullmatch(data):
        raise ValueError("a text of at most 512 printable ASCII characters is needed")
    return data
