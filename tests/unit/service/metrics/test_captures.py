# SPDX-License-Identifier: Apache-2.0
"""Captures over HTTP: which may be asked for, and how much of the host that costs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ghesrace.service.metrics import captures
from ghesrace.service.metrics.captures import Busy, Captures, TooBig

NAME = "ghesrace-20260101T000000Z-stale-1.arrows"


@pytest.fixture
def kept(tmp_path: Path) -> Captures:
    folder = tmp_path / "captures"
    folder.mkdir()
    (folder / NAME).write_bytes(b"evidence")
    (tmp_path / "secret").write_bytes(b"root's")
    return Captures(str(folder))


def test_the_newest_are_listed_first_and_nothing_else_is(kept: Captures) -> None:
    """If this fails, a half-written or a foreign file is offered, or the wrong one is taken."""
    folder = Path(kept.directory)
    newer = NAME.replace("-1.", "-2.")
    (folder / newer).write_bytes(b"x" * 3)
    os.utime(folder / NAME, (1, 1))
    for other in (f"{NAME}.part", "notes.txt", "manual-60.arrows", ".hidden"):
        (folder / other).write_bytes(b"")
    (folder / NAME.replace("-1.", "-3.")).symlink_to("../../secret")
    (folder / NAME.replace("-1.", "-4.")).mkdir()
    assert [(k.name, k.size) for k in kept.listed()] == [(newer, 3), (NAME, 8)]
    assert kept.listed()[1].written == "1970-01-01 00:00:01 UTC"
    assert Captures(str(folder / "none")).listed() == ()


def test_a_capture_is_handed_out(kept: Captures) -> None:
    """If this fails, evidence has to be fetched by hand."""
    with kept.opened(NAME) as (file, size):
        assert b"".join(kept.pieces(file, size)) == b"evidence"
    with kept.opened(NAME):
        pass


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example("../secret")
@example("/etc/passwd")
@example(f"../captures/{NAME}")
@example(f"{NAME}/../../secret")
@example(f"{NAME}\0")
@example(f"{NAME}\n")
@example(NAME.replace("1", "\u0661"))
@given(st.text(max_size=60) | st.text("./\\%ghesrace-0arrows", max_size=60))
def test_no_other_name_opens_anything(kept: Captures, name: str) -> None:
    """If this fails, the port hands out the host's files."""
    with pytest.raises(FileNotFoundError), kept.opened(name):
        pass


def test_no_link_and_no_pipe_is_followed(kept: Captures) -> None:
    """If this fails, who may write to the folder reads any file, or hangs the server."""
    folder = Path(kept.directory)
    before = len(os.listdir("/proc/self/fd"))
    link, pipe, inner = (NAME.replace("-1.", f"-{n}.") for n in (5, 6, 7))
    (folder / link).symlink_to("../secret")
    os.mkfifo(folder / pipe)
    (folder / inner).mkdir()
    for name in (link, pipe, inner):
        with pytest.raises(OSError, match="ghesrace-"), kept.opened(name):
            pass
    with kept.opened(NAME):  # and the door is not left closed
        pass
    assert len(os.listdir("/proc/self/fd")) == before


def test_one_at_a_time(kept: Captures) -> None:
    """If this fails, clients together take the disk from the recorder."""
    with kept.opened(NAME), pytest.raises(Busy), kept.opened(NAME):
        pass
    with kept.opened(NAME):
        pass


def test_size_is_bounded(kept: Captures, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, one request keeps the only place for hours."""
    monkeypatch.setattr(captures, "MOST_BYTES", 7)
    with pytest.raises(TooBig), kept.opened(NAME):
        pass


def test_rate_and_time_are_bounded(kept: Captures, tmp_path: Path) -> None:
    """If this fails, a download takes the host's network or disk, or never ends."""
    now, waited = [0.0], []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        now[0] += seconds

    kept.sleep, kept.clock = sleep, lambda: now[0]
    big = Path(kept.directory) / NAME
    size = captures.BYTES_PER_SECOND * 2
    big.write_bytes(bytes(size))
    with kept.opened(NAME) as (file, told):
        assert sum(map(len, kept.pieces(file, told))) == size
    assert sum(waited) == pytest.approx(2, rel=0.05)

    def stalled() -> float:
        now[0] += 10
        return now[0]

    kept.clock = stalled  # the client takes ten seconds for each piece
    with kept.opened(NAME) as (file, told):
        assert sum(map(len, kept.pieces(file, told))) < 40 * (64 << 10)


def test_a_file_that_shrinks_ends_the_download(kept: Captures) -> None:
    """If this fails, a thread spins for good on a file that was cut."""
    with kept.opened(NAME) as (file, _):
        assert b"".join(kept.pieces(file, 1 << 20)) == b"evidence"
