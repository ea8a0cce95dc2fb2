# SPDX-License-Identifier: Apache-2.0
"""Events that come late: an earlier MARK said that everything of their time had been delivered.

What was judged since then lacked them, so they count as lost between their stamp and that MARK.
"""

from __future__ import annotations

import numpy as np

from ghesrace.events import Bools, Cause, Events, Kind, empty, joined, loss, present


def is_late(events: Events, promised: int) -> Bools:
    """Which of *events* (EVENT, shape (n,)) come after a MARK said that everything stamped below
    *promised* (ns) had been delivered. A LOSS never does: it may be found out at any time."""
    return np.asarray((events["ts"] < promised) & (events["kind"] != Kind.LOSS))


def late_losses(events: Events, promised: int) -> Events:
    """A LOSS (CLOCK, of an unknown number) for each CPU of whose *events* some are late; see
    `is_late`. It reaches from that CPU's first late event to *promised* (ns).

    >>> events = empty(3)
    >>> events["cpu"], events["ts"], events["kind"] = (0, 1, 1), (50, 40, 30), Kind.MAP
    >>> from ghesrace.events import select
    >>> [lost] = select(late_losses(events, promised=45), Kind.LOSS)
    >>> int(lost["cpu"]), int(lost["begin"]), int(lost["end"])
    (1, 30, 45)
    """
    late = is_late(events, promised)
    cpus, stamps = events["cpu"][late], events["ts"][late]
    found = [empty()]
    for cpu in present(cpus).tolist():
        found.append(loss(int(stamps[cpus == cpu].min()), promised, Cause.CLOCK, cpu))
    return joined(found)
