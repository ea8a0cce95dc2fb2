/*
 * `--summary`: the rules of tracer/ghesrace/tlb.py, kept by the kernel, hit by hit.
 *
 * The slot's lock puts its episodes in a row, numbered from 1. Of that row the last episode and
 * the last one with another frame can matter, and per CPU the first row that its own structural
 * invalidations don't cover. What a slot has (struct slot) is written under its lock, what a CPU
 * has at a slot (struct own) by that CPU; user space reads the latter and writes nothing. Safe
 * episodes are counted; all others are recorded, with the one that threatens them.
 *
 * tracer/ghesrace/sources/summarygen.py makes the programs. Defined by it: SLOTS; ACCESSES: the
 * access is probed.
 */

/* tlb.Class; OPEN is not decided yet. */
enum { FRESH, BROADCAST, MAP_FLUSH, SAME_FRAME, INCIDENTAL, OPEN, UNCERTAIN, START };
/* events.Trait */
enum { FLUSHED = 1, WRITES = 2, HANDOFF = 4, LATENT = 8, STARTED = 16, UNMAPPED = 32 };
/* Ours alone: a flush that protects if the access follows; one that maybe precedes the map. */
enum { FLUSHED_IF = 64, PRE_MAYBE = 128 };
enum { CLOSED, MAPPED, BUSY, ACCESSED, TAIL };
enum { EXPOSING, READING, WRITING };
enum { MAPPED_SINCE = 4 }; /* of pre_level */

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
	u64 address; /* as learned */
	u64 cast, cast_maybe; /* rows that a broadcast by luck covers on all CPUs; maybe covers */
	struct row last, other;
};

/* summarygen.SHAPE, SHAPES, OWN, STATE */
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

struct own {
	u64 counts[32]; /* of safe episodes, by class | traits << 2 */
	struct shapes shapes[3];
	u64 number;    /* the episode at hand */
	u64 since;     /* the first row that no invalidation of its own covers; 0: none yet */
	u64 covered;   /* its last row with one */
	u64 hold;      /* the first row of the lock hold */
	u64 lucky;     /* rows up to this one are covered by luck */
	u64 maybe;
	u64 pending;   /* ... once the invalidation is over, */
	u64 later;     /* ... for the episodes after this one */
	u64 met, later_met; /* the row at hand when luck came */
	u64 pre, pre_maybe; /* one more than the rows that a flush outside of episodes covers */
	u64 after, after_of; /* what its own broadcast covers, after the access of this row */
	u64 casting;   /* the row whose unmap tells all CPUs at this moment */
	u32 call;
	u32 pre_call;
	u8 state;
	u8 level;
	u8 base;
	u8 traits;
	u8 pre_level;
	u8 cast_level;
	u8 waits; /* one more than the level of the invalidation that `pending` is of */
	u8 stuck; /* ... of one that it has interrupted */
};

struct state {
	u32 edge[4]; /* of each context: how often a handler was entered or left */
	u32 pid;
	u8 notified;
	u8 pending; /* one more than the level of an invalidation that may not be over */
	u8 clearing; /* ... of a clear */
	u8 pad;
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

/* Rows that an invalidation which happens now maybe covers; surely those up to `cleared`. */
static inline u64 maybe_covered(struct slot *s)
{
	return s->last.end ? s->n : s->cleared;
}

/* The invalidations of this CPU are over when it goes on in their context or a lower one: they
   took effect some time between their stamp and now. */
static inline void settle(u32 level, struct state *st)
{
	u32 rest = 0;

#pragma unroll
	for (u32 k = 0; k < SLOTS; k++) {
		struct own *o = &st->own[k];
		struct slot *s = slot_of(k);

		if (s && (o->waits > level || o->stuck > level))
			o->maybe = most(o->maybe, maybe_covered(s));
		if (o->waits > level) {
			if (o->pending > o->lucky)
				o->lucky = o->pending;
			o->waits = 0;
		}
		if (o->stuck > level)
			o->stuck = 0;
		rest = o->waits > rest ? o->waits : o->stuck > rest ? o->stuck : rest;
	}
	st->pending = rest;
}

#define HERE()                                                                           \
	u32 count = PREEMPT_COUNT;                                                       \
	u32 level = count & NMI_MASK	     ? 3                                         \
		    : count & HARDIRQ_MASK   ? 2                                         \
		    : count & SOFTIRQ_OFFSET ? 1                                         \
					     : 0;                                        \
	u32 me = bpf_get_smp_processor_id();                                             \
	struct state *st = state_of(me);                                                 \
	if (!st)                                                                         \
		return 0;                                                                \
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
static inline void put(u32 me, u32 level, struct event *e)
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

static inline void report(u32 me, u32 level, u32 k, struct own *o, struct slot *s, u32 cls)
{
	struct event e = {};

	e.ts = bpf_ktime_get_ns();
	e.point = 0xffff;
	e.cpu = me;
	e.slot = k;
	if (o->base >= INCIDENTAL && o->base != START) {
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
	e.addr = s->last.begin;
	e.size = s->last.end;
	e.phys = s->last.frame;
	e.pid = o->call;
	e.ctx = o->level;
	e.flags = o->traits & 63;
	e.aux = cls;
	e.reserved = me;
	put(me, level, &e);
}

/* An NMI of GHES whose entry was not seen. */
static inline void reference(u32 me, u32 level, u32 point, u32 kind, u64 delta_ns)
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

/* -- what prediction needs -------------------------------------------------------------- */

/* Whether (frame, call) pairs with a frame and a call that no known shape pairs with: whether
   the known ones, but for those of one call d, are all of one frame g (g, d not its own). */
static inline int helps(struct shapes *t, u64 frame, u32 call)
{
	u32 known = t->known;

#pragma unroll
	for (u32 i = 0; i <= 4; i++) {
		u32 d = i < 4 ? t->of[i].call : 0;
		u32 any = i == 4; /* no call excepted */
		u64 g = 0;
		u32 left = 0, spread = 0;

		if (i < 4 && (i >= known || d == call))
			continue;
#pragma unroll
		for (u32 j = 0; j < 4; j++) {
			if (j >= known || (!any && t->of[j].call == d))
				continue;
			if (!left)
				g = t->of[j].frame;
			else if (t->of[j].frame != g)
				spread = 1;
			left = 1;
		}
		if (!left || (!spread && g != frame))
			return 1;
	}
	return 0;
}

static inline void learn(struct shapes *t, struct own *o, struct row *row, u64 end, u32 sure)
{
	u32 known = t->known;

	if (known >= 4)
		return;
	if (known == 2 && t->of[0].frame == row->frame && t->of[1].frame == row->frame)
		return;
	if (!helps(t, row->frame, o->call << 2 | o->level))
		return;
	/* Read again: older verifiers walk paths that `known` rules out, and lose the pointer there. */
	struct shape *shape = &t->of[*(volatile u32 *)&t->known & 3];
	shape->frame = row->frame;
	shape->begin = row->begin;
	shape->end = end;
	shape->call = o->call << 2 | o->level;
	shape->level = o->level;
	shape->traits = o->traits & 63;
	*(volatile u32 *)&t->known = known + 1;
	if (sure)
		*(volatile u32 *)&t->sure = known + 1;
}

/* -- episodes --------------------------------------------------------------------------- */

/* The episode at hand is over, or its clear begins. */
static inline void decide(u32 me, u32 level, u32 k, struct own *o, struct slot *s)
{
	u32 flushed = o->traits & FLUSHED, cls = o->base;
	u32 in_order = s->last.number == o->number;

	if (flushed && cls > BROADCAST)
		cls = MAP_FLUSH;
	if (in_order && cls <= SAME_FRAME) {
		cls |= (flushed | (o->traits & (HANDOFF | LATENT)) >> 1) << 2;
		asm volatile("" : "+r"(cls)); /* the verifier wants to see the mask */
		o->counts[cls & 31]++;
	} else {
		if (!in_order || cls == START)
			cls = UNCERTAIN;
		else if (o->lucky >= s->other.number)
			cls = INCIDENTAL;
		else if (cls == OPEN && (o->waits || o->stuck || o->maybe >= s->other.number ||
			 o->traits & PRE_MAYBE ||
			 (s->cast_maybe >= s->other.number &&
			  !(o->after_of == o->number && o->after >= s->cast_maybe))))
			cls = UNCERTAIN;
		report(me, level, k, o, s, cls);
	}
	if (!flushed && !(o->traits & PRE_MAYBE) && in_order && o->covered < o->hold &&
	    s->told <= o->hold && o->met < o->hold) {
		/* Not by an index: older verifiers lose the pointer that clang makes of it. */
		if (o->traits & WRITES) {
			learn(&o->shapes[WRITING], o, &s->last, s->last.end, 1);
		} else {
			asm volatile("" ::: "memory");
			learn(&o->shapes[READING], o, &s->last, s->last.end, 1);
		}
	}
}

/* A flush outside of any episode that is of no map was luck. */
static inline void forget_pre(struct own *o)
{
	if (!(o->pre_level & MAPPED_SINCE)) {
		o->lucky = most(o->lucky, o->pre - 1);
		o->maybe = most(o->maybe, o->pre_maybe);
	}
	o->pre = 0;
}

/* What a flush outside of any episode was, now that the next map is known. One that another
   hold came after is no part of this map's hold, but luck for its episodes: returns the class. */
static inline u32 look_back(struct own *o, struct slot *s, u32 call, u32 level, u64 i)
{
	u64 rows = o->pre - 1;
	u32 early = OPEN;

	if (o->pre_call != call || (o->pre_level & 3) != level) {
		forget_pre(o);
	} else if (rows + 1 >= i) {
		o->pre = 0;
		o->traits |= FLUSHED;
		o->since = i;
		o->covered = i;
	} else {
		o->pre_level |= MAPPED_SINCE;
		if (rows >= s->other.number)
			early = INCIDENTAL;
		else if (o->pre_maybe >= s->other.number)
			early = UNCERTAIN;
		if (o->pre_maybe + 1 >= i)
			o->traits |= PRE_MAYBE;
	}
	return early;
}

static inline void map(u32 me, u32 level, struct state *st, u32 k, struct slot *s, u64 frame,
		       u32 page, u32 implied)
{
	struct own *o = &st->own[k];
	u64 i = s->n + 1, since = o->since, told = s->told, from = since ? since : 1;
	u64 first = most(from, told);
	u32 traits = 0, early = OPEN, call, threatened;

	if (level == 0) {
		u32 pid = bpf_get_current_pid_tgid();
		if (pid != st->pid) {
			st->pid = pid;
			st->edge[0]++;
		}
	}
	call = st->edge[level & 3];
	if (page || call != o->call || level != o->level) {
		o->hold = i;
		if (o->shapes[EXPOSING].known != o->shapes[EXPOSING].sure)
			*(volatile u32 *)&o->shapes[EXPOSING].sure = o->shapes[EXPOSING].known;
	}
	if (o->later_met) {
		o->lucky = most(o->lucky, o->later);
		o->met = most(o->met, o->later_met);
		o->later = 0;
		o->later_met = 0;
	}
	if (i > 1) {
		if (s->last.cpu != me)
			traits = HANDOFF;
		if (s->last.frame != frame)
			s->other = s->last;
	}
	s->n = i;
	s->cleared = i - 1;
	s->last.number = i;
	s->last.frame = frame;
	s->last.begin = bpf_ktime_get_ns();
	s->last.end = 0;
	s->last.call = call;
	s->last.cpu = me;
	s->last.level = level;
	s->last.traits = 0;
	o->number = i;
	o->call = call;
	o->level = level;
	o->state = MAPPED;
	o->traits = traits;
	if (o->pre)
		early = look_back(o, s, call, level, i);
	threatened = s->other.number >= first;
	o->base = !since && !told && !threatened ? START
		  : from >= i			 ? FRESH
		  : first >= i			 ? BROADCAST
		  : !threatened			 ? SAME_FRAME
						 : early;
	if (o->base == START)
		o->traits |= STARTED;
	if (threatened) {
		o->lucky = most(o->lucky, s->cast);
		if (o->lucky < s->other.number)
			o->traits |= LATENT;
	}
	if (implied) {
		o->traits |= FLUSHED;
		o->since = i;
		o->covered = i;
	}
}

/* The function that maps has returned, or the access begins. */
static inline void proven(struct own *o)
{
	if (o->traits & FLUSHED_IF) {
		o->traits = (o->traits & ~FLUSHED_IF) | FLUSHED;
		o->since = o->number;
		o->covered = o->number;
	}
}

static inline void map_end(u32 level, struct own *o)
{
	if ((o->state == MAPPED || o->state == BUSY) && o->level == level)
		proven(o);
}

static inline void access(u32 level, struct own *o, struct slot *s, u32 write)
{
	if (o->level != level || o->state == CLOSED || o->state == TAIL)
		return;
	if (o->state == ACCESSED)
		return;
	proven(o);
	o->lucky = most(o->lucky, s->cast);
	if (write)
		o->traits |= WRITES;
	o->state = ACCESSED;
}

/* What an unmap ends, or a map if no unmap was seen. Returns whether there is more to do. */
static inline int end(u32 me, u32 level, struct state *st, u32 k, struct slot *s, u32 unmaps)
{
	struct own *o = &st->own[k];
	u32 in_order = s->last.number == o->number;

	if (o->state == CLOSED || o->state == TAIL)
		return !unmaps;
	if (unmaps && o->level != level)
		return 0;
	if (unmaps && in_order) {
		s->last.end = bpf_ktime_get_ns();
		o->traits |= UNMAPPED;
		s->last.traits = o->traits;
		if (o->traits & FLUSHED_IF) { /* maybe too late for this one */
			o->maybe = most(o->maybe, o->number - 1);
			o->later = most(o->later, o->number - 1);
			o->later_met = o->number;
			o->met = o->number;
		}
	}
	decide(me, level, k, o, s);
	if (unmaps && !in_order) /* another CPU's map came first: it clears none of ours */
		o->state = CLOSED;
	return !unmaps || in_order;
}

static inline void unmap(u32 level, struct state *st, u32 k, struct slot *s, u32 flushed, u32 told)
{
	struct own *o = &st->own[k];

	o->state = TAIL;
	st->clearing = level + 1;
	if (flushed) {
		o->since = o->number + 1;
		o->covered = o->number;
	}
	if (told) {
		s->told = o->number + 1;
		o->shapes[EXPOSING].known = o->shapes[EXPOSING].sure;
	} else {
		learn(&o->shapes[EXPOSING], o, &s->last, s->last.end, 0);
	}
}

/* A handler was entered or left: an unmap before it is over. */
static inline void cleared(u32 level, struct state *st)
{
	st->clearing = 0;
#pragma unroll
	for (u32 k = 0; k < SLOTS; k++) {
		struct own *o = &st->own[k];
		struct slot *s = slot_of(k);

		if (s && o->state == TAIL && level <= o->level && s->n == o->number)
			s->cleared = o->number;
	}
}

/* -- invalidations ---------------------------------------------------------------------- */

/* Whether this CPU is right behind the clear. */
static inline int in_tail(struct state *st, struct own *o, u32 level)
{
	return o->state == TAIL && o->level == level && o->call == st->edge[level & 3];
}

static inline void luck(u32 level, struct state *st, struct own *o, struct slot *s)
{
	if (o->state != ACCESSED || o->level != level) /* else after the access, for sure */
		o->maybe = most(o->maybe, maybe_covered(s));
	if (o->state == ACCESSED || (!ACCESSES && (o->state == MAPPED || o->state == BUSY))) {
		o->later = most(o->later, s->cleared);
		o->later_met = s->n;
		if (o->state != ACCESSED)
			o->met = s->n;
		return;
	}
	o->met = s->n;
	if (o->waits && o->waits <= level && (!o->stuck || o->waits < o->stuck))
		o->stuck = o->waits;
	o->pending = s->cleared;
	o->waits = level + 1;
	if (st->pending < level + 1)
		st->pending = level + 1;
}

/* A flush of this very page outside of any episode: of the next map, or luck. */
static inline void before_map(u32 level, struct state *st, struct own *o, struct slot *s)
{
	if (o->pre) /* only the last one can be of the map */
		forget_pre(o);
	o->pre = s->cleared + 1;
	o->pre_maybe = maybe_covered(s);
	o->pre_call = st->edge[level & 3];
	o->pre_level = level;
}

/* Whether a flush, an access of this page is of a slot whose address only events tell. */
static inline int flushed_in(u32 level, struct state *st, u32 k, struct slot *s, u64 page)
{
	struct own *o = &st->own[k];

	if (!s)
		return 0;
	if (s->address)
		return s->address == page;
	return in_tail(st, o, level) ||
	       ((o->state == MAPPED || o->state == BUSY) && o->level == level);
}

static inline int accessed_in(u32 level, struct state *st, u32 k, struct slot *s, u64 page)
{
	struct own *o = &st->own[k];

	if (!s)
		return 0;
	if (s->address)
		return s->address == page;
	return (o->state == MAPPED || o->state == BUSY) && o->level == level;
}

static inline void inv_page(u32 level, struct state *st, u32 k, struct slot *s)
{
	struct own *o = &st->own[k];

	if (in_tail(st, o, level)) {
		if (o->since == o->number + 1) { /* not the unmap's own any more */
			before_map(level, st, o, s);
			return;
		}
		o->since = o->number + 1;
		o->covered = o->number;
		if (s->n == o->number)
			s->cleared = o->number;
		st->clearing = 0;
	} else if ((o->state == MAPPED || o->state == BUSY) && o->level == level) {
		if (o->state == MAPPED && FLUSH_INSIDE(k)) {
			o->traits |= FLUSHED;
			o->since = o->number;
			o->covered = o->number;
		} else {
			o->traits |= FLUSHED_IF;
		}
		o->state = BUSY;
	} else if (o->state == ACCESSED) {
		luck(level, st, o, s);
	} else {
		before_map(level, st, o, s);
	}
}

/* Of a range, or of everything. Only as part of its own unmap's broadcast it is structural: what
   follows the copy in the same handler looks the same from here. */
static inline void inv_more(u32 level, struct state *st, u32 k, struct slot *s)
{
	struct own *o = &st->own[k];

	if (o->casting && o->cast_level == level && in_tail(st, o, level)) {
		o->since = o->number + 1;
		o->covered = o->number;
	} else if ((o->state == MAPPED || o->state == BUSY) && o->level == level) {
		o->traits |= FLUSHED_IF;
		o->state = BUSY;
	} else {
		luck(level, st, o, s);
	}
}

static inline void broadcast(u32 level, struct state *st, u32 k, struct slot *s, u32 page)
{
	struct own *o = &st->own[k];

	o->cast_level = level;
	if (in_tail(st, o, level)) {
		if (o->casting != o->number) {
			o->casting = o->number;
			if (s->n == o->number)
				s->cleared = o->number;
		}
		return;
	}
	if (s->cast_maybe < maybe_covered(s)) {
		s->cast_maybe = maybe_covered(s);
		if (o->state == ACCESSED && o->level == level) {
			o->after = s->cast_maybe;
			o->after_of = o->number;
		}
	}
	o->casting = s->cleared | 1ULL << 63; /* luck */
	if (page && (o->state == CLOSED || o->state == TAIL))
		before_map(level, st, o, s);
	else if (o->state == ACCESSED)
		o->later_met = s->n;
	else
		o->met = s->n;
}

static inline void broadcast_end(u32 level, struct state *st, u32 k, struct slot *s)
{
	struct own *o = &st->own[k];
	u64 row = o->casting & ~(1ULL << 63);

	if (!o->casting || o->cast_level != level)
		return;
	if (row == o->casting && s->n == row) {
		s->told = row + 1;
		o->shapes[EXPOSING].known = o->shapes[EXPOSING].sure;
	} else {
		s->cast = most(s->cast, row);
	}
	o->casting = 0;
}
