# SPDX-License-Identifier: Apache-2.0
"""This writes tracks, slices and flows in Perfetto's words, packet by packet, so that memory does
not grow with the trace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import IO, Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import BuiltinClock, TrackEvent
from perfetto.trace_builder.proto_builder import StreamingTraceProtoBuilder

from ghesrace.render.layout import printable

_SEQUENCE = 1  # All packets are of one writer.
# The kernel's trace clocks that Perfetto has a name for. Others are what it takes for the trace's
# own clock; the first track's description names them.
_CLOCKS = {
    "mono": BuiltinClock.BUILTIN_CLOCK_MONOTONIC,
    "mono_raw": BuiltinClock.BUILTIN_CLOCK_MONOTONIC_RAW,
    "boot": BuiltinClock.BUILTIN_CLOCK_BOOTTIME,
}


class Packets:
    """This writes packets to the binary file *out*. Stamps are ns of the kernel's trace clock that
    *clock* names. `written` counts the bytes.

    >>> import io
    >>> out = io.BytesIO()
    >>> packets = Packets(out, "mono")
    >>> cpu = packets.track("CPU 0")
    >>> packets.begin(cpu, 1_000, "takes a GHES notification")
    >>> packets.end(cpu, 2_000)
    >>> packets.written == len(out.getvalue())
    True
    """

    def __init__(self, out: IO[bytes], clock: str) -> None:
        self.written = 0
        self._out = out
        self._builder = StreamingTraceProtoBuilder(self)  # type: ignore[no-untyped-call,unused-ignore]
        self._clock = _CLOCKS.get(clock)
        self._tracks = 0
        self._snapshot = False

    def write(self, data: bytes) -> int:
        """Write *data*; the builder calls it. Raises OSError."""
        self.written += len(data)
        return self._out.write(data)

    def track(self, name: str, parent: int | None = None, description: str = "") -> int:
        """Make a track below *parent*, which shows its children in the order in which they are
        made, and return its number."""
        self._tracks += 1
        packet = self._packet()
        made = packet.track_descriptor
        made.uuid, made.name = self._tracks, printable(name)
        made.child_ordering = made.EXPLICIT
        made.sibling_order_rank = self._tracks
        if parent is not None:
            made.parent_uuid = parent
        if description:
            made.description = printable(description)
        self._builder.write_packet(packet)
        return self._tracks

    def begin(
        self,
        track: int,
        ts: int,
        name: str,
        notes: Mapping[str, str] | None = None,
        flows: Iterable[int] = (),
    ) -> None:
        """Begin a slice of the *track* at *ts* (ns). *notes* are shown when it is selected, and
        slices that have the same number in *flows* are joined by arrows in the order of time."""
        self._event(TrackEvent.TYPE_SLICE_BEGIN, track, ts, name, notes, flows)

    def end(self, track: int, ts: int) -> None:
        """End the slice of the *track* that began last."""
        self._event(TrackEvent.TYPE_SLICE_END, track, ts)

    def instant(
        self,
        track: int,
        ts: int,
        name: str,
        notes: Mapping[str, str] | None = None,
        flows: Iterable[int] = (),
    ) -> None:
        """Put something without a duration on the *track*; its arguments are those of `begin`."""
        self._event(TrackEvent.TYPE_INSTANT, track, ts, name, notes, flows)

    def _packet(self) -> Any:
        packet = self._builder.create_packet()
        packet.trusted_packet_sequence_id = _SEQUENCE
        return packet

    def _event(
        self,
        sort: int,
        track: int,
        ts: int,
        name: str = "",
        notes: Mapping[str, str] | None = None,
        flows: Iterable[int] = (),
    ) -> None:
        if not self._snapshot:
            self._name_clock(ts)
        packet = self._packet()
        packet.timestamp = ts
        if self._clock is not None:
            packet.timestamp_clock_id = self._clock
        event = packet.track_event
        event.type, event.track_uuid = sort, track
        if name:
            event.name = printable(name)
        for key, value in (notes or {}).items():
            note = event.debug_annotations.add()
            note.name, note.string_value = key, printable(value)
        event.flow_ids.extend(flows)
        self._builder.write_packet(packet)

    def _name_clock(self, ts: int) -> None:
        """Say what clock the stamps are of, before the first one, *ts* (ns)."""
        self._snapshot = True
        if self._clock is None:
            return
        packet = self._packet()
        packet.timestamp, packet.timestamp_clock_id = ts, self._clock
        packet.clock_snapshot.primary_trace_clock = self._clock
        reading = packet.clock_snapshot.clocks.add()
        reading.clock_id, reading.timestamp = self._clock, ts
        self._builder.write_packet(packet)
