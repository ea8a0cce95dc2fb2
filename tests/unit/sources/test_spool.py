# SPDX-License-Identifier: Apache-2.0
"""Pipes and compressed files: read whole, bounded, and gone afterwards."""

from __future__ import annotations

import gc
import gzip
import lzma
import os
import resource
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ghesrace.errors import InputError, TransientError
from ghesrace.sources import spool
from ghesrace.sources.files import open_file
from ghesrace.sources.spool import spooled
from tests.build.captures import check
from tests.build.paths import CORPUS, EXAMPLES

TEXT = (CORPUS / "trace.txt").read_bytes()
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "zstd": lambda data: bytes(pa.Codec("zstd").compress(data, asbytes=True)),
}


@pytest.fixture(params=PACK)
def how(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def content(path: Path, **options: Any) -> bytes:
    made = spooled(path, **options)
    assert made is not None
    with made:
        return made.path.read_bytes()


@pytest.mark.parametrize("name", ["v7-zstd.dat", "boot1.txt", "control.arrows"])
def test_compressed_files_are_judged_as_what_is_in_them(
    tmp_path: Path, how: str, name: str
) -> None:
    """People compress what they attach to a report, captures too."""
    whole = (EXAMPLES if name.endswith("arrows") else CORPUS) / name
    path = tmp_path / "x"
    path.write_bytes(PACK[how](whole.read_bytes()))
    got, expected = (np.concatenate(list(open_file(p).batches())) for p in (path, whole))
    assert np.array_equal(got, expected)


def test_several_parts_are_one_file(tmp_path: Path, how: str) -> None:
    """`cat a.gz b.gz` is the text of both: the second would vanish."""
    path = tmp_path / "x"
    path.write_bytes(PACK[how](TEXT) + PACK[how](b"tail\n"))
    assert content(path) == TEXT + b"tail\n"


def test_cut_or_damaged_data_are_refused(tmp_path: Path, how: str) -> None:
    """What was expanded before the cut lacks the end: it would be judged as whole."""
    path, packed = tmp_path / "x", PACK[how](TEXT)
    for cut in (len(packed) - 1, len(packed) // 2, 8):
        path.write_bytes(packed[:cut])
        with pytest.raises(InputError, match=f"{how} data end early"):
            spooled(path)
    path.write_bytes(packed + b"junkjunkjunk")
    with pytest.raises(InputError):
        spooled(path)


def test_damage_inside_is_refused_where_the_format_can_tell(tmp_path: Path) -> None:
    """gzip and xz have checksums."""
    path = tmp_path / "x"
    for name in ("gzip", "xz"):
        packed = bytearray(PACK[name](TEXT))
        packed[len(packed) // 2] ^= 0x55
        path.write_bytes(packed)
        with pytest.raises(InputError, match=f"damaged {name} data"):
            spooled(path)


def test_bombs_are_bounded_by_size_and_by_ratio(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few KB from a stranger would fill the disk."""
    path = tmp_path / "x"
    path.write_bytes(PACK[how](bytes(4 << 20)))
    with pytest.raises(InputError, match="more than 1,048,576 bytes"):
        spooled(path, 1 << 20)
    assert len(content(path, max_bytes=4 << 20)) == 4 << 20
    monkeypatch.setattr(spool, "_FREE_OF_RATIO", 1 << 10)
    monkeypatch.setattr(spool, "_MAX_RATIO", 500)
    with pytest.raises(InputError, match="expands to more than 500 times"):
        spooled(path)


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a trace would be judged as whole."""
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(os.urandom(1 << 20)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(TransientError, match="no room for it in"):
            spooled(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    monkeypatch.setattr(spool, "room_of", lambda out: 1_100_000)  # 0.9 of it must do
    with pytest.raises(TransientError, match="TMPDIR"):
        spooled(path)


@pytest.mark.slow
def test_the_temporary_file_has_no_name_and_is_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trace holds kernel addresses; and a killed run would leave it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    packed = tmp_path / "x"
    packed.write_bytes(gzip.compress((CORPUS / "boot1.txt").read_bytes()))
    made = spooled(packed)
    assert made is not None
    state = os.fstat(made.file.fileno())
    assert (stat.S_IMODE(state.st_mode), state.st_nlink) == (0o600, 0)
    assert os.listdir(tmp_path) == ["x"]
    made.close()
    before = len(os.listdir("/proc/self/fd"))
    source = open_file(packed)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    assert list(source.batches())
    del source
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_pipe_with_a_name_is_read_to_its_end(tmp_path: Path) -> None:
    """`ghesrace check <(zcat trace.gz)`: a pipe can't be read twice."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    data = (CORPUS / "v6.dat").read_bytes()
    writer = threading.Thread(target=fifo.write_bytes, args=(data,))
    writer.start()
    assert content(fifo) == data
    writer.join()


def test_a_pipe_without_end_is_bounded(tmp_path: Path) -> None:
    """Somebody's mistake would fill the disk."""
    with pytest.raises(InputError, match="more than 1,048,576 bytes"):
        spooled(Path("/dev/zero"), 1 << 20)


@pytest.mark.slow
def test_standard_input_is_dash() -> None:
    """`ssh host cat trace | ghesrace check -`"""
    command = [sys.executable, "-m", "ghesrace", "check", "-", "--format", "json"]
    data = gzip.compress((CORPUS / "long-decimals.txt").read_bytes())
    done = subprocess.run(command, input=data, capture_output=True, env=os.environ)
    assert done.returncode == 3
    assert b'"verdict": "clean"' in done.stdout
    with (CORPUS / "long-decimals.txt").open("rb") as file:  # `check - < FILE` is no pipe
        done = subprocess.run(command, stdin=file, capture_output=True, env=os.environ)
    assert b'"verdict": "clean"' in done.stdout
    closed = ["sh", "-c", 'exec "$@" <&-', "sh", *command]
    done = subprocess.run(closed, capture_output=True, env=os.environ)
    assert done.returncode == 2
    assert b"standard input is closed" in done.stderr


def test_a_file_of_the_kernel_is_copied_first() -> None:
    """Files of tracefs have no size, and say something else the next time."""
    assert content(Path("/proc/self/stat")).startswith(str(os.getpid()).encode())


def test_what_is_read_as_it_is_takes_no_room(tmp_path: Path) -> None:
    """A trace of some GB would be copied for nothing."""
    assert spooled(CORPUS / "v6.dat") is None
    assert spooled(tmp_path) is None
    empty = tmp_path / "empty"
    empty.touch()
    assert spooled(empty) is None
    assert check(tmp_path / "no such\0file") == 2


def test_misses_of_a_compressed_trace_dat_are_found_beside_it(tmp_path: Path) -> None:
    """Who compresses trace.dat has trace.dat.missed beside it."""
    path = tmp_path / "t.dat.xz"
    path.write_bytes(lzma.compress((CORPUS / "v6.dat").read_bytes()))
    assert "skipped-probes" in open_file(path).plan.unknowns
    use = next(iter(open_file(path)._survey.uses.values()))  # type: ignore[attr-defined]
    (tmp_path / "t.dat.missed").write_text(f"  {use.event.name}   12   3\n")
    assert "skipped-probes" not in open_file(path).plan.unknowns


@pytest.mark.parametrize("text", ["0", "x", "-1", "1.5G", "8Q"])
def test_a_size_that_is_none_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A bound that is misread is none."""
    with pytest.raises(SystemExit) as stop:
        check(CORPUS / "boot1.txt", f"--max-size={text}")
    assert stop.value.code == 2
    assert "is no size" in capsys.readouterr().err


def test_the_size_of_the_command_line_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else the option does nothing."""
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(TEXT))
    assert check(path, "--max-size", "1K") == 2
    assert "more than 1,024 bytes" in capsys.readouterr().err
    assert check(path, "--max-size", "1MiB") == 3
