# SPDX-License-Identifier: Apache-2.0
"""The folder of captures: its budget, and what its errors mean."""

from __future__ import annotations

import os
from pathlib import Path

from ghesrace.service.evidence.folder import Folder


def test_budget_deletes_the_oldest_never_the_newest(tmp_path: Path) -> None:
    """If this fails, captures fill the disk, or the newest evidence is deleted first."""
    folder = Folder(str(tmp_path), 2500)
    folder.start()
    names = []
    for i in range(5):
        name = folder.new_id("stale")
        names.append(name)
        folder.part(name).write_bytes(b"x" * 1000)
        os.utime(folder.part(name), (i, i))
        folder.publish(name)
        os.utime(folder.file(name), (i, i))
    (tmp_path / "notes.txt").write_text("not ours")
    left = sorted(p.stem for p in tmp_path.glob("*.arrows"))
    assert left == sorted(names[-2:])
    assert folder.deleted == 3
    Folder(str(tmp_path), 10).make_room(0, keep=folder.file(names[-1]))
    assert [p.stem for p in tmp_path.glob("*.arrows")] == [names[-1]]
    assert (tmp_path / "notes.txt").exists()


def test_errors_by_cause() -> None:
    """If this fails, the alert tells to free space on a read-only disk."""
    assert Folder.cause(OSError(28, "")) == "no_space"
    assert Folder.cause(OSError(30, "")) == "read_only"
    assert Folder.cause(OSError(5, "")) == "other"
