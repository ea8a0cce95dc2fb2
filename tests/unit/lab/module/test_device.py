# SPDX-License-Identifier: Apache-2.0
"""The loaded control module's files, without a module."""

from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ghesrace.errors import HostError, TransientError, UsageError
from lab.module import device
from lab.module.build import SOURCE
from lab.module.device import TRUTH, Parameters

SIZES = {"u64": 8, "u32": 4, "u16": 2, "u8": 1}


def test_a_record_of_truth_is_the_c_files_struct() -> None:
    """What the module says would be read at other offsets: junk that was none, or none that was."""
    text = (SOURCE / "ghes2015.h").read_text()
    found = re.search(r"struct truth \{(.*?)\n\}", text, re.DOTALL)
    assert found
    body = re.sub(r"/\*.*?\*/", "", found[1], flags=re.DOTALL)
    fields, at = {}, 0
    for kind, names in re.findall(r"\b_*(u64|u32|u16|u8)\s+([^;]+);", body):
        for name in re.split(r",\s*", names.strip()):
            fields[name] = (at, SIZES[kind])
            at += SIZES[kind]
    assert {n: (o, t.itemsize) for n, (t, o) in (TRUTH.fields or {}).items()} == fields


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(device, "_MODULE", tmp_path / "module")
    monkeypatch.setattr(device, "_FILES", tmp_path / "files")
    (tmp_path / "module/parameters").mkdir(parents=True)
    (tmp_path / "files").mkdir()
    return tmp_path


def test_every_parameter_is_set_before_the_run_begins(
    loaded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run would be made with the parameters of the one before."""
    order: list[str] = []
    write = Path.write_text

    def note(path: Path, text: str) -> int:
        order.append(path.name)
        return write(path, text)

    monkeypatch.setattr(Path, "write_text", note)
    device.start(Parameters(fix="flush-on-map", rounds=7, walker=False, same_frame=True))
    set_to = {p.name: p.read_text() for p in (loaded / "module/parameters").iterdir()}
    assert set_to.keys() == Parameters.__dataclass_fields__.keys()
    assert (set_to["fix"], set_to["rounds"]) == ("flush-on-map", "7")
    assert (set_to["walker"], set_to["same_frame"]) == ("0", "1")  # the kernel takes no "True"
    assert order[-1] == "run"
    device.stop()
    assert (loaded / "files/run").read_text() == "0"


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.EBUSY, TransientError),
        (errno.EINVAL, UsageError),
        (errno.ERANGE, UsageError),
        (errno.ENOSPC, UsageError),
        (errno.ENOENT, HostError),
        (errno.EACCES, HostError),
    ],
)
def test_refusals_by_their_cause(
    loaded: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    """A wrong parameter would be tried again for ever, or a busy module end the tests."""

    def refuse(path: Path, text: str) -> int:
        raise OSError(number, "refused", str(path))

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(error):
        device.start(Parameters())


def test_a_module_that_is_not_there(loaded: Path) -> None:
    """A test would end in a FileNotFoundError from deep inside."""
    with pytest.raises(HostError, match="load the control module"):
        device.summary()
    with pytest.raises(HostError):
        device.truth()


def test_truth_is_a_copy(loaded: Path) -> None:
    """Whoever changes a record would get a ValueError, as NumPy's view of bytes is read-only."""
    records = np.zeros(3, TRUTH)
    records["seen"] = 5
    (loaded / "files/truth").write_bytes(records.tobytes())
    found = device.truth()
    assert np.array_equal(found, records)
    found["seen"] = 6


def test_a_run_that_does_not_end_is_stopped(loaded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hanging run would keep the module in the kernel, and the next test busy."""
    states = iter(["running", "running", "done"])
    state: dict[str, Any] = {}
    monkeypatch.setattr(device, "summary", lambda: {**state, "state": next(states, "running")})
    monkeypatch.setattr(device, "_POLL_S", 0.001)
    assert device.wait(10)["state"] == "done"
    with pytest.raises(TransientError, match="did not end in 0 s"):
        device.wait(0.01)
    assert (loaded / "files/run").read_text() == "0"


def test_a_tool_that_is_missing_or_fails() -> None:
    """insmod's reason would be lost."""
    with pytest.raises(HostError, match="no-such-tool is not installed"):
        device._tool("no-such-tool")
    with pytest.raises(HostError, match="no permission"):
        device._tool("sh", "-c", "echo no permission >&2; exit 1")
