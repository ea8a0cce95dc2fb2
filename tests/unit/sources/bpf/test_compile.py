# SPDX-License-Identifier: Apache-2.0
"""Compiling in a child, with a bcc of our own; the real one is seen in tests/lab/test_bpf.py."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from ghesrace.sources.bpf import compile as bpfcompile
from ghesrace.sources.bpf.cache import Compiled
from ghesrace.sources.bpf.compile import Refused, compiled

CODE = bytes(range(16))
BCC = f"""
class BPF:
    def __init__(self, text, cflags):
        exec(text)
    def dump_func(self, name):
        assert name == b"p0"
        return {CODE!r}
"""


@pytest.fixture(autouse=True)
def bcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bcc that takes Python for C; the folder of what is kept."""
    (tmp_path / "bcc").mkdir()
    (tmp_path / "bcc/__init__.py").write_text(BCC)
    (tmp_path / "bcc/version.py").write_text("__version__ = '1'\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    spec = importlib.machinery.ModuleSpec("bcc", None, origin=str(tmp_path / "bcc/__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    return tmp_path / "run/bpf"


def test_what_was_made_once_is_not_made_again(bcc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, the child's answer is lost, or a daemon that starts again waits for LLVM."""
    assert compiled("pass", ("p0",)) == Compiled((), {"p0": CODE})
    assert len(list(bcc.iterdir())) == 1
    monkeypatch.setattr(bpfcompile, "_by_child", None)
    assert compiled("pass", ("p0",)) == Compiled((), {"p0": CODE})


@pytest.mark.parametrize(
    ("text", "stage", "what", "log"),
    [
        ("print('main.c:1: error'); raise Exception('no')", "compile", "no", "main.c:1: error\n"),
        ("raise ImportError('no libbcc')", "compile", "no libbcc", ""),
        ("import os; os.kill(os.getpid(), 9)", "compiler", "died", ""),
        ("import os; os.write(int(__import__('sys').argv[1]), b'{}')", "compiler", "died", ""),
    ],
)
def test_a_refusal_is_told(bcc: Path, text: str, stage: str, what: str, log: str) -> None:
    """If this fails, a user meets a traceback, or a broken program is kept for the next start."""
    with pytest.raises(Refused, match=what) as refused:
        compiled(text, ("p0",))
    assert (refused.value.stage, refused.value.log) == (stage, log)
    assert list(bcc.iterdir()) == []


@pytest.mark.slow
def test_a_child_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a start can wait for ever, and its child outlives it."""
    monkeypatch.setattr(bpfcompile, "_PATIENCE_S", 0.5)
    with pytest.raises(Refused, match="died"):
        compiled("import time; time.sleep(60)", ("p0",))


def test_bccs_version_is_known_without_bcc(bcc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, a new bcc runs on what the old one made, or LLVM is loaded for nothing."""
    assert "'1'" in bpfcompile.version()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Refused, match="bcc") as refused:
        bpfcompile.version()
    assert refused.value.stage == "bcc"


def test_the_child_loads_nothing_that_it_does_not_need() -> None:
    """If this fails, LLVM is not alone in the child's 100 MB, and the first start takes longer."""
    code = "import sys, ghesrace.sources.bpf.compile; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "bcc", "pyarrow"} & set(done.stdout.split())
