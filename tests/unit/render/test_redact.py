# SPDX-License-Identifier: Apache-2.0
"""What is handed on after --redact."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ghesrace.plan import Slot, Unseen
from ghesrace.render.names import frame_source
from ghesrace.render.redact import Redactor
from tests.build.captures import HOST
from tests.build.judging import judge
from tests.build.trace import A, B, V, bounce, plan

_REGION = 1 << 21


@given(st.lists(st.integers(0, 2**52 - 1), min_size=2, max_size=20))
def test_equal_stays_equal_and_near_stays_near(addresses: list[int]) -> None:
    """If this fails, two frames of a finding become one, or the pages of one record are torn
    apart."""
    redactor = Redactor()
    made = [redactor.physical(address) for address in addresses]
    assert len(set(made)) == len(set(addresses))
    for address, short in zip(addresses, made, strict=True):
        assert address % _REGION == short % _REGION
        same = [a for a in addresses if a // _REGION == address // _REGION]
        assert {redactor.physical(a) - short for a in same} == {a - address for a in same}
    assert max(made) < 2 * (len(addresses) + 1) * _REGION
    regions = sorted({short // _REGION for short in made})
    assert all(b - a > 1 for a, b in pairwise(regions))


def test_text_is_redacted_like_numbers() -> None:
    """If this fails, an explanation names a frame that the columns beside it lack."""
    redactor = Redactor()
    text = f"maps {A:#x} at {V:#x}, 16 digits {V:016x}, offset _text+0x643fe0, flags 0x163, 0x0"
    shown = redactor.text(text)
    p, v = redactor.physical(A), redactor.virtual(V)
    assert shown == (
        f"maps {p:#x} at {v:#x}, 16 digits {v:016x}, offset _text+0x643fe0, flags 0x163, 0x0"
    )
    assert redactor.text("3 lines, such as: kworker/1 0x5000\nsecret") == (
        "3 lines, such as: (left out)"
    )


def test_nothing_of_a_report_is_left_as_it_was() -> None:
    """If this fails, a part of the report was forgotten: one address is enough to undo the rest."""
    name = f"{V:#x}"
    quoted = Unseen(f"an event at {A:#x}", f"see {V:#x}", ("stale",), (name,))
    the_plan = replace(plan(Slot(name, 644, V, "report")), unseen=(quoted,))
    report = judge(the_plan, bounce().stream())
    report.reasons = [f"uncertain: {name}: 1 order"]
    pattern = report.patterns["stale"]
    pattern.uncertain, pattern.harmless = [f"{A:#x} met {V:#x}"], {f"{B:#x}": 1}
    pattern.not_checked_because = f"no symbol at {V:#x}"
    told = json.dumps(asdict(Redactor().report(report)))
    regions = {address // _REGION for address in (A, B, V)}
    for number in re.findall(r"0x[0-9a-f]+|\b\d{8,}\b", told):
        assert int(number, 0) // _REGION not in regions, number
    assert report.slots[0].address == V  # what was given is not changed


def test_sources_are_found_after_redaction() -> None:
    """If this fails, a redacted report no longer says which error source a frame belongs to."""
    redactor = Redactor()
    host = redactor.host({**HOST, "nodename": "mine", "evidence": {"id": 1}, "source": "mine.txt"})
    assert frame_source(host, redactor.physical(A)) == frame_source(HOST, A)
    assert set(host) == {"arch", "release", "hest"}
    odd = redactor.host({"hest": ["x", {"id": 1, "block": "y", "registers": 5}], "problems": 3})
    assert odd == {"hest": [{"id": 1}], "problems": 3}
