// SPDX-License-Identifier: GPL-2.0-only
/*
 * `--summary`: what invalidations do to the state, the code's own and those by luck.
 */

/* -- invalidations ---------------------------------------------------------------------- */

/* Whether this CPU is right behind the clear. */
static inline u64 in_tail(struct state *st, struct own *o, u64 level)
{
	return o->state >= TAIL && o->level == level && o->call == st->edge[level & 3];
}

/* Whether the unmap's own flush, the first one behind its clear, is to come. */
static inline u64 unflushed(struct state *st, struct own *o, u64 level)
{
	return o->state == TAIL && in_tail(st, o, level);
}

/* It came. The clear precedes it, and the lock is held until then. */
static inline void flushed(struct state *st, struct own *o, struct slot *s)
{
	o->state = TAIL_FLUSHED;
	st->ticks += 2;
	o->ended = st->ticks;
	o->covered = o->number;
	if (s->n == o->number)
		s->cleared = o->number;
	else
		s->inconsistent = 1;
	st->clearing = 0;
}

static inline void luck(u64 level, struct state *st, struct own *o, struct slot *s)
{
	if (o->state != ACCESSED || o->level != level) /* else after the access, for sure */
		o->maybe = most(o->maybe, maybe_covered(s));
	if (goes_on(st, o) && (o->state == ACCESSED || !ACCESSES)) {
		o->later = most(o->later, s->cleared);
		o->later_met = st->ticks | 1;
		if (o->state != ACCESSED || o->level != level)
			o->met = o->later_met;
		return;
	}
	o->met = st->ticks | 1;
	pend(st, o, s->cleared, level);
}

/* A flush of this very page outside of any episode: of the next map, or luck. */
static inline void before_map(u64 level, struct state *st, struct own *o, struct slot *s)
{
	if (o->pre) /* only the last one can be of the map */
		forget_pre(st, o);
	o->pre = s->cleared + 1;
	o->pre_maybe = maybe_covered(s);
	o->pre_call = st->edge[level & 3];
	o->pre_level = level | PRE_OPEN;
	o->met = st->ticks | 1;
	if (st->pending < level + 1)
		st->pending = level + 1;
}

/* Whether a flush, an access of this page is of a slot whose address only events tell. */
static inline u64 flushed_in(u64 level, struct state *st, u64 k, struct slot *s, u64 page)
{
	struct own *o = &st->own[k];

	if (!s)
		return 0;
	if (s->address)
		return s->address == page;
	return unflushed(st, o, level) ||
	       ((o->state == MAPPED || o->state == BUSY) && o->level == level &&
	    goes_on(st, o));
}

static inline u64 accessed_in(u64 level, struct state *st, u64 k, struct slot *s, u64 page)
{
	struct own *o = &st->own[k];

	if (!s)
		return 0;
	if (s->address)
		return s->address == page;
	return (o->state == MAPPED || o->state == BUSY) && o->level == level;
}

static inline void inv_page(u64 level, struct state *st, u64 k, struct slot *s)
{
	struct own *o = &st->own[k];

	if (unflushed(st, o, level)) {
		flushed(st, o, s);
		o->since = o->number + 1;
	} else if ((o->state == MAPPED || o->state == BUSY) && o->level == level &&
	    goes_on(st, o)) {
		if (o->state == MAPPED && FLUSH_INSIDE(k)) {
			o->traits |= FLUSHED;
			o->since = o->number;
			o->covered = o->number;
		} else {
			o->traits |= FLUSHED_IF;
		}
		o->state = BUSY;
	} else if (goes_on(st, o)) {
		luck(level, st, o, s);
	} else {
		before_map(level, st, o, s);
	}
}

/* Of more than the page. Right behind an unmap it may be that one's, or what follows the copy in the
   same handler: that looks the same from here. */
static inline void inv_more(u64 level, struct state *st, u64 k, struct slot *s, u64 direct)
{
	struct own *o = &st->own[k];

	if ((o->state == MAPPED || o->state == BUSY) && o->level == level &&
	    goes_on(st, o)) {
		o->traits |= FLUSHED_IF;
		o->state = BUSY;
		return;
	}
	if (direct && unflushed(st, o, level)) {
		flushed(st, o, s);
		o->since_maybe = o->number + 1;
	}
	luck(level, st, o, s);
}

static inline void inv_range(u64 level, struct state *st, u64 k, struct slot *s, u64 exact,
			     u64 direct)
{
	if (exact)
		inv_page(level, st, k, s);
	else
		inv_more(level, st, k, s, direct);
}

/* A broadcast of exactly the page behind the unmap's own flush: code may send both. */
static inline u64 follows(struct state *st, struct own *o, struct slot *s, u64 level)
{
	return o->state == TAIL_FLUSHED && in_tail(st, o, level) && s->told_maybe <= o->number;
}

static inline void broadcast(u64 level, struct state *st, u64 k, struct slot *s, u64 exact,
			     u64 direct)
{
	struct own *o = &st->own[k];

	o->telling_level = level;
	__sync_fetch_and_add(&s->telling, 1); /* for ever, if its end is missed */
	if (((exact || direct) && unflushed(st, o, level)) || (exact && follows(st, o, s, level))) {
		if (o->state == TAIL)
			flushed(st, o, s);
		o->telling = o->number | (exact ? 0 : DIRECT);
		s->told_maybe = most(s->told_maybe, o->number + 1);
		o->shapes[EXPOSING].known = o->shapes[EXPOSING].sure;
		return;
	}
	if (s->luck_told_maybe < maybe_covered(s)) {
		s->luck_told_maybe = maybe_covered(s);
		if (o->state == ACCESSED && o->level == level) {
			o->after = s->luck_told_maybe;
			o->after_of = o->number;
		}
	}
	o->telling = s->cleared | LUCK;
	if (exact && !goes_on(st, o)) {
		before_map(level, st, o, s);
		o->telling |= PRE;
	} else if (o->state == ACCESSED) {
		o->later_met = st->ticks | 1;
	} else {
		o->met = st->ticks | 1;
		if (o->level == level && (o->state == MAPPED || o->state == BUSY)) {
			/* The sender's own part is a flush of its map, if it is over before the access. */
			o->traits |= FLUSHED_MAYBE;
			o->since_maybe = o->number;
			o->covered = o->number;
			o->state = BUSY;
		}
	}
}

static inline void broadcast_end(u64 level, struct state *st, u64 k, struct slot *s)
{
	struct own *o = &st->own[k];
	u64 row = o->telling & ~(LUCK | DIRECT | PRE);

	if (!o->telling || o->telling_level != level)
		return;
	if (row == o->telling && s->n == row) {
		s->told = row + 1;
	} else {
		s->luck_told = most(s->luck_told, row);
		s->luck_told_maybe = most(s->luck_told_maybe, maybe_covered(s));
		if (o->telling & PRE && o->pre)
			o->pre_maybe = most(o->pre_maybe, maybe_covered(s));
		else if (o->state == ACCESSED)
			o->later = most(o->later, row);
		else
			o->lucky = most(o->lucky, row);
		if (o->level == level && o->state == BUSY)
			o->traits |= FLUSHED_IF;
	}
	__sync_fetch_and_add(&s->telling, -1);
	o->telling = 0;
}
