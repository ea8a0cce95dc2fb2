# SPDX-License-Identifier: Apache-2.0
"""What `auto` chooses, and what it says when the better backend can't."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from ghesrace import backends
from ghesrace.errors import HostError
from tests.build import trees
from tests.build.plans import bpf_facts_of


@pytest.fixture(autouse=True)
def _bcc(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: found("json") if name == "bcc" else found(name)
    )


def test_bpf_is_better_where_trampolines_serve_all(tmp_path: Path):
    """If this fails, `auto` never uses the cheaper backend."""
    assert backends.why_not_bpf(bpf_facts_of(tmp_path), tmp_path) == ""


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ({"vmlinux_btf": None}, "no BTF"),
        ({"functions": trees.X86_GHES}, "no BPF trampoline for"),
        ({"functions": (*trees.X86_GHES, "array_map_mmap")}, "no BPF trampoline for"),
        ({"vmlinux_btf": trees.x86_bpf_btf(without=("memcpy_toio",))}, "memcpy_toio"),
        ({"modules": {"m": trees.VMAREA}}, "m:ghes_ioremap_pfn_irq"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, host: dict, words: str):
    """If this fails, a user does not learn why the cheaper backend was not used."""
    assert words in backends.why_not_bpf(bpf_facts_of(tmp_path, **host), tmp_path)


def test_headers_and_bcc_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """If this fails, the hint does not say which package to install."""
    facts = bpf_facts_of(tmp_path)
    (tmp_path / "lib/modules/6.1.0-test/build").rmdir()
    assert "linux-headers-6.1.0-test" in backends.why_not_bpf(facts, tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "python3-bpfcc" in backends.why_not_bpf(facts, tmp_path)


def test_a_pack_needs_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """If this fails, a host with a program pack is watched by ftrace for want of a compiler that it
    does not need; or for the pack a kernel is tried that BPF can't watch."""
    facts = bpf_facts_of(tmp_path)
    (tmp_path / "lib/modules/6.1.0-test/build").rmdir()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert backends.why_not_bpf(facts, tmp_path, packed=True) == ""
    assert next(backends.order("auto", facts, tmp_path, packed=True)) == ("bpf", "")
    assert next(backends.order("auto", facts, tmp_path))[0] == "ftrace"
    assert backends.make_plan("auto", facts, packed=True).backend == "bpf"
    without = bpf_facts_of(tmp_path / "b", vmlinux_btf=None)
    assert "no BTF" in backends.why_not_bpf(without, tmp_path, packed=True)


def test_a_kernel_without_bpf_refuses_it(tmp_path: Path):
    """If this fails, whoever asks for BPF gets an error from deep inside, or ftrace unasked."""
    facts = bpf_facts_of(tmp_path, vmlinux_btf=None)
    with pytest.raises(HostError, match=r"no BPF backend: no BTF"):
        backends.make_plan("bpf", facts)


def test_a_kernel_whose_btf_has_no_variables(tmp_path: Path):
    """If this fails, Debian's 5.10 is refused, or programs there see every event in one context."""
    bare = trees.x86_bpf_btf(variables=())
    assert (
        backends.bpf_refused(bpf_facts_of(tmp_path / "a", vmlinux_btf=bare), tmp_path / "a") == ""
    )
    hidden = bpf_facts_of(tmp_path / "b", vmlinux_btf=bare, hidden=True)
    assert "preempt count" in backends.bpf_refused(hidden, tmp_path / "b")


def test_order(tmp_path: Path):
    """If this fails, a wish is not obeyed, or `auto` has nothing to fall back to."""
    facts = bpf_facts_of(tmp_path)
    assert list(backends.order("bpf", facts)) == [("bpf", "")]
    assert list(backends.order("ftrace", facts)) == [("ftrace", "")]
    # This host's own headers decide: the last resort is the same on any.
    assert [backend for backend, _ in backends.order("auto", facts)][-1] == "ftrace"


def test_a_kernel_without_kprobes_is_watched_by_bpf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """If this fails, a user hears that nothing can be observed, and not that one package more would
    let BPF do it."""
    facts = bpf_facts_of(tmp_path, kprobes=False)
    assert backends.bpf_alone(facts, tmp_path)
    assert backends.make_plan("auto", facts, packed=True).backend == "bpf"
    with pytest.raises(HostError, match=r"no kprobe events.*; BPF could watch it, but: ") as raised:
        backends.make_plan("auto", facts)  # of which this host has no headers
    assert "docs/packs.md" in raised.value.hint
    monkeypatch.setattr(backends, "why_not_bpf", lambda *_, **__: "")
    with pytest.raises(HostError) as raised:
        backends.make_plan("ftrace", facts)
    assert raised.value.hint == "record with --backend bpf"


def test_no_other_kernel_is_bpfs_alone(tmp_path: Path):
    """If this fails, a user is sent to BPF where a mount, or GHES itself, is missing."""
    assert not backends.bpf_alone(bpf_facts_of(tmp_path / "a"), tmp_path / "a")
    for name, host in {
        "b": {"kprobes": False, "tracefs": False},
        "c": {"kprobes": False, "functions": trees.TRAMPOLINES},
        "d": {"kprobes": False, "vmlinux_btf": None},
    }.items():
        facts = bpf_facts_of(tmp_path / name, **host)
        assert not backends.bpf_alone(facts, tmp_path / name)
        with pytest.raises(HostError, match=r"no GHES slot can be observed: (?!.*BPF could)"):
            backends.make_plan("auto", facts)
