# SPDX-License-Identifier: Apache-2.0
"""What a program pack is, for whom, and what is none."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghesrace.errors import InputError
from ghesrace.plan import Plan, Probe
from ghesrace.sources.bpf.cache import Compiled, Map
from ghesrace.sources.bpf.numbers import FIRST
from ghesrace.sources.bpf.pack import (
    Entry,
    NotForThisHost,
    Pack,
    programs_of,
    sized,
    text_digest,
)
from tests.unit.sources.bpf.test_numbers import ld_imm64

CPUS = Map(2, 4, 512, 1, 1024, "cpus")
RECORDS = Map(2, 4, 72, 1, 1024, "records")
SLOTS = Map(2, 4, 8, 2, 0, "slots")
TEXT = "int p0(u64 *ctx) {}"
PLAN = Plan(
    "x86_64",
    "6.1.0-1",
    (),
    (Probe("c", "COPY", "ghes_copy", "fentry"), Probe("s", "SHOOTDOWN", "smp_call", "kprobe")),
    backend="bpf",
)
BTF = "b" * 64
CODE = {"p0": ld_imm64(FIRST) + ld_imm64(1, what=1), "p1": ld_imm64(5)}
ENTRY = Entry(
    "x86_64",
    "6.1.0-1",
    BTF,
    False,
    text_digest(TEXT),
    programs_of(PLAN),
    Compiled((CPUS, RECORDS), CODE),
)
PACK = Pack("bcc 0.26.0", (replace(ENTRY, text="0" * 64), ENTRY))


def test_what_was_written_is_read() -> None:
    """If this fails, a host loads other programs than were built."""
    assert Pack.read(PACK.to_json().encode(), "x") == PACK


def test_a_host_gets_its_own_entry_with_its_own_numbers() -> None:
    """If this fails, programs filter by another boot's addresses, or write behind their maps."""
    entry = PACK.entry(PLAN, BTF, TEXT)
    assert entry is PACK.entries[1]
    made = entry.for_boot({FIRST: 0xFFFFFFFF81000000}, records=256, cpus=3)
    assert made.code["p0"] == ld_imm64(0xFFFFFFFF81000000) + ld_imm64(1, what=1)
    assert made.code["p1"] == CODE["p1"]
    assert [one.entries for one in made.maps] == [3, 3 * 4 * 256]
    with pytest.raises(NotForThisHost, match="damaged"):
        entry.for_boot({}, records=256, cpus=3)


def test_maps_are_as_large_as_the_host_needs_them() -> None:
    """If this fails, CPUs of a large host write nowhere, and their events are missing."""
    buffers = Map(4, 4, 4, 1, 0, "records")  # BPF_MAP_TYPE_PERF_EVENT_ARRAY
    made = sized((CPUS, buffers, replace(CPUS, name="states"), SLOTS), records=256, cpus=5)
    assert [one.entries for one in made] == [5, 5, 5, 2]


@pytest.mark.parametrize(
    ("plan", "btf", "text", "words"),
    [
        (replace(PLAN, arch="arm64"), BTF, TEXT, "nothing for arm64"),
        (replace(PLAN, release="6.1.0-2"), BTF, TEXT, "nothing for Linux 6.1.0-2"),
        (PLAN, "c" * 64, TEXT, "another build of Linux 6.1.0-1: its BTF"),
        (replace(PLAN, summary=True), BTF, TEXT, "no programs for summary"),
        (replace(PLAN, probes=PLAN.probes[:1]), BTF, TEXT, "it has kprobe on smp_call"),
        (replace(PLAN, probes=PLAN.probes[::-1]), BTF, TEXT, "their order differs"),
        (
            replace(PLAN, probes=(*PLAN.probes, Probe("e", "MAP", "set", "fexit"))),
            BTF,
            TEXT,
            "it lacks fexit on set",
        ),
        (PLAN, BTF, TEXT + " ", "not those that this ghesrace makes"),
    ],
)
def test_anything_else_is_refused(plan: Plan, btf: str, text: str, words: str) -> None:
    """If this fails, programs made for another kernel or plan are loaded: offsets, filters and
    point numbers mean something else, and what they record is taken for the truth."""
    with pytest.raises(NotForThisHost, match=words) as refused:
        PACK.entry(plan, btf, text)
    assert refused.value.hint


def changed(path: tuple[Any, ...], value: Any) -> bytes:
    """The pack, with one value in its place exchanged."""
    data = json.loads(PACK.to_json())
    place = data
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(data).encode()


ONE = ("entries", 0)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("ghesrace_pack",), 2),
        (("ghesrace_pack",), True),
        (("more",), 1),
        (("made_by",), None),
        (("made_by",), "\N{SNOWMAN}"),
        (("entries",), {}),
        (("entries",), [0] * 1000),
        ((*ONE, "btf"), "B" * 64),
        ((*ONE, "text"), "0" * 63),
        ((*ONE, "summary"), 0),
        ((*ONE, "release"), "\x1b[2J"),
        ((*ONE, "arch"), "x" * 1000),
        ((*ONE, "programs"), []),
        ((*ONE, "programs", 0, "function"), "p1"),
        ((*ONE, "programs", 0, "function"), "../p0"),
        ((*ONE, "programs", 0, "type"), "kprobe"),
        ((*ONE, "programs", 0, "mechanism"), "uprobe"),
        ((*ONE, "maps"), []),
        ((*ONE, "maps", 0, "kind"), -1),
        ((*ONE, "maps", 0, "kind"), 1 << 32),
        ((*ONE, "maps", 0, "flags"), True),
        ((*ONE, "maps", 0, "entries"), 1.5),
        ((*ONE, "maps", 0, "name"), "a" * 16),
        ((*ONE, "maps", 0, "name"), ""),
        ((*ONE, "code", "p0"), "00"),
        ((*ONE, "code", "p0"), ""),
        ((*ONE, "code", "p0"), "FF" * 8),
        ((*ONE, "code", "p0"), ld_imm64(2, what=1).hex()),
        ((*ONE, "code", "p7"), "00" * 8),
    ],
)
def test_what_is_no_pack_is_refused(path: tuple[Any, ...], value: Any) -> None:
    """If this fails, a damaged pack reaches the kernel, or ends in a traceback."""
    with pytest.raises(InputError, match=r"a\.pack is no program pack"):
        Pack.read(changed(path, value), "a.pack")


@pytest.mark.parametrize("data", [b"", b"{}", b"[", b"\xff", b"[" * 100_000, b"1e9999", b"null"])
def test_junk_is_refused(data: bytes) -> None:
    """If this fails, a file that was named by mistake shows a traceback."""
    with pytest.raises(InputError):
        Pack.read(data, "x")


@given(st.data())
def test_changed_bytes_are_a_pack_or_refused(data: st.DataObject) -> None:
    """If this fails, one flipped byte ends the daemon with a traceback."""
    whole = bytearray(PACK.to_json().encode())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = Pack.read(bytes(whole), "x")
    except InputError:
        return
    assert Pack.read(read.to_json().encode(), "x") == read
