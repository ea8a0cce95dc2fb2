# SPDX-License-Identifier: Apache-2.0
"""Lines of a text as ring-buffer pages."""

from __future__ import annotations

import numpy as np

from ghesrace.sources.foreign.text.pages import LAYOUT, Columns, pages, text_format
from ghesrace.sources.ring.pages import UNCOUNTED, decode


def test_text_pages_hold_what_was_put_in() -> None:
    """Stamps that go back (an NMI inside a clock read) and big numbers must survive."""
    rng = np.random.default_rng(1)
    n = 1000
    ts = np.sort(rng.integers(0, 1 << 58, n))
    ts[500], ts[501] = ts[501], ts[500]
    lost = np.zeros(n, np.int64)
    lost[[0, 300, 301]] = (UNCOUNTED, 1 << 40, 7)
    values = rng.integers(0, 1 << 63, (n, 10)).astype(np.uint64)
    zero = np.zeros(n, np.int64)
    made = pages(Columns(zero, ts, zero + 77, zero + 0x40, zero + 9, lost, values))
    records = decode(made[0], LAYOUT)
    assert records.ts.tolist() == ts.tolist()
    assert records.missed[records.missed != 0].tolist() == [UNCOUNTED, 1 << 40, 7]
    form = text_format("x", 9, [f"v{i}" for i in range(10)]).fields
    everything = np.arange(n)
    for i in range(10):
        assert np.array_equal(records.column(form[f"v{i}"], everything), values[:, i])
    assert set(records.column(form["common_pid"], everything).tolist()) == {77}
