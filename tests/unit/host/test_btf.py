# SPDX-License-Identifier: Apache-2.0
"""The BTF reader."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghesrace.errors import InputError
from ghesrace.host.btf import Btf
from tests.build import trees

RUNNING = Path("/sys/kernel/btf/vmlinux")


def test_enum_values():
    """Slots would get the wrong fixmap index, and every address with it."""
    assert Btf(trees.x86_btf()).enum("fixed_addresses") == trees.X86_SLOTS
    assert Btf(trees.x86_btf()).enum("fixed") == {}


def test_negative_enumerators():
    """A signed enum's values would be read as huge unsigned ones."""
    data = bytearray(trees.btf({"e": {"A": -1}}))
    at = data.index(struct.pack("<I", 6 << 24 | 1))
    struct.pack_into("<I", data, at, 1 << 31 | 6 << 24 | 1)
    assert Btf(bytes(data)).enum("e") == {"A": -1}


def test_struct_offsets():
    """do_kernel_range_flush's range would be fetched from the wrong members."""
    assert Btf(trees.x86_btf()).offsets("flush_tlb_info") == {"mm": 0, "start": 8, "end": 16}


def test_members_of_anonymous_unions():
    """arm64 keeps the preempt count in one: BPF programs would not know their context."""
    inner = {"preempt_count": 0, "count": 4}
    found = Btf(trees.btf({}, {"inner": inner, "thread_info": {"flags": 0, "": 8}}))
    assert found.offsets("thread_info") == {"flags": 0, "preempt_count": 8, "count": 12}


def test_a_struct_inside_itself_is_refused():
    """Following it would never end."""
    data = trees.btf({}, {"loop": {"": 0}})
    at = data.index(struct.pack("<III", 0, 1, 0))  # its member is of type 1, the int
    with pytest.raises(InputError, match="too deep"):
        Btf(data[: at + 4] + struct.pack("<I", 2) + data[at + 8 :]).offsets("loop")


def test_function_parameters():
    """A four-argument copy would be probed for a fifth argument that is not there."""
    found = Btf(trees.x86_btf()).function("ghes_copy_tofrom_phys")
    assert found is not None
    assert found.parameters == trees.COPY_5
    assert Btf(trees.x86_btf()).function("ghes") is None


def test_kinds_of_parameters():
    """A BPF program would read a pointer or a struct as a number, and be refused."""
    found = Btf(trees.x86_bpf_btf()).function("native_set_fixmap")
    assert found is not None
    assert found.scalar == (True, True, False)
    assert found.struct == (False, False, True)
    copy = Btf(trees.x86_bpf_btf()).function("ghes_copy_tofrom_phys")
    assert copy is not None
    assert copy.scalar == (False, True, True, True, True)
    assert not any(copy.struct)


def test_a_type_that_is_its_own_modifier_is_refused():
    """Following it would never end."""
    data = bytearray(trees.btf({}, {}, {"f": ("a",)}))
    at = data.index(struct.pack("<III", 1, 1 << 24, 4))
    struct.pack_into("<III", data, at, 1, 8 << 24, 1)
    words = bytearray(data[:at]) + data[at : at + 12] + data[at + 16 :]
    struct.pack_into("<I", words, 12, struct.unpack_from("<I", data, 12)[0] - 4)
    struct.pack_into("<I", words, 16, struct.unpack_from("<I", data, 16)[0] - 4)
    with pytest.raises(InputError, match="modifier of itself"):
        Btf(bytes(words)).function("f")


def test_variables():
    """A per-CPU variable would be read at another's place."""
    assert Btf(trees.x86_bpf_btf()).variable("__preempt_count") is not None
    assert Btf(trees.x86_bpf_btf()).variable("pcpu_hot") is None


def test_function_ids():
    """A program would hang on another function."""
    vmlinux = Btf(trees.btf({}, {}, {"first": (), "second": ("a",)}))
    ids = vmlinux.function_id("first"), vmlinux.function_id("second")
    assert None not in ids
    assert ids[0] != ids[1]
    assert [vmlinux._row(n)[0] for n in ids if n] == [vmlinux, vmlinux]
    assert vmlinux.function_id("third") is None


def test_split_btf_continues_its_base():
    """A module's functions would be looked up with the wrong ids and strings."""
    base = trees.btf({}, {}, {"memcpy_fromio": ("to", "from", "n")})
    strings = struct.unpack_from("<I", base, 20)[0]
    vmlinux = Btf(base)
    module = trees.btf({}, {}, {"ghes_iounmap_irq": ("vaddr",)}, string_base=strings, id_base=4)
    split = Btf(module, vmlinux)
    found = split.function("ghes_iounmap_irq")
    assert found is not None
    assert found.parameters == ("vaddr",)
    assert vmlinux.function("ghes_iounmap_irq") is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x9f\xeb\x01",
        b"\x00" * 64,
        trees.x86_btf()[:-8],
        trees.x86_btf()[:24],
        trees.x86_btf()[:40] + b"\xff" * 400,
    ],
)
def test_not_btf(data: bytes):
    """Bytes that are not BTF would end in a traceback instead of a fact."""
    with pytest.raises(InputError):
        Btf(data).enum("fixed_addresses")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_hostile_bytes(data: st.DataObject):
    """A damaged file would raise something else than InputError, or hang."""
    good = bytearray(trees.x86_btf())
    for _ in range(data.draw(st.integers(1, 6))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with suppress(InputError):
        found = Btf(bytes(good))
        assert isinstance(found.enum("fixed_addresses"), dict)
        found.offsets("flush_tlb_info")
        found.function("ghes_copy_tofrom_phys")


def test_running_kernel():
    """The reader would not know a record that real kernels use, or take far too long."""
    found = Btf.read(RUNNING)
    kfree = found.function("kfree")
    assert kfree is not None
    assert len(kfree.parameters) == 1
    assert found.offsets("list_head") == {"next": 0, "prev": 8}
