# SPDX-License-Identifier: Apache-2.0
"""The capture file: what is written is read, and nothing that is damaged is believed."""

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghesrace.errors import HostError, InputError, TransientError
from ghesrace.events import EVENT, Cause, Events, Kind, columns_of, empty, mark, select
from ghesrace.plan import Fetch, Plan, Probe, Slot
from ghesrace.sources.capture import file
from ghesrace.sources.capture.file import CaptureSource, CaptureWriter

PLAN = Plan(
    "x86_64",
    "6.1",
    (Slot("IRQ", 644, 0xFFFFFFFFFF57B000, "report"),),
    (Probe("set", "MAP", "native_set_fixmap", "kprobe", {"index": Fetch(1, 32)}, "UNMAP"),),
    cpus=(0, 1),
)
HOST = {"release": "6.1.0", "cpus": 2}


def some(count: int, ts: int = 1000) -> Events:
    """*count* events with every column in use, then a MARK."""
    events = empty(count)
    number = np.arange(count)
    for name in set(EVENT.names or ()) - {"aux", "reserved"}:  # of an event these are 0
        events[name] = number % 97 if name != "ts" else ts + number
    events["kind"] = Kind.MAP
    return np.concatenate((events, mark(ts + count)))


def write(path: Path, *batches: Events, well: bool = True) -> None:
    writer = CaptureWriter(path, PLAN, HOST, interval=0)
    for batch in batches:
        writer.write(batch)
    writer.close(ended_well=well)


def read(path: Path) -> tuple[Events, CaptureSource]:
    source = CaptureSource(path)
    return np.concatenate([empty(), *source.batches()]), source


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("capture") / "good.arrows"
    write(path, some(50), some(700, 5000), some(3, 9000))
    return path


def test_round_trip(good: Path) -> None:
    """If this fails, a column, the plan or the host facts change between writing and reading."""
    events, source = read(good)
    assert np.array_equal(events, np.concatenate((some(50), some(700, 5000), some(3, 9000))))
    assert (source.plan, source.host) == (PLAN, HOST)
    assert not source.truncated
    assert source.warnings == []


def test_any_arrow_reader_opens_it(good: Path) -> None:
    """If this fails, the file is ours alone and not the Arrow stream that it claims to be."""
    table = pa.ipc.open_stream(good).read_all()
    assert table.num_rows == 756
    assert table.column_names == list(columns_of(summary=False))
    assert json.loads(table.schema.metadata[b"ghesrace.host"]) == HOST


def test_no_traffic_is_an_intact_file(tmp_path: Path) -> None:
    """If this fails, a quiet host's capture is called damaged."""
    write(tmp_path / "quiet.arrows")
    events, source = read(tmp_path / "quiet.arrows")
    assert len(events) == 0
    assert not source.truncated


def test_batches_are_collected_for_an_interval(tmp_path: Path) -> None:
    """If this fails, every tick costs a batch of its own, or a crash costs more than one."""
    writer = CaptureWriter(tmp_path / "x.arrows", PLAN, HOST, interval=0.2)
    writer.write(some(1))
    writer.write(some(1))
    assert writer.rows == 0
    time.sleep(0.25)
    writer.write(some(1))
    assert writer.rows == 6
    copy = tmp_path / "copy.arrows"
    copy.write_bytes((tmp_path / "x.arrows").read_bytes())
    assert len(read(copy)[0]) == 6 + 2
    writer.close()


def test_big_batches_are_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a burst makes a batch that the reader refuses, or holds at once."""
    monkeypatch.setattr(file, "WRITTEN_ROWS", 100)
    write(tmp_path / "big.arrows", some(1000))
    source = CaptureSource(tmp_path / "big.arrows")
    sizes = [len(batch) for batch in source.batches()]
    assert sizes == [100] * 10 + [1]


def test_a_big_batch_is_handed_out_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If this fails, events get lost between two parts, or what is open at the end of each is
    looked at again and again."""
    monkeypatch.setattr(file, "_AT_ONCE", 10)
    batch = np.concatenate([some(7, 100), some(7, 200), some(7, 300), some(3, 400)])
    write(tmp_path / "big.arrows", batch)
    parts = list(CaptureSource(tmp_path / "big.arrows").batches())
    assert [len(part) for part in parts[:2]] == [16, 12]
    assert all(part["kind"][-1] == Kind.MARK for part in parts[:2])
    assert np.array_equal(np.concatenate(parts)[: len(batch)], batch)


@pytest.mark.slow
def test_every_cut_leaves_the_intact_prefix(good: Path, tmp_path: Path) -> None:
    """If this fails, a crash at some byte loses intact batches, or looks like a good end."""
    data = good.read_bytes()
    cut = tmp_path / "cut.arrows"
    whole, _ = read(good)
    lengths = set()
    for size in (*range(0, len(data) - 1, 61), len(data) - 1, len(data) - 8):
        cut.write_bytes(data[:size])
        try:
            events, source = read(cut)
        except InputError:
            continue
        assert source.truncated
        assert source.warnings
        assert events["kind"][-2:].tolist() == [Kind.LOSS, Kind.MARK]
        assert select(events, Kind.LOSS)["cause"] == [Cause.TRUNCATED]
        assert np.array_equal(events[:-2], whole[: len(events) - 2])
        lengths.add(len(events) - 2)
    assert lengths == {51, 752, 756}


def test_truncation_loss_reaches_back_to_the_last_mark(tmp_path: Path) -> None:
    """If this fails, events after the last mark are taken for complete."""
    batch = np.concatenate((some(5, 100), some(5, 200)[:-1]))
    write(tmp_path / "x.arrows", batch, well=False)
    events, _ = read(tmp_path / "x.arrows")
    [lost] = select(events, Kind.LOSS)
    assert (lost["begin"], lost["end"]) == (105, 204)


def test_unfinished_file_without_a_batch_is_an_error(tmp_path: Path) -> None:
    """If this fails, a file that tells nothing gets a verdict."""
    write(tmp_path / "x.arrows", well=False)
    with pytest.raises(InputError, match="before the first batch"):
        read(tmp_path / "x.arrows")


def foreign_stream(path: Path, schema: pa.Schema) -> None:
    with pa.ipc.new_stream(str(path), schema):
        pass


@pytest.mark.parametrize("data", [b"", b"hello", b"\xff" * 64, b"ARROW1\0\0" + b"\0" * 99])
def test_foreign_files_are_refused(tmp_path: Path, data: bytes) -> None:
    """If this fails, a wrong file name ends in a traceback."""
    path = tmp_path / "foreign"
    path.write_bytes(data)
    with pytest.raises(InputError, match="not a ghesrace capture"):
        CaptureSource(path)


def test_foreign_arrow_streams_and_formats_are_refused(tmp_path: Path) -> None:
    """If this fails, other data or a newer format is judged as if it were ours."""
    path = tmp_path / "x"
    foreign_stream(path, pa.schema([("a", pa.int32())]))
    with pytest.raises(InputError, match="not a ghesrace capture"):
        CaptureSource(path)
    ours = file.schema(PLAN, HOST)
    metadata = dict(ours.metadata)
    foreign_stream(path, ours.with_metadata({**metadata, b"ghesrace.format": b"99"}))
    with pytest.raises(InputError, match="99"):
        CaptureSource(path)
    foreign_stream(path, ours.remove(3))
    with pytest.raises(InputError, match="columns"):
        CaptureSource(path)
    foreign_stream(path, ours.with_metadata({**metadata, b"ghesrace.plan": b"{]"}))
    with pytest.raises(InputError, match="plan"):
        CaptureSource(path)
    foreign_stream(path, ours.with_metadata({**metadata, b"ghesrace.host": b"[" * 100_000}))
    with pytest.raises(InputError, match="host"):
        CaptureSource(path)


def test_missing_and_odd_paths_are_input_errors(tmp_path: Path) -> None:
    """If this fails, a mistyped path ends in a traceback, or (a FIFO) in waiting for ever."""
    os.mkfifo(tmp_path / "fifo")
    odd = ("nothing", "", "/dev/null", "a\0b", "fifo")
    for path in (tmp_path / name for name in odd):
        with pytest.raises(InputError):
            CaptureSource(path)


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_damaged_bytes_never_crash_nor_invent_batches(good: Path, data: st.DataObject) -> None:
    """If this fails, one flipped byte on a disk ends in a traceback or an endless read."""
    content = bytearray(good.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = good.with_name("damaged.arrows")
    path.write_bytes(content)
    try:
        events, source = read(path)
    except InputError:
        return
    assert len(events) <= 756 + 2
    assert source.truncated or len(events) == 756


def test_full_disk_is_transient_and_keeps_what_was_written(tmp_path: Path) -> None:
    """If this fails, a full disk ends in a traceback and an unreadable file."""
    path = tmp_path / "x.arrows"
    writer = CaptureWriter(path, PLAN, HOST, interval=0)
    writer.write(some(20))
    size = path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, hard))
    try:
        with pytest.raises(TransientError, match="free some space"):
            writer.write(some(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.close()
    events, source = read(path)
    assert source.truncated
    assert np.array_equal(events[:-2], some(20))


def test_unwritable_path_is_a_host_error(tmp_path: Path) -> None:
    """If this fails, -o into a missing folder ends in a traceback."""
    with pytest.raises(HostError, match="can't write"):
        CaptureWriter(tmp_path / "no" / "x", PLAN, HOST)
