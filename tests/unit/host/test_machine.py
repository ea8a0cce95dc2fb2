# SPDX-License-Identifier: Apache-2.0
"""What machine it is, as files say it."""

from __future__ import annotations

from pathlib import Path

from ghesrace.host.machine import read_machine


def test_model_and_firmware_are_told_and_no_serial_number(tmp_path: Path) -> None:
    """A report would not say which firmware it is about, or which one machine of thousands."""
    dmi = tmp_path / "sys/class/dmi/id"
    dmi.mkdir(parents=True)
    for name in ("sys_vendor", "bios_version", "product_serial", "product_uuid"):
        (dmi / name).write_text(f"the {name}\n")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(
        "processor\t: 0\nmodel name\t: Some CPU\n\nprocessor\t: 1\nmodel name\t: Some CPU\n"
    )
    assert read_machine(tmp_path) == {
        "sys_vendor": "the sys_vendor",
        "bios_version": "the bios_version",
        "cpu model name": "Some CPU",
    }
