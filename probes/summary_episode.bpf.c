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

/* Whether luck may have dropped the threat of the episode at hand, though nothing shows it. */
static inline u64 maybe_lucky(struct own *o, struct slot *s)
{
	if (o->waits || o->stuck || o->maybe >= s->other.number)
		return 1;
	if (s->telling || (o->pre && o->pre_level & PRE_OPEN))
		return 1;
	return s->luck_told_maybe >= s->other.number &&
	       !(o->after_of == o->number && o->after >= s->luck_told_maybe);
}

/* Whether surely nothing of this CPU's own invalidates between its hold's begin and the access. */
static inline u64 vulnerable(struct own *o, struct slot *s)
{
	if (o->traits & (FLUSHED | FLUSHED_IF | FLUSHED_MAYBE) || !(o->call & IN_HANDLER))
		return 0;
	if (o->covered >= o->hold || s->told > o->hold || s->told_maybe > o->hold)
		return 0;
	return o->met < o->entered && !o->waits && !o->stuck && !o->pre;
}

/* The episode at hand is over, or its clear begins; `unmaps` is 0 if no unmap was seen. */
static inline void decide(u64 me, u64 level, u64 k, struct own *o, struct slot *s, u64 unmaps)
{
	u64 cls = o->base, flushed = o->traits & FLUSHED, traits = o->traits & 63, first = 0;
	u64 in_order = s->last.number == o->number;

	if (!in_order || !unmaps || s->inconsistent || cls == INCONSISTENT) {
		/* What came since may be a missed unmap's flush, so it covers these rows or not. */
		o->base = INCONSISTENT;
		cls = INCONSISTENT;
		s->inconsistent = 0;
		s->told_maybe = most(s->told_maybe, s->n + 1);
	} else if (flushed && cls > BROADCAST) {
		cls = MAP_FLUSH;
	}
	if (cls <= SAME_FRAME) {
		cls |= (flushed | (traits & (HANDOFF | LATENT)) >> 1) << 2;
		asm volatile("" : "+r"(cls)); /* the verifier wants to see the mask */
		o->counts[cls & 31]++;
	} else {
		if (cls != OPEN || o->traits & FLUSHED_MAYBE) {
			cls = UNCERTAIN;
		} else if (most(o->lucky, o->luck_told) >= s->other.number) {
			cls = INCIDENTAL;
		} else if (maybe_lucky(o, s)) {
			cls = UNCERTAIN;
			traits |= UNSAFE;
		}
		if (o->base != START)
			traits &= ~STARTED;
		if (!in_order || !known(o, s, cls, traits, &first))
			report(me, level, k, o, s, cls, traits | first);
	}
	if (o->base != INCONSISTENT && vulnerable(o, s)) {
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
static inline void forget_pre(struct state *st, struct own *o)
{
	if (o->pre_level & PRE_OPEN)
		pend(st, o, o->pre - 1, o->pre_level & 3);
	else
		o->lucky = most(o->lucky, o->pre - 1);
	o->maybe = most(o->maybe, o->pre_maybe);
	o->pre = 0;
}

/* What a flush outside of any episode was, now that the next map is known. It is this map's if no
   other hold lies between, and if this hold's begin was seen before: the copy's, which nobody sees
   here, where the lock is taken per page. Else it is luck. */
static inline void look_back(struct state *st, struct own *o, u64 i, u64 page)
{
	u64 surely = o->pre >= i, maybe = o->pre_maybe + 1 >= i;

	if (surely || maybe) {
		o->traits |= surely && !page && o->call & IN_HANDLER ? FLUSHED : FLUSHED_MAYBE;
		o->since_maybe = i;
		o->covered = i;
	}
	forget_pre(st, o);
}

static inline void map(u64 me, u64 level, struct state *st, u64 k, struct slot *s, u64 frame,
		       u64 page, u64 implied)
{
	struct own *o = &st->own[k];
	u64 i = s->n + 1, since = o->since, told = s->told, from = since ? since : 1;
	u64 first = most(from, told), first_surely = most(o->since_maybe, s->told_maybe);
	u64 traits = 0, overlaps = i > 1 && !s->last.end, call, threatened, pre;

	if (level == 0) {
		u64 pid = (u32)bpf_get_current_pid_tgid();
		if (pid != st->pid) {
			st->pid = pid;
			st->ticks += 2;
			st->edge[0] = st->ticks;
		}
	}
	call = st->edge[level & 3];
	if (page || call != o->call || level != o->level) {
		o->hold = i;
		o->entered = most(call, o->ended);
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
	o->begin = s->last.begin;
	o->frame = frame;
	o->call = call;
	o->level = level;
	o->state = MAPPED;
	o->traits = traits;
	o->luck_told = s->luck_told;
	pre = o->pre && o->pre_call == call && (o->pre_level & 3) == level;
	if (o->pre && !pre)
		forget_pre(st, o);
	threatened = s->other.number >= first;
	o->base = overlaps				 ? INCONSISTENT
		  : !since && !told && !threatened	 ? START
		  : from >= i				 ? FRESH
		  : first >= i				 ? BROADCAST
		  : !threatened				 ? SAME_FRAME
		  : s->other.number < first_surely || s->other.frame == UNKNOWN ? UNCERTAIN
										 : OPEN;
	if (o->base == START)
		o->traits |= STARTED;
	if (threatened && !overlaps && o->lucky < s->other.number)
		o->traits |= LATENT;
	if (pre)
		look_back(st, o, i, page);
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
	if (o->level != level || (o->state != MAPPED && o->state != BUSY))
		return;
	proven(o);
	o->luck_told = s->luck_told;
	if (write)
		o->traits |= WRITES;
	o->state = ACCESSED;
}

/* An unmap whose map nobody saw: of a row all the same, and of a frame that nobody knows. */
static inline void orphan(u64 me, u64 level, struct state *st, struct own *o, struct slot *s)
{
	s->other = s->last;
	s->n++;
	s->cleared = s->n - 1;
	s->last.number = s->n;
	s->last.frame = UNKNOWN;
	s->last.begin = bpf_ktime_get_ns();
	s->last.call = st->edge[level & 3];
	s->last.cpu = me;
	s->last.level = level;
	o->number = s->n;
	o->begin = s->last.begin;
	o->frame = 0;
	o->hold = s->n;
	o->call = s->last.call;
	o->level = level;
	o->traits = 0;
	o->base = INCONSISTENT;
}

/* What an unmap ends, or a map if no unmap was seen. Returns whether there is more to do. */
static inline u64 end(u64 me, u64 level, struct state *st, u64 k, struct slot *s, u64 unmaps)
{
	struct own *o = &st->own[k];
	u64 open = o->state != CLOSED && o->state < TAIL, in_order;

	if (!open && !unmaps)
		return 1;
	if (unmaps && !goes_on(st, o)) {
		if (!o->number && !(st->edge[level & 3] & IN_HANDLER))
			return 0; /* its map was before the programs ran */
		orphan(me, level, st, o, s);
	} else if (unmaps && o->level != level) {
		s->inconsistent = 1;
		return 0;
	}
	in_order = s->last.number == o->number;
	if (unmaps && in_order) {
		s->last.end = bpf_ktime_get_ns();
		o->traits |= UNMAPPED;
		s->last.traits = o->traits;
		if (o->traits & FLUSHED_IF) { /* maybe too late for this one */
			o->traits = (o->traits & ~FLUSHED_IF) | FLUSHED_MAYBE;
			o->since_maybe = o->number;
			o->covered = o->number;
			o->maybe = most(o->maybe, o->number - 1);
			o->later = most(o->later, o->number - 1);
			o->later_met = st->ticks | 1;
		}
	}
	decide(me, level, k, o, s, unmaps);
	if (unmaps && !in_order) /* another CPU's map came first: it clears none of ours */
		o->state = CLOSED;
	return !unmaps || in_order;
}

static inline void unmap(u64 level, struct state *st, u64 k, struct slot *s, u64 flushed, u64 told)
{
	struct own *o = &st->own[k];

	o->state = TAIL;
	st->ticks += 2;
	o->ended = st->ticks;
	st->clearing = level + 1;
	st->direct = level + 1;
	if (flushed) {
		o->since = o->number + 1;
		o->covered = o->number;
	}
	if (told) {
		s->told = o->number + 1;
		o->shapes[EXPOSING].known = o->shapes[EXPOSING].sure;
	} else if (o->call & IN_HANDLER && o->base != INCONSISTENT) {
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

		if (s && o->state >= TAIL && level <= o->level && s->n == o->number)
			s->cleared = o->number;
	}
}
