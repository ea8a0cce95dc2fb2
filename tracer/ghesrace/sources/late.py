# SPDX-License-Identifier: Apache-2.0
"""An event comes late if an earlier MARK said that everything of its time had been delivered.

What was judged since that MARK lacked the event, so it counts as lost between its stamp and the
MARK.
"""

from __future__ import annotations

import numpy as np

from ghesrace.events import Bools, Cause, Events, Kind, empty, joined, loss, present


def is_late(events: Events, promised: int) -> Bools:
    """Return which of *events* (EVENT, shape (n,)) are late when a MARK has said before that
    everything stamped below *promised* (ns) had been delivered. A LOSS is never late, because it
    may be found out at any time.

    >>> events = empty(2)
    >>> events["ts"], events["kind"] = (40, 50), Kind.MAP
    >>> is_late(events, promised=45).tolist()
    [True, False]
    """
    return np.asarray((events["ts"] < promised) & (events["kind"] != Kind.LOSS))


def late_losses(events: Events, promised: int) -> Events:
    """Return a LOSS (cause CLOCK, of an unknown number of events) for each CPU that has late
    events; see `is_late`. It reaches from that CPU's first late event to *promised* (ns).

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
