# SPDX-License-Identifier: Apache-2.0
"""What arm64 instructions do to registers, and which of them matter."""

from __future__ import annotations

import pytest

from ghesrace.host.code import Blocks
from ghesrace.planning.implied.arm64 import entry, step
from ghesrace.planning.implied.paths import ALL, Acts, Lost, State, Surroundings, ends

AT = 0xFFFF800080000000
RET = 0xD65F03C0


def run(*words: int, **registers: int | None) -> State:
    """The state behind *words*, with x0, x1, ... as they are given."""
    code = b"".join(word.to_bytes(4, "little") for word in words)
    around = Surroundings(Blocks({AT: code}))
    state = entry(AT, {})
    for name, value in registers.items():
        state = state.put(int(name[1:]), value)
    for _ in words:
        (state,) = step(state, around)
    return state


def acts(*words: int, **registers: int | None) -> Acts:
    return run(*words, **registers).acts


# As objdump shows them in the kernels' __set_fixmap(), with what they make of x0 to x5.
@pytest.mark.parametrize(
    ("words", "given", "register", "value"),
    [
        ([0xB2679BE4], {}, 4, 0xFFFFFFFFFE000000),  # mov x4, #-33554432
        ([0xB2679BE4, 0xF2DF7FE4], {}, 4, 0xFFFFFBFFFE000000),  # movk x4, #0xfbff, lsl #32
        ([0x53144C00], {"x0": 0xFFFF_0000_0403}, 0, 0x403000),  # lsl w0, w0, #12
        ([0xCB000084], {"x0": 1, "x4": 0}, 4, 2**64 - 1),  # sub x4, x4, x0
        ([0xD34CFC83], {"x4": 0x12345678}, 3, 0x12345),  # lsr x3, x4, #12
        ([0xD34C5084], {"x4": 0x3FE000}, 4, 0x1FE),  # ubfx x4, x4, #12, #9
        ([0x9000F9C5], {}, 5, 0xFFFF800081F38000),  # adrp x5, +0x1f38000
        ([0x929DFFE1], {}, 1, 0xFFFFFFFFFFFF1000),  # mov x1, #-61440
        ([0x9240AC60], {"x3": 2**64 - 1}, 0, 0xFFFFFFFFFFF),  # and x0, x3, #0xfffffffffff
        ([0x51000403], {"x0": 0}, 3, 0xFFFFFFFF),  # sub w3, w0, #1
        ([0x8B5356B5], {"x19": 3 << 21, "x21": 5}, 21, 8),  # add x21, x21, x19, lsr #21
        ([0xAA41A861], {"x1": 1 << 42, "x3": 2}, 1, 3),  # orr x1, x3, x1, lsr #42
        ([0x8A000021], {"x0": None, "x1": 0}, 1, 0),  # and x1, x1, x0
        ([0xEB00001F, 0x9A9F17E2], {"x0": 3}, 2, 1),  # cmp x0, x0; cset x2, eq
        ([0xEB01001F, 0x1A800421], {"x0": 7, "x1": 4}, 1, 8),  # cmp; csinc w1, w1, w0, eq
        # cmp w0, #4; ccmp w0, #7, #4, ne; cset w1, eq: is it 4 or 7?
        ([0x7100101F, 0x7A471804, 0x1A9F17E1], {"x0": 4}, 1, 1),
        ([0x7100101F, 0x7A471804, 0x1A9F17E1], {"x0": 7}, 1, 1),
        ([0x7100101F, 0x7A471804, 0x1A9F17E1], {"x0": 5}, 1, 0),
        ([0x7A471804, 0x1A9F17E1], {"x0": 4}, 1, None),
        ([0x7A471804], {"x4": 3}, 4, 3),  # 4 is what the flags become, and no register
        ([0xEB00001F, 0xD51B4202, 0x9A9F17E1], {"x0": 3}, 1, None),  # cmp; msr nzcv; cset
    ],
)
def test_registers(words, given, register: int, value: int | None):
    """If this fails, the address of the page or of its entry comes out wrong."""
    assert run(*words, **given).get(register) == value


@pytest.mark.parametrize(
    ("word", "kind", "everywhere"),
    [
        (0xD50883E0, "flush", True),  # vaale1is
        (0xD50887E0, "flush", False),  # vaale1
        (0xD50881E0, "flush", True),  # vaale1os
        (0xD50893E0, "flush", True),  # vaale1isnxs
        (0xD508831F, "flush", True),  # vmalle1is
        (0xD508871F, "flush", False),  # vmalle1
        (0xD5033B9F, "barrier", True),  # dsb ish
        (0xD5033F9F, "barrier", True),  # dsb sy
        (0xD503379F, "barrier", False),  # dsb nsh
        (0xD5033A3F, "barrier", True),  # dsb ishnxs
        (0xD5033A9F, "store-barrier", True),  # dsb ishst
        (0xD503369F, "store-barrier", False),  # dsb nshst
    ],
)
def test_what_ends_translations(word: int, kind: str, everywhere: bool):
    """If this fails, a local TLBI passes for a broadcast, or the other way round."""
    (act,) = acts(word, x0=0xFFFFFFFF5FB)
    assert (act.kind, act.everywhere) == (kind, everywhere)
    if kind == "flush":
        page = ALL if "vmalle1" in act.text else 0xFFFFFFFFFF5FB000
        assert act.value == page


@pytest.mark.parametrize("word", [0xD50B7520, 0xD5033BBF, 0xD5033FDF, 0xD508835F, 0xD503201F])
def test_what_does_not(word: int):
    """If this fails, a DMB, an ISB or an invalidation by ASID counts."""
    assert acts(word, x0=1) == ()


@pytest.mark.parametrize(("hint", "counts"), [(0, 1), (3, 1), (4, 0), (6, 0), (7, 1), (15, 1)])
def test_the_level_of_an_invalidation(hint: int, counts: int):
    """If this fails, a TLBI that says it is of a table or a block (TTL) passes for the page's."""
    assert len(acts(0xD50883E0, x0=0xFFFFFFFF5FB | hint << 44)) == counts


def test_stores():
    """If this fails, the write of the entry is not seen, or the stack's is taken for it."""
    assert [a.value for a in acts(0xF82478BF, x4=3, x5=AT)] == [AT + 24]  # str xzr, [x5,x4,lsl 3]
    assert acts(0xB90000A1, x1=0, x5=AT) == ()  # str w1, [x5]
    assert acts(0xA9BE7BFD) == ()  # stp x29, x30, [sp, #-32]!
    assert [a.value for a in acts(0xF8008441, x1=0, x2=AT)] == [AT]  # str x1, [x2], #8
    assert acts(0xF800865E) == ()  # str x30, [x18], #8: the shadow call stack
    assert len(acts(0xC8DFFC41, x2=AT)) == 0  # ldar x1, [x2]
    assert len(acts(0xC89FFC41, x2=AT)) == 1  # stlr x1, [x2]
    assert len(acts(0xF8208041, x2=AT)) == 1  # swp x0, x1, [x2]
    assert len(acts(0xD9000041, x2=AT)) == 1  # stlur x1, [x2]
    assert len(acts(0xD50B7422, x2=AT)) == 1  # dc zva, x2
    assert [a.value for a in acts(0xF9000241, x18=AT)] == [AT]  # str x1, [x18], before 5.8


def test_branches_on_what_is_known_go_one_way():
    """If this fails, the set is judged by the clear's path, or the clear by the set's."""
    code = (0xB4000042, RET, 0xD5033B9F, RET)  # cbz x2, +8; ret; dsb ish; ret
    around = Surroundings(Blocks({AT: b"".join(w.to_bytes(4, "little") for w in code)}))
    found = [len(ends(entry(AT, {3: value}), around, step)) for value in (0, 1, None)]
    assert found == [1, 1, 2]
    assert ends(entry(AT, {3: 0}), around, step)[0][0].kind == "barrier"


def test_a_branch_of_a_later_manual_is_not_followed():
    """If this fails, what a CB.GT jumps over seems to be done always."""
    with pytest.raises(Lost):
        acts(0x74000044)


def test_a_trap_behind_a_write_is_not_the_end():
    """If this fails, a WARN() hides a path that does not invalidate."""
    code = Blocks({AT: b"".join(w.to_bytes(4, "little") for w in (0xF9000041, 0xD4210000))})
    (found,) = ends(entry(AT, {3: AT}), Surroundings(code), step)  # str x1, [x2]; brk #0x800
    assert [act.kind for act in found] == ["write", "trap"]
    code = Blocks({AT: 0xD4210000.to_bytes(4, "little")})
    assert ends(entry(AT, {}), Surroundings(code), step) == []


def test_what_a_call_is_lent_on_the_stack_may_change():
    """If this fails, the page that is flushed is taken for the one from before the call."""
    # str x1, [sp, #-16]!; mov x0, sp (or nop); bl far; ldr x1, [sp], #16
    for move, known in ((0x910003E0, None), (0xD503201F, 7)):
        state = run(0xF81F0FE1, move, 0x94000400, 0xF84107E1, x1=7)
        assert state.get(1) == known


@pytest.mark.parametrize(
    ("leaf", "kinds"),
    [
        ((0xD5033B9F, RET), ["barrier"]),  # dsb ish
        ((0x14000002, 0, 0xD5033B9F, RET), ["barrier"]),  # b: over what a workaround may fill in
        ((0xD5033B9F, 0xD65F0BFF), ["barrier"]),  # retaa
        ((0xD5033B9F, 0xB4000040, RET), ["call"]),  # cbz: not straight
        ((0xD5033B9F, 0x94000004, RET), ["call"]),  # bl: not a leaf
        ((0xD5033B9F, 0xD4210000), ["call"]),  # brk: it does not return
        ((0xD5033B9F, 0xD63F0000, RET), ["call"]),  # blr
        ((0xD5033B9F,) * 30 + (RET,), ["call"]),  # long
        ((0xD5033B9F,), ["call"]),  # it can't be read to its end
    ],
)
def test_a_short_function_is_followed(leaf: tuple[int, ...], kinds: list[str]):
    """If this fails, a DSB in a function of its own is not seen, or a function that may do anything
    passes for one that does nothing."""
    words = (0x94000002, RET, *leaf)  # bl +8
    code = b"".join(word.to_bytes(4, "little") for word in words)
    (found,) = ends(entry(AT, {}), Surroundings(Blocks({AT: code})), step)
    assert [act.kind for act in found] == kinds
