# SPDX-License-Identifier: Apache-2.0
"""Names of frames and slots: which error source they belong to."""

from __future__ import annotations

import pytest

from ghesrace.events import PAGE_SIZE
from ghesrace.render.names import frame_source, slot_sources

BLOCK = 0x7000_0800
HOST = {
    "hest": [
        {"id": 1, "notification": "NMI", "block": BLOCK, "length": PAGE_SIZE},
        {"id": 2, "notification": "SEA", "block": None, "length": 64},
        {"id": 3, "notification": "polled", "block": 0x9000_0000, "length": 0},
        "junk",
    ]
}
PAGE = 0x7000_0000


@pytest.mark.parametrize(
    ("frame", "source"),
    [
        (PAGE, "HEST source 1 (NMI)"),  # the block begins inside the page
        (PAGE + PAGE_SIZE, "HEST source 1 (NMI)"),  # ... and ends in the next one
        (PAGE + 2 * PAGE_SIZE, None),
        (PAGE - PAGE_SIZE, None),
        (0x9000_0000, "HEST source 3 (polled)"),
        (0x9000_1000, None),
    ],
)
def test_a_frame_is_of_the_source_whose_block_lies_in_it(frame: int, source: str | None) -> None:
    """The wrong device would be suspected."""
    assert frame_source(HOST, frame) == source


@pytest.mark.parametrize(
    ("slot", "sources"),
    [
        ("GHES_NMI", ["HEST source 1 (NMI)"]),
        ("GHES_SEA", ["HEST source 2 (SEA)"]),
        ("GHES_SDEI_CRITICAL", []),
        ("GHES_IRQ", ["HEST source 3 (polled)"]),
        ("ghes2015:nmi", []),  # a module's
    ],
)
def test_a_slot_serves_the_sources_of_its_kind(slot: str, sources: list[str]) -> None:
    """An NMI's source would be told of the interrupt's slot."""
    assert slot_sources(HOST, slot) == sources


@pytest.mark.parametrize("host", [{}, {"hest": None}, {"hest": {"id": 1}}, {"hest": [3, None]}])
def test_a_host_that_says_nothing(host: dict[str, object]) -> None:
    """A foreign trace, or an edited capture, would end in a traceback."""
    assert frame_source(host, PAGE) is None
    assert slot_sources(host, "GHES_NMI") == []
