# SPDX-License-Identifier: Apache-2.0
"""This module builds program packs: the BPF programs of a kernel's plan, by bcc, for hosts without
it. sources/bpf/pack.py says what a pack is.
"""

from __future__ import annotations

import platform
import re
from pathlib import Path

from ghesrace import __version__
from ghesrace.host.facts import Facts, read_facts
from ghesrace.planning.resolve import resolve
from ghesrace.sources.bpf import compile as bcc
from ghesrace.sources.bpf import program
from ghesrace.sources.bpf.load import refusal, written
from ghesrace.sources.bpf.numbers import Placeholders, placeholders
from ghesrace.sources.bpf.pack import Entry, Pack, programs_of, text_digest
from ghesrace.sources.bpf.summary import program as summary_program
from ghesrace.sources.bpf.summary.plan import summarised
from ghesrace.sources.bpf.trust import Trust, trusted

from .backends import bpf_refused
from .errors import GhesraceError, HostError, UsageError
from .plan import Plan

_BOOT = re.compile(r"BOOT\((0x[0-9a-f]+)ULL\)")
_ANY = 256  # records of a ring: each host has its own


def entries(root: Path = Path("/"), *, summary: bool = False) -> list[Entry]:
    """Return what a pack has for the kernel whose files are below *root*: the programs of its
    events and, with *summary*, those by which the kernel judges. Raises HostError if BPF can't
    watch that kernel, or if this host can't compile.

        Pack(made_by(), tuple(entries())).to_json()
    """
    facts = read_facts(root)
    if reason := bpf_refused(facts, root):
        raise HostError(f"Linux {facts.release}: BPF can't watch it: {reason}")
    plan = resolve(facts, backend="bpf")
    plans = [plan, summarised(plan)] if summary else [plan]
    return [_entry(one, root) for one in plans]


def _entry(plan: Plan, root: Path) -> Entry:
    numbers = Placeholders()
    found = written(
        plan,
        dict.fromkeys(range(len(plan.probes)), 0),
        write=summary_program.source if plan.summary else program.source,
        records=_ANY,
        cpus=1,
        numbers=numbers,
        root=root,
    )
    try:
        made = bcc.compiled(found.text, found.functions)
    except bcc.Refused as refused:
        raise refusal(refused, platform.release()) from refused
    said = {int(number, 16) for number in _BOOT.findall(found.text)}
    there = set[int]().union(*map(placeholders, made.code.values()))
    if said != there:  # A number of this boot would be in the programs of another one.
        raise GhesraceError(
            f"the compiler lost {len(said - there)} of {len(said)} numbers of Linux "
            f"{plan.release}, or made others",
            "report it with the versions of bcc and LLVM",
        )
    return Entry(
        plan.arch,
        plan.release,
        found.btf,
        plan.summary,
        text_digest(found.text),
        programs_of(plan),
        made,
    )


def made_by() -> str:
    """Return what makes packs here. Raises HostError if there is no bcc."""
    try:
        version = bcc.version()
    except bcc.Refused as refused:
        raise refusal(refused, platform.release()) from refused
    number = re.search(r"\d+\.\d+[\w.]*", version)
    return f"ghesrace {__version__}, bcc {number[0] if number else 'unknown'}"


def pack_of(roots: list[Path], *, summary: bool = False) -> Pack:
    """Return the pack for the kernels whose files are below *roots*. Raises HostError.

    print(pack_of([Path("/")]).to_json())
    """
    maker = made_by()
    found: list[Entry] = []
    for root in roots:
        found += [one for one in entries(root, summary=summary) if one not in found]
    return Pack(maker, tuple(found))


def entry_for(pack: Pack, facts: Facts, root: Path = Path("/")) -> Entry:
    """Return the entry of *pack* whose programs the host with these *facts* would load; its files
    are below *root*. Raises HostError: NotForThisHost if there is none, or it is damaged.

        entry_for(packs.given(path, sha256, None), read_facts()).release
    """
    if reason := bpf_refused(facts, root):
        raise HostError(f"Linux {facts.release}: BPF can't watch it: {reason}")
    plan = resolve(facts, backend="bpf")
    numbers = Placeholders()
    found = written(
        plan,
        dict.fromkeys(range(len(plan.probes)), 0),
        write=program.source,
        records=_ANY,
        cpus=1,
        numbers=numbers,
        root=root,
    )
    entry = pack.entry(plan, found.btf, found.text)
    entry.for_boot(numbers.values, records=_ANY, cpus=1)
    return entry


def given(path: Path | None, sha256: str, key: Path | None) -> Pack | None:
    """Return the pack at *path*, whose SHA-256 or whose maker's *key* is known, or None if none is
    wanted. Raises UsageError if it can't be trusted or read; see trust.trusted.

    >>> given(None, "", None) is None
    True
    """
    if path is None:
        if sha256 or key is not None:
            raise UsageError(
                "a SHA-256 or a key is given, and no program pack", "name the pack too"
            )
        return None
    return trusted(Trust(path, sha256, key))
