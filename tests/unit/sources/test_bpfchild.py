"""The child's own part of loading; what the kernel takes is seen in tests/lab/test_bpf.py."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from ghesrace.sources import bpfchild
from ghesrace.sources.bpfchild import Program, Refused


def test_bccs_version_is_known_without_bcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a new bcc runs on what the old one made, or LLVM is loaded for nothing."""
    (tmp_path / "version.py").write_text("__version__ = '1'\n")
    spec = importlib.machinery.ModuleSpec("bcc", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert "'1'" in bpfchild._version()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Refused, match="bcc") as refused:
        bpfchild._version()
    assert refused.value.stage == "bcc"


def test_what_the_verifier_says_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If this fails, a rejected program is "Invalid argument" and nobody knows why."""

    def load(*_: object, log: bytearray | None, **__: object) -> int:
        if log is not None:
            log[:9] = b"R1 is bad"
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(bpfchild.bpfcall, "load", load)
    with pytest.raises(Refused, match="fentry on f: Permission denied"):
        bpfchild._load(Program("p0", "tracing", "fentry", "f", 3), bytes(16))
    assert capsys.readouterr().err == "R1 is bad"


def test_a_start_waits_for_nothing_that_it_does_not_need() -> None:
    """If this fails, a daemon is blind for as long as NumPy or LLVM takes to load."""
    code = "import sys, ghesrace.sources.bpfchild; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "bcc", "pyarrow"} & set(done.stdout.split())
