# SPDX-License-Identifier: Apache-2.0
"""What is kept of a text for the second pass."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghesrace.errors import TransientError
from ghesrace.events import Cause
from ghesrace.sources.foreign.eventmap import EventMap
from ghesrace.sources.foreign.reader import Block, Gap
from ghesrace.sources.foreign.text import kept as module
from ghesrace.sources.foreign.text.forms import read_begin
from ghesrace.sources.foreign.text.kept import Kept
from ghesrace.sources.foreign.text.reader import TextReader
from tests.build.paths import CORPUS

BLOCKS = st.lists(
    st.builds(
        Block,
        st.dictionaries(st.integers(0, 9999), st.binary(max_size=90).map(bytearray), max_size=3),
        st.one_of(st.none(), st.integers(0, 99)),
        st.just((Gap(1, 2, Cause.UNREAD, 0, 3),)),
    ),
    max_size=8,
)


@settings(deadline=None)
@given(blocks=BLOCKS, in_memory=st.integers(0, 400))
def test_blocks_come_back_as_they_were(blocks: list[Block], in_memory: int) -> None:
    """The second pass would judge another trace than the first one planned for."""
    kept = Kept(in_memory)
    for block in blocks:
        kept.add(block)
    assert kept.whole
    assert list(kept) == list(kept) == blocks


def test_long_texts_take_no_memory() -> None:
    """What was read would be in memory whole."""
    kept = Kept(in_memory=1 << 20)
    for number in range(8):
        kept.add(Block({0: bytearray(1 << 19)}, number))
    assert len(kept._blocks) == 2
    assert all(not stored.block.chunks for stored in kept._stored)


@pytest.mark.parametrize("how", ["no room", "no folder"])
def test_without_room_the_text_is_read_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A full or missing /tmp would make a trace that can't be judged, or half of one."""
    path = tmp_path / "trace"
    path.write_bytes((CORPUS / "seven-columns.txt").read_bytes())
    begin = read_begin(path)
    assert begin.form is not None
    found = []
    for size in (1 << 20, 0):
        if size == 0 and how == "no room":
            monkeypatch.setattr(module, "room_of", lambda out: 10)
        elif size == 0:
            monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
        name = "ghesrace.sources.foreign.text.reader.Kept"
        with mock.patch(name, lambda size=size: Kept(size)):
            reader = TextReader(path, begin.form, begin.style, EventMap())
            found += [list(reader.blocks()), list(reader.blocks())]
        assert (reader._kept is None) == (size == 0)
    assert found[0] == found[1] == found[2] == found[3]


def test_a_disk_that_fails_is_a_typed_error() -> None:
    """A traceback would say nothing of the disk."""
    kept = Kept(in_memory=0)
    kept.add(Block({0: bytearray(b"pages")}, 1))
    assert kept._spool is not None
    kept._spool.file.truncate(2)
    with pytest.raises(TransientError, match="temporary file"):
        list(kept)
