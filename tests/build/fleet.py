# SPDX-License-Identifier: Apache-2.0
"""Stores of many captures: the examples, each under the names of other hosts and kernels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from tests.build.paths import EXAMPLES

NAMES = ("stock", "arm64", "control", "predicted", "overlap", "shootdown", "torn-edit")


def relabelled(path: Path, **facts: Any) -> bytes:
    """The capture *path* with other *facts* about its host (release=, nodename=, ...)."""
    with pa.ipc.open_stream(path) as stream:
        metadata = dict(stream.schema.metadata)
        host = {**json.loads(metadata[b"ghesrace.host"]), **facts}
        plan = json.loads(metadata[b"ghesrace.plan"])
        plan["release"] = host["release"]
        metadata[b"ghesrace.host"] = json.dumps(host).encode()
        metadata[b"ghesrace.plan"] = json.dumps(plan).encode()
        out = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(
            out, stream.schema.with_metadata(metadata), options=options
        ) as written:
            for batch in stream:
                written.write_batch(batch.replace_schema_metadata(metadata))
    return bytes(out.getvalue())


def store(folder: Path, captures: int, hosts: int = 200, kernels: int = 20) -> Path:
    """A store of so many *captures* in *folder*, one for each host."""
    made: dict[tuple[str, str], bytes] = {}
    for number in range(captures):
        host = number % hosts
        name = NAMES[number // hosts % len(NAMES)]
        release = f"6.{host % kernels}.0-made"
        if (name, release) not in made:
            made[name, release] = relabelled(EXAMPLES / f"{name}.arrows", release=release)
        place = folder / f"host{host:03}" / f"{number:06}-{name}.arrows"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(made[name, release])
    return folder


def contents(data: Path) -> dict[str, list[dict[str, Any]]]:
    """All rows of the data set in *data*, in an order and with names of runs that do not depend on
    how it came about: equal data sets have equal contents."""
    tables = {
        table: [row for path in sorted((data / table).rglob("*.parquet")) for row in _rows(path)]
        for table in ("runs", "slots", "findings", "losses")
    }
    urls = {row["run"]: row["url"] for row in tables["runs"]}
    for rows in tables.values():
        for row in rows:
            row["run"] = urls[row["run"]]
            row.pop("judged", None)
        rows.sort(key=lambda row: json.dumps(row, sort_keys=True, default=str))
    return tables


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with pa.parquet.ParquetFile(path) as file:
        yield from file.read().to_pylist()
