# SPDX-License-Identifier: Apache-2.0
"""x86 code is cut where the CPU cuts it."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from ghesrace.planning.implied.paths import Lost
from ghesrace.planning.implied.x86_decode import LONGEST, decode

# Each is one instruction of the kernels' own functions, as objdump shows them.
WHOLE = (
    "f30f1efa e88bc7feff 488b0554403a01 89f9 4881e600f0ffff 7537 ff158e199b01 ff142538336382 "
    "48c7c700f07fff c1e20c 81f900060000 773a 8305 0f0b 0f1f840000000000 65c6058c5ffa7e01 "
    "66662e0f1f840000000000 480fbae227 660f38820424 0f013f 0f848f459700 48ba6301000000000080 "
    "f6c201 49837c241000 6548 6690 4d85c0 f7d8 48f7c600000080 f60501 c3 c20800 68ffff0000 6aff "
    "0f3a 48a1"
)
LOST = ("8305", "6548", "f60501", "0f3a", "48a1")  # they are cut off


@pytest.mark.parametrize("text", WHOLE.split())
def test_length(text: str):
    """If this fails, all that follows an instruction is read wrongly."""
    code = bytes.fromhex(text)
    if text in LOST:
        with pytest.raises(Lost):
            decode(code)
        return
    size = len(code)
    assert decode(code + bytes(LONGEST)).size == size
    for end in range(size):
        with pytest.raises(Lost):
            decode(code[:end])


def test_operands():
    """If this fails, a flush gets another register's page."""
    assert decode(bytes.fromhex("4889ef")).reg == 5  # mov %rbp,%rdi
    assert decode(bytes.fromhex("4889ef")).rm == 7
    assert decode(bytes.fromhex("488d3cc2")).memory == (2, 0, 8, 0)  # lea (%rdx,%rax,8),%rdi
    assert decode(bytes.fromhex("498d3cc4")).memory == (12, 0, 8, 0)  # lea (%r12,%rax,8),%rdi
    assert decode(bytes.fromhex("4157")).rm == 15  # push %r15
    assert decode(bytes.fromhex("e9feffffff")).immediate == -2
    assert decode(bytes.fromhex("65488b042528000000")).percpu


def test_any_bytes_are_an_instruction_or_lost():
    """If this fails, planning crashes on code that nobody thought of."""
    dice = random.Random(16)
    for _ in range(20_000):
        with suppress(Lost):
            assert 0 < decode(dice.randbytes(dice.randrange(20))).size <= LONGEST
