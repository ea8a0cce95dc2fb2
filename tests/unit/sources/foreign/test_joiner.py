# SPDX-License-Identifier: Apache-2.0
"""Slots that only another event tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace.checker.report import Verdict
from ghesrace.errors import InputError
from ghesrace.events import Cause, Kind, empty, select
from ghesrace.sources.files import open_file
from ghesrace.sources.foreign.joiner import blinded
from tests.build.texts import MAP, foreign_visit, judged, line, losses


def test_return_event_delivers_the_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A map that knows only its frame, and an unmap that knows nothing, could not be judged;
    the chunk may end between the map and its return."""
    path, given = tmp_path / "trace", tmp_path / "map.toml"
    body = "".join(
        foreign_visit(n % 2, 1000 * (n + 1), 0x100 + n, 0xFFFFC90000000000 + 0x1000 * (n // 4))
        for n in range(8)
    )
    path.write_text(body)
    given.write_text(MAP)
    for chunk in (1 << 20, 130):
        monkeypatch.setattr("ghesrace.sources.foreign.text.reader._CHUNK", chunk)
        report, events = judged(path, given)
        assert [slot.episodes for slot in report.slots] == [4, 4], chunk
        assert report.verdict is Verdict.OBSERVED
        assert not (events["kind"] == Kind.LOSS).any()
    with pytest.raises(InputError, match="--map"):
        open_file(path)


def test_map_without_its_return_is_a_loss(tmp_path: Path) -> None:
    """A map whose slot nothing tells would vanish."""
    path, given = tmp_path / "trace", tmp_path / "map.toml"
    given.write_text(MAP)
    first = foreign_visit(0, 1000, 1, 0xFFFFC90000000000)
    path.write_text(
        first + line(0, 2000, "in: (0) a=2") + foreign_visit(0, 3000, 3, 0xFFFFC90000000000)
    )
    _, events = judged(path, given)
    assert losses(events, Cause.MISSED)["ts"].tolist() == [2_000_000]
    assert int((events["kind"] == Kind.MAP).sum()) == 2


def test_an_event_that_does_not_say_what_it_was_about_is_a_loss() -> None:
    """An invalidation of an unknown page, taken for none, makes a false race."""
    events = empty(3)
    events["ts"], events["cpu"], events["point"] = (5, 7, 9), (0, 0, 1), (0, 1, 1)
    events["kind"] = Kind.INV_PAGE
    lost = select(blinded(events, [1]), Kind.LOSS)
    assert lost["begin"].tolist() == [5, 9]
    assert lost["end"].tolist() == [7, 9]
    assert lost["point"].tolist() == [1, 1]
    assert blinded(events, []) is events
