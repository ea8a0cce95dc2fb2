# SPDX-License-Identifier: Apache-2.0
"""The table of classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ghesrace import uncompiled as cython
from ghesrace.checker.core import words as w
from ghesrace.checker.core.holds import Episode

if not TYPE_CHECKING and cython.compiled:
    import cython  # which Cython reads, and Python never does


@cython.no_gc
@cython.freelist(64)
@cython.cclass
class Threats:
    """What the questions about one episode found.

    `any`: a translation may be a threat at all. `uncovered`: no structural broadcast surely
    covers one of them. `harmful`: ... and it is of another frame. `harmful_surely`: one of
    another frame is uncovered in every world. `all_lucky`: luck surely follows each harmful one's
    clear. `unlucky`: a sure one surely has no luck behind it.
    """

    @staticmethod
    def of(frame: int) -> Threats:
        """The questions about an episode of this frame."""
        made = Threats.__new__(Threats)
        made.fill(frame)
        return made

    def fill(self, frame: int) -> None:
        self.frame = frame
        self.any = False
        self.uncovered = False
        self.harmful = False
        self.harmful_surely = False
        self.all_lucky = True
        self.unlucky = False
        self.flushed = w.NO
        self.latent = False
        self.known = False
        self.start = False
        self.loss = False
        self.pti = False
        self.inconsistent = False
        self.crowded = False
        self.threat_surely: Episode | None = None
        self.threat_end = w.NOWHERE
        self.threat_flushed = True

    def unknown(self, why: int) -> None:
        """A translation of a frame that nobody knows may be a threat."""
        self.any = self.uncovered = self.harmful = True
        if why == w.START:
            # Luck behind any other threat is behind what came before the start, too.
            self.start = True
        else:
            self.loss = True
            self.all_lucky = False


def class_of(t: Threats) -> int:
    """DESIGN's table: the first that matches wins."""
    if t.inconsistent or t.crowded:
        return w.UNCERTAIN
    if not t.any:
        return w.FRESH
    if not t.uncovered:
        return w.BROADCAST
    if t.flushed == w.SURE:
        return w.MAP_FLUSH
    if not t.harmful:
        return w.SAME_FRAME
    if t.flushed == w.MAYBE or not t.harmful_surely:
        return w.UNCERTAIN
    if t.all_lucky:
        return w.INCIDENTAL
    if t.unlucky:
        return w.NONE
    return w.UNCERTAIN


def cause_of(t: Threats) -> int:
    """What is open about an uncertain episode."""
    if t.inconsistent:
        return w.INCONSISTENT
    if t.pti:
        return w.PTI
    if t.flushed == w.MAYBE or t.crowded or t.harmful_surely:
        return w.LOSS if t.loss else w.ORDER
    if t.loss:
        return w.LOSS
    if t.known:
        return w.ORDER
    return w.START
