# SPDX-License-Identifier: Apache-2.0
"""A line of the matrix."""

from __future__ import annotations

from typing import Any


def result(**changes: Any) -> dict[str, Any]:
    known = {
        "suite": "bookworm",
        "arch": "amd64",
        "backend": "ftrace",
        "release": "6.1.0-1-amd64",
        "error": "",
    }
    return {**known, **changes}
