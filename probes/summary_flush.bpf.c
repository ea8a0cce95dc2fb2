// SPDX-License-Identifier: GPL-2.0-only
/*
 * `--summary`: what invalidations do to the state, the code's own and those by luck.
 */

/* -- invalidations ---------------------------------------------------------------------- */

/* Whether this CPU is right behind the clear. */
static inline u64 in_tail(struct state *st, struct own *o, u64 level)
{
	return o->state == TAIL && o->level == level && o->call == st->edge[level & 3];
}

static inline void luck(u64 level, struct state *st, struct own *o, struct slot *s)
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
static inline void before_map(u64 level, struct state *st, struct own *o, struct slot *s)
{
	if (o->pre) /* only the last one can be of the map */
		forget_pre(o);
	o->pre = s->cleared + 1;
	o->pre_maybe = maybe_covered(s);
	o->pre_call = st->edge[level & 3];
	o->pre_level = level;
}

/* Whether a flush, an access of this page is of a slot whose address only events tell. */
static inline u64 flushed_in(u64 level, struct state *st, u64 k, struct slot *s, u64 page)
{
	struct own *o = &st->own[k];

	if (!s)
		return 0;
	if (s->address)
		return s->address == page;
	return in_tail(st, o, level) ||
	       ((o->state == MAPPED || o->state == BUSY) && o->level == level);
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
static inline void inv_more(u64 level, struct state *st, u64 k, struct slot *s)
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

static inline void broadcast(u64 level, struct state *st, u64 k, struct slot *s, u64 page)
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

static inline void broadcast_end(u64 level, struct state *st, u64 k, struct slot *s)
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
