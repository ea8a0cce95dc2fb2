# SPDX-License-Identifier: Apache-2.0
"""The doctor's answer on a program pack: the loader's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ghesrace import packs
from ghesrace.doctor.check import Check
from ghesrace.doctor.checks import exit_code, run
from ghesrace.doctor.pack import GivenPack
from ghesrace.sources.bpf.pack import Pack
from tests.build import trees
from tests.build.hosts import Willing
from tests.unit.test_packs import fake, host

GIVEN = GivenPack(Path("/a.pack"), "00", Path("/a.pem"))
# A kernel without one of the functions that the pack's programs are on.
FEWER = tuple(name for name in trees.X86_BPF if name != "ghes_notify_nmi")


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pack:
    """A pack of the host whose files are in here, and what each path leads to."""
    monkeypatch.setattr(packs.bcc, "version", lambda: "0.26.0")
    monkeypatch.setattr(packs.bcc, "compiled", fake)
    made = packs.pack_of([host(tmp_path / "built")])
    named = (GIVEN.path, GIVEN.sha256, GIVEN.key)
    monkeypatch.setattr(packs, "given", lambda *of: {named: made}[of])
    return made


def checked(root: Path, given: GivenPack = GIVEN) -> dict[str, Check]:
    return {one.name: one for one in run(root, root, Willing(), given)}


def test_a_pack_of_another_boot_fits_and_nothing_else_is_needed(pack: Pack, tmp_path: Path) -> None:
    """If this fails, a host that could take the pack is sent to get bcc and headers."""
    found = checked(host(tmp_path / "here", moved=0x12600000))
    assert found["program pack"].state == "ok"
    assert f"{len(pack.entries[0].programs)} programs" in found["program pack"].found
    assert not {"bcc", "kernel headers"} & found.keys()


@pytest.mark.parametrize(
    ("backend", "meaning", "code"), [("auto", "by ftrace", 0), ("bpf", "nothing can watch", 3)]
)
def test_a_pack_for_another_plan_is_told(
    pack: Pack, tmp_path: Path, backend: str, meaning: str, code: int
) -> None:
    """If this fails, a pack is rolled out that no host takes: they are watched by ftrace, or not at
    all, and nothing said so before."""
    root = host(tmp_path / "here", functions=FEWER)
    before = exit_code(checked(host(tmp_path / "good")).values())
    found = checked(root, replace(GIVEN, backend=backend))
    assert before == 0
    assert found["program pack"].state == "missing"
    assert "another plan: it has" in found["program pack"].found
    assert meaning in found["program pack"].meaning
    assert found["program pack"].remedy
    assert {"bcc", "kernel headers"} <= found.keys()
    assert exit_code(found.values()) == code


def test_a_kernel_that_bpf_can_not_watch_takes_no_pack(pack: Pack, tmp_path: Path) -> None:
    """If this fails, the doctor ends in a traceback where there is no BTF, or calls a pack good
    that is not used."""
    root = trees.tree(tmp_path / "old")
    for backend, state in (("auto", "degraded"), ("bpf", "missing")):
        found = checked(root, replace(GIVEN, backend=backend))["program pack"]
        assert (found.state, found.needed) == (state, backend == "bpf")
        assert "no BTF" in found.found


def test_a_pack_that_auto_does_not_use_is_told(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a fleet is thought to be watched by its packs where `auto` prefers ftrace."""
    monkeypatch.setattr("ghesrace.doctor.pack.why_not_bpf", lambda *_, packed: f"kprobes{packed}")
    root = host(tmp_path / "here")
    found = checked(root)["program pack"]
    assert (found.state, found.found[-11:]) == ("degraded", "kprobesTrue")
    assert checked(root, replace(GIVEN, backend="bpf"))["program pack"].state == "ok"


def test_damaged_programs_are_told(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, a pack is called good whose code has a number that no boot knows."""
    [entry] = pack.entries
    code = fake("BOOT(0x676865730000ffffULL)", tuple(entry.compiled.code)).code
    bad = replace(entry, compiled=replace(entry.compiled, code=code))
    monkeypatch.setattr(packs, "given", lambda *_: Pack("", (bad,)))
    found = checked(host(tmp_path / "here"))["program pack"]
    assert (found.state, found.needed) == ("missing", False)
    assert "the pack is damaged" in found.found


def test_the_pack_that_is_asked_is_the_one_that_is_named(tmp_path: Path) -> None:
    """If this fails, any pack is called good, whoever could have written it."""
    root = host(tmp_path / "here")
    found = checked(root, GivenPack(tmp_path / "none.pack", "0" * 64))
    assert found["program pack"].needed
    assert "can't read" in found["program pack"].found
    assert exit_code(found.values()) == 3


def test_ftrace_takes_none(pack: Pack, tmp_path: Path) -> None:
    """If this fails, who configures a pack and ftrace thinks that the pack is in use."""
    found = checked(host(tmp_path / "here"), replace(GIVEN, backend="ftrace"))
    assert found["program pack"].state == "degraded"
    assert "not used" in found["program pack"].found
