# SPDX-License-Identifier: Apache-2.0
"""The source archive (MANIFEST.in). tests/package builds a wheel of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.build.paths import REPO

BUILD = "import sys, setuptools.build_meta as meta; meta.build_sdist(sys.argv[1])"


def tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=REPO, capture_output=True, text=True)
    return [name for name in done.stdout.split("\0") if name and (REPO / name).exists()]


@pytest.mark.slow
@pytest.mark.skipif(not (REPO / ".git").exists(), reason="needs git's list of files")
def test_source_archive_is_the_repository(tmp_path: Path) -> None:
    """Who builds from the archive lacks probes, dashboards, units, pages or tests."""
    clean, out = tmp_path / "clean", tmp_path / "out"
    names = tracked()
    assert len(names) > 500
    for name in names:
        (clean / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPO / name, clean / name)
    environment = {**os.environ, "GHESRACE_COMPILE": "never"}
    subprocess.run(
        [sys.executable, "-c", BUILD, str(out)],
        cwd=clean,
        env=environment,
        check=True,
        capture_output=True,
    )
    [archive] = out.iterdir()
    with tarfile.open(archive) as tar:
        found = {member.name.partition("/")[2] for member in tar if member.isfile()}
    assert set(names) - found == set()
    made = {name for name in found - set(names) if ".egg-info/" not in name}
    assert made == {"PKG-INFO"}
