# SPDX-License-Identifier: Apache-2.0
"""What bcc made is kept for the same text only, and never where another user could change it."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghesrace.sources.bpf.cache import KEPT, Cache, Compiled, Map

CPUS = Map(2, 4, 512, 4, 1024, "cpus")
RECORDS = Map(2, 4, 72, 1 << 16, 1024, "records")


def ld_map(fd: int) -> bytes:
    """lddw r1, map_fd(fd): two slots of 8 bytes."""
    return struct.pack("<BBhi", 0x18, 1 << 4 | 1, 0, fd) + bytes(8)


def ld_number(number: int) -> bytes:
    return struct.pack("<BBhi", 0x18, 1, 0, number) + bytes(8)


EXIT = struct.pack("<BBhi", 0x95, 0, 0, 0)
CODE = {"p0": ld_map(7) + ld_number(7) + ld_map(9) + EXIT, "p1": ld_map(9) + EXIT}
MADE = Compiled.of(CODE, {7: CPUS, 9: RECORDS}.__getitem__)


def test_instructions_name_the_new_maps_and_nothing_else() -> None:
    """If this fails, a program from the cache reads another map, or another constant."""
    assert MADE.maps == (CPUS, RECORDS)
    assert MADE.with_maps("p0", [30, 40]) == ld_map(30) + ld_number(7) + ld_map(40) + EXIT
    assert MADE.with_maps("p0", [7, 9]) == CODE["p0"]
    assert MADE.with_maps("p1", [7, 9]) == CODE["p1"]


def test_map_info() -> None:
    """If this fails, a map is made otherwise than bcc made it."""
    info = struct.pack("<6I16s", 2, 99, 4, 72, 1 << 16, 1024, b"records")
    assert Map.of(info) == RECORDS


def test_kept_for_the_same_text_and_bcc_only(tmp_path: Path) -> None:
    """If this fails, a program compiled for other addresses or by another compiler is loaded."""
    cache = Cache(tmp_path / "bpf", "0.26")
    assert cache.get("int x;") is None
    cache.put("int x;", MADE)
    assert cache.get("int x;") == MADE
    assert Cache(tmp_path / "bpf", "0.26").get("int x;") == MADE
    assert cache.get("int y;") is None
    assert Cache(tmp_path / "bpf", "0.27").get("int x;") is None


def test_nothing_where_others_may_write(tmp_path: Path) -> None:
    """If this fails, another user decides what runs in the kernel."""
    cache = Cache(tmp_path / "bpf", "0.26")
    cache.put("int x;", MADE)
    (entry,) = (tmp_path / "bpf").iterdir()
    entry.chmod(0o664)
    assert cache.get("int x;") is None
    entry.chmod(0o600)
    assert cache.get("int x;") == MADE
    for folder in (tmp_path / "bpf", tmp_path):
        before = folder.stat().st_mode
        folder.chmod(0o777)
        assert Cache(tmp_path / "bpf", "0.26").get("int x;") is None
        folder.chmod(before)
    assert Cache(tmp_path / "bpf", "0.26").get("int x;") == MADE


def test_nothing_that_another_user_owns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a folder that somebody made before us is trusted."""
    Cache(tmp_path / "bpf", "0.26").put("int x;", MADE)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert Cache(tmp_path / "bpf", "0.26").get("int x;") is None


@given(junk=st.binary() | st.text().map(str.encode))
def test_a_broken_entry_is_compiled_again(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes
) -> None:
    """If this fails, a damaged file in /run keeps the daemon from starting."""
    folder = tmp_path_factory.mktemp("run") / "bpf"
    cache = Cache(folder, "0.26")
    cache.put("int x;", MADE)
    (entry,) = folder.iterdir()
    entry.write_bytes(junk)
    assert cache.get("int x;") is None
    cache.put("int x;", MADE)
    assert cache.get("int x;") == MADE


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"maps": [], "code": []}',
        '{"maps": [{"kind": 1}], "code": {}}',
        '{"maps": [], "code": {"p0": "18"}}',
        f'{{"maps": [], "code": {{"p0": "{(ld_map(0) + EXIT).hex()}"}}}}',
        '{"maps": 3, "code": {"p0": 3}}',
    ],
)
def test_an_entry_that_makes_no_sense_is_none(tmp_path: Path, text: str) -> None:
    """If this fails, an index beyond the maps ends in a traceback."""
    cache = Cache(tmp_path / "bpf", "0.26")
    cache.put("int x;", MADE)
    (entry,) = (tmp_path / "bpf").iterdir()
    entry.write_text(text)
    assert cache.get("int x;") is None


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    """If this fails, /run, which is memory, fills with plans of modules that came and went."""
    cache = Cache(tmp_path / "bpf", "0.26")
    for n in range(KEPT + 5):
        cache.put(f"int x{n};", MADE)
        for path in (tmp_path / "bpf").iterdir():
            os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns - 10**9))
    assert len(list((tmp_path / "bpf").iterdir())) == KEPT
    assert cache.get(f"int x{KEPT + 4};") == MADE
    assert cache.get("int x0;") is None


def test_no_folder_is_no_cache(tmp_path: Path) -> None:
    """If this fails, a host without /run can't record."""
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "bpf", "0.26")
    cache.put("int x;", MADE)
    assert cache.get("int x;") is None
