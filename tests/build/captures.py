# SPDX-License-Identifier: Apache-2.0
"""Captures of streams written by hand, and `ghesrace check` of them."""

from __future__ import annotations

from pathlib import Path

from ghesrace import cli
from ghesrace.plan import Plan
from ghesrace.sources.capture.file import CaptureWriter
from tests.build.trace import A, B, Trace, plan

HOST = {
    "arch": "x86_64",
    "release": "6.1.0-test",
    "hest": [
        {"id": 3, "notification": "external interrupt", "block": A, "length": 4096},
        {"id": 1, "notification": "NMI", "block": B + 64, "length": 128},
    ],
}


def capture(path: Path, trace: Trace, p: Plan | None = None) -> Path:
    with CaptureWriter(path, p or plan(), HOST) as writer:
        writer.write(trace.stream())
    return path


def check(*arguments: object) -> int:
    return cli.main(["check", *map(str, arguments)])
