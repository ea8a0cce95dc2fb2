# SPDX-License-Identifier: Apache-2.0
"""What real kernels' code says, and what it says when it is changed."""

from __future__ import annotations

import json
import random
import time
from dataclasses import replace

import pytest

from ghesrace.host.code import Blocks
from ghesrace.host.facts import Facts
from ghesrace.host.kallsyms import Symbol
from ghesrace.plan import INVALIDATES, Fetch, Slot
from ghesrace.planning.implied.judge import Answer
from ghesrace.planning.implied.prove import Question, called_late, prove
from ghesrace.planning.resolve import resolve
from ghesrace.points import Candidate
from lab.paths import REPO
from tests.build.kernelcode import ARM64, NOP_ARM64, RET_X86, X86, facts, implied, planned

BROADCAST, INSIDE = "broadcast-after-clear", "flush-inside"
# Where 6.1 on arm64 does it: the store, DSB ISHST, TLBI VAALE1IS, DSB ISH.
STORE, STORED, TLBI, DONE = (f"__set_fixmap+{at}" for at in ("0x7c", "0x94", "0xa0", "0xb0"))
LOCAL_TLBI, OTHER_PAGE = bytes.fromhex("e08708d5"), bytes.fromhex("e28308d5")
# Where 6.1 on x86 does it: call *pv_ops.mmu.set_pte; mov %rbp,%rdi; pop; pop; jmp.
SET, ADDRESS, FLUSH = (f"set_pte_vaddr_p4d+{at}" for at in ("0x45", "0x4b", "0x50"))
# What flush_tlb_one_kernel() calls there, and what lies behind the call.
INVLPG, CALLED = "native_flush_tlb_one_user+0x29", "flush_tlb_one_kernel+0xb"
WRITE_X86 = bytes.fromhex("488937666690")  # mov %rsi,(%rdi), as boot patches the call


@pytest.mark.parametrize(
    ("release", "where"),
    [
        (X86[0], "set_pte_vaddr+0x58: jmp flush_tlb_one_kernel"),
        (X86[1], "set_pte_vaddr_p4d+0x50: jmp flush_tlb_one_kernel"),
        (X86[2], "set_pte_vaddr_p4d+0x54: jmp flush_tlb_one_kernel"),
        (X86[3], "set_pte_vaddr_p4d+0x54: jmp flush_tlb_one_kernel"),
        (ARM64[0], "__set_fixmap+0xa0: tlbi vaale1is"),
        (ARM64[1], "__set_fixmap+0xa0: tlbi vaale1is"),
        (ARM64[2], "__set_fixmap+0xa4: tlbi vaale1is"),
        (ARM64[3], "__set_fixmap+0xc8: tlbi vaale1is"),
    ],
)
def test_every_kernel_of_the_matrix_is_proven(release: str, where: str):
    """If this fails, a kernel that does what is said of it is only assumed to, or worse."""
    found = implied(planned(release), INSIDE if release in X86 else BROADCAST)
    assert (found.state, found.where) == ("proven", where)


@pytest.mark.parametrize(
    ("changed", "state", "where"),
    [
        ({TLBI: LOCAL_TLBI}, "contradicted", f"{TLBI}: tlbi vaale1 tells this CPU alone"),
        ({TLBI: NOP_ARM64}, "contradicted", f"{STORE}: nothing behind this write invalidates"),
        ({DONE: NOP_ARM64}, "contradicted", f"{TLBI}: tlbi vaale1is has no DSB behind it"),
        ({STORED: NOP_ARM64}, "contradicted", f"{TLBI}: tlbi vaale1is has no DSB between it"),
        # dsb nshst: other CPUs' walkers may not see the write yet.
        ({STORED: bytes.fromhex("9f3603d5")}, "contradicted", f"{TLBI}: tlbi vaale1is has no DSB"),
        # tlbi vaale1is, x2: x2 is the protection bits, which are 0.
        ({TLBI: OTHER_PAGE}, "contradicted", f"{TLBI}: tlbi vaale1is is of another page"),
        # b: the TLBI is always left out.
        ({"__set_fixmap+0x9c": bytes.fromhex("05000014")}, "contradicted", "nothing behind this"),
        # a kprobe, and BUG() in the way
        ({TLBI: bytes.fromhex("800020d4")}, "assumed", f"{TLBI}: a kprobe hides an instruction"),
        ({TLBI: bytes.fromhex("000020d4")}, "assumed", "what follows this trap is not known"),
        ({TLBI: bytes.fromhex("00000000")}, "assumed", f"{TLBI}: no instruction is 00000000"),
        # tlbi rvaale1is: a range is not read
        ({TLBI: bytes.fromhex("e08208d5")}, "assumed", f"{TLBI}: a tlbi that is not read is of"),
    ],
)
def test_arm64_that_is_wrong(changed: dict[str, bytes], state: str, where: str):
    """If this fails, an arm64 kernel that no longer broadcasts is called clean."""
    found = implied(planned(ARM64[1], changed), BROADCAST)
    assert found.state == state, found
    assert where in found.where


def test_a_local_tlbi_is_what_remains():
    """If this fails, a CPU that invalidates its own TLB alone seems to invalidate none."""
    made = planned(ARM64[1], {TLBI: LOCAL_TLBI})
    assert [(i.what, i.state) for i in made.implications] == [
        (BROADCAST, "contradicted"),
        ("page-after-clear", "proven"),
    ]
    assert next(p for p in made.probes if p.point == "fixmap-set").implies == ("page-after-clear",)
    assert any("all CPUs after the clear" in unseen.what for unseen in made.unseen)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "state", "where"),
    [
        ({SET: WRITE_X86}, "proven", f"{FLUSH}: jmp flush_tlb_one_kernel"),
        ({FLUSH: RET_X86}, "contradicted", "nothing behind this write"),
        ({SET: WRITE_X86, FLUSH: RET_X86}, "contradicted", f"{SET}: nothing behind this write"),
        # mov %rax,%rdi: from memory; mov %rbx,%rdi: the entry, which is 0 in a clear
        ({SET: WRITE_X86, ADDRESS: bytes.fromhex("4889c7")}, "assumed", "address that is not"),
        ({SET: WRITE_X86, ADDRESS: bytes.fromhex("4889df")}, "contradicted", "another page"),
        # lea 0x1000(%rbp) does not fit; mov %rsp,%rdi does: the stack is another page.
        ({SET: WRITE_X86, ADDRESS: bytes.fromhex("4889e7")}, "contradicted", "another page"),
        ({FLUSH: b"\xcc"}, "assumed", f"{FLUSH}: a breakpoint hides an instruction"),
        ({SET: b"\x0f\x0b"}, "assumed", "no path writes a page-table entry"),
        ({SET: b"\x06"}, "assumed", f"{SET}: no instruction begins with 06"),
        # ftrace's NOP in place of the call at the entry
        ({"native_set_fixmap": bytes.fromhex("0f1f440000")}, "proven", FLUSH),
        # a hook at the entry, and the path of set_pte_vaddr() that only prints
        ({"native_set_fixmap": b"\xe8\xff\xff\xff\x7f"}, "proven", FLUSH),
    ],
)
def test_x86_that_is_wrong(changed: dict[str, bytes], state: str, where: str):
    """If this fails, a flush that is not there, or of another page, is taken to be inside."""
    found = implied(planned(X86[1], changed), INSIDE)
    assert found.state == state, found
    assert where in found.where


def test_a_flush_before_the_write_takes_the_verdict_away():
    """If this fails, a kernel that flushes too early looks like a sound one."""
    # mov %rbp,%rdi; call flush; mov %rbx,(%rax); pop; pop; ret, where the call of set_pte was.
    begin = facts(X86[1]).symbols["set_pte_vaddr_p4d"][0].address + 0x45
    flush = facts(X86[1]).symbols["flush_tlb_one_kernel"][0].address
    call = b"\xe8" + (flush - begin - 8).to_bytes(4, "little", signed=True)
    made = planned(X86[1], {SET: b"\x48\x89\xef" + call + bytes.fromhex("4889195b5dc3")})
    found = implied(made, INSIDE)
    assert found.state == "contradicted"
    assert found.where.endswith("call flush_tlb_one_kernel lies before the write of the entry")
    assert "lies before the write" in made.not_checked["stale"]
    assert next(p for p in made.probes if p.point == "fixmap-set").implies == ()


@pytest.mark.parametrize(
    ("release", "where"),
    [
        (X86[0], "native_flush_tlb_one_user+0x24: invlpg"),
        (X86[1], "native_flush_tlb_one_user+0x29: invlpg"),
        (X86[2], "native_flush_tlb_one_user+0x25: invlpg"),
        (X86[3], "native_flush_tlb_one_user+0x24: invlpg"),
    ],
)
def test_every_flush_of_the_matrix_is_proven(release: str, where: str):
    """If this fails, each clean verdict on x86 rests on what was not read."""
    found = implied(planned(release), INVALIDATES)
    assert (found.symbol, found.state, found.where) == ("flush_tlb_one_kernel", "proven", where)


@pytest.mark.parametrize(
    ("changed", "refused"),
    [
        ({"flush_tlb_one_kernel": RET_X86}, ["flush_tlb_one_kernel"]),
        # ftrace's NOP, and the return
        ({"flush_tlb_one_kernel": bytes.fromhex("0f1f440000c3")}, ["flush_tlb_one_kernel"]),
        # nop; movabs $0xffffffffff000000,%rax; cmp %rax,%rdi; jae behind it; invlpg (%rdi); ret
        (
            {
                "flush_tlb_one_kernel": bytes.fromhex(
                    "0f1f44000048b8000000ffffffffff4839c773030f013fc3"
                )
            },
            ["flush_tlb_one_kernel"],
        ),
        # nop; cmp $0xffffffffff57b000,%rdi; je behind it; invlpg (%rdi); ret: for one page alone
        (
            {"flush_tlb_one_kernel": bytes.fromhex("0f1f4400004881ff00b057ff74030f013fc3")},
            ["flush_tlb_one_kernel"],
        ),
        # leave; ret in place of the INVLPG that both end in
        (
            {INVLPG: bytes.fromhex("c9c3"), CALLED: RET_X86},
            ["flush_tlb_one_kernel", "native_flush_tlb_one_user"],
        ),
        # invlpg (%rsp); leave; ret: of the stack's page
        (
            {INVLPG: bytes.fromhex("0f013c24c9c3"), CALLED: RET_X86},
            ["flush_tlb_one_kernel", "native_flush_tlb_one_user"],
        ),
    ],
)
def test_a_flush_that_does_not_flush(changed: dict[str, bytes], refused: list[str]):
    """If this fails, calls of a function that invalidates nothing make a kernel clean."""
    made = planned(X86[1], changed)
    found = [i for i in made.implications if i.what == INVALIDATES and i.state == "contradicted"]
    assert all("invalidates nothing" in i.where or "another page" in i.where for i in found)
    text = " ".join(f"{unseen.what} {unseen.why}" for unseen in made.unseen)
    assert all(name in text for name in refused)
    assert not {p.symbol for p in made.probes if p.point == "inv-page"} & set(refused)
    assert next(p for p in made.probes if p.point == "fixmap-set").implies == ()


def test_an_invalidation_without_a_call_is_what_the_setter_does():
    """If this fails, a kernel whose setter has the INVLPG in itself is called racy, as no event
    shows it."""
    made = planned(X86[1], {SET: WRITE_X86, FLUSH: bytes.fromhex("0f013fc3")})  # invlpg (%rdi)
    setter = next(p for p in made.probes if p.point == "fixmap-set")
    assert setter.implies == ("page-after-set", "page-after-clear")
    assert {i.what: i.state for i in made.implications} == {
        "page-after-set": "proven",
        "page-after-clear": "proven",
        INVALIDATES: "proven",
    }


@pytest.mark.parametrize("release", [X86[1], ARM64[1]])
def test_an_answer_says_where_the_code_is_from(release: str):
    """If this fails, nobody can tell a kernel that was read in memory from a file."""
    made = resolve(replace(facts(release), code_from="memory, by BPF"))
    assert made.implications
    assert all(one.where.endswith(" (read from memory, by BPF)") for one in made.implications)


def test_without_the_code_all_is_assumed():
    """If this fails, an unreadable kernel passes for one that was read."""
    known = replace(facts(ARM64[1]), code=None, problems={"kernel code": "Permission denied"})
    candidate = Candidate("__set_fixmap", fields={"index": Fetch(1)})
    question = Question(candidate, known.symbols["__set_fixmap"][0], BROADCAST, (), {})
    assert prove(known, question).held is None
    assert prove(known, question).text == "the kernel's code can't be read: Permission denied"
    hidden = replace(question, symbol=Symbol("__set_fixmap", 0, ""))
    assert "kptr_restrict" in prove(facts(ARM64[1]), hidden).text
    assert "no BTF" in prove(facts(ARM64[1]), question).text
    assert "riscv" in prove(replace(facts(ARM64[1]), arch="riscv"), question).text


@pytest.mark.parametrize("release", [X86[1], ARM64[1]])
@pytest.mark.parametrize("seed", range(60))
def test_any_bytes_get_an_answer(release: str, seed: int):
    """If this fails, planning as root crashes or hangs on code that nobody thought of."""
    dice = random.Random(seed)
    known = facts(release)
    symbol = known.symbols["native_set_fixmap" if release in X86 else "__set_fixmap"][0]
    size = dice.choice((1, 7, 64, 4096))
    kind = dice.randrange(3)
    if kind == 0:
        code = dice.randbytes(size)
    elif kind == 1:  # real code with some bytes changed
        code = bytearray(known.code.read(symbol.address, 256) if known.code else b"")
        for _ in range(dice.randint(1, 6)):
            code[dice.randrange(len(code))] = dice.randrange(256)
    else:  # branches that lead anywhere near
        words = (b"\x74", b"\x75", b"\xeb", b"\x7c") if release in X86 else (b"\x54", b"\x17")
        code = b"".join(
            dice.choice(words) + dice.randbytes(1)
            if release in X86
            else dice.randbytes(3) + dice.choice(words)
            for _ in range(size)
        )
    slots = (Slot("a", 644, None, "report"),)
    candidate = Candidate(symbol.name, fields={"index": Fetch(1), "phys": Fetch(2)})
    begin = time.monotonic()
    for what in (BROADCAST, INSIDE, "page-after-set"):
        question = Question(candidate, symbol, what, slots, {symbol.address + 32: "flush"})
        found = prove(replace(known, code=Blocks({symbol.address: bytes(code)})), question)
        assert found.held in (True, False, None)
        assert found.text
    assert time.monotonic() - begin < 20


# Linux 6.1 optimised for size (gcc 12), where flush_tlb_kernel_range() and __tlbi_sync_s1ish() are
# functions: __set_fixmap() as it is, with lab/mutants/arm64-tlbi-wrong-address.patch, and with
# arm64-tlbi-before-clear.patch.
SMALL_AT = 0xFFFF80000803A3AC
SMALL_FLUSH, SMALL_SET = SMALL_AT + 0x18, SMALL_AT + 0x1F8
SMALL_FLUSHES = (
    "9f3b03d51f2003d503000014bf8308d59f3b03d5c0035fd6"
    "fd7bbfa9220000cbfd0300915f0048f1e90000549f3a03d51f8308d5f3ffff97df3f03d5fd7bc1a8"
    "c0035fd600dc4cd321dc4cd39f3a03d51f0001eb02ffff54e08308d500040091fcffff17"
)
SMALL = (
    "1f2003d51f2003d5e303002a054c145363040051e09b67b2e07fdff2000005cb7f40177149000054"
    "000021d4fd7bbfa903504cd3c40f00b0fd03009163f07dd384000091a20100b421cc7492200880d2"
    "220002aa0008e0f2826823f84200008a000001d15f0000eb410000548affff97fd7bc1a8c0035fd6"
    "e1ff9d929f6823f801c0bff2e17fdff2210005cb65ffff97f8ffff17"
)
SMALL_WRONG = (
    "1f2003d51f2003d5054c1453e39b67b200040051e37fdff2630005cb1f40177149000054000021d4"
    "fd7bbfa963504cd3c40f00b0fd03009163f07dd384000091a20100b421cc7492200880d2220002aa"
    "0008e0f2826823f84200008a000001d15f0000eb410000548bffff97fd7bc1a8c0035fd6e1ff9b92"
    "e0ff9d929f6823f801c0bff200c0bff2e17fdff2e07fdff2210005cb000005cb62ffff97f4ffff17"
)
SMALL_EARLY = (
    "1f2003d51f2003d5e303002a044c145363040051e09b67b2e07fdff2000004cb7f40177149000054"
    "000021d4fd7bbea9fd030091f35301a913504cd3d40f00b073f27dd394020091c20100b421cc7492"
    "200880d2220002aa0008e0f2826a33f84200008a000001d15f0000eb4100005489ffff97f35341a9"
    "fd7bc2a8c0035fd6e1ff9d9201c0bff2e17fdff2210004cb64ffff979f6a33f8f7ffff17"
)


@pytest.mark.parametrize(
    ("setter", "state", "where"),
    [
        (SMALL, "proven", "flush_tlb_kernel_range+0x40: tlbi vaale1is"),
        (SMALL_WRONG, "contradicted", "is of another page"),
        (SMALL_EARLY, "contradicted", "lies before the write of the entry"),
    ],
)
def test_arm64_optimised_for_size(setter: str, state: str, where: str):
    """If this fails, the broadcast in a function of its own is not read: a kernel that invalidates
    another page is called clean, but for a word on implications."""
    made = facts(ARM64[1])
    (symbol,) = made.symbols["__set_fixmap"]
    symbols = {
        **made.symbols,
        "__set_fixmap": (symbol._replace(address=SMALL_SET),),
        "flush_tlb_kernel_range": (
            symbol._replace(name="flush_tlb_kernel_range", address=SMALL_FLUSH),
        ),
    }
    code = {SMALL_AT: bytes.fromhex(SMALL_FLUSHES), SMALL_SET: bytes.fromhex(setter)}
    found = implied(resolve(replace(made, symbols=symbols, code=Blocks(code))), BROADCAST)
    assert found.state == state, found
    assert where in found.where


# ghes_remove() of Linux 7.3 and of the mutants of its status word (lab/mutants): gcc 12 for size,
# without retpolines, so with a table of its cases; linked at an address of its own.
REMOVALS = json.loads((REPO / "tests/unit/fixtures/x86-removals.json").read_text())


def removal(name: str, changed: tuple[bytes, bytes] = (b"", b"")) -> Answer:
    told = REMOVALS[name]
    names = ("ghes_remove", "iounmap", "synchronize_rcu")
    symbols = {n: (Symbol(n, int(told[n], 16), ""),) for n in names}
    blocks = {
        int(at, 16): bytes.fromhex(code).replace(*changed) for at, code in told["code"].items()
    }
    facts = Facts("x86_64", "7.3", symbols=symbols, code=Blocks(blocks))
    (symbol,) = symbols["ghes_remove"]
    return called_late(facts, Candidate("ghes_remove"), symbol, "iounmap", "synchronize_rcu")


@pytest.mark.parametrize(
    ("name", "held", "text"),
    [
        ("stock", False, "call iounmap does not lie behind synchronize_rcu"),
        ("early", False, "call iounmap does not lie behind synchronize_rcu"),
        ("late", True, "call iounmap lies behind synchronize_rcu"),
    ],
)
def test_where_a_removal_unmaps(name: str, held: bool, text: str):
    """If this fails, a kernel whose removals were mended has a race, or another one has none."""
    found = removal(name)
    assert (found.held, found.text.partition(": ")[2]) == (held, text)


@pytest.mark.parametrize(
    ("changed", "held"),
    [
        # The wait comes before the source is off its list: nothing writes LIST_POISON2.
        (("2201000000 00adde", "0001000000 00adde"), False),
        # cmp $3: other cases than those are not in the table, so that no path gets there.
        (("8078200b", "80782003"), None),
        # jb in place of ja: no table of a switch, and so a jump that nobody follows.
        (("0f8709010000", "0f8209010000"), None),
    ],
)
def test_a_removal_that_is_not_understood_keeps_its_hazard(changed: tuple[str, str], held):
    """If this fails, a race is called none on a guess."""
    old, new = map(bytes.fromhex, changed)
    assert removal("late", (old, new)).held is held
