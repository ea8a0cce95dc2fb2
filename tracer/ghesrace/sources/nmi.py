# SPDX-License-Identifier: Apache-2.0
"""This module finds the GHES NMIs that the entry probe missed, by means of nmi:nmi_handler."""

from __future__ import annotations

import numpy as np

from ghesrace.events import Cause, Context, Events, Kind, as_events, blank


class NmiMatcher:
    """A matcher pairs each NMI_REF of one CPU (nmi:nmi_handler, which fires after a GHES handler
    returned) with the NOTIFY that the handler's entry probe should have left on that CPU. A
    reference without its NOTIFY becomes a loss.

    The kernel skips a kprobe when an NMI interrupts a kprobe handler (kprobe_running()), but it
    never skips the tracepoint, so an unmatched reference is an NMI whose events were all missed.
    References are matched by buffer order: NMIs don't nest, so the NOTIFY stands after the previous
    reference, and no event of another context stands between the two. Stamps would mislead: a
    vCPU can lose its host CPU for milliseconds between the handler's return and the stamp.

    `slack_ns` widens the window [ts - duration, ts] of a loss, because the kernel measures the
    duration with another clock, before the stamp (local_clock() in nmi_handle(),
    arch/x86/kernel/nmi.c). An NMI that began before `start` (ns) is no loss, because its entry came
    before the recording.

    >>> from ghesrace.events import empty, select
    >>> events = empty(2)
    >>> events["kind"], events["ctx"] = (Kind.NOTIFY, Kind.NMI_REF), Context.NMI
    >>> events["ts"], events["size"] = (1_000, 5_000), (0, 4_000)
    >>> matcher = NmiMatcher(slack_ns=0)
    >>> len(matcher.feed(events, cpu=0))
    0
    >>> [lost] = select(matcher.feed(events[1:], cpu=0), Kind.LOSS)  # nothing notified before it
    >>> int(lost["begin"]), int(lost["end"])
    (1000, 5000)
    """

    def __init__(self, start: int = 0, slack_ns: int = 100_000) -> None:
        self.start, self.slack_ns = start, slack_ns
        self._open = False  # the last batch ended between a NOTIFY and its reference

    def feed(self, events: Events, cpu: int) -> Events:
        """Return a LOSS (NMI_UNMATCHED, of one event) for each unmatched reference in *events*,
        which are the next events of this CPU (EVENT, shape (n,)) in buffer order."""
        kind = events["kind"]
        opens = (kind == Kind.NOTIFY) & (events["ctx"] == Context.NMI)
        refs = kind == Kind.NMI_REF
        closes = refs | ((events["ctx"] != Context.NMI) & (kind != Kind.LOSS))
        at = np.arange(len(events))
        opened = np.maximum.accumulate(np.where(opens, at, -1))
        closed = np.maximum.accumulate(np.where(closes & ~refs, at, -1))
        # A reference is matched with what precedes it, so only earlier references close.
        closed = np.maximum(
            closed, np.append(-1, np.maximum.accumulate(np.where(refs, at, -1)))[:-1]
        )
        is_open = (opened > closed) | (self._open & (opened < 0) & (closed < 0))
        if len(events):
            self._open = bool(is_open[-1] and not refs[-1])
        entered = events["ts"].astype(np.int64) - np.maximum(events["size"].view(np.int64), 0)
        lost = np.flatnonzero(refs & ~is_open & (entered >= self.start))

        losses = blank(Kind.LOSS, len(lost))
        losses["begin"] = np.maximum(entered[lost] - self.slack_ns, 0)
        losses["end"] = events["ts"][lost]
        losses["cause"], losses["count"], losses["cpu"] = Cause.NMI_UNMATCHED, 1, cpu
        losses["seq"], losses["point"] = events["seq"][lost], events["point"][lost]
        return as_events(losses)
