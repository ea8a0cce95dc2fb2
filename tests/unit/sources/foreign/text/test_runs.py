# SPDX-License-Identifier: Apache-2.0
"""Where a text goes over to another run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ghesrace.checker.report import Verdict
from ghesrace.errors import InputError
from ghesrace.events import Cause
from ghesrace.sources.foreign.text.runs import MOST_RUNS, Runs
from tests.build.paths import CORPUS
from tests.build.texts import HEAD, judged, losses, visit

MS = 1_000_000


def begins(cpu: list[int], ms: list[int], heads: list[int] | None = None) -> list[int]:
    """The stamps (ms) with which runs begin."""
    runs = Runs()
    runs.place(np.array(cpu), np.array(ms, np.int64) * MS, heads or [])
    return [start // MS for start in runs.starts]


@pytest.mark.parametrize(
    ("cpu", "ms", "heads", "expected"),
    [
        ([0, 1, 0, 1], [1, 2, 3, 4], [], []),
        ([0, 1, 0, 1], [11, 12, 1, 2], [], [1]),
        ([0, 1, 1, 0], [11, 12, 1, 2], [], [1]),
        ([0, 0, 1, 0], [11, 12, 1, 2], [], [1]),  # CPU 1 was not there before
        ([0, 0, 1, 1], [1, 12, 1, 12], [0, 2], []),  # per_cpu/*/trace
        ([0, 1, 1, 0], [1, 2, 13, 14], [0, 2], [13]),  # a later boot, with a head
        ([0, 0, 1, 0], [1, 2, 13, 14], [0, 2], [13]),
        ([0, 0, 0], [30, 20, 10], [], [20, 10]),
    ],
)
def test_another_run_begins(
    cpu: list[int], ms: list[int], heads: list[int], expected: list[int]
) -> None:
    """Two runs taken for one have an order that never was."""
    assert begins(cpu, ms, heads) == expected


def test_runs_do_not_depend_on_the_pieces() -> None:
    """A long text would be judged otherwise than a short one."""
    cpu, ms = np.array([0, 1, 0, 1, 0]), np.array([11, 12, 1, 2, 3]) * MS
    whole, piecewise = Runs(), Runs()
    expected = whole.place(cpu, ms, [2]).tolist()
    got = [int(piecewise.place(cpu[k : k + 1], ms[k : k + 1], [0] * (k == 2))[0]) for k in range(5)]
    assert got == expected
    assert piecewise.gaps == whole.gaps


def test_text_in_no_order_is_refused() -> None:
    """Sorted by something else it would take for ever, and mean nothing."""
    runs = Runs()
    with pytest.raises(InputError, match="go back more than"):
        runs.place(np.zeros(200, np.int64), np.arange(MOST_RUNS * 2, 0, -1) * MS, [])


def test_two_boots_are_never_a_race() -> None:
    """Frames of one boot mean nothing in the other."""
    for name in ("boot1.txt", "boot2.txt"):
        assert judged(CORPUS / name)[0].verdict is Verdict.CLEAN
    report, events = judged(CORPUS / "two-boots.txt")
    assert report.verdict is Verdict.INCONCLUSIVE
    assert len(losses(events, Cause.CLOCK))
    assert any("between run 1 and run 2" in unseen.what for unseen in report.unseen)


def test_appended_log_is_never_a_race(tmp_path: Path) -> None:
    """The second boot's stamps are later, and only its head tells."""
    path = tmp_path / "trace"
    parts = [
        HEAD.format(8, 8) + visit(0, at, pfn) + visit(1, at + 1000, pfn)
        for at, pfn in ((1_000_000, 1), (9_000_000, 2))
    ]
    path.write_text("".join(parts))
    assert judged(path)[0].verdict is Verdict.INCONCLUSIVE
    path.write_text(parts[0] + parts[1].partition("P:2\n")[2])
    assert judged(path)[0].verdict is Verdict.OBSERVED


def test_files_of_single_cpus_are_one_run(tmp_path: Path) -> None:
    """`cat per_cpu/*/trace` has a head and stamps that go back for each CPU."""
    path = tmp_path / "trace"
    text = [HEAD.format(8, 8), HEAD.format(8, 8)]
    for n in range(4):
        text[n % 2] += visit(n % 2, 1_000_000 + 1000 * n, n)
    path.write_text("".join(text))
    assert judged(path)[0].verdict is Verdict.OBSERVED


def test_runs_that_last_longer_than_any_clock_are_refused(tmp_path: Path) -> None:
    """Stamps since 1970 and since boot in turn overflowed, with an error that nobody can read."""
    path = tmp_path / "trace"
    late = visit(0, 1_795_990_745_000_000, 1)
    path.write_text((late + visit(0, 58_000_000, 2)) * 8)
    with pytest.raises(InputError, match="longer than any clock"):
        judged(path)


BOOTS = (
    "-- Boot 9f1c0a8b5e5c4c0c9c3a1d0e8f7a6b5c --",
    "-- Reboot --",
    "[    0.000000] Linux version 6.1.0-9-amd64 (debian@example.org) #1 SMP",
    "Nov 30 17:18:30 host kernel: Linux version 6.1.0-9-amd64",
    "[    0.000000][    T0] Booting Linux on physical CPU 0x0000000000 [0x413fd0c1]",
    "[  512.000000] Dumping ftrace buffer:",
    "[  512.000000] Dumping ftrace instance ghes buffer:",
    "[    0.000000] Command line: BOOT_IMAGE=/vmlinuz root=/dev/sda1",
    "[    0.000000][    T0] Kernel command line: console=ttyAMA0",
    "[  512.000000] reboot: Restarting system",
    "[  512.000000] kexec_core: Starting new kernel",
    "I'm in purgatory",
    "EFI stub: Booting Linux Kernel...",
    "U-Boot 2024.01 (Jan 08 2024 - 15:37:48 +0000)",
    "SeaBIOS (version 1.16.2-debian-1.16.2-1)",
    "-- Journal begins at Mon 2026-11-30 12:00:00 UTC, ends at Mon 2026-11-30 13:00:00 UTC. --",
    "# captured on    : Mon Nov 30 12:00:00 2026",
    "> # captured on    : Mon Nov 30 12:00:00 2026",
)


@pytest.mark.tenth
@pytest.mark.parametrize("said", BOOTS)
@pytest.mark.parametrize("cpu", [0, 1])
@pytest.mark.parametrize("distance", [1, 40_000])
def test_a_boot_that_the_log_tells_is_another_run(
    tmp_path: Path, said: str, cpu: int, distance: int
) -> None:
    """A second boot may have run for longer than the first, so that no stamp goes back."""
    first = "".join(visit(0, 1_000_000 + 2_000 * n, 1) for n in range(3))
    later = "".join(visit(cpu, 901_000_000 + 2_000 * n, 2) for n in range(3))
    path = tmp_path / "trace"
    path.write_text(first + f"{said}\n" * distance + later)
    report, events = judged(path)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert len(losses(events, Cause.CLOCK)) == 2  # the gap, and the whole file
    path.write_text(f"{said}\n" + first)
    assert judged(path)[0].verdict is Verdict.CLEAN


def test_a_boot_between_two_pieces_is_another_run() -> None:
    """A long text would be judged otherwise than a short one."""
    runs, cpu, ms = Runs(), np.array([0, 1]), np.array([1, 2]) * MS
    runs.place(cpu, ms, [2], boots=[2])
    runs.place(cpu[:0], ms[:0], [])
    runs.place(cpu, ms + 10 * MS, [])
    assert runs.starts == [11 * MS]
    runs.place(cpu, ms + 20 * MS, [0, 1], boots=[0, 1])
    assert runs.starts == [11 * MS, 21 * MS, 22 * MS]


@pytest.mark.parametrize(
    "said",
    [
        "root@b:~# cat /sys/kernel/tracing/trace_pipe",
        "[root@b ~]# trace-cmd report b.dat",
        "\x1b[?2004hroot@b:~# cat trace\n\x1b[?2004l\r",
        "$ perf script -i b.data",
        "# cat instances/b/trace",
        "> cpus=2",
        "    cpus=2",
        "\x1b[?2004l\rcpus=2",
        "#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION",
        "> #    TASK-PID    CPU#    TIMESTAMP  FUNCTION",
        "#  cmd     pid   ||||| time  |   caller",
        "--- b.txt",
        "trace-b.log:",
        "==== b.trace ====",
        "Subject: the other host",
        "Content-Disposition: attachment; filename=b.txt",
        "On Mon, 30 Nov 2026, Jane Doe wrote:",
    ],
)
def test_what_stands_between_two_texts_parts_them(tmp_path: Path, said: str) -> None:
    """Two hosts' texts in one mail or terminal, each clean, were one machine's, and raced."""
    path = tmp_path / "trace"
    first = "".join(visit(n % 2, 1_000_000 + 2_000 * n, 1) for n in range(4))
    later = "".join(visit(n % 2, 901_000_000 + 2_000 * n, 2) for n in range(4))
    path.write_text(f"{first}{said}\n{later}", newline="")
    assert judged(path)[0].verdict is Verdict.INCONCLUSIVE
    path.write_text(f"{said}\n{first}{said}\n", newline="")
    assert judged(path)[0].verdict is Verdict.CLEAN
