# SPDX-License-Identifier: Apache-2.0
"""The rule: a state machine that reads one event at a time (docs/rules.md).

`run` is the loop. `reader` makes holds and episodes out of one CPU's events, in its buffer's order;
`rule` judges a slot's holds in the order of their first map; `classes` is the table; `losses` says
what a loss may have hidden; `predict`, `uses` and `edits` ask the other questions. `state` is all
that is remembered, `facts` what is known of the plan, `words` the numbers. The modules are plain
Python; the `.pxd` files beside them give the compiler their types, and nothing else.

How the bounds propagate
------------------------
**Effects.** An effect has an earliest time, its stamp, and a latest, the stamp of the next event in
its context or in one that this interrupted (`Level.pending`, `Reader.settle`). A broadcast is over
at its own end event. A stamp that the buffer shows to be late is pulled back to its successor's
(`late.pull_back`). Within a CPU places in the buffer are compared, between CPUs times: an effect
is surely before another if its latest time and the clock error are before the other's earliest.

**Holds.** A hold begins before its first map's stamp (`begin_last`; under a report's lock before
the copy), and ends after the last of its own effects, of which the earliest time is known
(`end_first`). So hold K may precede hold H of another CPU if K.end_first <= H.begin_last + E, and
surely does if H may not precede K. Two that can't stand in any order have no world:
`inconsistent`. What one hold proves of the order bounds others: the clears of K are over before H
begins, and luck behind H's first map is behind all that K did.

**Judging.** A hold is judged once the mark has passed its close by E, and every hold that may
precede it is closed: so no cut of the stream changes an answer. Its possible predecessors are those
that were judged but may yet lie behind something that is not (`SlotState.window`), and those behind
it in time whose order is open. As soon as a hold surely precedes all that is not judged, every CPU
takes what it left (`Judge.hand_out`), and it is forgotten.

**What a CPU may hold.** Per CPU and slot, `Cell.surely` is the hold of its last invalidation that
is structural in every world, and `Cell.maybe` of the last that is in some. What *may* threaten an
episode is all that may lie behind the first; what *surely* does, all that surely lies behind the
second. Of either, of the CPU's own and of others', the newest two of distinct frames are enough:
a later hold threatens whenever an earlier one of its frame does, and one of two frames differs
from the episode's. Broadcasts take threats off these lists by the same two bounds. For luck each
episode carries the newest own invalidation that surely, and that maybe, preceded its access,
noted when the event was read; those of other CPUs are looked up by time.

**The start** is one more threat, of no known frame, until a CPU's first sure invalidation or
another's sure broadcast. **A loss** is a window of possible events. Where those of a CPU together
may hide all that shows of a page (`Losses.pages`), any frame may have been mapped there: a threat
that may be. Where they may hide an invalidation between a threat and the access, the threat is no
sure one. What a missed unmap, map or handler makes doubtful is noted by the reader (`left_open`,
`replaced`, `pre_in_map`) and asked of the losses by the judge. **PTI** makes `none` uncertain.
**Inconsistent** holds make their episodes uncertain, and nothing else.

For example:

    from ghesrace.checker.core.run import Core
    for one in Core(plan).feed(batch):
        print(one.episode.hold.cpu, one.cls, one.why)
"""
