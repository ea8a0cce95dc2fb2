# SPDX-License-Identifier: Apache-2.0
"""Guests take files of tests in turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ghesrace.errors import TransientError
from lab.testing.turns import Dealer, dealt, forget, turns

FILES = ["test_a.py", "test_b.py", "test_c.py", "test_d.py"]


@contextmanager
def answering(dealer: Dealer) -> Iterator[None]:
    """The host, which answers now and then."""
    end = threading.Event()

    def answer() -> None:
        while not end.wait(0.01):
            dealer.answer()

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def test_each_file_goes_to_one_guest(tmp_path: Path) -> None:
    """If this fails, files are run twice, or by nobody."""
    shares = [tmp_path / "1", tmp_path / "2"]
    taken: list[list[str]] = [[], []]

    def guest(number: int) -> None:
        taken[number] += turns(shares[number], FILES)

    with answering(Dealer(shares)):
        threads = [threading.Thread(target=guest, args=(number,)) for number in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(taken[0] + taken[1]) == FILES


@pytest.mark.slow
def test_who_is_quick_takes_more(tmp_path: Path) -> None:
    """If this fails, one guest waits for the other with half of the files each."""
    shares = [tmp_path / "1", tmp_path / "2"]
    with answering(Dealer(shares)):
        slow, quick = (turns(share, FILES) for share in shares)
        assert next(slow) == FILES[0]
        assert list(quick) == FILES[1:]
        assert list(slow) == []


def test_a_guest_that_is_booted_again_has_its_files_again(tmp_path: Path) -> None:
    """If this fails, what a crash left of a file is run by nobody."""
    shares = [tmp_path / "1", tmp_path / "2"]
    with answering(Dealer(shares)):
        before, other = (turns(share, FILES) for share in shares)
        first = [next(before), next(before)]
        assert next(other) == FILES[2]
        assert list(turns(shares[0], FILES)) == [*first, FILES[3]]


@pytest.mark.slow
def test_a_dealer_begins_anew(tmp_path: Path) -> None:
    """If this fails, a share that is used again has its old answers, and no file is run."""
    assert not dealt(tmp_path)
    for _ in range(2):
        with answering(Dealer([tmp_path])):
            assert dealt(tmp_path)
            assert list(turns(tmp_path, FILES)) == FILES
    forget(tmp_path)
    assert not dealt(tmp_path), "a guest alone would ask nobody"


def test_a_host_that_is_gone(tmp_path: Path) -> None:
    """If this fails, a guest whose host died waits for ever."""
    Dealer([tmp_path])
    with pytest.raises(TransientError, match="dealt no file"):
        next(turns(tmp_path, FILES, patience_s=0.1))
