// SPDX-License-Identifier: GPL-2.0-only
/*
 * `--summary`: the rule of docs/rules.md (tracer/ghesrace/checker/core), kept by the kernel, hit
 * by hit.
 *
 * The slot's lock puts its episodes in a row, numbered from 1. Of that row the last episode and
 * the last one with another frame can matter, and per CPU the first row that its own structural
 * invalidations don't cover. What a slot has (struct slot) is written under its lock, what a CPU
 * has at a slot (struct own) by that CPU; user space reads the latter and writes nothing. Safe
 * episodes are counted; of all others each new shape is recorded, with the one that threatens it.
 *
 * What holds in every world and what holds in some are two fields (`since` and `since_maybe`): an
 * effect takes place between its hit and the next one in its context or in one that it interrupted.
 * What is not known to be either is UNCERTAIN: two maps without an unmap between them, a flush that
 * may be the map's, the unmap's or none's, whatever only the begin of a copy would tell.
 *
 * Here: the state and how it gets out; summary_episode.bpf.c and summary_flush.bpf.c are what
 * events do to it.
 *
 * Locals are 64 bits wide: older BPF has no others, and clang shifts narrower ones up and down.
 *
 * tracer/ghesrace/sources/bpf/summary/program.py makes the programs. Defined by it: SLOTS; ACCESSES: the
 * access is probed.
 */

/* checker.model.Class. Ours alone: OPEN surely has a threat, START had none since the programs run,
   and INCONSISTENT overlaps with another use of the slot. */
enum { FRESH, BROADCAST, MAP_FLUSH, SAME_FRAME, INCIDENTAL, OPEN, UNCERTAIN, START, INCONSISTENT };
/* events.Trait */
enum {
	FLUSHED = 1,
	WRITES = 2,
	HANDOFF = 4,
	LATENT = 8,
	STARTED = 16,
	UNMAPPED = 32,
	FIRST = 64,
	UNSAFE = 128
};
/* Ours alone: a flush that protects if the access follows; one that is of this map in some worlds. */
enum { FLUSHED_IF = 64, FLUSHED_MAYBE = 128 };
/* MAPPED: nothing came since. TAIL: unmapped, and the unmap's flush is to come. */
enum { CLOSED, MAPPED, BUSY, ACCESSED, TAIL, TAIL_FLUSHED };
enum { EXPOSING, READING, WRITING };
enum { PRE_OPEN = 4 };				/* of pre_level: the flush may not be over */
enum { IN_HANDLER = 1 };			/* of edge and call: a handler was entered there */
#define UNKNOWN (~0ULL)				/* the frame of a map that nobody saw */
#define LUCK (1ULL << 63)			/* of telling: it is of no unmap */
#define DIRECT (1ULL << 62)			/* ... of more than the page, right behind an unmap */
#define PRE (1ULL << 61)			/* ... or of the next map */

/* One episode of a slot's row. */
struct row {
	u64 number;
	u64 frame;
	u64 begin;
	u64 end;
	u32 call;
	u16 cpu;
	u8 level;
	u8 traits;
};

struct slot {
	u64 n;	     /* episodes so far */
	u64 cleared; /* the PTE of rows up to this one is clear, for sure */
	u64 told;    /* one more than the last row whose unmap told all CPUs */
	u64 told_maybe;
	u64 address; /* as learned */
	u64 luck_told, luck_told_maybe; /* rows that a broadcast by luck covers on all CPUs */
	u64 telling; /* broadcasts that are not over */
	u64 inconsistent; /* something shows that two uses overlap: the next one is uncertain */
	struct row last, other;
};

/* sources/bpf/summary/source.py: SHAPE, SHAPES, AGAIN, OWN, state_dtype */
struct shape {
	u64 frame;
	u64 begin;
	u64 end;
	u32 call;
	u8 level;
	u8 traits;
	u16 pad;
};

/* Episodes that stand for all in a prediction; patterns/stale.py says why four are enough. Of
   `known`, those after `sure` belong to a hold that goes on. */
struct shapes {
	u32 known;
	u32 sure;
	struct shape of[4];
};

/* An unsafe shape that was recorded at its first episode, and how many there were of it. */
struct again {
	u64 begin;
	u64 threat;
	u64 frame;
	u32 n;
	u16 threat_cpu;
	u8 cls;
	u8 traits;
};

struct own {
	u64 counts[32]; /* of safe episodes, by class | traits << 2 */
	struct shapes shapes[3];
	struct again again[KNOWN];
	u64 number;    /* the episode at hand */
	u64 begin;     /* ... and its map */
	u64 frame;
	u64 since;     /* the first row that no invalidation of its own covers; 0: none yet */
	u64 since_maybe;
	u64 covered;   /* its last row with one, maybe */
	u64 hold;      /* the first row of the lock hold */
	u64 lucky;     /* rows up to this one are covered by luck */
	u64 maybe;
	u64 pending;   /* ... once the invalidation is over, */
	u64 later;     /* ... for the episodes after this one */
	u64 luck_told; /* ... which others had told at the access */
	u64 met, later_met; /* `ticks` when luck came */
	u64 entered;   /* ... when the lock of this hold was not taken yet */
	u64 ended;     /* ... when the unmap at hand was over */
	u64 pre, pre_maybe; /* one more than the rows that a flush outside of episodes covers */
	u64 after, after_of; /* what its own broadcast covers, after the access of this row */
	u64 telling;   /* the row whose unmap tells all CPUs at this moment */
	u32 call;
	u32 pre_call;
	u8 state;
	u8 level;
	u8 base;
	u8 traits;
	u8 pre_level;
	u8 telling_level;
	u8 waits; /* one more than the level of the invalidation that `pending` is of */
	u8 stuck; /* ... of one that it has interrupted */
};

struct state {
	u32 edge[4]; /* of each context: `ticks` when a handler was entered or left */
	u32 ticks;   /* counts these and unmaps, by twos */
	u32 pid;
	u8 notified;
	u8 pending; /* one more than the level of an invalidation that may not be over */
	u8 clearing; /* ... of a clear */
	u8 direct;   /* one more than the level of an unmap that nothing followed */
	struct own own[SLOTS];
};

BPF_F_TABLE("array", int, struct state, states, CPUS, 1024 /* BPF_F_MMAPABLE */);
BPF_TABLE("array", int, struct slot, slots, SLOTS);

static inline struct state *state_of(int me)
{
	return states.lookup(&me);
}

static inline struct slot *slot_of(int k)
{
	return slots.lookup(&k);
}

static inline u64 most(u64 a, u64 b)
{
	return a > b ? a : b;
}

/* Whether an episode of this context goes on. If its handler was left, its unmap was missed. */
static inline u64 goes_on(struct state *st, struct own *o)
{
	return o->state != CLOSED && o->state < TAIL && o->call == st->edge[o->level & 3];
}

/* Rows that an invalidation which happens now maybe covers; surely those up to `cleared`. */
static inline u64 maybe_covered(struct slot *s)
{
	return s->last.end ? s->n : s->cleared;
}

/* An invalidation of this level is not over: it will cover these rows. */
static inline void pend(struct state *st, struct own *o, u64 rows, u64 level)
{
	if (o->waits && o->waits <= level && (!o->stuck || o->waits < o->stuck))
		o->stuck = o->waits;
	o->pending = rows;
	o->waits = level + 1;
	if (st->pending < level + 1)
		st->pending = level + 1;
}

/* The invalidations of this CPU are over when it goes on in their context or a lower one: they
   took effect some time between their stamp and now. */
static inline void settle(u64 level, struct state *st)
{
	u64 rest = 0;

#pragma unroll
	for (u64 k = 0; k < SLOTS; k++) {
		struct own *o = &st->own[k];
		struct slot *s = slot_of(k);
		u64 open = o->pre && o->pre_level & PRE_OPEN ? (o->pre_level & 3) + 1 : 0;

		if (s && (o->waits > level || o->stuck > level))
			o->maybe = most(o->maybe, maybe_covered(s));
		if (s && open > level) {
			o->pre_maybe = most(o->pre_maybe, maybe_covered(s));
			o->pre_level &= ~PRE_OPEN;
			open = 0;
		}
		if (o->waits > level) {
			if (o->pending > o->lucky)
				o->lucky = o->pending;
			o->waits = 0;
		}
		if (o->stuck > level)
			o->stuck = 0;
		rest = o->waits > rest ? o->waits : o->stuck > rest ? o->stuck : rest;
		rest = open > rest ? open : rest;
	}
	st->pending = rest;
}

#define HERE()                                                                           \
	u64 count = PREEMPT_COUNT;                                                       \
	u64 level = count & NMI_MASK	     ? 3                                         \
		    : count & HARDIRQ_MASK   ? 2                                         \
		    : count & SOFTIRQ_OFFSET ? 1                                         \
					     : 0;                                        \
	u64 me = bpf_get_smp_processor_id();                                             \
	struct state *st = state_of(me);                                                 \
	if (!st)                                                                         \
		return 0;                                                                \
	u64 direct = st->direct == level + 1;                                            \
	if (st->direct > level)                                                          \
		st->direct = 0;                                                          \
	if (st->pending > level)                                                         \
	settle(level, st)

#define HIT(point)                                                                       \
	{                                                                                \
		struct cpu *cpu = this_cpu(me);                                          \
		if (cpu)                                                                 \
			cpu->hits[point]++;                                              \
	}

/* -- records ---------------------------------------------------------------------------- */

/* One record into this CPU's ring of this context; see ENTER and EMIT. */
static inline void put(u64 me, u64 level, struct event *e)
{
	struct cpu *cpu = this_cpu(me);

	if (!cpu)
		return;
	struct ring *ring = &cpu->ring[level & 3];
	if (ring->busy) {
		ring->nested++;
		return;
	}
	ring->busy = 1;
	ring->seen++;
	u64 head = ring->head;
	struct record *r = record_at(me, level & 3, head);
	if (!r)
		return;
	r->at[0] = *(volatile u32 *)&cpu->ring[0].head;
	r->at[1] = *(volatile u32 *)&cpu->ring[1].head;
	r->at[2] = *(volatile u32 *)&cpu->ring[2].head;
	r->at[3] = *(volatile u32 *)&cpu->ring[3].head;
	r->event = *e;
	r->event.seq = head;
	ring->head = head + 1;
	ring->busy = 0;
}

/* Whether this one's shape was recorded already: then it is only counted. */
static inline u64 known(struct own *o, struct slot *s, u64 cls, u64 traits, u64 *first)
{
	u64 threatened = o->base == OPEN || o->base == UNCERTAIN;
	u64 frame = o->frame, threat = threatened ? s->other.frame : 0;
	u64 cpu = threatened ? s->other.cpu : 0;

#pragma unroll
	for (u64 i = 0; i < KNOWN; i++) {
		struct again *a = &o->again[i];

		if (!a->n) {
			a->begin = o->begin;
			a->threat = threat;
			a->frame = frame;
			a->threat_cpu = cpu;
			a->cls = cls;
			a->traits = traits;
			*(volatile u32 *)&a->n = 1;
			*first = FIRST;
			return 0;
		}
		if (a->frame == frame && a->threat == threat && a->threat_cpu == cpu &&
		    a->cls == cls && a->traits == traits) {
			a->n++;
			return 1;
		}
	}
	return 0;
}

/* A THREAT, if there is one, and an EPISODE: events.SUMMARY_EPISODE, which names the members. */
static inline void report(u64 me, u64 level, u64 k, struct own *o, struct slot *s, u64 cls,
			  u64 traits)
{
	u64 in_order = s->last.number == o->number, end = in_order ? s->last.end : 0;
	struct event e = {};

	e.ts = bpf_ktime_get_ns();
	e.point = 0xffff;
	e.cpu = me;
	e.slot = k;
	if (in_order && (o->base == OPEN || o->base == UNCERTAIN)) {
		e.kind = THREAT_KIND;
		e.addr = s->other.begin;
		e.size = s->other.end;
		e.phys = s->other.frame;
		e.pid = s->other.call;
		e.ctx = s->other.level;
		e.flags = s->other.traits & 63;
		e.reserved = s->other.cpu;
		put(me, level, &e);
	}
	e.kind = EPISODE_KIND;
	e.addr = o->begin;
	e.size = end;
	e.phys = o->frame;
	e.pid = o->call;
	e.ctx = o->level;
	e.flags = traits;
	e.aux = cls;
	e.reserved = me;
	put(me, level, &e);
}

/* An NMI of GHES whose entry was not seen. */
static inline void reference(u64 me, u64 level, u64 point, u64 kind, u64 delta_ns)
{
	struct event e = {};

	e.ts = bpf_ktime_get_ns();
	e.size = delta_ns;
	e.point = point;
	e.cpu = me;
	e.slot = -1;
	e.kind = kind;
	e.ctx = level;
	put(me, level, &e);
}
