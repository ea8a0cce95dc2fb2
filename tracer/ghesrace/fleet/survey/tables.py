# SPDX-License-Identifier: Apache-2.0
"""The tables of the data set, column by column; docs/survey.md has the same list.

A run is one capture that was judged by one version of ghesrace. Slots, findings and losses belong
to a run by its `run`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

_TEXT, _NUMBER, _TRUTH = pa.string(), pa.int64(), pa.bool_()
_MOST = 2**63 - 1

INTERNAL = "InternalError"  # the error of a row that a fault of ours kept from being judged
KILLED = "WorkerKilled"  # likewise of a capture whose judging killed its worker each time

_TIME, _TEXTS = pa.timestamp("us", "UTC"), pa.list_(pa.string())


@dataclass(frozen=True, slots=True)
class Column:
    """A column has a name, a type, and a sentence that says what is in it."""

    name: str
    type: Any
    what: str


_RUN = Column("run", _TEXT, "which run this belongs to")
TABLES: dict[str, tuple[Column, ...]] = {
    "runs": (
        Column("run", _TEXT, "the run's name: no two runs have the same"),
        Column("url", _TEXT, "where the capture is"),
        Column("tag", _TEXT, "what changes with its content: the store's ETag, or size and time"),
        Column("bytes", _NUMBER, "its size in the store"),
        Column("recorded", _TIME, "when it was recorded: its manifest's word, or its time there"),
        Column("judged", _TIME, "when it was judged"),
        Column("host", _TEXT, "of which host: its manifest's word, or the name of its folder"),
        Column("arch", _TEXT, "x86_64, arm64; null if it is not known"),
        Column("kernel", _TEXT, "the kernel's release; null if it is not known"),
        Column("firmware", _TEXT, "board and BIOS as the manifest has them, or the hash of HEST"),
        Column("microcode", _TEXT, "the CPU's microcode; null without a manifest"),
        Column("hest", _TEXT, "a hash of the error sources that firmware tells of; null without"),
        Column("backend", _TEXT, "ftrace or bpf; null for a trace of another tool"),
        Column("summary", _TRUTH, "whether the kernel judged (`capture --summary`)"),
        Column("verdict", _TEXT, "clean, inconclusive, race-predicted, race-observed; or null"),
        Column("truncated", _TRUTH, "whether the file ends too early"),
        Column("reasons", _TEXTS, "why the verdict can't be clean"),
        Column("qualified_by", _TEXTS, "what the capture can't tell, on which the verdict rests"),
        Column("assumed_clock_ns", _NUMBER, "the clock error that is assumed; null if proven"),
        Column("implications", _TEXT, "proven, assumed, partly (some are proven), none"),
        Column("contradicted", _NUMBER, "implications that the kernel's code contradicts"),
        Column("events", _NUMBER, "events in it"),
        Column("lost", _NUMBER, "events that were lost; null where they can't be counted"),
        Column("episodes", _NUMBER, "episodes at all slots"),
        Column("handoffs", _NUMBER, "hand-offs at all slots"),
        Column("findings", _NUMBER, "findings, grouped by fault as `check` does"),
        Column("error", _TEXT, "the type of the error that kept it from being judged, or null"),
        Column("what", _TEXT, "what was wrong then"),
    ),
    "slots": (
        _RUN,
        Column("slot", _TEXT, "the slot's name"),
        Column("mechanism", _TEXT, "the classes that its episodes rested on; empty if on nothing"),
        Column("episodes", _NUMBER, "its episodes"),
        Column("handoffs", _NUMBER, "how often it went from CPU to CPU"),
        Column("latent", _NUMBER, "episodes that began with a latent stale entry"),
        Column("fresh", _NUMBER, "episodes of this class"),
        Column("broadcast", _NUMBER, "likewise"),
        Column("map_flush", _NUMBER, "likewise"),
        Column("same_frame", _NUMBER, "likewise"),
        Column("incidental", _NUMBER, "likewise: predicted"),
        Column("none", _NUMBER, "likewise: observed"),
        Column("uncertain", _NUMBER, "likewise: inconclusive"),
    ),
    "findings": (
        _RUN,
        Column("name", _TEXT, "its number in `check`"),
        Column("pattern", _TEXT, "stale, torn_edit, shootdown, overlap"),
        Column("severity", _TEXT, "observed, predicted: that of its worst variant"),
        Column("access", _TEXT, "read, write; null where it is no access"),
        Column("slot", _TEXT, "the slot's name; null where it is no matter of a slot"),
        Column("title", _TEXT, "what was found and where"),
        Column("witness", _TEXT, "the shape of its witness: sides, contexts and steps in order"),
        Column("observed", _NUMBER, "how often it was observed"),
        Column("predicted", _NUMBER, "how often it was predicted"),
        Column("variants", _NUMBER, "pairs of CPUs and frames that met"),
        Column("explanation", _TEXT, "that of its worst variant, without CPUs and addresses"),
    ),
    "losses": (
        _RUN,
        Column("cause", _TEXT, "why events were lost"),
        Column("count", _NUMBER, "how many"),
    ),
}

SCHEMAS: dict[str, Any] = {
    name: pa.schema([pa.field(column.name, column.type) for column in columns])
    for name, columns in TABLES.items()
}

Rows = dict[str, list[dict[str, Any]]]


def arrow(rows: Rows) -> dict[str, Any]:
    """Return *rows* as one Arrow table for each name in SCHEMAS.

    >>> arrow({"losses": [{"run": "a", "cause": "overrun", "count": 2}]})["losses"].num_rows
    1
    """
    return {
        name: pa.Table.from_pylist([_clean(row) for row in rows.get(name, [])], schema)
        for name, schema in SCHEMAS.items()
    }


def _clean(value: Any) -> Any:
    """Return *value*, which a stranger's file may hold, as Arrow can hold it."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # half a surrogate
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-_MOST, min(value, _MOST))
    if isinstance(value, dict):
        return {name: _clean(one) for name, one in value.items()}
    return [_clean(one) for one in value] if isinstance(value, list) else value
