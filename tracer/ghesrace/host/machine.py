# SPDX-License-Identifier: Apache-2.0
"""This reads what machine it is: maker, model, firmware, CPU. Nothing here tells one machine of a
model from another: no serial number, no UUID, no asset tag."""

from __future__ import annotations

import re
from pathlib import Path

# Of /sys/class/dmi/id, which arm64 has where the firmware has SMBIOS.
_DMI = ("sys_vendor", "product_name", "bios_vendor", "bios_version", "bios_date")
_CPU = re.compile(r"^(model name|CPU implementer|CPU part)\s*:\s*(.+)$", re.MULTILINE)


def read_machine(root: Path = Path("/")) -> dict[str, str]:
    """Return what the files below *root* tell of the machine; what they don't tell is left out.

    >>> read_machine(Path("/nowhere"))
    {}
    """
    found = {name: _text(root / "sys/class/dmi/id" / name) for name in _DMI}
    for name, value in _CPU.findall(_text(root / "proc/cpuinfo")):
        found.setdefault(f"cpu {name.lower()}", value.strip())
    return {name: value for name, value in found.items() if value}


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""
