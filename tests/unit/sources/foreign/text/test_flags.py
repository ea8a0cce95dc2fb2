# SPDX-License-Identifier: Apache-2.0
"""The letters before a stamp."""

from __future__ import annotations

import pytest

from ghesrace.sources.foreign.text.flags import HARDIRQ, IRQS_OFF, NMI, SOFTIRQ, Flags
from ghesrace.sources.foreign.text.forms import Style
from ghesrace.sources.foreign.text.lines import lines_of

KERNEL = Style(kernel=True)


@pytest.mark.parametrize(
    ("letters", "bits"),
    [
        ("d.h1.", IRQS_OFF | HARDIRQ),
        ("D.Z..", IRQS_OFF | NMI | HARDIRQ),
        ("..z..", NMI),
        ("b.H2.", HARDIRQ | SOFTIRQ),
        ("..s..", SOFTIRQ),
        (".N...", 0),
        ("dnLh1..", IRQS_OFF | HARDIRQ),
    ],
)
def test_letters_are_the_kernels(letters: str, bits: int) -> None:
    """An NMI that is read as an interrupt leaves torn edits unseen."""
    assert Flags(KERNEL).take(lines_of(letters.encode())).tolist() == [bits]


@pytest.mark.parametrize(
    ("style", "letters", "told"),
    [
        (KERNEL, "d.h1.", True),  # Kernels with five columns mark NMIs.
        (KERNEL, "d.h1", False),  # Older ones may print an NMI as an interrupt.
        (KERNEL, "d.Z1", True),
        (Style(), "d.h1.", False),  # trace-cmd does, too.
        (Style(), "d.Z1.", True),
        (KERNEL, "", False),
    ],
)
def test_contexts_are_told_only_where_nmis_are(style: Style, letters: str, told: bool) -> None:
    """Else nobody can say that no NMI was there."""
    flags = Flags(style)
    flags.take(lines_of(letters.encode() or b"\n").filter([True]) if letters else _none())
    assert flags.contexts is told


def _none() -> object:
    return lines_of(b"a\n").take([0]).slice(0, 0)
