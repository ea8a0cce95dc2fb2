# SPDX-License-Identifier: Apache-2.0
"""`python -m handbook`: what is written where."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from handbook import man
from handbook.__main__ import main
from handbook.completion import PLACES


def test_man_pages_and_completion_lie_where_they_are_looked_for(tmp_path: Path) -> None:
    """`man ghesrace` and tab would find nothing in the package."""
    (tmp_path / "share/man/man1").mkdir(parents=True)
    (tmp_path / "share/man/man1/ghesrace-gone.1.gz").touch()
    assert main([str(tmp_path), "man", "completion"]) == 0
    found = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {*(f"share/man/man{n[-1]}/{n}.gz" for n in man.pages()), *PLACES.values()}
    text = gzip.decompress((tmp_path / "share/man/man1/ghesrace.1.gz").read_bytes()).decode()
    assert text.startswith(".TH GHESRACE")


def test_the_same_is_written_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package could not be built again with the same bytes."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    made = []
    for name in ("a", "b"):
        main([str(tmp_path / name), "man", "completion"])
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        made.append([p.read_bytes() for p in files])
    assert made[0] == made[1]


@pytest.mark.parametrize("arguments", [[], ["build/x", "mna"]])
def test_bad_usage_writes_nothing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A misspelled part would leave the package without it, in silence."""
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("usage: ")


def test_a_part_alone_loads_no_sphinx(tmp_path: Path) -> None:
    """Man pages would take seconds."""
    import subprocess
    import sys

    code = f"import sys; from handbook.__main__ import main; main([{str(tmp_path)!r}, 'man'])"
    check = "assert not any(name.startswith('sphinx') for name in sys.modules)"
    assert subprocess.run([sys.executable, "-c", f"{code}\n{check}"]).returncode == 0
