# SPDX-License-Identifier: Apache-2.0
"""NMIs of which the entry was not seen."""

from __future__ import annotations

import numpy as np
import pytest

from ghesrace.events import Cause, Context, Events, Kind, empty
from ghesrace.sources.nmi import NmiMatcher


def stream(*what: tuple[str, str, int]) -> Events:
    """(kind, context, stamp) -> events of one CPU."""
    events = empty(len(what))
    for event, (kind, context, ts) in zip(events, what, strict=True):
        event["kind"], event["ctx"], event["ts"] = Kind[kind], Context[context], ts
        event["size"] = 100 if kind == "NMI_REF" else 0
    events["seq"] = np.arange(len(what))
    return events


NMI_SEEN = (("NOTIFY", "NMI", 10), ("MAP", "NMI", 20), ("NMI_REF", "NMI", 90_000_000))


def test_seen_nmis_are_no_loss() -> None:
    """If this fails, a vCPU that lost its host CPU for 90 ms makes a seen NMI a loss."""
    assert len(NmiMatcher().feed(stream(*NMI_SEEN, *NMI_SEEN), 0)) == 0


def test_nmi_without_its_entry_is_a_loss() -> None:
    """If this fails, an NMI whose kprobes were all skipped is never accounted."""
    losses = NmiMatcher(slack_ns=50).feed(
        stream(
            *NMI_SEEN,
            ("NMI_REF", "NMI", 91_000_000),
            ("NOTIFY", "TASK", 91_500_000),
            ("NMI_REF", "NMI", 92_000_000),
            ("NOTIFY", "NMI", 92_100_000),
            ("MAP", "SOFTIRQ", 92_200_000),
            ("NMI_REF", "NMI", 93_000_000),
        ),
        3,
    )
    assert losses["ts"].tolist() == [91_000_000, 92_000_000, 93_000_000]
    assert losses["addr"].tolist() == [90_999_850, 91_999_850, 92_999_850]
    assert set(losses["aux"].tolist()) == {Cause.NMI_UNMATCHED}
    assert set(losses["cpu"].tolist()) == {3}
    assert losses["size"].tolist() == [1, 1, 1]


def test_nmi_from_before_the_recording_is_no_loss() -> None:
    """If this fails, a recording that begins during an NMI can never be clean."""
    events = stream(("NMI_REF", "NMI", 1_050), ("NMI_REF", "NMI", 1_200))
    assert NmiMatcher(start=1_000, slack_ns=0).feed(events, 0)["ts"].tolist() == [1_200]


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_read_in_the_middle_changes_nothing(cut: int) -> None:
    """If this fails, an NMI that straddles two reads is a loss, or a missed one is not."""
    events = stream(
        *NMI_SEEN, ("NMI_REF", "NMI", 91_000_000), *NMI_SEEN, ("NMI_REF", "NMI", 92_000_000)
    )
    matcher = NmiMatcher()
    losses = np.concatenate([matcher.feed(events[:cut], 0), matcher.feed(events[cut:], 0)])
    assert losses["ts"].tolist() == [91_000_000, 92_000_000]
