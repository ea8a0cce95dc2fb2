# SPDX-License-Identifier: Apache-2.0
"""On what the verdict on a foreign trace rests: what the file can't tell, and the exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ghesrace.sources.files import open_file
from tests.build.captures import check
from tests.build.paths import CORPUS
from tests.build.texts import HEAD, line, race, visit


def qualified(path: Path, *, given: Path | None = None) -> set[str]:
    return set(open_file(path, given).plan.unknowns)


@pytest.mark.parametrize(
    ("name", "unknown"),
    [
        ("perf-silent.txt", {"losses", "contexts", "skipped-probes", "clock"}),
        ("nmi-as-interrupt.txt", {"losses", "contexts", "skipped-probes", "clock"}),
        ("long-decimals.txt", {"skipped-probes", "clock"}),
        ("bare-hex.txt", {"skipped-probes", "arguments", "clock", "contexts"}),
        ("arm64.txt", {"skipped-probes", "architecture", "clock", "implications"}),
        ("flush-without-address.txt", {"skipped-probes", "arguments", "clock"}),
    ],
)
def test_each_file_says_what_it_cannot_tell(name: str, unknown: set[str]) -> None:
    """What is not said is taken for known: a false clean with exit code 0."""
    assert qualified(CORPUS / name) == unknown


def test_trace_dat_of_our_script_tells_everything(tmp_path: Path) -> None:
    """With FILE.missed beside it nothing is unknown; another recording's FILE.missed tells
    nothing."""
    path, missed = tmp_path / "t.dat", tmp_path / "t.dat.missed"
    shutil.copy(CORPUS / "v7-zstd.dat", path)
    assert qualified(path) == {"skipped-probes"}
    use = next(iter(open_file(path)._survey.uses.values()))  # type: ignore[attr-defined]
    missed.write_text(f"  {use.event.name}   12   0\n")
    assert qualified(path) == set()
    missed.write_text("  p0_another_map_77   12   0\n")
    assert qualified(path) == {"skipped-probes"}


def test_clean_that_rests_on_something_is_3_unless_that_is_accepted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A script that takes 0 for safe would take what nobody can know for safe."""
    path = CORPUS / "long-decimals.txt"
    assert check(path) == 3
    assert capsys.readouterr().out.startswith("clean, resting on skipped-probes, clock")
    assert check(path, "--accept-unknown", "clock") == 3
    assert check(path, "--accept-unknown", "clock,skipped-probes,losses") == 0
    capsys.readouterr()
    assert check(path, "--format", "json", "--accept-unknown", "clock") == 3
    answer = json.loads(capsys.readouterr().out)
    assert (answer["verdict"], answer["qualified_by"]) == ("clean", ["skipped-probes", "clock"])


def test_a_race_stays_a_race_whatever_it_rests_on(tmp_path: Path) -> None:
    """Exit code 3 for a race would hide it."""
    path = tmp_path / "trace"
    path.write_text(race())
    assert check(path, "-o", tmp_path / "out") == 1
    assert "race-observed, resting on losses" in (tmp_path / "out").read_text()


def test_a_name_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelt name would accept nothing, and nobody would know."""
    with pytest.raises(SystemExit) as stop:
        check(CORPUS / "long-decimals.txt", "--accept-unknown", "clocks")
    assert stop.value.code == 2
    assert "'clocks' is not one of losses," in capsys.readouterr().err


def test_losses_are_unknown_unless_a_head_counts_the_entries(tmp_path: Path) -> None:
    """Lines that somebody left out of his mail hide what they said."""
    path, body = tmp_path / "trace", visit(0, 100, 1) + visit(1, 900, 2)
    path.write_text(HEAD.format(8, 8) + body)
    assert "losses" not in qualified(path)
    path.write_text(body)
    assert "losses" in qualified(path)
    path.write_text(HEAD.format(8, 8) + body + visit(1, 1900, 2))  # more than the head says
    assert "losses" in qualified(path)


def test_one_cpus_clock_is_in_step_and_a_map_tells_that_of_several(tmp_path: Path) -> None:
    """Else everybody gets used to accepting what is not unknown."""
    path, given = tmp_path / "trace", tmp_path / "map.toml"
    path.write_text(visit(0, 100, 1) + visit(0, 900, 2))
    assert "clock" not in qualified(path)
    path.write_text(visit(0, 100, 1) + visit(1, 900, 2))
    assert "clock" in qualified(path)
    given.write_text("clock_error_ns = 500\n")
    assert "clock" not in qualified(path, given=given)


@pytest.mark.parametrize(("suffix", "changed"), [(".isra.0", True), (".llvm.77", False)])
def test_a_clones_arguments_are_unknown(tmp_path: Path, suffix: str, changed: bool) -> None:
    """GCC may have put another value into the register that the probe reads."""
    path = tmp_path / "trace"
    text = (visit(0, 100, 1) + visit(1, 900, 2)).replace("pfn_irq+", f"pfn_irq{suffix}+")
    path.write_text(text + line(0, 2000, "other: (schedule+0x0/0x10) prev=1"))
    assert ("arguments" in qualified(path)) == changed
