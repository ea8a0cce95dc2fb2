# SPDX-License-Identifier: Apache-2.0
"""The data set: whole batches or nothing, whatever happens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ghesrace.errors import InputError, TransientError, UsageError
from ghesrace.fleet.survey import dataset
from ghesrace.fleet.survey.dataset import Dataset
from ghesrace.fleet.survey.tables import KILLED, arrow

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def batch(
    url: str = "file:///a", tag: str = "1", judged: datetime = NOW, error: str | None = None
) -> dict[str, Any]:
    run = f"{url}{tag}{judged}"
    row = {"run": run, "url": url, "tag": tag, "judged": judged, "error": error}
    return arrow({"runs": [row], "losses": [{"run": run, "cause": "overrun", "count": 1}]})


def files(root: Path) -> list[str]:
    return sorted(
        path.parent.parent.name for path in root.rglob("*") if "tool=" in str(path.parent)
    )


@pytest.mark.parametrize("dies_at", ["runs", "slots", "findings", "losses"])
def test_a_batch_that_was_cut_short_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    """If this fails, a killed survey leaves rows that are counted twice by the next."""
    write = dataset._write

    def die(path: Path, table: Any) -> None:
        if dies_at in path.parts:
            path.with_suffix(".part").write_bytes(b"PAR1 cut")
            raise KeyboardInterrupt
        write(path, table)

    with Dataset(tmp_path / "data") as data:
        data.write(batch("file:///first"))
        monkeypatch.setattr(dataset, "_write", die)
        with pytest.raises(KeyboardInterrupt):
            data.write(batch())
        assert data.known() == {"file:///first": "1"}
    monkeypatch.undo()
    with Dataset(tmp_path / "data") as data:
        assert files(tmp_path) == ["findings", "losses", "runs", "slots"]
        data.write(batch())
        assert data.known() == {"file:///first": "1", "file:///a": "1"}
        assert sum(len(rows) for rows in data.rows("losses", ["run"])) == 2


def test_of_two_contents_the_last_that_was_judged_is_known(tmp_path: Path) -> None:
    """If this fails, a capture that went back to an old content is judged at each survey."""
    with Dataset(tmp_path) as data:
        for number, tag in enumerate("121"):
            data.write(batch(tag=tag, judged=NOW + timedelta(hours=number)))
        assert data.known() == {"file:///a": "1"}


def test_what_killed_its_worker_is_tried_again(tmp_path: Path) -> None:
    """If this fails, a capture that had too little memory once has no verdict for good."""
    with Dataset(tmp_path) as data:
        data.write(batch(error=KILLED))
        data.write(batch("file:///b", error="InputError"))
        assert data.known() == {"file:///b": "1"}


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """If this fails, a mistyped --data mixes with, or removes, somebody's files."""
    (tmp_path / "notes").touch()
    with pytest.raises(UsageError, match="is no data set"), Dataset(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_two_surveys_do_not_write_at_once(tmp_path: Path) -> None:
    """If this fails, one removes what the other has half written."""
    with (
        Dataset(tmp_path),
        pytest.raises(TransientError, match="another survey writes"),
        Dataset(tmp_path),
    ):
        pass
    with Dataset(tmp_path):
        pass


def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    """If this fails, whoever has a broken disk gets a traceback of Arrow."""
    with Dataset(tmp_path) as data:
        data.write(batch())
        [path] = (tmp_path / "runs").rglob("*.parquet")
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(InputError, match=f"{path.name} is damaged") as raised:
            data.known()
        assert path.name in raised.value.hint


def test_any_reader_finds_the_tables(tmp_path: Path) -> None:
    """If this fails, the layout is not what Parquet's readers take for a partitioned data set."""
    with Dataset(tmp_path) as data:
        data.write(batch())
    table = pq.read_table(tmp_path / "runs")
    assert table["tool"].to_pylist() == [dataset.__version__]


def test_a_folder_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    """If this fails, the survey ends as an internal error."""
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="can't write"), Dataset(tmp_path / "file" / "data"):
        pass
