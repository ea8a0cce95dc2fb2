# SPDX-License-Identifier: Apache-2.0
"""A trace for Perfetto, decoded with the package's own classes and held to its rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent


@dataclass(frozen=True, slots=True)
class Slice:
    """A slice, or an instant, whose `end` is its `begin`; its tracks by name, from the top."""

    track: tuple[str, ...]
    name: str
    begin: int
    end: int
    notes: dict[str, str]
    flows: tuple[int, ...]


@dataclass(slots=True)
class Decoded:
    slices: list[Slice] = field(default_factory=list)
    tracks: list[tuple[str, ...]] = field(default_factory=list)
    descriptions: dict[tuple[str, ...], str] = field(default_factory=dict)
    clocks: set[int] = field(default_factory=set)
    primary_clock: int | None = None

    def on(self, *track: str) -> list[Slice]:
        """What is on a track, named from the top but for the root."""
        return [one for one in self.slices if one.track[1:] == track]

    def flow(self, number: int) -> list[Slice]:
        """What a flow joins, in the order of time."""
        found = [one for one in self.slices if number in one.flows]
        return sorted(found, key=lambda one: one.begin)


def decoded(path: Path) -> Decoded:
    """What the file holds. Asserts what Perfetto needs: each track is there before its events and
    once, no slice ends that did not begin, and none is left open."""
    trace = Trace()
    trace.ParseFromString(path.read_bytes())
    made = Decoded()
    names: dict[int, tuple[str, ...]] = {}
    stacks: dict[int, list[Any]] = {}
    # Perfetto sorts by time; what has one stamp stays in the order of the file.
    packets = sorted(trace.packet, key=lambda packet: packet.timestamp)
    for packet in trace.packet:
        assert packet.trusted_packet_sequence_id == 1
        if packet.HasField("track_descriptor"):
            track = packet.track_descriptor
            assert track.uuid not in names
            above = names[track.parent_uuid] if track.HasField("parent_uuid") else ()
            names[track.uuid] = (*above, track.name)
            made.descriptions[names[track.uuid]] = track.description
        elif packet.HasField("track_event"):
            assert packet.track_event.track_uuid in names
    made.tracks = list(names.values())
    for packet in packets:
        if packet.HasField("clock_snapshot"):
            made.primary_clock = packet.clock_snapshot.primary_trace_clock
            assert [c.clock_id for c in packet.clock_snapshot.clocks] == [made.primary_clock]
        if not packet.HasField("track_event"):
            continue
        made.clocks.add(packet.timestamp_clock_id)
        event, ts = packet.track_event, packet.timestamp
        stack = stacks.setdefault(event.track_uuid, [])
        if event.type == TrackEvent.TYPE_SLICE_BEGIN:
            stack.append((event, ts))
        elif event.type == TrackEvent.TYPE_SLICE_END:
            begun, begin = stack.pop()
            made.slices.append(_slice(names, begun, begin, ts))
        else:
            assert event.type == TrackEvent.TYPE_INSTANT
            made.slices.append(_slice(names, event, ts, ts))
    assert not any(stacks.values())
    return made


def _slice(names: dict[int, tuple[str, ...]], event: Any, begin: int, end: int) -> Slice:
    notes = {note.name: note.string_value for note in event.debug_annotations}
    return Slice(names[event.track_uuid], event.name, begin, end, notes, tuple(event.flow_ids))
