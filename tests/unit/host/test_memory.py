# SPDX-License-Identifier: Apache-2.0
"""How much memory the rings take by default, on made-up hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace.host.memory import ring_kb
from tests.build.trees import write_files


def host(root: Path, memory_kb: int, **files: str) -> Path:
    """/proc and the cgroups of a host; `a__b` is a/b below /sys/fs/cgroup."""
    written = {
        "proc/meminfo": f"MemTotal:       {memory_kb} kB\nMemFree: 1 kB\n",
        "proc/self/cgroup": "0::/system.slice/ghesrace.service\n",
        "sys/fs/cgroup/system.slice/ghesrace.service/cgroup.procs": "",
    }
    for name, text in files.items():
        written[f"sys/fs/cgroup/{name.replace('__', '/')}"] = f"{text}\n"
    return write_files(root, written)


@pytest.mark.parametrize(
    ("cpus", "memory_kb", "expected"),
    [(2, 2_000_000, 4096), (256, 64_000_000, 3906), (512, 8_000_000, 256)],
)
def test_the_hosts_memory_is_spared(
    tmp_path: Path, cpus: int, memory_kb: int, expected: int
) -> None:
    """If this fails, starting a capture on a big machine takes gigabytes."""
    for charged in (True, False):
        root = host(tmp_path / str(charged), memory_kb)
        assert ring_kb(cpus, most=4096, charged=charged, root=root) == expected


def test_what_is_charged_fits_into_the_unit(tmp_path: Path) -> None:
    """If this fails, the daemon can't start with bpf on a host with many CPUs, or is killed."""
    root = host(
        tmp_path,
        1 << 30,
        **{
            "system.slice__memory.max": str(1 << 40),
            "system.slice__ghesrace.service__memory.high": str(384 << 20),
            "system.slice__ghesrace.service__memory.max": "max",
        },
    )
    assert ring_kb(128, most=4096, charged=True, root=root) == 384 * 1024 // 4 // 128
    assert ring_kb(128, most=4096, charged=False, root=root) == 4096


def test_a_limit_above_us_counts(tmp_path: Path) -> None:
    """If this fails, a container's limit ends the capture that runs in it."""
    root = host(tmp_path, 1 << 30, **{"system.slice__memory.max": str(256 << 20)})
    assert ring_kb(128, most=4096, charged=True, root=root) == 512


def test_without_proc_and_cgroups(tmp_path: Path) -> None:
    """If this fails, a host with another /proc gets a traceback."""
    assert ring_kb(4, most=4096, charged=True, root=tmp_path) == 4096
    root = host(tmp_path, 1 << 30)
    (root / "proc/self/cgroup").write_text("3:memory:/x\n")
    assert ring_kb(4, most=4096, charged=True, root=root) == 4096
