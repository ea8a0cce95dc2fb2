# SPDX-License-Identifier: Apache-2.0
"""Whether an invalidation lies behind the write, on all paths."""

from __future__ import annotations

import pytest

from ghesrace.planning.implied.judge import of_invalidation, of_paths
from ghesrace.planning.implied.paths import ALL, Act, Acts

PAGE, ENTRY, OTHER = 0xFFFFFFFFFF5FB000, 0xFFFF800082411FD8, 0xFFFF800082411FD0
W, ELSEWHERE = Act("write", 1, ENTRY), Act("write", 2, OTHER)
UNKNOWN = Act("write", 3)
S, D = Act("store-barrier", 4, everywhere=True), Act("barrier", 5, everywhere=True)
T, LOCAL = Act("flush", 6, PAGE, "tlbi", True), Act("flush", 7, PAGE, "tlbi")
CALL, MESSAGE, TRAP = Act("call", 8), Act("message", 9), Act("trap", 10)


@pytest.mark.parametrize(
    ("paths", "held"),
    [
        ([(W, S, T, D)], True),
        ([(W, D, T, D)], True),
        ([(W, S, Act("flush", 6, ALL, "tlbi", True), D)], True),
        ([(CALL, W, S, T, D)], True),
        ([(W, ELSEWHERE, S, T, D)], True),
        ([(W, S, T, D, ELSEWHERE)], True),  # which is no entry of that page
        ([(W, S, T)], False),
        ([(W, T, D)], False),
        ([(W, S, T, Act("barrier", 5))], False),  # a DSB NSH waits for this CPU alone
        # DSB NSHST and DSB NSH show the write to this CPU's walker alone
        ([(W, Act("store-barrier", 4), T, D)], False),
        ([(W, Act("barrier", 5), T, D)], False),
        ([(W, S, LOCAL, D)], False),
        ([(S, T, D, W)], False),
        ([(W,)], False),
        ([(W, S, T, D), (W,)], False),  # not on every path
        ([(ELSEWHERE, S, T, D)], False),  # the entry of another page
        ([(W, S, T, D, CALL)], None),
        ([(W, CALL)], None),
        ([(CALL,)], None),
        ([(UNKNOWN, S, T, D, UNKNOWN)], None),  # which of the two is the entry's?
        ([(W, S, Act("flush", 6, None, "tlbi", True), D)], None),
        ([(UNKNOWN, S, T, D)], None),  # of which page?
        ([()], None),
        ([], None),
        ([(W, S, T, D), ()], None),  # the entry may stay as it was
        ([(W,), ()], False),
        ([(W, S, T, D), (W, TRAP)], None),  # a WARN() goes on behind it
        ([(W,), (W, TRAP)], False),
        ([(CALL, W, S, T, D), (CALL, MESSAGE)], True),
        ([(W, S, T, D), (CALL, MESSAGE)], None),
        ([(CALL, W, S, T, D), (W, MESSAGE)], False),
    ],
)
def test_of_paths(paths: list[Acts], held: bool | None):
    """If this fails, a kernel that does not invalidate is believed to, or the other way round."""
    assert of_paths(paths, None, everywhere=True, arm64=True).held is held


@pytest.mark.parametrize(
    ("written", "held"),
    [(0, True), (PAGE & ~1, True), (PAGE | 0x703, False), (None, None)],
)
def test_a_clear_that_clears_nothing(written: int | None, held: bool | None):
    """If this fails, an entry that is still valid behind its broadcast passes for cleared."""
    acts = (W, Act("write", 1, ENTRY, data=written), ELSEWHERE, S, T, D)
    given = {"everywhere": True, "arm64": True}
    assert of_paths([acts], PAGE, clears=True, **given).held is held
    assert of_paths([acts], PAGE, **given).held is True


@pytest.mark.parametrize(
    ("paths", "held"),
    [
        ([(T,)], True),
        ([(LOCAL, W)], True),
        ([(Act("flush", 6, ALL, "tlbi"),)], True),
        ([(T,), ()], False),
        ([(Act("flush", 6, PAGE + 0x1000, "tlbi"),)], False),
        ([(Act("call", 1),)], False),  # a hook of the entry, which lies at 1
        ([(Act("call", 5),)], False),  # behind ENDBR64
        ([(CALL,)], None),
        ([(Act("flush", 6, None, "tlbi"),)], None),
        ([(T,), (CALL,)], None),
        ([(CALL,), ()], False),
        ([(T,), (TRAP,)], None),
        ([], None),
    ],
)
def test_of_a_flush(paths: list[Acts], held: bool | None):
    """If this fails, a function that is called a flush passes for one, or a flush for none."""
    assert of_invalidation(paths, PAGE, [1]).held is held


def test_of_a_page_that_is_known():
    """If this fails, a flush of another page counts."""
    known = {"everywhere": False, "arm64": False}
    assert of_paths([(UNKNOWN, T)], PAGE, **known).held is True
    assert of_paths([(UNKNOWN, T)], PAGE + 0x1000, **known).held is False
    assert of_paths([(T, UNKNOWN)], PAGE, **known).early
    assert not of_paths([(UNKNOWN,)], PAGE, **known).early
