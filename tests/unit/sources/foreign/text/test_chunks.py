# SPDX-License-Identifier: Apache-2.0
"""Texts that are read a piece at a time, into the same memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghesrace.errors import InputError
from ghesrace.sources.foreign.text.chunks import MAX_LINE, Chunks
from ghesrace.sources.foreign.text.debris import undressed
from ghesrace.sources.foreign.text.lines import unix_lines

LETTERS = st.sampled_from([b"a", b"bc\n", b"\n", b"d\r\n", b"\x1b[31m", b"&lt;", b"&", b"\r"])


def chunks_of(path: Path, size: int) -> tuple[list[bytes], bool]:
    """The chunks of a file, and whether it ends in the middle of a line."""
    with path.open("rb", buffering=0) as file:
        chunks, found = Chunks(file, size), []
        while (lines := chunks.take(size)) is not None:
            found.append(bytes(lines))
        return found, chunks.rest


@given(parts=st.lists(LETTERS, max_size=40), size=st.integers(1, 50))
def test_every_whole_line_is_handed_out_once(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], size: int
) -> None:
    """A line would be lost, or read twice, where one piece ends and the next begins."""
    text = b"".join(parts)
    path = tmp_path_factory.mktemp("text") / "trace"
    path.write_bytes(text)
    found, rest = chunks_of(path, size)
    whole = text[: text.rfind(b"\n") + 1]
    assert b"".join(found) == b"".join(
        bytes(undressed(unix_lines(line))) for line in whole.splitlines(keepends=True)
    ) or b"\r" in whole.replace(b"\r\n", b"")
    assert sum(lines.count(b"\n") for lines in found) == whole.count(b"\n")
    assert rest == (len(whole) < len(text))


def test_a_line_without_an_end_is_refused(tmp_path: Path) -> None:
    """It would fill the memory."""
    path = tmp_path / "trace"
    path.write_bytes(b"a" * (MAX_LINE + (1 << 17)) + b"\n")
    with pytest.raises(InputError, match="more than 1 MiB"):
        chunks_of(path, 1 << 16)
    path.write_bytes(b"a" * MAX_LINE + b"\n")
    assert sum(map(len, chunks_of(path, 1 << 16)[0])) == MAX_LINE + 1


def test_the_memory_is_used_again(tmp_path: Path) -> None:
    """The system would have to make each piece's memory zero."""
    path = tmp_path / "trace"
    path.write_bytes(b"one\ntwo\n")
    with path.open("rb", buffering=0) as file:
        chunks = Chunks(file, 4)
        first = chunks.take(4)
        assert first == b"one\n"
        chunks.take(4)
        assert first == b"two\n"
