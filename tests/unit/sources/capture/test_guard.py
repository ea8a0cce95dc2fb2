# SPDX-License-Identifier: Apache-2.0
"""Messages that lie about their size, before any library sees them."""

from __future__ import annotations

import resource
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghesrace.errors import InputError
from ghesrace.sources.capture import file
from ghesrace.sources.capture.guard import RECORD_BATCH, SCHEMA, check_batch, header
from tests.build.trace import plan


@pytest.mark.slow
def test_zstd_bomb_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    """If this fails, a small hostile file takes all memory of the machine."""
    schema = file.schema(plan(), {})
    rows = 40 << 20
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        zeros = {w: np.zeros(rows, f"u{w}") for w in (1, 2, 4, 8)}
        columns = [pa.array(zeros[f.type.bit_width // 8]).cast(f.type) for f in schema]
        writer.write_batch(pa.record_batch(columns, schema=schema))
        del zeros, columns
    path = tmp_path / "bomb.arrows"
    path.write_bytes(sink.getvalue())
    assert path.stat().st_size < 1 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="rows"):
        list(file.CaptureSource(path).batches())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


WIDTHS, ROWS = [8, 4], 10


def messages(compression: str | None, *, nulls: bool = False) -> list[tuple[bytes, bytes]]:
    """(metadata, body) of a schema and of a batch with two columns."""
    long = pa.array([None, *range(ROWS - 1)] if nulls else range(ROWS), pa.uint64())
    batch = pa.record_batch([long, pa.array(range(ROWS), pa.uint32())], ["a", "b"])
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    reader = pa.ipc.MessageReader.open_stream(sink.getvalue())
    return [(bytes(m.metadata), bytes(m.body or b"")) for m in (next(reader), next(reader))]


@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_what_arrow_writes_is_let_through(compression: str | None) -> None:
    """Captures of our own would be refused."""
    (schema, nothing), (metadata, body) = messages(compression)
    assert (header(schema).kind, header(schema).body) == (SCHEMA, len(nothing))
    assert (header(metadata).kind, header(metadata).body) == (RECORD_BATCH, len(body))
    assert check_batch(metadata, body, WIDTHS, ROWS) == ROWS


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_what_a_library_would_believe_is_refused(compression: str | None) -> None:
    """Rows, columns or buffers that are not there would be read, as memory of this process."""
    _, (metadata, body) = messages(compression)
    for widths, most, cut, words in (
        (WIDTHS, ROWS - 1, 0, "10 rows"),
        ([8], ROWS, 0, "4 buffers for 1 columns"),
        ([8, 8], ROWS, 0, "wrong size" if compression else "too short"),
        (WIDTHS, ROWS, 8, "outside its body"),
    ):
        with pytest.raises(InputError, match=words):
            check_batch(metadata, body[: len(body) - cut], widths, most)
    _, (metadata, body) = messages(compression, nulls=True)
    with pytest.raises(InputError, match="nulls"):
        check_batch(metadata, body, WIDTHS, ROWS)


def test_a_claim_of_a_compressed_buffer_is_held_against_the_rows() -> None:
    """A few bytes that claim gigabytes would be allocated before anybody looks."""
    _, (metadata, body) = messages("zstd")
    at = body.index(struct.pack("<q", ROWS * 8))
    for claim in (ROWS * 8 + 1, 1 << 40, -2):
        lying = body[:at] + struct.pack("<q", claim) + body[at + 8 :]
        with pytest.raises(InputError, match="wrong size"):
            check_batch(metadata, lying, WIDTHS, ROWS)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([None, "zstd"]), st.data())
def test_damaged_headers_end_in_typed_errors(compression: str | None, data: st.DataObject) -> None:
    """A header would lead outside of its message: a traceback, or endless work."""
    _, (metadata, body) = messages(compression)
    damaged = bytearray(metadata[: data.draw(st.integers(0, len(metadata)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        header(bytes(damaged))
        assert 0 <= check_batch(bytes(damaged), body, WIDTHS, ROWS) <= ROWS
    except InputError:
        pass
