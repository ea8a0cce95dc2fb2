# SPDX-License-Identifier: Apache-2.0
"""A foreign trace as a whole: its events, its misses, its verdict, and hostile input."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

from ghesrace import cli
from ghesrace.errors import InputError
from ghesrace.events import Kind
from ghesrace.sources.files import open_file
from tests.build.paths import CORPUS
from tests.build.texts import judged
from tests.unit.sources.foreign import fuzz


@pytest.mark.slow
@pytest.mark.parametrize("name", fuzz.FILES + fuzz.CAPTURES)
def test_mutated_files_give_typed_errors_only(name: str, tmp_path: Path) -> None:
    """Traces come from strangers: no traceback, no hang."""
    outcomes, slowest = fuzz.run_files(name, 60, seed=0, folder=tmp_path)
    assert sum(outcomes.values()) == 60
    assert slowest < 1


def test_damaged_records_give_typed_errors_only() -> None:
    """So do captures that are packed well and say nonsense."""
    outcomes, slowest = fuzz.run_records(200, seed=0)
    assert sum(outcomes.values()) == 200
    assert len(outcomes) > 2
    assert slowest < 1


def test_perf_script_with_a_map_is_judged(tmp_path: Path) -> None:
    """perf prints no symbols: without --map nothing is known, with it all is."""
    path, given = CORPUS / "perf-script.txt", tmp_path / "map.toml"
    given.write_text(fuzz.PERF_MAP)
    with pytest.raises(InputError, match="no event in it maps"):
        open_file(path)
    report, events = judged(path, given)
    kinds = events["kind"].tolist()
    text = path.read_text()
    assert kinds.count(Kind.MAP) + kinds.count(Kind.UNMAP) == text.count("other:setfix:")
    assert kinds.count(Kind.INV_PAGE) == text.count("other:flush1k:")
    assert [(slot.name, slot.address) for slot in report.slots] == [
        ("fixmap-644", 0xFFFFFFFFFF57B000)
    ]
    first = events[(events["kind"] == Kind.MAP) & (events["cpu"] == 1)][0]
    assert (first["ts"], first["phys"]) == (438_944_560_630, 0x10004000)


def test_json_of_a_foreign_trace_follows_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """Scripts that read the JSON of captures must be able to read this one."""
    assert cli.main(["check", "--format", "json", str(CORPUS / "v7-zstd.dat")]) == 1
    schema = json.loads(resources.files("ghesrace").joinpath("check.schema.json").read_text())
    jsonschema.validate(json.loads(capsys.readouterr().out), schema)
