# SPDX-License-Identifier: Apache-2.0
"""The numbers that the core's states hold: bounds, classes, causes, kinds of events.

Plain ints, equal to the enums that everybody else uses (`events.Kind`, `model.Class`, `model.Why`):
the core is compiled, and an enum's member is an object. A test holds them equal.
"""

NEVER = 2**62  # a time (ns) or position that was not seen; later than any that is possible
NOWHERE = -1  # before every time and position
TASKS_APART_NS = 1000  # of those of one CPU that are noted
FORCE_CLOSE_NS = 1_000_000_000  # no GHES handler holds a slot's lock for a second

# How sure an effect, or an order of two, is.
NO, MAYBE, SURE = 0, 1, 2

# What saved an episode (DESIGN's table); the first that matches wins.
FRESH, BROADCAST, MAP_FLUSH, SAME_FRAME, INCIDENTAL, NONE, UNCERTAIN = range(7)

# Why an episode is uncertain.
CERTAIN, START, LOSS, ORDER, PTI, INCONSISTENT = range(6)

TASK, SOFTIRQ, IRQ, NMI = range(4)
LEVELS = 4

K_MAP, K_MAP_END, K_UNMAP, K_UNMAP_END = 1, 2, 3, 4
K_INV_PAGE, K_INV_RANGE, K_INV_ALL = 5, 6, 7
K_BCAST_RANGE, K_BCAST_ALL, K_BCAST_END = 8, 9, 10
K_COPY, K_COPY_END, K_READ, K_WRITE = 11, 12, 13, 14
K_NOTIFY, K_NOTIFY_END, K_NMI_REF = 15, 16, 17
K_EDIT, K_EDIT_END, K_SHOOTDOWN = 19, 20, 21
K_LOSS, K_MARK = 30, 31

# What the next event of a context bounds (Level.pending), and whose a broadcast is (Tell.role).
P_NOTHING, P_MAP, P_CLEAR, P_READ, P_INV = range(5)
ROLE_MAP, ROLE_UNMAP = 1, 2

# Spans: what they are, what two touch, and what came of it.
WRITE, EDIT, CALL = range(3)
ENTRY, TABLE, STATUS = range(3)
OBSERVED, PREDICTED, SAME_TABLE, OTHER_TABLE, UNDECIDED = range(5)

# Kinds of events that go together, as bits.
MAPS = 1 << K_MAP | 1 << K_UNMAP
MAP = 1 << K_MAP
UNMAPS = 1 << K_UNMAP
OWN = 1 << K_INV_PAGE | 1 << K_INV_RANGE | 1 << K_INV_ALL
TOLD = 1 << K_BCAST_RANGE | 1 << K_BCAST_ALL
TOLD_END = 1 << K_BCAST_END
COPIES = 1 << K_COPY | 1 << K_COPY_END
HANDLER = 1 << K_NOTIFY | 1 << K_NOTIFY_END
ACCESSES = 1 << K_READ | 1 << K_WRITE
BEGINS = 1 << K_NOTIFY | 1 << K_COPY
RESTS_ON = MAPS | OWN | TOLD | TOLD_END | HANDLER | COPIES  # what a class is told from

# Where a slot's counts lie in a row of COUNTS numbers; the first is that of all its episodes.
N_HANDOFFS, N_LATENT, N_FORGIVEN, N_CLASSES = 1, 2, 3, 4
N_CAUSES = N_CLASSES + UNCERTAIN + 1
COUNTS = N_CAUSES + INCONSISTENT + 1

# Bounds of what is remembered.
MOST_IN_DOUBT = 128  # holds whose order with one other is open; beyond: uncertain

# What a probe point implies, as bits.
PAGE_AFTER_SET, PAGE_AFTER_CLEAR, BROADCAST_AFTER_CLEAR, FLUSH_INSIDE = 1, 2, 4, 8
MAY_ALLOCATE, MAY_FREE, UNMAPS_STATUS = 16, 32, 64

UNKNOWN_FRAME = 2**64 - 1  # of a map that was not seen
PAGE_BITS = 12
PAGE = 1 << PAGE_BITS
