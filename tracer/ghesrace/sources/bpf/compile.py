# SPDX-License-Identifier: Apache-2.0
"""This module turns C text into BPF instructions. It is the only one that loads bcc, and LLVM with
it.

LLVM takes 100 MB, which a process never gives back. So a child process compiles, `python -m
ghesrace.sources.bpf.compile FD`. It reads a request (JSON) from standard input, writes
Compiled.to_json() or a refusal as {"error": ..., "what": ...} to the socket FD, and ends. What it
made is kept until the next boot (cache.py), so that a daemon that starts again needs no child.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from ghesrace.host import syscalls

from .cache import Cache, Compiled, Map, place

_PATIENCE_S = 600.0  # LLVM is slow under emulation.
_MAP_INFO_SIZE = 40  # bytes of struct bpf_map_info that all kernels have
_PIECE = 1 << 16


class Refused(Exception):
    """This is raised when bcc or the kernel refuses something. `stage` is bcc, compile, compiler,
    load or attach; `what` says what was refused, and `log` is that of the compiler or of the
    verifier."""

    def __init__(self, stage: str, what: str, log: str = "") -> None:
        super().__init__(what)
        self.stage, self.what, self.log = stage, what, log


def compiled(text: str, functions: tuple[str, ...]) -> Compiled:
    """Return the instructions of *functions* in a C text, from the cache or by a child process.
    Raises Refused if bcc is missing or does not take the text.

        code = compiled("int p0(void *ctx) { return 0; }", ("p0",))
    """
    cache = Cache(place(), version())
    if (kept := cache.get(text)) is None:
        kept = _by_child(text, functions)
        cache.put(text, kept)
    return kept


def version() -> str:
    """Return what tells bcc's version, without loading bcc. Raises Refused if there is no bcc."""
    spec = importlib.util.find_spec("bcc")
    if spec is None or spec.origin is None:
        raise Refused("bcc", "no module named bcc")
    with contextlib.suppress(OSError):
        return Path(spec.origin).with_name("version.py").read_text()
    return spec.origin


def _by_child(text: str, functions: tuple[str, ...]) -> Compiled:
    ours, theirs = socket.socketpair()
    with ours, tempfile.TemporaryFile() as log:
        with theirs:
            child = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is for us alone: we end the child, and undo all.
            )
        try:
            assert child.stdin is not None
            ours.settimeout(_PATIENCE_S)
            answer = b""
            with contextlib.suppress(BrokenPipeError, TimeoutError):
                with child.stdin as line:
                    line.write(json.dumps({"text": text, "functions": functions}).encode())
                answer = b"".join(iter(lambda: ours.recv(_PIECE), b""))
        finally:
            child.kill()
            child.wait()
        log.seek(0)
        return _answered(answer, log.read().decode("utf-8", "replace"))


def _answered(answer: bytes, log: str) -> Compiled:
    try:
        told = json.loads(answer)
        if "error" in told:
            raise Refused(str(told["error"]), str(told["what"]), log)
        return Compiled.from_json(answer.decode())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused("compiler", "the process that compiles BPF died", log) from error


def _compile(text: str, functions: tuple[str, ...]) -> Compiled:
    try:
        from bcc import BPF
    except ImportError as error:
        raise Refused("bcc", str(error)) from error
    try:
        module = BPF(text=text, cflags=["-Wno-everything"])
    except Exception as error:  # bcc raises bare Exceptions.
        raise Refused("compile", str(error)) from error
    code = {name: bytes(module.dump_func(name.encode())) for name in functions}
    return Compiled.of(code, lambda fd: Map.of(syscalls.info(fd, _MAP_INFO_SIZE)))


def main() -> None:
    """Serve the one request of the process that started this one."""
    request = json.loads(sys.stdin.read())
    with socket.socket(fileno=int(sys.argv[1])) as line:
        try:
            answer = _compile(request["text"], tuple(request["functions"])).to_json()
        except Refused as error:
            answer = json.dumps({"error": error.stage, "what": error.what})
        line.sendall(answer.encode())


if __name__ == "__main__":
    main()
    sys.stderr.flush()
    os._exit(0)  # bcc's exit handlers take long, and only free what ends with the process anyway.
