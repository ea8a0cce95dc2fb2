# SPDX-License-Identifier: Apache-2.0
"""The C of a summary, compiled for this machine: the very text that bcc gets, run hit by hit.

Only what BPF is made of is replaced: maps are arrays, helpers are variables that the test sets.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np

from ghesrace.events import NO_POINT, Events, Kind, empty
from ghesrace.host.btf import Btf
from ghesrace.plan import Fetch, Plan, Probe
from ghesrace.sources.bpf.rings import RECORD, cpu_dtype
from ghesrace.sources.bpf.summary.plan import summarised
from ghesrace.sources.bpf.summary.program import KNOWN, source
from ghesrace.sources.bpf.summary.source import COUNTERS, States, state_dtype
from tests.build import trees

RECORDS = 1 << 10
_FLAGS = (
    *("-O0", "-shared", "-fPIC", "-fsanitize=undefined", "-fno-sanitize-recover"),
    *("-Wall", "-Werror", "-Wno-unknown-pragmas", "-Wno-unused", "-Wno-int-to-pointer-cast"),
)
_PRELUDE = """
#include <stdbool.h>
#include <stdint.h>
typedef uint64_t u64; typedef uint32_t u32; typedef uint16_t u16; typedef uint8_t u8;
typedef int64_t s64; typedef int32_t s32; typedef int16_t s16;
u64 native_now; u32 native_cpu, native_count, native_pid;
#define bpf_ktime_get_ns() native_now
#define bpf_get_smp_processor_id() native_cpu
#define bpf_get_current_pid_tgid() (native_now << 32 | native_pid)
#define bpf_probe_read_kernel(to, size, from) 0
#define BPF_F_TABLE(sort, key, value, name, n, flags) value name##_map[n]
#define BPF_TABLE(sort, key, value, name, n) value name##_map[n]
"""
_RANGE = {"addr": Fetch(1), "size": Fetch(2)}
# What each kind's probe takes, as function arguments.
_FIELDS = {
    "MAP": {"phys": Fetch(1)},
    "MAP_END": {"addr": Fetch(1)},
    "UNMAP": {"addr": Fetch(1)},
    "INV_PAGE": {"addr": Fetch(1)},
    "INV_RANGE": _RANGE,
    "BCAST_RANGE": _RANGE,
    "READ": _RANGE,
    "WRITE": _RANGE,
    "NMI_REF": {"delta_ns": Fetch(1)},
}
_BY_SLOT = ("MAP", "MAP_END", "UNMAP")
_COUNTS = (0, 0x100, 0x10000, 0x100000)  # the preempt count in each context


def native_plan(plan: Plan) -> Plan:
    """*plan* as one of BPF trampolines whose arguments are the events' fields; slots apart."""
    probes = []
    for probe in plan.probes:
        fields = _FIELDS.get(probe.kind, {})
        form = "raw-tracepoint" if probe.kind == "NMI_REF" else "fentry"
        made = replace(
            probe, symbol="f", mechanism=form, fields=fields, filter=None, clear_kind=None
        )
        slots = range(len(plan.slots)) if probe.kind in _BY_SLOT else [None]
        probes += [replace(made, slot=slot) for slot in slots]
    kinds = {probe.kind for probe in probes}
    more = ["NOTIFY", "BCAST_RANGE", "BCAST_ALL", "BCAST_END", "INV_RANGE"]
    more += ["WRITE"] if "READ" in kinds else []
    probes += [
        Probe(kind.lower(), kind, "f", "fentry", _FIELDS.get(kind, {}))
        for kind in more
        if kind not in kinds
    ]
    return summarised(replace(plan, probes=tuple(probes), backend="bpf"))


ROW = np.dtype([("row", "<u8", 4), ("call", "<u4"), ("cpu", "<u2"), ("more", "u1", 2)])
SLOT = np.dtype([("words", "<u8", 9), ("last", ROW), ("other", ROW)])


class _Mapped(States):
    """States over memory of this process."""

    def __init__(self, rows: np.ndarray, start: int) -> None:
        self._rows, self._edges = rows["own"], rows["edge"]
        cpus, slots = self._rows.shape
        self._counted = np.zeros((cpus, slots, COUNTERS), np.uint64)
        self._sampled = np.zeros((cpus, slots, 3), np.uint32)
        self._again = np.ones((cpus, slots, KNOWN), np.uint32)
        self._read = start


class Native:
    """The programs of one plan; `run` is a stream's event happening."""

    def __init__(self, plan: Plan, folder: Path, cpus: int = 8) -> None:
        self.plan = native_plan(plan)
        btf = Btf(trees.btf(functions={"f": ("a", "b", "c")}))
        text = source(self.plan, btf, records=RECORDS, cpus=cpus, preempt_count="native_count")
        text = re.sub(r"(\w+)\.lookup\(&(\w+)\)", r"&\1_map[\2]", text)
        text = re.sub(r"&slots_map\[(\w+)\]", r"((u32)\1 < SLOTS ? &slots_map[\1] : 0)", text)
        library = folder / f"{hashlib.sha256(text.encode()).hexdigest()}.so"
        if not library.exists():
            (folder / "summary.c").write_text(_PRELUDE + text)
            command = ["gcc", *_FLAGS, f"{folder}/summary.c", "-o", str(library)]
            subprocess.run(command, check=True)
        self.library = ctypes.CDLL(str(library))
        rings, states = cpu_dtype(len(self.plan.probes)), state_dtype(len(plan.slots))
        self.rings = self._array("cpus_map", rings, cpus)
        self.records = self._array("records_map", RECORD, cpus * 4 * RECORDS)
        self.states = self._array("states_map", states, cpus)
        self.slots = self._array("slots_map", SLOT, len(plan.slots))
        self.reset()

    def reset(self) -> None:
        """As if the programs had just been loaded."""
        for memory in (self.rings, self.states, self.slots):
            memory[...] = np.zeros((), memory.dtype)
        self.reader = _Mapped(self.states, 0)
        self.read = np.zeros((len(self.rings), 4), np.int64)

    def _array(self, name: str, dtype: np.dtype, n: int) -> np.ndarray:
        memory = (ctypes.c_char * (dtype.itemsize * n)).in_dll(self.library, name)
        return np.frombuffer(memory, dtype, n)

    def _set(self, kind: type, **values: int) -> None:
        for name, value in values.items():
            kind.in_dll(self.library, f"native_{name}").value = value

    def run(self, event: np.void) -> None:
        """Let *event* happen."""
        self._set(ctypes.c_uint64, now=int(event["ts"]))
        count = _COUNTS[int(event["ctx"])]
        self._set(ctypes.c_uint32, cpu=int(event["cpu"]), pid=int(event["pid"]), count=count)
        kind = Kind(int(event["kind"])).name
        first = {"MAP": "phys", "NMI_REF": "size"}.get(kind, "addr")
        arguments = (ctypes.c_uint64 * 3)(int(event[first]), int(event["size"]))
        for point, probe in enumerate(self.plan.probes):
            if probe.kind == kind and probe.slot in (None, int(event["slot"])):
                getattr(self.library, f"p{point}")(arguments)
                break

    def point(self, plan: Plan, point: int) -> int:
        """Of a loss of *plan*: the same point here, the number of probes if it is not probed."""
        kinds = [probe.kind for probe in self.plan.probes]
        if point == NO_POINT:
            return NO_POINT
        kind = plan.probes[point].kind
        return kinds.index(kind) if kind in kinds else len(kinds)

    def collect(self, now: int, final: bool = True) -> Events:
        """What the reader would yield at *now* (ns): records, samples, counts."""
        found = []
        for cpu, level in np.ndindex(self.read.shape):
            ring = self.rings["ring"][cpu][level]
            head = int(ring["head"])
            first = (cpu * 4 + level) * RECORDS
            mine = self.records["event"][first : first + RECORDS]
            found.append(mine[self.read[cpu, level] : head].copy())
            self.read[cpu, level] = head
        records = np.concatenate([empty(), *found])  # each event has a stamp of its own
        records = records[np.argsort(records["ts"], kind="stable")]
        return np.concatenate([records, *self.reader.read(now, final)])
