// SPDX-License-Identifier: GPL-2.0-only
/*
 * Makes the CPUs take notifications, and walks: a bound SCHED_FIFO thread per CPU raises its own
 * irq_work or NMI and, while another CPU has its turn, touches the page which that one has
 * mapped. The touch stands for a speculative page-table walk, which an emulator never does.
 * Nothing here waits without a bound while interrupts are off, nor without looking at stopping.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/errno.h>
#include <linux/irq_work.h>
#include <linux/kthread.h>
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/random.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/string.h>
#include <linux/timekeeping.h>
#ifdef CONFIG_X86
#include <asm/apic.h>
#include <asm/asm.h>
#else
#include <linux/uaccess.h>
#endif

#include "ghes2015.h"

#define MAX_CPUS 64
#define BARRIER_SPIN_NS (50 * 1000 * 1000ull)
#define NMI_JITTER_NS 100000u	/* as long as a report takes under emulation, about */
#define FREE_WALK_NS 2000000u	/* longer than a sleep, so that CPUs mostly walk */
#define MAX_PAUSE_US 20000u
#define NMI_WAIT_NS (20 * 1000 * 1000ull)

static char fix[24] = "none";
module_param_string(fix, fix, sizeof(fix), 0644);
MODULE_PARM_DESC(fix, "none, flush-on-map or broadcast-at-unmap");
static char turns[16] = "alternate";
module_param_string(turns, turns, sizeof(turns), 0644);
MODULE_PARM_DESC(turns, "alternate: CPUs one after the other; free: each at its own pace");
static unsigned int rounds = 400;
module_param(rounds, uint, 0644);
MODULE_PARM_DESC(rounds, "in each of which every CPU takes one notification");
static unsigned int period_us = 200;
module_param(period_us, uint, 0644);
MODULE_PARM_DESC(period_us, "sleep before a round, at least as long as the round before took; 0: only yield");
static unsigned int linger_us = 2000;
module_param(linger_us, uint, 0644);
MODULE_PARM_DESC(linger_us, "longest time a page stays mapped for the walkers to touch it");
static unsigned int pages = 1;
module_param(pages, uint, 0644);
MODULE_PARM_DESC(pages, "1, or 2: the block crosses a page, so two frames are mapped in turn");
static unsigned int nmi;
module_param(nmi, uint, 0644);
MODULE_PARM_DESC(nmi, "1: each turn also takes an NMI, sent by itself; 2: at a random moment, sent by another CPU");
static unsigned int write_back;
module_param(write_back, uint, 0644);
MODULE_PARM_DESC(write_back, "1: clear the status after the read; 2: in a second round of turns");
static unsigned int buffers = 1;
module_param(buffers, uint, 0644);
MODULE_PARM_DESC(buffers, "1, or 2: a report reads two blocks, one after the other, in two frames");
static unsigned int window;
module_param(window, uint, 0644);
MODULE_PARM_DESC(window, "an NMI comes between the irq page's clear and its INVLPG and uses 1: its own page; 2: the irq page");
static unsigned int torn;
module_param(torn, uint, 0644);
MODULE_PARM_DESC(torn, "an NMI comes inside a page-table edit of 1: its own page; 2: another page of the same table");
static unsigned int shootdown;
module_param(shootdown, uint, 0644);
MODULE_PARM_DESC(shootdown, "IPI-and-wait after each report, 1: with interrupts on; 2: off; 3: off, in the handler");
static bool walker = true;
module_param(walker, bool, 0644);
MODULE_PARM_DESC(walker, "whether the other CPUs touch a mapped page");
static bool same_frame;
module_param(same_frame, bool, 0644);
MODULE_PARM_DESC(same_frame, "whether all reports lie in one frame");

struct config cfg;

struct thread {
	struct task_struct *task;
	struct irq_work work;
	unsigned int index;
	u32 seen[SLOTS];	/* id of the last live page that it touched */
	bool walking;
	u64 nmi_at;		/* when to send the other CPU's NMI, 0: not */
};

static struct thread threads[MAX_CPUS];
static unsigned int cpu_of[MAX_CPUS];
static unsigned int n_threads;
static atomic_t alive, arrived, generation;
static bool stopping;
static enum state state;

/* Live page per slot: a new id at each map, 0 when it is about to be unmapped. */
static u32 live[SLOTS], last_id[SLOTS];

enum state storm_state(void)
{
	return READ_ONCE(state);
}

unsigned int storm_cpus(void)
{
	return n_threads;
}

/* A load that may fault: the page can go at any moment, as it can for a speculative walk. */
static bool touch(unsigned long addr)
{
	unsigned long value;
#ifdef CONFIG_X86
	unsigned long ok = 0;

	asm volatile("1:	mov (%2), %0\n"
		     "	mov $1, %1\n"
		     "2:\n"
		     _ASM_EXTABLE(1b, 2b)
		     : "=&r" (value), "+&r" (ok) : "r" (addr) : "memory");
	return ok;
#else
	__get_kernel_nofault(&value, (unsigned long *)addr, unsigned long, gone);
	return true;
gone:
	return false;
#endif
}

static void walk(struct thread *t)
{
	enum slot slot;

	if (!cfg.walker)
		return;
	for (slot = 0; slot < SLOTS; slot++) {
		u32 id = smp_load_acquire(&live[slot]);

		if (!id || id == t->seen[slot])
			continue;
		if (touch(ghes_slot_address(slot))) {
			smp_store_release(&t->seen[slot], id);
			truth_count(C_TOUCHES);
		} else {
			truth_count(C_TOUCH_FAULTS);
		}
	}
}

/* How many of the other CPUs have touched page @id, and whether that is all that can. */
static u32 touched(enum slot slot, u32 id, bool *all)
{
	u32 n = 0;
	unsigned int i;

	*all = true;
	for (i = 0; i < n_threads; i++) {
		if (cpu_of[i] == ghes_this_cpu()->cpu)
			continue;
		if (smp_load_acquire(&threads[i].seen[slot]) == id)
			n++;
		else if (cfg.turns == TURNS_ALTERNATE || READ_ONCE(threads[i].walking))
			*all = false;
	}
	return n;
}

u32 storm_linger(enum slot slot)
{
	u64 end = ktime_get_mono_fast_ns() + cfg.linger_us * 1000ull;
	unsigned int spins = 0;
	bool all;
	u32 n, id;

	if (!cfg.walker)
		return 0;
	id = ++last_id[slot];
	if (!id)
		id = ++last_id[slot];
	smp_store_release(&live[slot], id);
	for (;;) {
		n = touched(slot, id, &all);
		/* The clock is read rarely: under emulation a read costs as much as a touch. */
		if (all || (++spins % 64 == 0 && ktime_get_mono_fast_ns() > end))
			break;
		cpu_relax();
	}
	WRITE_ONCE(live[slot], 0);
	if (!n)
		truth_count(C_UNWALKED);
	return n;
}

static void send_nmi(unsigned int cpu)
{
	struct ghes_cpu *c = ghes_cpu(cpu);

	if (atomic_cmpxchg(&c->nmi_pending, 0, 1))
		return;		/* the one before has not been taken yet */
	truth_count(C_NMI_SENT);
#ifdef CONFIG_X86
	apic->send_IPI_mask(cpumask_of(cpu), NMI_VECTOR);
#endif
}

static void await_nmi(struct ghes_cpu *c)
{
	u64 end = ktime_get_mono_fast_ns() + NMI_WAIT_NS;

	while (atomic_read(&c->nmi_pending)) {
		cpu_relax();
		if (ktime_get_mono_fast_ns() > end && atomic_cmpxchg(&c->nmi_pending, 1, 0))
			truth_count(C_NMI_LOST);
	}
}

/* Waits, walking, until every thread has come; false: the run is being stopped. */
static bool barrier_walking(struct thread *t, unsigned int mapper)
{
	int mine = atomic_read(&generation);
	u64 begin = ktime_get_mono_fast_ns();
	unsigned int spins = 0;
	bool slow = false;

	if (atomic_inc_return(&arrived) == n_threads) {
		atomic_set(&arrived, 0);
		atomic_inc_return(&generation);
		return !READ_ONCE(stopping);
	}
	while (atomic_read_acquire(&generation) == mine) {
		if (READ_ONCE(stopping))
			return false;
		walk(t);
		cpu_relax();
		if (++spins % 64 && !t->nmi_at)
			continue;
		if (t->nmi_at && ktime_get_mono_fast_ns() >= t->nmi_at) {
			t->nmi_at = 0;
			send_nmi(cpu_of[mapper]);
		}
		if (ktime_get_mono_fast_ns() - begin < BARRIER_SPIN_NS)
			continue;
		if (!slow)
			truth_count(C_SLOW_BARRIERS);
		slow = true;
		usleep_range(500, 1000);
	}
	return !READ_ONCE(stopping);
}

void storm_nmi_here(void)
{
	struct ghes_cpu *c;

	preempt_disable();
	c = ghes_this_cpu();
	send_nmi(c->cpu);
	await_nmi(c);
	preempt_enable();
}

static void irq_work_func(struct irq_work *work)
{
	ghes_irq_func(0, ghes_this_cpu());
}

static void notify(struct thread *t, struct ghes_cpu *c)
{
	if (cfg.fix == FIX_BROADCAST_AT_UNMAP || cfg.shootdown == SHOOTDOWN_IN_HANDLER) {
		ghes_notify_sci(NULL, 0, c);
	} else {
		irq_work_queue(&t->work);
		irq_work_sync(&t->work);
	}
	if (cfg.nmi == NMI_SELF) {
		send_nmi(c->cpu);
		await_nmi(c);
	}
	if (cfg.torn)
		hazard_torn_edit();
	if (cfg.shootdown == SHOOTDOWN_LEGAL || cfg.shootdown == SHOOTDOWN_IRQS_OFF)
		hazard_shootdown();
}

/* One notification on each CPU in turn, the others walking; a new CPU begins each round. */
static bool round_alternate(struct thread *t, struct ghes_cpu *c)
{
	unsigned int turn, mapper;

	for (turn = 0; turn < n_threads; turn++) {
		mapper = (turn + c->round) % n_threads;
		if (mapper == t->index)
			notify(t, c);
		else if (cfg.nmi == NMI_PEER && t->index == (mapper + 1) % n_threads)
			t->nmi_at = ktime_get_mono_fast_ns() + get_random_u32() % NMI_JITTER_NS;
		if (!barrier_walking(t, mapper))
			return false;
		t->nmi_at = 0;
	}
	return true;
}

static bool round_free(struct thread *t, struct ghes_cpu *c)
{
	u64 end = ktime_get_mono_fast_ns() + get_random_u32() % FREE_WALK_NS;
	unsigned int spins = 0;

	WRITE_ONCE(t->walking, true);
	do {
		walk(t);
		cpu_relax();
	} while (++spins % 64 || ktime_get_mono_fast_ns() < end);
	WRITE_ONCE(t->walking, false);
	if (cfg.nmi == NMI_PEER)
		send_nmi(cpu_of[(t->index + 1) % n_threads]);
	notify(t, c);
	return !READ_ONCE(stopping);
}

static bool one_round(struct thread *t, struct ghes_cpu *c)
{
	if (cfg.turns == TURNS_FREE)
		return round_free(t, c);
	/* Nobody's page is live for a CPU that still sleeps. */
	return barrier_walking(t, t->index) && round_alternate(t, c);
}

static u32 now_us(void)
{
	return div_u64(ktime_get_mono_fast_ns(), NSEC_PER_USEC);
}

/* Half of the time belongs to user space: a tracer in this guest must keep up. */
static void pause_us(u32 took)
{
	u32 us = max(cfg.period_us, min(took, MAX_PAUSE_US));

	if (cfg.period_us)
		usleep_range(us, us + us / 4 + 1);
	else
		cond_resched();
}

static int storm_thread(void *data)
{
	struct thread *t = data;
	struct ghes_cpu *c = ghes_cpu(cpu_of[t->index]);
	bool go = true;
	u32 begin, took = 0;

	while (go && c->round < cfg.rounds && !kthread_should_stop()) {
		pause_us(took);
		begin = now_us();
		c->clear = false;
		go = one_round(t, c);
		if (go && cfg.write_back == WRITE_NEXT) {
			c->clear = true;
			go = one_round(t, c);
		}
		WRITE_ONCE(c->round, c->round + 1);
		took = now_us() - begin;
	}
	await_nmi(c);
	if (atomic_dec_and_test(&alive))
		WRITE_ONCE(state, READ_ONCE(stopping) ? STATE_STOPPED : STATE_DONE);
	return 0;
}

static int parse(struct config *new)
{
	static const char * const fixes[] = { "none", "flush-on-map", "broadcast-at-unmap" };
	static const char * const all_turns[] = { "alternate", "free" };
	int fix_index, turns_index;

	kernel_param_lock(THIS_MODULE);
	fix_index = __sysfs_match_string(fixes, ARRAY_SIZE(fixes), fix);
	turns_index = __sysfs_match_string(all_turns, ARRAY_SIZE(all_turns), turns);
	*new = (struct config){
		.fix = fix_index, .turns = turns_index, .nmi = nmi, .write_back = write_back,
		.rounds = rounds, .period_us = period_us, .linger_us = linger_us,
		.pages = pages, .walker = walker, .same_frame = same_frame,
		.buffers = buffers, .window = window, .torn = torn, .shootdown = shootdown,
	};
	kernel_param_unlock(THIS_MODULE);

	if (fix_index < 0 || turns_index < 0 || new->nmi > NMI_PEER ||
	    new->write_back > WRITE_NEXT || !new->rounds || new->pages < 1 || new->pages > 2 ||
	    new->buffers < 1 || new->buffers > 2 || new->window > WINDOW_SAME_SLOT ||
	    new->torn > TORN_TABLE || new->shootdown > SHOOTDOWN_IN_HANDLER) {
		pr_err("a parameter is out of range, see modinfo\n");
		return -EINVAL;
	}
	if (new->linger_us > 10000 || new->period_us > 1000000) {
		pr_err("linger_us is at most 10000 (interrupts are off), period_us 1000000\n");
		return -EINVAL;
	}
	if (new->fix == FIX_BROADCAST_AT_UNMAP && (new->nmi || new->window || new->torn)) {
		pr_err("broadcast-at-unmap needs no NMI: it may not wait for other CPUs\n");
		return -EINVAL;
	}
	if (!IS_ENABLED(CONFIG_X86) && (new->nmi || new->window || new->torn || new->shootdown)) {
		pr_err("no NMI can be sent here, nor is there a shootdown by IPI\n");
		return -EINVAL;
	}
	if (new->torn && (new->turns == TURNS_FREE || new->nmi == NMI_PEER)) {
		pr_err("torn needs alternate turns and no other CPU's NMI: it would read a page that is gone\n");
		return -EINVAL;
	}
	if (new->shootdown && new->turns == TURNS_FREE) {
		pr_err("shootdown needs turns=alternate: two senders would wait for each other\n");
		return -EINVAL;
	}
	return 0;
}

void storm_stop(void)
{
	unsigned int i;

	WRITE_ONCE(stopping, true);
	for (i = 0; i < n_threads; i++) {
		kthread_stop(threads[i].task);
		put_task_struct(threads[i].task);
		irq_work_sync(&threads[i].work);
	}
	n_threads = 0;
}

static int create_thread(unsigned int index, unsigned int cpu)
{
	struct thread *t = &threads[index];

	*t = (struct thread){ .index = index };
	init_irq_work(&t->work, irq_work_func);
	t->task = kthread_create(storm_thread, t, "ghes2015/%u", cpu);
	if (IS_ERR(t->task))
		return PTR_ERR(t->task);
	get_task_struct(t->task);
	kthread_bind(t->task, cpu);
	sched_set_fifo(t->task);
	cpu_of[index] = cpu;
	return 0;
}

/* Starts a run and returns; the caller serialises. -EBUSY: one is under way. */
int storm_start(void)
{
	struct config new;
	unsigned int cpu, n = 0;
	int error;

	if (storm_state() == STATE_RUNNING)
		return -EBUSY;
	error = parse(&new);
	if (error)
		return error;
	storm_stop();
	cfg = new;
	ghes_frames_reset();
	truth_reset();
	/* What the last run's walkers left in the TLBs is nobody's map of this run. */
	ghes_shoot_down();
	stopping = false;
	atomic_set(&arrived, 0);
	for_each_online_cpu(cpu) {
		if (n == MAX_CPUS)
			break;
		error = create_thread(n, cpu);
		if (error)
			break;
		n++;
	}
	n_threads = n;
	if (error) {
		storm_stop();
		return error;
	}
	atomic_set(&alive, n);
	WRITE_ONCE(state, STATE_RUNNING);
	for (cpu = 0; cpu < n; cpu++)
		wake_up_process(threads[cpu].task);
	return 0;
}
