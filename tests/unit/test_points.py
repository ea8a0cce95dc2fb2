# SPDX-License-Identifier: Apache-2.0
"""The probe files: what is refused, and with which words."""

from __future__ import annotations

import pytest

from ghesrace.errors import InputError
from ghesrace.points import load

GOOD = """
family = "f"
[[point]]
name = "p"
kind = "MAP"
what = "w"
[[point.candidate]]
symbol = "s"
"""


@pytest.mark.parametrize(
    ("wrong", "right", "words"),
    [
        ("kind", "knid", "unknown key `knid`"),
        ('"MAP"', '"MPA"', "'MPA' is not one of"),
        ('kind = "MAP"', "kind = 1", "`kind` is 1"),
        ("symbol", "symbl", "unknown key `symbl`"),
        ('symbol = "s"', 'symbol = "s"\nfields.adr = { argument = 1 }', "'adr' is not one of"),
        ('symbol = "s"', 'symbol = "s"\nfields = "addr"', "not a table of fetches"),
        ('symbol = "s"', 'symbol = "s"\nfields.addr = "$arg1:x64"', "fields: addr: .* no fetch"),
        ('symbol = "s"', 'symbol = "s"\nfields.addr = { argument = 0 }', "`argument` is not"),
        ('symbol = "s"', 'symbol = "s"\nfields.addr = { text = "$arg1" }', "text says nothing"),
        (
            'symbol = "s"',
            'symbol = "s"\nfields.addr = { argument = 1, member = "m" }',
            "'m' is not one of",
        ),
        (
            'symbol = "s"',
            'symbol = "s"\nfields.addr = { argument = "1", member = "m" }',
            "`argument` is '1'",
        ),
        (
            'symbol = "s"',
            'symbol = "s"\nraw_fields.addr = { argument = 1, member = "m" }',
            "a key is unknown",
        ),
        ('symbol = "s"', 'symbol = "s"\nfilter = "x"', "'x' is not one of"),
        ('symbol = "s"', 'symbol = "s"\narch = "x86_64"', "`arch` must be a list"),
        ('symbol = "s"', "", "needs either"),
        ("[[point]]", "[point", "f.toml"),
    ],
)
def test_mistakes_in_a_probe_file(wrong: str, right: str, words: str):
    """A typo in a probe file would silently leave a probe out."""
    assert load({"f.toml": GOOD})[0].points[0].candidates[0].symbol == "s"
    with pytest.raises(InputError, match=words) as caught:
        load({"f.toml": GOOD.replace(wrong, right)})
    assert "f.toml" in str(caught.value)


def test_a_point_that_does_not_exist():
    """`unless` would name a point that is not there, and never apply."""
    with pytest.raises(InputError, match="'q' is not one of p"):
        load({"f.toml": GOOD.replace('what = "w"', 'what = "w"\nunless = ["q"]')})
