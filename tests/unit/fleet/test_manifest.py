# SPDX-License-Identifier: Apache-2.0
"""The manifest of a capture: what it tells, and what it never does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ghesrace.fleet.manifest import describe_host, hest_hash, manifest_of
from ghesrace.fleet.survey.rows import firmware
from tests.build.captures import HOST
from tests.build.paths import EXAMPLES

DMI = {
    "sys_vendor": "Maker",
    "product_name": "Server 7",
    "board_vendor": "Maker",
    "board_name": "X11",
    "bios_vendor": "Bios",
    "bios_version": "3.4",
    "bios_date": "01/02/2026",
    "board_serial": "SECRET-SERIAL",
    "product_uuid": "SECRET-UUID",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in DMI.items():
        path = tmp_path / "sys/class/dmi/id" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor : 0\nmicrocode\t: 0x2b000603\n")
    return tmp_path


def test_it_tells_board_firmware_and_microcode(root: Path) -> None:
    """If this fails, nobody can tell one firmware's captures from another's."""
    host = describe_host(root)
    assert host["product"] == "Maker Server 7"
    assert host["board"] == "Maker X11"
    assert host["bios"] == "Bios 3.4 (01/02/2026)"
    assert host["microcode"] == "0x2b000603"
    assert firmware(dict(host)) == "Maker X11, BIOS Bios 3.4 (01/02/2026)"


def test_it_names_no_serial_number(root: Path, observed: Path) -> None:
    """If this fails, what names one machine leaves it."""
    assert b"SECRET" not in manifest_of(observed, "a.arrows", "0" * 64, describe_host(root))


def test_what_can_not_be_read_is_null(tmp_path: Path) -> None:
    """If this fails, a host without DMI (an arm64 board with a device tree) sends nothing."""
    host = describe_host(tmp_path)
    assert {name for name, value in host.items() if value is not None} <= {"host"}


def test_it_says_of_the_capture_what_the_capture_says(observed: Path) -> None:
    """If this fails, a capture that was brought from another kernel is counted for this one."""
    told = json.loads(manifest_of(observed, "a.arrows", "0" * 64, {"host": "h"}))
    assert (told["kernel"], told["arch"]) == (HOST["release"], HOST["arch"])
    assert told["hest"] == hest_hash(HOST["hest"])
    assert told["bytes"] == observed.stat().st_size
    assert (told["host"], told["capture"], told["sha256"]) == ("h", "a.arrows", "0" * 64)


def test_a_broken_capture_has_a_manifest_too(tmp_path: Path) -> None:
    """If this fails, what a crash left is never sent, and it is the most interesting."""
    path = tmp_path / "cut.arrows"
    path.write_bytes((EXAMPLES / "stock.arrows").read_bytes()[:100])
    assert json.loads(manifest_of(path, "cut.arrows", "", {}))["hest"] is None


@pytest.mark.parametrize("sources", [None, "x", [1], 5, {}])
def test_sources_that_are_none_have_no_hash(sources: object) -> None:
    """A capture's facts come from a file."""
    assert hest_hash(sources) is None
