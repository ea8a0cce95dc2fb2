# SPDX-License-Identifier: Apache-2.0
"""What is recorded for the table of forms (tests/lab/test_foreign.py runs it)."""

from __future__ import annotations

import os
from pathlib import Path

from ghesrace.sources.foreign.eventmap import parse_map
from lab.inside import forms


def test_the_map_names_every_probe() -> None:
    """An event that the map leaves out is not judged where a text does not name functions."""
    parse_map(forms.MAP)
    names = list(forms._names())
    assert len(names) == 5
    assert all(f'"other/{name}"' in forms.MAP for name in names)


def test_a_pipe_is_read_until_it_is_empty(tmp_path: Path) -> None:
    """trace_pipe waits for more events for ever."""
    pipe = tmp_path / "trace_pipe"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)
    try:
        os.write(writer, b"one\ntwo\n")
        assert forms._piped(pipe) == b"one\ntwo\n"
    finally:
        os.close(writer)


def test_each_option_is_printed_and_switched_back(tmp_path: Path) -> None:
    """The next text would have two options, or the files would be taken for each other."""
    main, tgid, tai = (tmp_path / name for name in ("main", "tgid", "tai"))
    for instance in (main, tgid, tai):
        (instance / "options").mkdir(parents=True)
        (instance / "trace").write_text(f"of {instance.name}")
    for option in ("raw", "irq-info"):
        (main / "options" / option).write_text("0" if option == "raw" else "1")
    for cpu in (0, 1):
        (main / f"per_cpu/cpu{cpu}").mkdir(parents=True)
        (main / f"per_cpu/cpu{cpu}/trace").write_text(f"cpu {cpu} ")
    (main / "trace_pipe").write_text("piped")
    forms._print(tmp_path, main, tgid, {"tai": tai})
    assert (main / "options/raw").read_text() == "0"
    assert (main / "options/irq-info").read_text() == "1"
    printed = (tmp_path / forms.PRINTED).read_text()
    assert "option `raw`" in printed
    assert "option `noirq-info`" in printed
    assert "option `hex`" not in printed  # This kernel has none.
    found = sorted(path.read_text() for path in tmp_path.glob("trace-*.txt"))
    assert found == sorted(
        ["of main", "of main", "of main", "of tgid", "cpu 0 cpu 1 ", "cpu 0 ", "of tai", "piped"]
    )
