# SPDX-License-Identifier: Apache-2.0
"""What x86.py says that instructions do, held to what this machine's CPU does with them."""

from __future__ import annotations

import ctypes
import platform
import random
import struct
import subprocess
from pathlib import Path

import pytest

from ghesrace.host.code import Blocks
from ghesrace.planning.implied import x86
from ghesrace.planning.implied.paths import STACK, State, Surroundings

# By their numbers; neither the stack pointer nor what holds the place of the registers.
REGISTERS = {
    "rax": 0, "rcx": 1, "rdx": 2, "rbx": 3, "rsi": 6, "rdi": 7,
    "r8": 8, "r9": 9, "r10": 10, "r11": 11, "r12": 12, "r15": 15,
}  # fmt: skip
FLAGS, RFLAGS = 16, {"zero": 6, "sign": 7, "carry": 0, "over": 11}  # their bits
LOW = {"rax": "al", "rcx": "cl", "rdx": "dl", "rbx": "bl", "rsi": "sil", "rdi": "dil"}
HIGH = ("%ah", "%bh", "%ch", "%dh")
SUFFIX = {8: "q", 4: "l", 2: "w", 1: "b"}
CONDITIONS = ["e", "ne", "a", "be", "b", "ae", "l", "ge", "le", "g", "s", "ns", "o", "no"]
NUMBERS = (0, 1, 2, 3, 8, 15, 31, 63, 127, -1, -2, -128, 255, 0x1000, 0x7FFFFFFF, -0x80000000)
VALUES = (0, 1, 2, 0x80, 0xFF00, 1 << 63, (1 << 64) - 1)
OTHERS = (
    "shldq $3,{q},{q}", "shrdl $5,{l},{l}", "bswapq {q}", "roll $3,{l}", "cltq", "cwtl", "cqto",
    "cltd", "clc", "stc", "cmc", "btsq $3,{q}", "xaddl {l},{l}", "cmpxchgq {q},{q}", "bsfq {q},{q}",
    "xchgl {l},{l}", "sahf", "lahf", "mulq {q}", "rclq $1,{q}", "shlq %cl,{q}", "shrl %cl,{l}",
    "pushq {q}\n popq {q}", "pushq {q}\n movq (%rsp),{q}\n popq {q}", "nopw 0(%rax,%rax,1)",
)  # fmt: skip
SEQUENCES = 600


def register(rng: random.Random, size: int) -> str:
    """One of *size* bytes."""
    name = rng.choice(list(REGISTERS))
    if size == 1 and rng.random() < 0.35:
        return rng.choice(HIGH)
    new = name[1].isdigit()
    names = {8: name, 4: f"{name}d" if new else f"e{name[1:]}", 2: f"{name}w" if new else name[1:]}
    names[1] = LOW.get(name, f"{name}b")
    return f"%{names[size]}"


def pair(rng: random.Random, sizes: tuple[int, int]) -> tuple[str, str]:
    """Two registers that one instruction can name: AH to BH go with no prefix of the new ones."""
    while True:
        one, other = register(rng, sizes[0]), register(rng, sizes[1])
        new = any(name[1] == "r" or name in ("%sil", "%dil") for name in (one, other))
        if not (new and (one in HIGH or other in HIGH)):
            return one, other


def instruction(rng: random.Random) -> str:
    """Any instruction that compilers use on numbers and addresses."""
    size = rng.choice((8, 8, 4, 4, 2, 1))
    wide = rng.choice((8, 4))
    one, other = pair(rng, (size, size))
    number = rng.choice(NUMBERS)
    fits = 1 << (8 * min(size, 4) - 1)
    low = max(-fits, min(fits - 1, number))
    by = rng.randrange(8 * size if size > 2 else 8)
    q, p = register(rng, 8), register(rng, 8)
    extends, of, to = rng.choice(
        [("movzb", 1, 4), ("movsb", 1, 8), ("movzw", 2, 4), ("movsw", 2, 8), ("movsl", 4, 8)]
    )
    made = [
        *(
            f"{name}{SUFFIX[size]} {source},{other}"
            for name in ("add", "or", "adc", "sbb", "and", "sub", "xor", "cmp", "test", "mov")
            for source in (f"${low}", one)
        ),
        *(f"{name}{SUFFIX[size]} {other}" for name in ("inc", "dec", "neg", "not")),
        *(f"{name}{SUFFIX[size]} ${by},{other}" for name in ("shl", "shr", "sar")),
        f"set{rng.choice(CONDITIONS)} {register(rng, 1)}",
        f"cmov{rng.choice(CONDITIONS)} {register(rng, wide)},{register(rng, wide)}",
        "{}{} {},{}".format(extends, SUFFIX[to], *pair(rng, (of, to))),
        f"leaq {number}({q},{p},{rng.choice((1, 2, 4, 8))}),{register(rng, 8)}",
        f"leal {number}({q}),{register(rng, 4)}",
        f"imul{SUFFIX[wide]} ${number},{register(rng, wide)},{register(rng, wide)}",
        f"bt{SUFFIX[wide]} ${rng.randrange(8 * wide)},{register(rng, wide)}",
        f"xchgq {q},%rax",
        rng.choice(OTHERS).format(q=q, l=register(rng, 4)),
    ]
    return rng.choice(made)


def program(sequences: list[list[str]]) -> str:
    """A function for each, which loads the registers, runs it, and stores them and the flags; and
    where each sequence begins and ends."""
    saved = ("rbx", "rbp", "r12", "r13", "r14", "r15")
    text = [".text"]
    for number, lines in enumerate(sequences):
        text += [f".globl f{number}", f"f{number}:", *(f" push %{name}" for name in saved)]
        text += [" mov %rdi,%r14"]
        names = sorted(REGISTERS, key=lambda name: name == "rdi")
        text += [f" mov {8 * REGISTERS[name]}(%r14),%{name}" for name in names]
        text += [" push $0x202", " popf", f"s{number}:", *(f" {line}" for line in lines)]
        text += [f"e{number}: pushf", f" popq {8 * FLAGS}(%r14)"]
        text += [f" mov %{name},{8 * REGISTERS[name]}(%r14)" for name in names]
        text += [*(f" pop %{name}" for name in reversed(saved)), " ret"]
    text += [".data", ".globl places", "places:"]
    text += [f" .long s{number}-f0, e{number}-f0" for number in range(len(sequences))]
    return "\n".join([*text, '.section .note.GNU-stack,"",@progbits\n'])


def followed(code: bytes, values: dict[str, int]) -> State:
    """What x86.py says of the registers behind *code*."""
    state = x86.entry(0x1000, {})
    for name, value in values.items():
        state = state.put(REGISTERS[name], value)
    around = Surroundings(Blocks({0x1000: code + bytes(15)}))
    while state.pc < 0x1000 + len(code):
        (state,) = x86.step(state, around)
    return state


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs an x86-64 CPU")
def test_what_is_known_of_registers_is_what_the_cpu_makes_of_them(tmp_path: Path) -> None:
    """A flush would be proven to be of the right page that is of another one, as where AH was
    changed; or a branch be followed one way that goes the other."""
    rng = random.Random(1)
    sequences = [[instruction(rng) for _ in range(rng.randint(1, 9))] for _ in range(SEQUENCES)]
    source, library = tmp_path / "code.S", tmp_path / "code.so"
    source.write_text(program(sequences))
    subprocess.run(["cc", "-shared", "-o", library, source], check=True)
    code = ctypes.CDLL(str(library))
    first = ctypes.cast(code.f0, ctypes.c_void_p).value or 0
    table = ctypes.addressof(ctypes.c_char.in_dll(code, "places"))
    places = struct.unpack(f"<{2 * SEQUENCES}I", ctypes.string_at(table, 8 * SEQUENCES))
    known = 0
    for number, lines in enumerate(sequences):
        begin, end = places[2 * number : 2 * number + 2]
        values = {name: rng.choice((*VALUES, rng.randrange(1 << 64))) for name in REGISTERS}
        array = (ctypes.c_uint64 * (FLAGS + 1))()
        for name, value in values.items():
            array[REGISTERS[name]] = value
        getattr(code, f"f{number}")(array)
        given = {name: values[name] for name in rng.sample(list(REGISTERS), rng.choice((9, 12)))}
        state = followed(ctypes.string_at(first + begin, end - begin), given)
        assert state.get(4) == STACK, lines
        for name, at in REGISTERS.items():
            assert state.get(at) in (None, array[at]), (lines, name, values)
            known += state.get(at) is not None
        for said, bit in zip(state.flags or (), RFLAGS.values(), strict=False):
            assert said in (None, bool(array[FLAGS] >> bit & 1)), (lines, bit, values)
    assert known > 5 * SEQUENCES  # To know nothing is never wrong.
