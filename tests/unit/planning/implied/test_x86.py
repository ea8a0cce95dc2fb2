# SPDX-License-Identifier: Apache-2.0
"""What x86 instructions do to registers, and which of them matter."""

from __future__ import annotations

import pytest

from ghesrace.host.code import Blocks
from ghesrace.planning.implied.paths import (
    ALL,
    STACK,
    Acts,
    Lost,
    State,
    Surroundings,
    ends,
)
from ghesrace.planning.implied.x86 import RAX, RCX, RDI, RDX, RSI, RSP, entry, step

AT, FLUSH, TABLE = 0xFFFFFFFF81000000, 0xFFFFFFFF81000800, 0xFFFFFFFF82000000


def run(text: str, count: int, **registers: int) -> State:
    """The state behind the first *count* instructions of *text* (hexadecimal)."""
    around = Surroundings(Blocks({AT: bytes.fromhex(text) + bytes(15)}))
    state = entry(AT, {})
    for name, value in registers.items():
        state = state.put(globals()[name.upper()], value)
    for _ in range(count):
        (state,) = step(state, around)
    return state


def paths(text: str, more: dict[int, bytes] | None = None, **known: int | None) -> list[Acts]:
    """What each path of the function *text* does, given its first arguments a1, a2, ..."""
    code = Blocks({AT: bytes.fromhex(text), **(more or {})})
    given = {int(name[1:]): value for name, value in known.items()}
    around = Surroundings(code, frozenset(), {FLUSH: "flush"})
    return ends(entry(AT, given), around, step)


@pytest.mark.parametrize(
    ("text", "count", "given", "register", "value"),
    [
        # mov %edi,%edx; mov $-0x801000,%rdi; shl $12,%edx; sub %rdx,%rdi: native_set_fixmap's page
        ("89fa48c7c700f07fffc1e20c4829d7", 4, {"rdi": 644}, RDI, 0xFFFFFFFFFF57B000),
        ("31c0", 1, {}, RAX, 0),  # xor %eax,%eax
        ("4821c6", 1, {"rax": 0}, RSI, 0),  # and %rax,%rsi
        ("4821c6", 1, {"rax": 1}, RSI, None),
        ("488d3cc2", 1, {"rdx": 16, "rax": 2}, RDI, 32),  # lea (%rdx,%rax,8),%rdi
        ("488d05f9ffffff", 1, {}, RAX, AT),  # lea -7(%rip),%rax
        ("575f", 2, {"rdi": 5}, RDI, 5),  # push, pop
        ("57f30f1efa59", 3, {"rdi": 5}, RCX, 5),
        ("4883ec1048893c24488b0424", 3, {"rdi": 7}, RAX, 7),  # sub; mov to the stack and back
        ("0fb6c7", 1, {"rdi": 0x1FF}, RAX, None),  # movzbl %bh,%eax is not followed
        ("400fb6c7", 1, {"rdi": 0x1FF}, RAX, 0xFF),
        ("4863c7", 1, {"rdi": 0xFFFFFFFF}, RAX, 2**64 - 1),  # movslq
        ("48c1ff04", 1, {"rdi": 2**64 - 32}, RDI, 2**64 - 2),  # sar
        ("48f7d7", 1, {"rdi": 0}, RDI, 2**64 - 1),  # not
        ("ffc8", 1, {"rax": 0}, RAX, 0xFFFFFFFF),  # dec %eax
        ("39f7480f44d6", 2, {"rdi": 1, "rsi": 1}, RDX, 1),  # cmp; cmove
        ("0fa2", 1, {"rdx": 3}, RDX, None),  # cpuid is not modelled
        ("480fafc7", 1, {"rax": 2, "rdi": 3}, RAX, 6),  # imul
        ("486bc7fd", 1, {"rdi": 3}, RAX, 2**64 - 9),  # imul $-3,%rdi,%rax
        ("48f7e7", 1, {"rax": 2, "rdi": 3}, RAX, None),  # mul
        ("668b07", 1, {"rax": 2}, RAX, None),  # mov (%rdi),%ax
        ("80cc10", 1, {"rax": 2}, RAX, 0x1002),  # or $0x10,%ah: in place of or $0x1000,%eax
        ("80cc10", 1, {}, RAX, None),
        ("0fb6c4", 1, {"rax": 0x1234}, RAX, 0x12),  # movzbl %ah,%eax
        ("31c0ffc70f94c0", 3, {"rdi": 2**32 - 1}, RAX, 1),  # xor; inc %edi; sete %al
        ("31c0f7df0f92c0", 3, {"rdi": 1}, RAX, 1),  # xor; neg %edi; setb %al
        ("31c0f9ffcf0f92c0", 4, {"rdi": 1}, RAX, None),  # xor; stc; dec %edi; setb %al
        ("31c083ff05ffcf0f96c0", 4, {"rdi": 4}, RAX, 1),  # xor; cmp $5; dec %edi; setbe %al
        ("31c0c1ef030f95c0", 3, {"rdi": 7}, RAX, 0),  # xor; shr $3,%edi; setne %al
        ("31c0c1ef030f92c0", 3, {"rdi": 7}, RAX, 1),  # xor; shr $3,%edi; setb %al
        ("31c0c1ef030f9cc0", 3, {"rdi": 7}, RAX, None),  # setl: by the overflow, which is undefined
        ("31c00fbae7040f92c0", 3, {"rdi": 16}, RAX, 1),  # xor; bt $4,%edi; setb %al
        ("31c00fbae7040f96c0", 3, {"rdi": 0}, RAX, None),  # setbe: or by what was before
        ("31c0c1e71f0f98c0", 3, {"rdi": 1}, RAX, 1),  # xor; shl $31,%edi; sets %al
        ("80cc10", 1, {}, RSP, STACK),
        ("b410", 1, {"rax": 2}, RAX, 0x1002),  # mov $0x10,%ah
        ("0f94c4", 1, {"rax": 2}, RAX, None),  # sete %ah
        ("4190", 1, {"rax": 2}, RAX, None),  # xchg %eax,%r8d
        ("97", 1, {"rax": 5, "rdi": 7}, RDI, 5),  # xchg %eax,%edi
        ("0f20df", 1, {"rdi": 5}, RDI, None),  # mov %cr3,%rdi
        ("0fa4c701", 1, {"rdi": 5}, RDI, None),  # shld $1,%eax,%edi
        ("c0e404", 1, {}, RSP, STACK),  # shl $4,%ah
        ("d3e1", 1, {}, RSP, STACK),  # shl %cl,%ecx
        ("0f20e0", 1, {}, RSP, STACK),  # mov %cr4,%rax
        ("579c8f042459", 4, {"rdi": 5}, RCX, None),  # push; pushf; popq (%rsp); pop: irqs are saved
        ("579c8f44240859", 3, {"rdi": 5}, RSP, STACK - 8),
    ],
)
def test_registers(text: str, count: int, given, register: int, value: int | None):
    """If this fails, the page that is flushed comes out wrong."""
    assert run(text, count, **given).get(register) == value


def test_the_stack_pointer_comes_back():
    """If this fails, a return goes nowhere, and what is spilt is taken for a page-table entry."""
    before = run("90", 1).get(RSP)
    assert run("554889e54883ec20c9", 4).get(RSP) == before


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("488937c3", ["write"]),  # mov %rsi,(%rdi)
        ("8937c3", []),  # four bytes are no entry
        ("6548893425000000" + "00c3", []),  # %gs: is this CPU's own
        ("48873ec3", ["write"]),  # xchg %rdi,(%rsi)
        ("f0480fb137c3", ["write"]),  # lock cmpxchg
        ("f348abc3", ["write"]),  # rep stos
        ("0f013fc3", ["flush"]),  # invlpg (%rdi)
        ("e8fb070000c3", ["flush"]),
        ("e9fb070000", ["flush"]),
        ("e8fb0f0000c3", ["call"]),
        ("ffd0c3", ["call"]),
        ("ffe0", ["call"]),
        ("0f22d8c3", ["flush"]),  # mov %rax,%cr3
        ("660f388202c3", ["flush"]),  # invpcid (%rdx),%rax
        ("0f01fec3", ["flush"]),  # invlpgb
        ("0f01d9c3", ["call"]),  # vmmcall
        ("0f05c3", ["call"]),  # syscall, by which a guest of Xen asks its hypervisor
        ("480fa307c3", []),  # bt %rax,(%rdi)
        ("480fba2703c3", []),  # btq $3,(%rdi)
        ("480fab07c3", ["write"]),  # bts %rax,(%rdi)
        ("480fa40701c3", ["write"]),  # shld $1,%rax,(%rdi)
        ("4889370f0b", ["write", "trap"]),
        ("670f013fc3", None),  # invlpg (%edi)
        ("0f01c3c3", []),
        ("c5f877c3", None),  # VEX
        ("ccc3", None),
        ("48", None),
        ("", None),
    ],
)
def test_what_matters(text: str, kinds: list[str] | None):
    """If this fails, a write or a flush is overlooked, or made up."""
    if text == "0f01c3c3":
        assert paths(text) == [()]  # monitor and the like
        return
    if kinds is None:
        with pytest.raises(Lost):
            paths(text)
        return
    assert [[act.kind for act in acts] for acts in paths(text)] == [kinds]


def test_a_flush_is_of_its_first_argument():
    """If this fails, a flush of any page counts."""
    assert paths("e9fb070000", a1=0x1000)[0][0].value == 0x1000
    assert paths("0f013fc3", a1=0x1000)[0][0].value == 0x1000
    assert paths("31ffe9f9070000")[0][0].value == 0


def test_an_invalidation_of_everything():
    """If this fails, a setter that invalidates more than its page is called racy, or one that
    invalidates less passes for right."""
    # mov $type,%eax; invpcid (%rsp),%rax; ret
    found = [paths(f"b80{kind}000000660f38820424c3")[0][0].value for kind in range(4)]
    assert found == [None, None, ALL, None]


def test_a_branch_by_a_counter_goes_both_ways():
    """If this fails, what JRCXZ or LOOP jumps over seems to be done always."""
    for text in ("e3030f013fc3", "e2030f013fc3"):
        assert sorted(len(acts) for acts in paths(text)) == [0, 1]


def test_a_trap_ends_a_path_that_wrote_nothing():
    """If this fails, BUG_ON() makes a function that does what it should be assumed to."""
    assert paths("0f0b") == []
    assert paths("0f013f0f0b") == []


def test_what_a_call_is_lent_on_the_stack_may_change():
    """If this fails, the page that is flushed is taken for the one from before the call."""
    # push %rdi; mov %rsp,%rdi (or nop); call far; pop %rdi; invlpg (%rdi); ret
    for move, known in (("4889e7", None), ("0f1f00", 0x1000)):
        (acts,) = paths(f"57{move}e8f40f00005f0f013fc3", a1=0x1000)
        assert (acts[-1].kind, acts[-1].value) == ("flush", known)


def test_a_jump_by_a_retpoline_leads_anywhere():
    """If this fails, a path that goes on where a register says is no path at all."""
    # call +7; pause; lfence; jmp; mov %r11,(%rsp); ret
    thunk = {AT + 0x400: bytes.fromhex("e807000000f3900faee8ebf94c891c24c3")}
    (acts,) = paths("488937e9f8030000", thunk)
    assert [act.kind for act in acts] == ["write", "call"]


def test_calls_through_pointers_that_are_known_are_followed():
    """If this fails, no image of a paravirt kernel is proven: its calls of set_pte are pointers."""
    leaf = AT + 0x400
    more = {TABLE: leaf.to_bytes(8, "little"), leaf: bytes.fromhex("f30f1efa488937c3")}
    (acts,) = paths("ff1425000000" + "82c3", more)
    assert [(act.kind, act.at) for act in acts] == [("write", leaf + 4)]


def test_a_return_by_a_thunk_returns():
    """If this fails, all of a kernel that returns by AMD's safe thunk seems to end in a trap."""
    thunk = {AT + 0x400: bytes.fromhex("e8000000000f0b")}
    assert len(paths("488937e9f8030000", thunk)) == 1


def test_a_jump_inside_with_a_message_goes_on():
    """If this fails, a path that prints and then writes is taken to give up."""
    message = {TABLE: b"\x013hello"}
    # mov $TABLE,%rdi; jmp +0; mov %rsi,(%rdx); ret
    (acts,) = paths("48c7c700000082eb00488932c3", message)
    assert [act.kind for act in acts] == ["write"]
    # mov $TABLE,%rdi; call far; call far; mov %rsi,(%rdx); ret: the second call is not printk's
    (acts,) = paths("48c7c700000082e8f40f0000e8ef0f0000488932c3", message)
    assert [act.kind for act in acts] == ["message", "call", "write"]


def test_branches_on_what_is_known_go_one_way():
    """If this fails, BUG_ON(idx >= ...) and the clear of a set are paths, too."""
    # cmp $0x600,%edi; ja +1; ret; mov %rsi,(%rdi); ret
    text = "81ff000600007701c3488937c3"
    assert [len(paths(text, a1=n)) for n in (0x600, 0x601, None)] == [1, 1, 2]
    assert paths(text, a1=0x600) == [()]
