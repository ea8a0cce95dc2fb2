# SPDX-License-Identifier: Apache-2.0
"""The counters behind the metrics."""

from __future__ import annotations

import numpy as np
import pytest

from ghesrace.events import Cause, loss, mark
from ghesrace.service.tally import STAGES, Tally
from tests.build.trace import plan


def test_losses_by_cause_and_probe_and_who_is_gone() -> None:
    """If this fails, a loss is not accounted for, or a dead probe looks alive."""
    tally = Tally(plan())
    batch = np.concatenate(
        [
            loss(0, 5, Cause.MISSED, count=7, point=2),
            loss(0, 5, Cause.OVERRUN, cpu=1, count=4),
            loss(0, 5, Cause.CPU_ONLINE, cpu=1),
            loss(0, 5, Cause.PROBE_GONE, point=3),
            mark(5),
        ]
    )
    tally.count(batch, [])
    assert tally.losses.sum() == 4
    assert (tally.lost[Cause.MISSED], tally.lost[Cause.OVERRUN]) == (7, 4)
    assert tally.missed[2] == 7
    assert tally.gone == {3}
    assert tally.cpu_lost == {1: 4}
    tally.count(np.concatenate([loss(5, 9, Cause.PROBE_GONE), mark(9)]), [])
    assert len(tally.gone) == len(plan().probes)
    tally.count(mark(12), [])
    assert tally.gone == set()


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_has_a_stage(cause: Cause) -> None:
    """If this fails, a new cause of loss has no series and no alert."""
    assert STAGES[cause] in ("buffer", "probe", "host", "file")
