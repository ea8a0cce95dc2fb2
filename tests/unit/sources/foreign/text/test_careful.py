# SPDX-License-Identifier: Apache-2.0
"""Lines as regular expressions read them, and what is learnt of them (test_plain.py: the rest)."""

from __future__ import annotations

from ghesrace.sources.foreign.eventmap import EventMap
from ghesrace.sources.foreign.text.careful import Careful
from ghesrace.sources.foreign.text.forms import Style
from ghesrace.sources.foreign.text.lines import lines_of
from ghesrace.sources.foreign.text.parts import Buffers
from ghesrace.sources.foreign.text.plain import Plain

MAP = b" a-1 [000] d.h1. 1.000000: m: (ghes_ioremap_pfn_irq+0x0/0x40 [old]) other=1 pfn=%d\n"


def test_what_is_wanted_comes_first_and_is_learnt() -> None:
    """The rest is not written into pages: an argument behind it would be read as another one."""
    careful = Careful("ftrace", Style(kernel=True), EventMap())
    plain = Plain("ftrace", bare=False)
    found, bad, twice, part = careful.read(lines_of(MAP % 7 + b"#\n"), Buffers())
    assert (found.at.tolist(), bad.tolist(), twice.tolist()) == ([0], [1], [])
    assert (found.values[0, 0], careful.width) == (7, 1)
    careful.teach(plain, found, part)
    quick = plain.take(MAP % 7).plain
    found.values = found.values[:, : careful.width]
    assert [column.tolist() for column in quick.columns] == [
        column.tolist() for column in found.columns
    ]


def test_nothing_is_learnt_of_an_event_that_cannot_be_told() -> None:
    """A line that counts as lost would be an event."""
    careful = Careful("ftrace", Style(), EventMap())
    plain = Plain("ftrace", bare=False)
    found, _, _, part = careful.read(lines_of(MAP % 7), Buffers())
    found.ident[:] = 0
    careful.teach(plain, found, part)
    assert len(plain.take(MAP % 7).plain) == 0
