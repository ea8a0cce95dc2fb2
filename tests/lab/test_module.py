# SPDX-License-Identifier: Apache-2.0
"""The control module really races, and only where it should. Runs inside a guest, as root."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ghesrace.errors import TransientError, UsageError
from lab.module import device
from lab.module.device import JUNK, NMI, WRITE, Outcome, Parameters
from lab.module.run import inserted, run

TRACING = Path("/sys/kernel/tracing")
FUNCTIONS = (
    "unmap_kernel_range_noflush",
    "arch_apei_flush_tlb_one",
    "ghes_copy_tofrom_phys",
    "ghes_ioremap_pfn_irq",
    "ghes_ioremap_pfn_nmi",
    "ghes_iounmap_irq",
    "ghes_iounmap_nmi",
    "ghes_irq_func",
    "ghes_notify_nmi",
    "ghes_notify_sci",
)
QUICK = Parameters(rounds=60)
TRIES = 5  # the junk rate is the emulator's: a busy host can spoil a whole run


def _complaints() -> list[str]:
    log = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
    return re.findall(r".*(?:WARNING:|BUG:|Oops|general protection|rcu.*stall|lockup).*", log)


@pytest.fixture(scope="module", autouse=True)
def _module():
    """Load the module once; at its removal the kernel must have nothing new to complain about."""
    before = _complaints()
    with inserted():
        yield
    assert not device.loaded()
    assert _complaints() == before


def _until(parameters: Parameters, counter: str) -> Outcome:
    """Run until *counter* is not 0, TRIES times at most."""
    for _ in range(TRIES):
        outcome = run(parameters)
        if outcome.summary[counter]:
            return outcome
    pytest.fail(f"{counter} is 0 in {TRIES} runs of {parameters}: {outcome.summary}")


def _is(records: device.Truth, flag: int) -> np.ndarray:
    return (records["flags"] & flag) != 0


def test_junk_without_a_fix() -> None:
    """If it fails there is no positive control: nothing shows that ghesrace can find the race."""
    outcome = _until(QUICK, "junk_reads")
    assert outcome.summary["state"] == "done"
    assert outcome.summary["reads"] == QUICK.rounds * outcome.summary["cpus"]
    assert outcome.summary["mixed"] == 0


@pytest.mark.parametrize("fix", ["flush-on-map", "broadcast-at-unmap"])
@pytest.mark.parametrize("pages", [1, 2])
def test_no_junk_with_a_fix(fix, pages) -> None:
    """If it fails a "fixed" run races, and ghesrace would be blamed for a true finding."""
    outcome = _until(replace(QUICK, fix=fix, pages=pages), "touches")
    assert outcome.summary["reads"] == QUICK.rounds * outcome.summary["cpus"] * pages
    assert outcome.summary["junk_reads"] == 0


def test_no_junk_without_a_walk() -> None:
    """If it fails junk has another cause than the walk, so the truth proves nothing."""
    outcome = run(replace(QUICK, walker=False))
    assert outcome.summary["reads"] == QUICK.rounds * outcome.summary["cpus"]
    assert outcome.summary["touches"] == 0
    assert outcome.summary["junk_reads"] == 0


def test_no_junk_in_one_frame() -> None:
    """If it fails `seen` is wrong: a stale entry for the same frame cannot show another."""
    outcome = _until(replace(QUICK, same_frame=True), "touches")
    assert outcome.summary["junk_reads"] == 0
    assert len(np.unique(outcome.truth["expected"])) == 1


def test_every_access_is_recorded() -> None:
    """If it fails the ground truth is not what happened, and recall would be measured wrong."""
    outcome = _until(replace(QUICK, pages=2, write_back=1), "junk_reads")
    records, summary = outcome.truth, outcome.summary
    frames = {int(f, 16) for f in summary["frames"]["irq"]}
    both = frames | {f + 4096 for f in frames}

    assert len(records) == summary["records"] == QUICK.rounds * summary["cpus"] * 3
    assert summary["dropped"] == 0
    assert summary["junk_reads"] == (_is(records, JUNK) & ~_is(records, WRITE)).sum()
    assert summary["writes"] == _is(records, WRITE).sum() == len(records) // 3
    np.testing.assert_array_equal(_is(records, JUNK), records["seen"] != records["expected"])
    assert set(records["expected"].tolist()) <= both
    assert set(records["seen"].tolist()) <= both
    assert set(records["addr"].tolist()) == {int(summary["slots"]["irq"], 16)}

    # The lock serialises the slot: episodes are disjoint, and in time order in the file.
    assert (records["ts_map"] <= records["ts_access"]).all()
    assert (records["ts_access"] < records["ts_end"]).all()
    assert (records["ts_end"][:-1] <= records["ts_map"][1:]).all()

    # Junk is what others mapped since this CPU's own last unmap invalidated its entry.
    for i in np.flatnonzero(_is(records, JUNK)):
        own = np.flatnonzero(records["cpu"][:i] == records["cpu"][i])
        assert records["seen"][i] in records["expected"][own[-1] + 1 if len(own) else 0 : i]
    crossing = records[~_is(records, WRITE)]
    np.testing.assert_array_equal(crossing["expected"][1::2], crossing["expected"][::2] + 4096)


def test_writes_can_be_junk() -> None:
    """If it fails nothing shows that a write through a stale entry is found."""
    outcome = _until(replace(QUICK, write_back=2), "junk_writes")
    wrong = outcome.truth[_is(outcome.truth, WRITE) & _is(outcome.truth, JUNK)]
    assert (wrong["size"] == 4).all()
    assert (wrong["seen"] != 0).all()


@pytest.mark.parametrize("nmi", [1, 2])
def test_nmis_use_their_own_slot(nmi) -> None:
    """If it fails the NMI page is not exercised, or an NMI is lost or hangs the guest."""
    outcome = _until(replace(QUICK, nmi=nmi), "nmi_taken")
    records, summary = outcome.truth, outcome.summary
    nmis = records[_is(records, NMI)]
    assert len(nmis) == summary["nmi_taken"]
    assert summary["nmi_taken"] + summary["nmi_lost"] == summary["nmi_sent"]
    assert summary["nmi_lost"] == 0
    assert (nmis["addr"] == int(summary["slots"]["nmi"], 16)).all()
    assert (records["addr"][~_is(records, NMI)] == int(summary["slots"]["irq"], 16)).all()
    assert set(np.unique(nmis["cpu"])) == set(range(summary["cpus"]))


def test_free_turns() -> None:
    """If it fails CPUs that contend for the lock are not covered, or hang."""
    outcome = _until(replace(QUICK, turns="free"), "touches")
    assert outcome.summary["state"] == "done"
    assert (np.bincount(outcome.truth["cpu"]) == QUICK.rounds).all()


def test_functions_can_be_traced() -> None:
    """If it fails GCC renamed or inlined a function and no tracer sees it."""
    traceable = (TRACING / "available_filter_functions").read_text().splitlines()
    assert {f"{name} [ghes2015]" for name in FUNCTIONS} <= set(traceable)


def _define(text: str) -> None:
    # Python's "a" seeks to the end, which seq_file refuses.
    fd = os.open(TRACING / "kprobe_events", os.O_WRONLY | os.O_APPEND)
    try:
        os.write(fd, text.encode() + b"\n")
    finally:
        os.close(fd)


@pytest.fixture
def events():
    """Kprobe events on map, unmap and invalidation in an instance of their own, clock mono."""
    definitions = {
        "map": "p:{g}/map ghes2015:ghes_ioremap_pfn_irq pfn=$arg1:x64",
        "mapped": "r:{g}/mapped ghes2015:ghes_ioremap_pfn_irq addr=$retval:x64",
        "unmap": "p:{g}/unmap ghes2015:ghes_iounmap_irq addr=$arg1:x64",
        "flush": "p:{g}/flush ghes2015:arch_apei_flush_tlb_one addr=$arg1:x64",
    }
    group = "ghes2015test"
    instance = TRACING / "instances" / group
    instance.mkdir()
    try:
        for text in definitions.values():
            _define(text.format(g=group))
        (instance / "trace_clock").write_text("mono")
        (instance / "buffer_size_kb").write_text("4096")
        (instance / "events" / group / "enable").write_text("1")
        yield instance
        (instance / "events" / group / "enable").write_text("0")
    finally:
        instance.rmdir()
        for name in definitions:
            _define(f"-:{group}/{name}")


LINE = re.compile(
    r"\[(?P<cpu>\d+)\] \S+\s+(?P<s>\d+)\.(?P<us>\d{6}): (?P<name>\w+): \(.*\) "
    r"(?:pfn|addr)=(?P<value>0x[0-9a-f]+)"
)


def test_probes_agree_with_the_truth(events) -> None:
    """If it fails recall cannot be measured: probes fire elsewhere, or the clocks differ."""
    outcome = run(QUICK)
    records = outcome.truth
    seen: dict[str, list[tuple[int, int, int]]] = {}
    for match in LINE.finditer((events / "trace").read_text()):
        us = int(match["s"]) * 1_000_000 + int(match["us"])
        seen.setdefault(match["name"], []).append((us, int(match["cpu"]), int(match["value"], 16)))

    assert {name: len(found) for name, found in seen.items()} == dict.fromkeys(
        ("map", "mapped", "unmap", "flush"), len(records)
    )
    table = {name: np.array(sorted(found)) for name, found in seen.items()}
    np.testing.assert_array_equal(table["map"][:, 1], records["cpu"])
    np.testing.assert_array_equal(table["map"][:, 2], records["expected"] >> 12)
    for name in ("mapped", "unmap", "flush"):
        assert set(table[name][:, 2].astype("u8").tolist()) == set(records["addr"].tolist())
    begin, access, end = (records[f] // 1000 for f in ("ts_map", "ts_access", "ts_end"))
    for name, low, high in (
        ("map", begin, access),
        ("mapped", begin, access),
        ("unmap", access, end),
        ("flush", access, end),
    ):
        assert (table[name][:, 0] >= low).all(), name
        assert (table[name][:, 0] <= high).all(), name


def test_bad_parameters_are_refused() -> None:
    """If it fails a run does something else than it says."""
    for bad in (
        replace(QUICK, fix="broadcast-at-unmap", nmi=1),
        replace(QUICK, pages=3),
        replace(QUICK, rounds=0),
        replace(QUICK, linger_us=20_000),
        replace(QUICK, shootdown=1, turns="free"),
        replace(QUICK, torn=1, nmi=2),
        replace(QUICK, torn=1, turns="free"),
        replace(QUICK, window=1, fix="broadcast-at-unmap"),
        replace(QUICK, buffers=3),
    ):
        with pytest.raises(UsageError):
            device.start(bad)
    assert run(QUICK).summary["state"] == "done"


def test_a_run_can_be_stopped() -> None:
    """If it fails a run that is too long cannot be ended, or the module cannot be removed."""
    device.start(replace(QUICK, rounds=1_000_000))
    with pytest.raises(TransientError):
        device.start(QUICK)
    with pytest.raises(TransientError):
        device.wait(0.5)
    assert device.summary()["state"] == "stopped"
