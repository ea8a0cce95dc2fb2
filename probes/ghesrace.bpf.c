// SPDX-License-Identifier: GPL-2.0-only
/*
 * The BPF side of ghesrace: what a program does when its probe fires.
 *
 * tracer/ghesrace/sources/bpf/program.py appends one program per probe of the plan, made of these parts:
 *
 *     int p3(u64 *ctx)
 *     {
 *         ENTER();                            which context, whose ring; may it be written?
 *         u64 addr = ...;                     fetch what the plan asks for
 *         if (!(addr >= ...)) SKIP();         the plan's filter
 *         EMIT(3, INV_PAGE, slot, flags, addr, phys, size);
 *     }
 *
 * Each CPU has a ring per context (task, softirq, irq, nmi) in memory-mapped arrays. Contexts
 * nest, so whoever interrupts a program writes another ring than it: a ring has one writer at a
 * time, and needs no atomics. What could break that (a preempted task, an MCE in an NMI) finds
 * the ring busy, is counted and leaves. The reader on the other side is sources/bpf/rings.py.
 *
 * With PERF, for kernels without arrays that user space can map, an event goes into its CPU's perf
 * buffer instead (sources/bpf/perf.py); the rings' headers count all the same.
 *
 * No kernel header is included: the only kernel structures here are the arguments.
 *
 * Defined by the loader: RECORDS (a power of two: records per ring), CPUS (possible ones),
 * ALL_RECORDS (of all rings), PREEMPT_COUNT (of CPU `me`), PERF or not.
 */

/* A number that each boot has its own of, in a pack (sources/bpf/numbers.py): clang can't see it. */
#define BOOT(placeholder)                                                                \
	({                                                                               \
		u64 boot = (placeholder);                                                \
		asm("" : "+r"(boot));                                                    \
		boot;                                                                    \
	})

/* events.EVENT; records of a summary have other names for the same members (SUMMARY_EPISODE) */
struct event {
	u64 ts;
	u64 addr;
	u64 phys;
	u64 size;
	u64 seq;
	u32 pid;
	u16 point;
	u16 cpu;
	s16 slot;
	u8 kind;
	u8 ctx;
	u8 flags;
	u8 aux;
	u16 reserved;
};

/* bpfrings.RECORD: an event, and the positions of this CPU's rings when it was written */
struct record {
	struct event event;
	u32 at[4];
};

/* bpfrings.RING. seen = head + filtered, but for the one being written; nested were turned away. */
struct ring {
	u64 head;
	u64 seen;
	u64 filtered;
	u64 nested;
	u64 busy;
	u64 pad[3];
};

struct cpu {
	struct ring ring[4];
	u64 hits[POINTS]; /* of kprobes, to compare with what the kernel counted */
};

#ifdef PERF
BPF_F_TABLE("array", int, struct cpu, cpus, CPUS, 0);
BPF_PERF_OUTPUT(records);
/* What reads kernel memory alone is as new as such arrays: 6ae08ae3dea2, Linux 5.5. */
#define READ bpf_probe_read
#else
/* A record each, not a ring each: bcc describes a map's type element by element. */
BPF_F_TABLE("array", int, struct cpu, cpus, CPUS, 1024 /* BPF_F_MMAPABLE */);
BPF_F_TABLE("array", int, struct record, records, ALL_RECORDS, 1024);
#define READ bpf_probe_read_kernel
#endif

/* Newer than the headers of some bcc; kernel/bpf and kernel/trace/bpf_trace.c have them. */
static void *(*this_cpu_ptr)(const void *variable) = (void *)154;
static void *(*current_task)(void) = (void *)158;
static long (*func_arg)(void *ctx, u32 n, u64 *value) = (void *)183;
static long (*func_ret)(void *ctx, u64 *value) = (void *)184;

static inline u64 argument(void *ctx, u32 n)
{
	u64 value = 0;

	func_arg(ctx, n, &value);
	return value;
}

static inline u64 returned(void *ctx)
{
	u64 value = 0;

	func_ret(ctx, &value);
	return value;
}

static inline u64 memory(u64 address)
{
	u64 value = 0;

	READ(&value, sizeof(value), (void *)address);
	return value;
}

/* Not in the macros below: bcc rewrites methods of maps only in functions. */
static inline struct cpu *this_cpu(int me)
{
	return cpus.lookup(&me);
}

#ifdef PERF
static inline void submit(void *ctx, struct event *event)
{
	records.perf_submit(ctx, event, sizeof(*event));
}
#else
static inline struct record *record_at(u32 me, u32 level, u64 head)
{
	int at = (me * 4 + level) * RECORDS + (head & (RECORDS - 1));

	return records.lookup(&at);
}
#endif

/* include/linux/preempt.h; events.Context */
#define NMI_MASK 0x00f00000
#define HARDIRQ_MASK 0x000f0000
#define SOFTIRQ_OFFSET 0x00000100

/* The layout of 7.3 (9634d860ac15) turned into the one above: disabled interrupts are counted in
 * bits 16 to 23, hardirqs follow, NMIs from bit 28 on; bit 31 may ask for rescheduling. */
static inline u32 narrow(u32 count)
{
	return (count >> 8 & 0x007f0000) | (count & 0xff00);
}

#define ENTER()                                                                          \
	u32 me = bpf_get_smp_processor_id();                                             \
	u32 count = PREEMPT_COUNT;                                                       \
	u32 level = count & NMI_MASK	     ? 3                                         \
		    : count & HARDIRQ_MASK   ? 2                                         \
		    : count & SOFTIRQ_OFFSET ? 1                                         \
					     : 0;                                        \
	struct cpu *cpu = this_cpu(me);                                                  \
	if (!cpu)                                                                        \
		return 0;                                                                \
	struct ring *ring = &cpu->ring[level];                                           \
	if (ring->busy) {                                                                \
		ring->nested++;                                                          \
		return 0;                                                                \
	}                                                                                \
	ring->busy = 1;                                                                  \
	ring->seen++

#define SKIP()                                                                           \
	{                                                                                \
		ring->filtered++;                                                        \
		ring->busy = 0;                                                          \
		return 0;                                                                \
	}

#define FILL(event_, head_, point_, kind_, slot_, flags_, addr_, phys_, size_)           \
	(event_)->ts = bpf_ktime_get_ns();                                               \
	(event_)->addr = (addr_);                                                        \
	(event_)->phys = (phys_);                                                        \
	(event_)->size = (size_);                                                        \
	(event_)->seq = (head_);                                                         \
	/* Whom an interrupt interrupts is of no interest. */                            \
	(event_)->pid = level ? 0 : bpf_get_current_pid_tgid();                          \
	(event_)->point = (point_);                                                      \
	(event_)->cpu = me;                                                              \
	(event_)->slot = (slot_);                                                        \
	(event_)->kind = (kind_);                                                        \
	(event_)->ctx = level;                                                           \
	(event_)->flags = (flags_)

#ifdef PERF
#define EMIT(...)                                                                        \
	{                                                                                \
		u64 head = ring->head;                                                   \
		struct event event = {};                                                 \
		FILL(&event, head, __VA_ARGS__);                                         \
		submit(ctx, &event);                                                     \
		ring->head = head + 1;                                                   \
		ring->busy = 0;                                                          \
		return 0;                                                                \
	}
#else
/* Lower contexts first: what they have not written yet can't follow what a higher one has. */
#define EMIT(...)                                                                        \
	{                                                                                \
		u64 head = ring->head;                                                   \
		struct record *r = record_at(me, level, head);                           \
		if (!r)                                                                  \
			return 0;                                                        \
		r->at[0] = *(volatile u32 *)&cpu->ring[0].head;                          \
		r->at[1] = *(volatile u32 *)&cpu->ring[1].head;                          \
		r->at[2] = *(volatile u32 *)&cpu->ring[2].head;                          \
		r->at[3] = *(volatile u32 *)&cpu->ring[3].head;                          \
		FILL(&r->event, head, __VA_ARGS__);                                      \
		ring->head = head + 1;                                                   \
		ring->busy = 0;                                                          \
		return 0;                                                                \
	}
#endif
