// SPDX-License-Identifier: GPL-2.0-only
/*
 * `--summary`: what a map, an access and an unmap do to the state.
 */

/* -- what prediction needs -------------------------------------------------------------- */

/* Whether (frame, call) pairs with a frame and a call that no known shape pairs with: whether
   the known ones, but for those of one call d, are all of one frame g (g, d not its own). */
static inline u64 helps(struct shapes *t, u64 frame, u64 call)
{
	u64 known = t->known;

#pragma unroll
	for (u64 i = 0; i <= 4; i++) {
		u64 d = i < 4 ? t->of[i].call : 0;
		u64 any = i == 4; /* no call excepted */
		u64 g = 0;
		u64 left = 0, spread = 0;

		if (i < 4 && (i >= known || d == call))
			continue;
#pragma unroll
		for (u64 j = 0; j < 4; j++) {
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

static inline void learn(struct shapes *t, struct own *o, struct row *row, u64 end, u64 sure)
{
	u64 known = t->known;

	if (known >= 4)
		return;
	if (known == 2 && t->of[0].frame == row->frame && t->of[1].frame == row->frame)
		return;
	if (!helps(t, row->frame, (u32)(o->call << 2 | o->level)))
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
static inline void decide(u64 me, u64 level, u64 k, struct own *o, struct slot *s)
{
	u64 flushed = o->traits & FLUSHED, cls = o->base;
	u64 in_order = s->last.number == o->number, first = 0;

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
		if (!in_order || !known(o, s, cls, &first))
			report(me, level, k, o, s, cls, first);
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
static inline u64 look_back(struct own *o, struct slot *s, u64 call, u64 level, u64 i)
{
	u64 rows = o->pre - 1;
	u64 early = OPEN;

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

static inline void map(u64 me, u64 level, struct state *st, u64 k, struct slot *s, u64 frame,
		       u64 page, u64 implied)
{
	struct own *o = &st->own[k];
	u64 i = s->n + 1, since = o->since, told = s->told, from = since ? since : 1;
	u64 first = most(from, told);
	u64 traits = 0, early = OPEN, call, threatened;

	if (level == 0) {
		u64 pid = (u32)bpf_get_current_pid_tgid();
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

static inline void map_end(u64 level, struct own *o)
{
	if ((o->state == MAPPED || o->state == BUSY) && o->level == level)
		proven(o);
}

static inline void access(u64 level, struct own *o, struct slot *s, u64 write)
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
static inline u64 end(u64 me, u64 level, struct state *st, u64 k, struct slot *s, u64 unmaps)
{
	struct own *o = &st->own[k];
	u64 in_order = s->last.number == o->number;

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

static inline void unmap(u64 level, struct state *st, u64 k, struct slot *s, u64 flushed, u64 told)
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
static inline void cleared(u64 level, struct state *st)
{
	st->clearing = 0;
#pragma unroll
	for (u64 k = 0; k < SLOTS; k++) {
		struct own *o = &st->own[k];
		struct slot *s = slot_of(k);

		if (s && o->state == TAIL && level <= o->level && s->n == o->number)
			s->cleared = o->number;
	}
}
