# SPDX-License-Identifier: Apache-2.0
"""Packs are built of a host's files; the compiler is one of our own here, which loads each number.
The real one is seen in tests/lab/test_packs.py."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from ghesrace import packs
from ghesrace.errors import GhesraceError, HostError, UsageError
from ghesrace.planning.resolve import resolve
from ghesrace.sources.bpf import program
from ghesrace.sources.bpf.cache import Compiled
from ghesrace.sources.bpf.compile import Refused
from ghesrace.sources.bpf.load import written
from ghesrace.sources.bpf.numbers import Placeholders
from ghesrace.sources.bpf.pack import NotForThisHost, text_digest
from tests.build import trees
from tests.build.plans import bpf_facts_of


def fake(text: str, functions: tuple[str, ...]) -> Compiled:
    """Each function loads all numbers of the text."""
    found = {int(number, 16) for number in re.findall(r"BOOT\((0x\w+)ULL\)", text)}
    code = b"".join(
        struct.pack("<BBhIBBhI", 0x18, 1, 0, n & 0xFFFFFFFF, 0, 0, 0, n >> 32)
        for n in sorted(found)
    )
    return Compiled((), dict.fromkeys(functions, code))


@pytest.fixture(autouse=True)
def compiler(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    monkeypatch.setattr(packs.bcc, "version", lambda: "__version__ = '0.26.0'\n")
    monkeypatch.setattr(packs.bcc, "compiled", fake)
    return lambda made: monkeypatch.setattr(packs.bcc, "compiled", made)


def host(root: Path, *, moved: int = 0, **more: object) -> Path:
    """A host's files; *moved* is how far KASLR moved its kernel."""
    bpf_facts_of(root, vmlinux_btf=trees.x86_bpf_btf(variables=()), **more)
    kallsyms = root / "proc/kallsyms"
    kallsyms.write_text(
        re.sub(
            r"^(ffffffff\w{8})",
            lambda found: f"{int(found[1], 16) + moved:016x}",
            kallsyms.read_text(),
            flags=re.M,
        )
    )
    return root


def test_a_pack_is_the_same_on_every_boot(tmp_path: Path) -> None:
    """If this fails, a pack is good until the next boot of the host that it was built on: KASLR
    moves the kernel, and what was compiled in is the address of something else."""
    first = packs.pack_of([host(tmp_path / "a")], summary=True)
    second = packs.pack_of([host(tmp_path / "b", moved=0x12600000)], summary=True)
    assert first == second
    assert [entry.summary for entry in first.entries] == [False, True]
    assert first.made_by.endswith("bcc 0.26.0")
    both = packs.pack_of([tmp_path / "a", tmp_path / "b"])
    assert both.entries == first.entries[:1]


def test_a_host_finds_its_entry_and_its_numbers(tmp_path: Path) -> None:
    """If this fails, the host's own addresses are not those that its programs get."""
    pack = packs.pack_of([host(tmp_path / "a")])
    facts = bpf_facts_of(tmp_path / "b", vmlinux_btf=trees.x86_bpf_btf(variables=()))
    plan = resolve(facts, backend="bpf")
    numbers = Placeholders()
    found = written(
        plan,
        dict.fromkeys(range(len(plan.probes)), 7),
        write=program.source,
        records=4096,
        cpus=8,
        numbers=numbers,
        root=tmp_path / "b",
    )
    entry = pack.entry(plan, found.btf, found.text)
    assert entry.text == text_digest(found.text)
    code = entry.for_boot(numbers.values, records=4096, cpus=8).code["p0"]
    loaded = {
        low | high << 32
        for low, high in (struct.unpack_from("<4xI4xI", code, at) for at in range(0, len(code), 16))
    }
    offsets = re.search(r"(\w+) R __per_cpu_offset", (tmp_path / "b/proc/kallsyms").read_text())
    assert offsets is not None
    assert {4096, int(offsets[1], 16)} <= loaded


def test_another_plan_is_refused(tmp_path: Path) -> None:
    """If this fails, a host with other functions gets programs that mean something else."""
    pack = packs.pack_of([host(tmp_path / "a")])
    facts = bpf_facts_of(
        tmp_path / "b", vmlinux_btf=trees.x86_bpf_btf(variables=()), modules={"m": trees.VMAREA}
    )
    plan = resolve(facts, backend="bpf")
    events = dict.fromkeys(range(len(plan.probes)), 7)
    found = written(
        plan,
        events,
        write=program.source,
        records=4096,
        cpus=8,
        numbers=Placeholders(),
        root=tmp_path / "b",
    )
    with pytest.raises(NotForThisHost, match="another plan: it lacks"):
        pack.entry(plan, found.btf, found.text)


def test_a_number_that_the_compiler_lost_is_told(
    tmp_path: Path, compiler: Callable[[object], None]
) -> None:
    """If this fails, a clang that folds a placeholder makes packs whose filters are nonsense."""
    compiler(lambda text, functions: fake(text.replace("BOOT(0x67686573", "(", 1), functions))
    with pytest.raises(GhesraceError, match="lost 1 of"):
        packs.entries(host(tmp_path))


def test_what_this_host_lacks_is_told(
    tmp_path: Path, compiler: Callable[[object], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a build host without bcc or headers shows a traceback, or names the headers of
    the kernel that the pack is for, which it does not need."""

    def refuse(*_: object) -> Compiled:
        raise Refused("compile", "x", "Unable to find kernel headers.")

    compiler(refuse)
    monkeypatch.setattr(packs.platform, "release", lambda: "9.9-here")
    with pytest.raises(HostError, match=r"linux-headers-9\.9-here"):
        packs.entries(host(tmp_path))
    with pytest.raises(HostError, match="BPF can't watch it: no BTF"):
        packs.entries(trees.tree(tmp_path / "old"))

    def none() -> str:
        raise Refused("bcc", "no module named bcc")

    monkeypatch.setattr(packs.bcc, "version", none)
    with pytest.raises(HostError, match="python3-bpfcc"):
        packs.pack_of([tmp_path])


def test_a_pack_that_is_not_named() -> None:
    """If this fails, a SHA-256 without a pack is silently for nothing, or none is an error."""
    assert packs.given(None, "", None) is None
    for given in ((None, "0" * 64, None), (None, "", Path("/key"))):
        with pytest.raises(UsageError, match="no program pack"):
            packs.given(*given)
    with pytest.raises(UsageError, match="can't read /none"):
        packs.given(Path("/none"), "0" * 64, None)
