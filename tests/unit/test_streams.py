# SPDX-License-Identifier: Apache-2.0
"""Standard output and error as a command has them; test_cli.py tries each command."""

from __future__ import annotations

import io
import os

import pytest

from ghesrace.streams import OutputError, ReaderGone, _Errors, _Output


def test_what_was_given_up_is_dropped_without_an_error() -> None:
    """The interpreter flushes at its end, and would complain of what was told already."""
    with open("/dev/full", "wb", buffering=0) as full:
        raw = _Output(full.fileno())
        text = io.TextIOWrapper(io.BufferedWriter(raw))
        text.write("verdict")
        with pytest.raises(OutputError, match="No space"):
            text.flush()
        raw.given_up = True
        text.close()


def test_a_reader_that_is_gone_is_no_oserror() -> None:
    """rich ends the program with exit code 1, a race, at a BrokenPipeError."""
    ours, theirs = os.pipe()
    os.close(ours)
    with pytest.raises(ReaderGone) as caught:
        _Output(theirs).write(b"verdict")
    assert not isinstance(caught.value, OSError)
    assert _Errors(theirs).write(b"warning") == 7
    os.close(theirs)


def test_a_closed_file_is_never_another_one() -> None:
    """Descriptor 1 is free then, and the next file that is opened gets it: the trace itself."""
    raw = _Output(-1)
    assert not raw.isatty()
    with pytest.raises(OutputError, match="Bad file descriptor"):
        raw.write(b"verdict")
    with pytest.raises(io.UnsupportedOperation):
        raw.fileno()
