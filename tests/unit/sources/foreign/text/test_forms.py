# SPDX-License-Identifier: Apache-2.0
"""How a text prints, and why some can't be judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from ghesrace.errors import InputError
from ghesrace.sources.files import open_file
from ghesrace.sources.foreign.text.forms import form_of, style_of
from tests.build.paths import CORPUS


def test_head_names_the_column_of_the_context() -> None:
    """In seven columns the third letter is a lazy resched: every interrupt would be a task's."""
    assert style_of((CORPUS / "seven-columns.txt").read_bytes()).context == 3
    assert style_of((CORPUS / "trace.txt").read_bytes()).context == 2
    assert style_of((CORPUS / "two-boots.txt").read_bytes()).context is None


def test_numbers_without_prefix_are_noticed() -> None:
    """Digits alone would be read as decimal, letters not at all."""
    assert style_of((CORPUS / "bare-hex.txt").read_bytes()).bare
    assert not style_of((CORPUS / "long-decimals.txt").read_bytes()).bare
    assert not style_of(b"a: x=ffffc900ffc90000 y=0x1\n").bare


def test_latency_format_is_a_form_of_its_own() -> None:
    """Its stamps are microseconds without a dot."""
    assert form_of((CORPUS / "latency-format.txt").read_bytes()) == "latency-format"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ((CORPUS / "function-tracer.txt").read_text(), "kprobe events are needed"),
        ("  swapper     0   1.000000: probe:ghes_ioremap_pfn_irq: (ffff) pfn=1\n", "no CPU"),
        ("nothing of the kind\n", "neither a capture nor a trace"),
    ],
)
def test_a_refusal_says_what_is_missing(tmp_path: Path, text: str, reason: str) -> None:
    """Somebody who is told to give what was given learns nothing."""
    path = tmp_path / "trace"
    path.write_text(text)
    with pytest.raises(InputError, match=reason):
        open_file(path)
