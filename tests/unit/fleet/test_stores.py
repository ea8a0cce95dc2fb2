# SPDX-License-Identifier: Apache-2.0
"""Stores: what is found in them, and what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import fsspec
import pytest

from ghesrace.errors import InputError, TransientError, UsageError
from ghesrace.fleet import stores
from ghesrace.fleet.stores import at_hand, fetched, items, manifest


@pytest.fixture
def store(tmp_path: Path) -> Path:
    for name in ("h2/b.arrows", "h1/a.arrows.gz", "h1/trace.dat", "h1/notes.txt", "h1/x.part"):
        path = tmp_path / "store" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / "store/h2/b.arrows.host.json").write_text('{"host": "b"}')
    return tmp_path / "store"


def names(url: object) -> list[str]:
    return [item.url.rpartition("/")[2] for item in items(str(url))]


def test_captures_and_traces_are_found_below_a_folder(store: Path) -> None:
    """If this fails, captures are left out, or every note in the folder becomes a broken one."""
    assert names(store) == ["a.arrows.gz", "trace.dat", "b.arrows"]
    assert names(store.as_uri()) == names(store)
    assert [item.folder for item in items(str(store))] == ["h1", "h1", "h2"]
    assert [item.manifest for item in items(str(store))] == [False, False, True]


def test_a_file_and_a_glob_are_taken_as_they_are(store: Path) -> None:
    """If this fails, a text of trace-cmd can't be surveyed."""
    assert names(store / "h1/notes.txt") == ["notes.txt"]
    assert names(store / "*/*.txt") == ["notes.txt"]
    [item] = items(str(store / "h2/b.arrows"))
    assert item.manifest


def test_what_is_on_this_machine_is_not_copied(store: Path) -> None:
    """If this fails, a survey of large captures fills the disk with copies of them."""
    [item] = items(str(store / "h2/b.arrows"))
    with at_hand(item) as path:
        assert path.samefile(store / "h2/b.arrows")
    (store / "h2/b.arrows").unlink()
    with pytest.raises(TransientError, match="can't read"), at_hand(item):
        pass


def test_only_plain_files_are_captures(store: Path) -> None:
    """If this fails, a pipe in a folder is waited for, and no survey ends."""
    os.mkfifo(store / "h1/pipe.arrows")
    (store / "h1/folder.arrows").mkdir()
    (store / "h1/link.arrows").symlink_to(store / "h2/b.arrows")
    (store / "h1/gone.arrows").symlink_to(store / "gone")
    (store / "h1/piped.arrows").symlink_to(store / "h1/pipe.arrows")
    assert names(store) == ["a.arrows.gz", "link.arrows", "trace.dat", "b.arrows"]
    assert names(store / "h1/*.arrows") == ["link.arrows"]


def test_the_tag_changes_with_the_content(store: Path) -> None:
    """If this fails, a capture that was replaced is never judged again, or all always are."""
    before = {item.url: item.tag for item in items(str(store))}
    assert before == {item.url: item.tag for item in items(str(store))}
    path = store / "h2/b.arrows"
    path.write_bytes(b"other")
    assert {item.url for item in items(str(store)) if before[item.url] != item.tag} == {
        path.as_uri()
    }
    again = {item.url: item.tag for item in items(str(store))}
    os.utime(path, (1, 1))
    assert {item.url for item in items(str(store)) if again[item.url] != item.tag} == {
        path.as_uri()
    }


def test_a_store_that_is_no_folder_is_read(store: Path) -> None:
    """If this fails, only local files can be surveyed."""
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/evidence/h1/a.arrows", b"bytes")
    memory.pipe_file("/evidence/h1/a.arrows.host.json", json.dumps({"host": "h"}).encode())
    try:
        [item] = items("memory://evidence")
        assert item.url == "memory:///evidence/h1/a.arrows"
        assert manifest(item) == {"host": "h"}
        with at_hand(item) as path:
            assert path.read_bytes() == b"bytes"
        memory.pipe_file("/evidence/h1/a.arrows.host.json", b"[broken")
        assert manifest(item) == {}
    finally:
        memory.rm("/evidence", recursive=True)
    with pytest.raises(TransientError, match=r"can't read memory:///evidence/h1/a\.arrows"):
        fetched(item)
    with pytest.raises(TransientError, match="can't read"):
        manifest(item)


@pytest.mark.parametrize(
    ("url", "error", "what"),
    [
        ("/nowhere/at/all", InputError, "there is no /nowhere/at/all"),
        ("nosuch://host/a", UsageError, "can't open the store nosuch://host/a"),
        ("sftp://me:secret@host/a", UsageError, "the URL of host holds a password"),
    ],
)
def test_what_is_no_store_is_told(url: str, error: type[Exception], what: str) -> None:
    """If this fails, whoever mistypes a URL gets a traceback, or a password is kept in the data."""
    with pytest.raises(error, match=what) as raised:
        items(url)
    assert "secret" not in str(raised.value)


def test_a_file_without_end_is_refused(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If this fails, one file fills the worker's disk."""
    monkeypatch.setattr(stores, "MAX_BYTES", 3)
    with pytest.raises(InputError, match="more than 3 bytes"):
        fetched(items(str(store))[0])
