/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The 2015 GHES mapping protocol on today's kernel: the positive control of ghesrace.
 *
 * ghes.c is the protocol, storm.c makes CPUs run it, hazards.c does what else is wrong, truth.c
 * keeps what really happened.
 */
#ifndef GHES2015_H
#define GHES2015_H

#include <linux/atomic.h>
#include <linux/compiler.h>
#include <linux/irqreturn.h>
#include <linux/mm.h>
#include <linux/notifier.h>
#include <linux/pgtable.h>
#include <linux/types.h>
#ifdef CONFIG_X86
#include <asm/nmi.h>
#else
/* No NMI that could be sent: nmi, window and torn are refused. */
#define NMI_DONE 0
#define NMI_HANDLED 1
#endif

/*
 * A probed function must stay one function under its own name: GCC inlines, clones and renames
 * (.isra, .constprop) static ones. Never notrace: ftrace must see them.
 */
#if __has_attribute(__noipa__)
#define PROBED noinline __attribute__((__noipa__))
#else
#define PROBED noinline
#endif

enum slot { SLOT_IRQ, SLOT_NMI, SLOTS };	/* page number in the vm area */
enum fix { FIX_NONE, FIX_FLUSH_ON_MAP, FIX_BROADCAST_AT_UNMAP };
enum turns { TURNS_ALTERNATE, TURNS_FREE };
enum nmi { NMI_OFF, NMI_SELF, NMI_PEER };
enum write_back { WRITE_NEVER, WRITE_SAME, WRITE_NEXT };
enum window { WINDOW_NONE, WINDOW_OWN_SLOT, WINDOW_SAME_SLOT };
enum torn { TORN_NONE, TORN_ENTRY, TORN_TABLE };
enum shootdown { SHOOTDOWN_NONE, SHOOTDOWN_LEGAL, SHOOTDOWN_IRQS_OFF, SHOOTDOWN_IN_HANDLER };

/* One run's parameters: copied at its start, so that a run never sees half a change. */
struct config {
	enum fix fix;
	enum turns turns;
	enum nmi nmi;
	enum write_back write_back;
	enum window window;
	enum torn torn;
	enum shootdown shootdown;
	unsigned int rounds, period_us, linger_us, pages, buffers;
	bool walker, same_frame;
};

extern struct config cfg;

/* What one CPU is doing; only that CPU writes it, an NMI's part is its own. */
struct report {
	u64 paddr;		/* of the last block read, 0: none to clear */
	u64 buffer[16];		/* two pages' shares of the block */
};

struct ghes_cpu {
	unsigned int cpu;
	u32 round;
	bool clear;		/* this notification clears the status only */
	struct report report[SLOTS];
	atomic_t nmi_pending;
};

/* ghes.c */
#define FRAMES 8		/* reports' blocks per slot */

int ghes_ioremap_init(void);
void ghes_ioremap_exit(void);
unsigned long ghes_slot_address(enum slot slot);
u64 ghes_frame_phys(enum slot slot, unsigned int i);
void ghes_frames_reset(void);
/* A page of the vm area that no slot uses; its entry is in the slots' table. */
unsigned long ghes_scratch_address(void);
pte_t *ghes_pte(unsigned long addr);
/* flush_tlb_kernel_range() of the vm area: an IPI to every CPU, and a wait for all answers. */
void ghes_shoot_down(void);
struct ghes_cpu *ghes_this_cpu(void);
struct ghes_cpu *ghes_cpu(unsigned int cpu);
irqreturn_t ghes_irq_func(int irq, void *data);
int ghes_notify_sci(struct notifier_block *this, unsigned long event, void *data);
int ghes_notify_nmi(unsigned int cmd, struct pt_regs *regs);

/* hazards.c */
void unmap_kernel_range_noflush(unsigned long addr, unsigned long size);
void hazard_torn_edit(void);
void hazard_shootdown(void);

/* storm.c */
enum state { STATE_IDLE, STATE_RUNNING, STATE_DONE, STATE_STOPPED };

int storm_start(void);
void storm_stop(void);
enum state storm_state(void);
unsigned int storm_cpus(void);
/*
 * The page of @slot is live: lets the walkers of other CPUs touch it, at most cfg.linger_us.
 * Any context, slot's lock held. Returns how many CPUs did.
 */
u32 storm_linger(enum slot slot);
/* Takes an NMI on this CPU and returns when it is over, or lost (20 ms). Not in an NMI. */
void storm_nmi_here(void);

/* truth.c */
#define TRUTH_JUNK 1		/* another frame answered */
#define TRUTH_WRITE 2		/* to the frame; @seen is the frame that changed */
#define TRUTH_NMI 4		/* in NMI context */
#define TRUTH_MIXED 8		/* the bytes came from more than one frame, @seen is the first */

/* 64 bytes, mirrored by TRUTH in run.py; times are ktime_get_mono_fast_ns(). */
struct truth {
	u64 ts_map;		/* before the map */
	u64 ts_access;		/* before the copy */
	u64 ts_end;		/* after the unmap */
	u64 addr;		/* of the slot's page */
	u64 expected;		/* physical address of the mapped frame */
	u64 seen;		/* ... of the frame that answered */
	u32 round;
	u16 cpu;
	u8 slot;
	u8 flags;
	u32 size;		/* bytes copied */
	u32 walked;		/* other CPUs that touched it while it was mapped */
};

enum counter {
	C_READS, C_READS_JUNK, C_WRITES, C_WRITES_JUNK, C_MIXED, C_TOUCHES, C_TOUCH_FAULTS,
	C_UNWALKED, C_NMI_SENT, C_NMI_TAKEN, C_NMI_LOST, C_SLOW_BARRIERS, C_WINDOWS, C_EDITS,
	C_SHOOTDOWNS, COUNTERS
};

void truth_reset(void);
void truth_log(const struct truth *t);
void truth_count(enum counter c);

#endif
