# SPDX-License-Identifier: Apache-2.0
"""The manifest of a capture says of which host it is: what a kernel engineer would ask for, and
nothing that names a machine beyond its name (no serial number, no address)."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ghesrace import __version__
from ghesrace.errors import GhesraceError
from ghesrace.sources.capture.file import CaptureSource

MANIFEST = ".host.json"  # is added to the name of a capture
_PER_BOOT = ("block",)  # of an error source: where the firmware put it this time


def hest_hash(sources: object) -> str | None:
    """Return a hash of error *sources* as a capture's facts have them, without what differs from
    boot to boot; None if there are none.

    >>> one = {"id": 1, "register": 4096, "block": 1}
    >>> hest_hash([one]) == hest_hash([{**one, "block": 2}]) != hest_hash([{**one, "id": 2}])
    True
    """
    if not isinstance(sources, list) or not all(isinstance(source, dict) for source in sources):
        return None
    stable = [{k: v for k, v in s.items() if k not in _PER_BOOT} for s in sources]
    return hashlib.sha256(json.dumps(stable, sort_keys=True).encode()).hexdigest()


def describe_host(root: Path = Path("/")) -> dict[str, str | None]:
    """Return what is known of this host, as found below *root*; None where it can't be read.

    describe_host()["bios"]  # "Vendor 3.4 (01/02/2026)"
    """
    dmi = root / "sys/class/dmi/id"
    date = _line(dmi / "bios_date")
    bios = _joined(dmi, "bios_vendor", "bios_version")
    return {
        "host": platform.node() or None,
        "product": _joined(dmi, "sys_vendor", "product_name"),
        "board": _joined(dmi, "board_vendor", "board_name"),
        "bios": f"{bios} ({date})" if bios and date else bios,
        "microcode": _microcode(root / "proc/cpuinfo"),
    }


def manifest_of(capture: Path, name: str, sha256: str, host: dict[str, str | None]) -> bytes:
    """Return the manifest, as JSON, of the file *capture*, which is called *name* and was recorded
    on *host* (`describe_host`). What the capture says of its kernel counts; a file that is none has
    a manifest, too. Raises OSError.

    manifest_of(path, "host.arrows", digest, describe_host())
    """
    state = capture.stat()
    facts: dict[str, Any] = {}
    try:
        told = CaptureSource(capture).host
        facts = told if isinstance(told, dict) else {}
    except GhesraceError:
        pass  # `survey` will say what is wrong with it.
    whole = {
        **host,
        "kernel": facts.get("release") or platform.release(),
        "arch": facts.get("arch") or platform.machine(),
        "hest": hest_hash(facts.get("hest")),
        "capture": name,
        "recorded": datetime.fromtimestamp(state.st_mtime, UTC).isoformat(),
        "bytes": state.st_size,
        "sha256": sha256,
        "ghesrace": __version__,
    }
    return json.dumps(whole, indent=1).encode() + b"\n"


def _joined(folder: Path, *names: str) -> str | None:
    return " ".join(filter(None, (_line(folder / name) for name in names))) or None


def _line(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", "replace").strip() or None
    except OSError:
        return None


def _microcode(path: Path) -> str | None:
    found = re.search(r"^microcode\s*:\s*(\S+)", _line(path) or "", re.MULTILINE)
    return found.group(1) if found else None
