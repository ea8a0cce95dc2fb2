// SPDX-License-Identifier: GPL-2.0-only
/*
 * The protocol: ghes_ioremap_pfn_*(), ghes_iounmap_*() and ghes_copy_tofrom_phys() of
 * drivers/acpi/apei/ghes.c, Linux 2.6.39 to 4.14, with the page order of 3.18 and later (irq
 * page first) and arch_apei_flush_tlb_one() of arch/x86/kernel/acpi/apei.c. Order of locks,
 * edits and invalidations is theirs; three things are not:
 * - set_pte() and pte_clear() on preallocated tables replace ioremap_page_range() and
 *   unmap_kernel_range_noflush(), which today BUG on a slot that an NMI has mapped;
 * - the frames are our own memory, each word of which names its frame;
 * - with the broadcast, the irq page is used from process context with interrupts on (as
 *   ghes_notify_sci() did, but its lock without irqsave): an IPI-and-wait is illegal elsewhere.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/errno.h>
#include <linux/gfp.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/spinlock.h>
#include <linux/timekeeping.h>
#include <linux/vmalloc.h>
#include <linux/pgtable.h>

#include "ghes2015.h"
#ifdef CONFIG_X86
#include "arch-x86.h"
#else
#include "arch-arm64.h"
#endif

#define STATUS_PENDING 0x12u	/* one corrected entry, ACPI 6.5 table 18.11 */
#define SHARE 64u		/* a page's share of a block, bytes */

static DEFINE_RAW_SPINLOCK(ghes_nmi_lock);
static DEFINE_RAW_SPINLOCK(ghes_ioremap_lock_nmi);
static DEFINE_SPINLOCK(ghes_ioremap_lock_irq);

static void *ghes_ioremap_area;
#define AREA_PAGES (SLOTS + 1)	/* the last is nobody's: hazards.c edits it */
static pte_t *ghes_ptes[AREA_PAGES];

/* Two adjoining pages each, for blocks that cross a page. */
static struct page *frames[SLOTS][FRAMES];
static atomic_t next_frame[SLOTS];

static DEFINE_PER_CPU(struct ghes_cpu, cpus);

unsigned long ghes_slot_address(enum slot slot)
{
	return (unsigned long)ghes_ioremap_area + slot * PAGE_SIZE;
}

unsigned long ghes_scratch_address(void)
{
	return (unsigned long)ghes_ioremap_area + SLOTS * PAGE_SIZE;
}

pte_t *ghes_pte(unsigned long addr)
{
	return ghes_ptes[(addr - (unsigned long)ghes_ioremap_area) >> PAGE_SHIFT];
}

void ghes_shoot_down(void)
{
	arch_flush_all_cpus(ghes_slot_address(0), ghes_slot_address(0) + AREA_PAGES * PAGE_SIZE);
}

u64 ghes_frame_phys(enum slot slot, unsigned int i)
{
	return page_to_phys(frames[slot][i]);
}

struct ghes_cpu *ghes_this_cpu(void)
{
	return this_cpu_ptr(&cpus);
}

struct ghes_cpu *ghes_cpu(unsigned int cpu)
{
	return per_cpu_ptr(&cpus, cpu);
}

#ifdef CONFIG_X86
/* x86: local, INVLPG; with the broadcast, what arm64's inline of this name did (4.10..4.14). */
static PROBED void arch_apei_flush_tlb_one(unsigned long addr)
{
	if (cfg.fix == FIX_BROADCAST_AT_UNMAP)
		arch_flush_all_cpus(addr, addr + PAGE_SIZE);
	else
		arch_flush_local(addr);
}

static __always_inline void slot_flush(unsigned long addr)
{
	arch_apei_flush_tlb_one(addr);
}
#else
/* arm64's was a broadcast (4.10..4.14, inline); a local one is ours, under a name of our own. */
static PROBED void arch_apei_flush_tlb_one(unsigned long addr)
{
	arch_flush_all_cpus(addr, addr + PAGE_SIZE);
}

static PROBED void ghes2015_flush_tlb_one_local(unsigned long addr)
{
	arch_flush_local(addr);
}

static __always_inline void slot_flush(unsigned long addr)
{
	if (cfg.fix == FIX_BROADCAST_AT_UNMAP)
		arch_apei_flush_tlb_one(addr);
	else
		ghes2015_flush_tlb_one_local(addr);
}
#endif

static __always_inline void __iomem *slot_map(enum slot slot, u64 pfn)
{
	unsigned long vaddr = ghes_slot_address(slot);

	set_pte(ghes_ptes[slot], pfn_pte(pfn, PAGE_KERNEL));
	if (cfg.fix == FIX_FLUSH_ON_MAP)
		slot_flush(vaddr);
	return (void __iomem *)vaddr;
}

static __always_inline void slot_unmap(enum slot slot, unsigned long vaddr)
{
	/* 2015: BUG_ON(vaddr != page); a guest that lives on tells more. */
	if (WARN_ON_ONCE(vaddr != ghes_slot_address(slot)))
		return;
	set_pte(ghes_ptes[slot], __pte(0));
	/* The window: the entry is gone, the TLB still has it. */
	if (cfg.window && !in_nmi()) {
		storm_nmi_here();
		truth_count(C_WINDOWS);
	}
	slot_flush(vaddr);
}

static PROBED void __iomem *ghes_ioremap_pfn_nmi(u64 pfn)
{
	return slot_map(SLOT_NMI, pfn);
}

static PROBED void __iomem *ghes_ioremap_pfn_irq(u64 pfn)
{
	return slot_map(SLOT_IRQ, pfn);
}

static PROBED void ghes_iounmap_nmi(void __iomem *vaddr)
{
	slot_unmap(SLOT_NMI, (unsigned long __force)vaddr);
}

static PROBED void ghes_iounmap_irq(void __iomem *vaddr)
{
	slot_unmap(SLOT_IRQ, (unsigned long __force)vaddr);
}

/* What every word of the frame at @phys holds; never 0 in its low half, as a cleared status is. */
static u64 tag(u64 phys)
{
	return (phys & PAGE_MASK) | 1;
}

static u32 *status_of(enum slot slot, unsigned int i, u64 paddr)
{
	return page_address(frames[slot][i]) + offset_in_page(paddr);
}

/* The frame whose words these are; word 0 may be the status, so it is not asked. */
static u64 frame_read(const u64 *words, u32 len, u8 *flags)
{
	unsigned int i;

	for (i = 2; i < len / sizeof(*words); i++)
		if (words[i] != words[1])
			*flags |= TRUTH_MIXED;
	return words[1] & PAGE_MASK;
}

/*
 * The frame whose word a status clear at @paddr really changed (0: none of ours); repairs it. A
 * stale entry may name either page of a block that crosses one.
 */
static u64 frame_written(enum slot slot, u64 paddr)
{
	u64 phys, seen = 0;
	unsigned int i;

	for (i = 0; i < FRAMES; i++) {
		u32 *first = status_of(slot, i, paddr);
		u32 *second = first + PAGE_SIZE / sizeof(*first);

		phys = ghes_frame_phys(slot, i);
		if (READ_ONCE(*first) == 0) {
			seen = phys;
			WRITE_ONCE(*first, STATUS_PENDING);
		}
		if (READ_ONCE(*second) == 0) {
			seen = phys + PAGE_SIZE;
			WRITE_ONCE(*second, (u32)tag(seen));
		}
	}
	return seen;
}

static void judge(struct truth *t, enum slot slot, const void *buffer, u64 paddr,
		  int from_phys)
{
	struct ghes_cpu *c = ghes_this_cpu();
	/* Whose block it is; an NMI may have read it through the other's page. */
	enum slot owner = in_nmi() ? SLOT_NMI : SLOT_IRQ;

	t->expected = paddr & PAGE_MASK;
	if (from_phys) {
		t->seen = frame_read(buffer, t->size, &t->flags);
	} else {
		t->flags |= TRUTH_WRITE;
		t->seen = frame_written(owner, paddr);
	}
	if (t->seen != t->expected)
		t->flags |= TRUTH_JUNK;
	if (in_nmi())
		t->flags |= TRUTH_NMI;
	t->slot = slot;
	t->round = c->round;
	t->cpu = c->cpu;
}

static void lock_irq(unsigned long *flags)
{
	if (cfg.fix == FIX_BROADCAST_AT_UNMAP)
		spin_lock(&ghes_ioremap_lock_irq);
	else
		spin_lock_irqsave(&ghes_ioremap_lock_irq, *flags);
}

static void unlock_irq(unsigned long flags)
{
	if (cfg.fix == FIX_BROADCAST_AT_UNMAP)
		spin_unlock(&ghes_ioremap_lock_irq);
	else
		spin_unlock_irqrestore(&ghes_ioremap_lock_irq, flags);
}

static PROBED void ghes_copy_tofrom_phys(void *buffer, u64 paddr, u32 len, int from_phys)
{
	void __iomem *vaddr;
	unsigned long flags = 0;
	int in_nmi = in_nmi();
	enum slot slot = in_nmi && cfg.window != WINDOW_SAME_SLOT ? SLOT_NMI : SLOT_IRQ;
	u64 offset;
	u32 trunk;

	while (len > 0) {
		struct truth t = {};

		offset = paddr - (paddr & PAGE_MASK);
		trunk = min_t(u32, PAGE_SIZE - offset, len);
		if (in_nmi)
			raw_spin_lock(&ghes_ioremap_lock_nmi);
		else
			lock_irq(&flags);
		t.ts_map = ktime_get_mono_fast_ns();
		if (slot == SLOT_NMI)
			vaddr = ghes_ioremap_pfn_nmi(paddr >> PAGE_SHIFT);
		else
			vaddr = ghes_ioremap_pfn_irq(paddr >> PAGE_SHIFT);
		t.addr = (unsigned long __force)vaddr;
		t.size = trunk;
		t.ts_access = ktime_get_mono_fast_ns();
		if (from_phys)
			memcpy_fromio(buffer, vaddr + offset, trunk);
		else
			memcpy_toio(vaddr + offset, buffer, trunk);
		t.walked = storm_linger(slot);
		if (slot == SLOT_NMI)
			ghes_iounmap_nmi(vaddr);
		else
			ghes_iounmap_irq(vaddr);
		t.ts_end = ktime_get_mono_fast_ns();
		/* Under the lock still: it keeps the frames' status words ours. */
		judge(&t, slot, buffer, paddr, from_phys);
		truth_log(&t);
		if (in_nmi)
			raw_spin_unlock(&ghes_ioremap_lock_nmi);
		else
			unlock_irq(flags);
		len -= trunk;
		paddr += trunk;
		buffer += trunk;
	}
}

static PROBED void ghes_read_estatus(struct ghes_cpu *c, enum slot slot)
{
	struct report *r = &c->report[slot];
	unsigned int i = 0;

	if (!cfg.same_frame)
		i = (unsigned int)atomic_inc_return(&next_frame[slot]) % FRAMES;
	r->paddr = ghes_frame_phys(slot, i);
	if (cfg.pages == 2)
		r->paddr += PAGE_SIZE - SHARE;
	ghes_copy_tofrom_phys(r->buffer, r->paddr, cfg.pages * SHARE, 1);
}

static PROBED void ghes_clear_estatus(struct ghes_cpu *c, enum slot slot)
{
	struct report *r = &c->report[slot];
	u32 zero = 0;

	if (!r->paddr)
		return;
	ghes_copy_tofrom_phys(&zero, r->paddr, sizeof(zero), 0);
	r->paddr = 0;
}

static void ghes_proc(struct ghes_cpu *c, enum slot slot)
{
	unsigned int i;

	if (!c->clear)
		for (i = 0; i < cfg.buffers; i++)
			ghes_read_estatus(c, slot);
	if (c->clear || cfg.write_back == WRITE_SAME)
		ghes_clear_estatus(c, slot);
}

PROBED irqreturn_t ghes_irq_func(int irq, void *data)
{
	ghes_proc(data, SLOT_IRQ);
	return IRQ_HANDLED;
}

PROBED int ghes_notify_sci(struct notifier_block *this, unsigned long event, void *data)
{
	ghes_proc(data, SLOT_IRQ);
	if (cfg.shootdown == SHOOTDOWN_IN_HANDLER)
		hazard_shootdown();
	return NOTIFY_OK;
}

PROBED int ghes_notify_nmi(unsigned int cmd, struct pt_regs *regs)
{
	struct ghes_cpu *c = ghes_this_cpu();

	/* Other people's NMIs: the stock kernel's own GHES source, perf, a backtrace. */
	if (!atomic_read(&c->nmi_pending))
		return NMI_DONE;
	raw_spin_lock(&ghes_nmi_lock);
	ghes_proc(c, SLOT_NMI);
	raw_spin_unlock(&ghes_nmi_lock);
	truth_count(C_NMI_TAKEN);
	atomic_set(&c->nmi_pending, 0);
	return NMI_HANDLED;
}

/* Every word of a frame names it; status words where blocks of one and of two pages begin. */
void ghes_frames_reset(void)
{
	unsigned int slot, i, w;

	for (slot = 0; slot < SLOTS; slot++)
		for (i = 0; i < FRAMES; i++) {
			u64 phys = ghes_frame_phys(slot, i);
			u64 *words = page_address(frames[slot][i]);

			for (w = 0; w < 2 * PAGE_SIZE / sizeof(*words); w++)
				words[w] = tag(phys + w * sizeof(*words));
			*status_of(slot, i, 0) = STATUS_PENDING;
			*status_of(slot, i, PAGE_SIZE - SHARE) = STATUS_PENDING;
		}
	for_each_possible_cpu(i)
		per_cpu(cpus, i) = (struct ghes_cpu){ .cpu = i };
}

void ghes_ioremap_exit(void)
{
	unsigned int slot, i;

	if (ghes_ioremap_area)
		vunmap(ghes_ioremap_area);
	for (slot = 0; slot < SLOTS; slot++)
		for (i = 0; i < FRAMES; i++)
			if (frames[slot][i])
				__free_pages(frames[slot][i], 1);
}

int ghes_ioremap_init(void)
{
	struct page *pages[AREA_PAGES];
	unsigned int slot, i;

	for (slot = 0; slot < SLOTS; slot++) {
		for (i = 0; i < FRAMES; i++) {
			frames[slot][i] = alloc_pages(GFP_KERNEL, 1);
			if (!frames[slot][i])
				goto no_memory;
		}
		pages[slot] = frames[slot][0];
	}
	pages[SLOTS] = frames[0][0];
	/* Mapped once so that the page tables exist: NMI context cannot allocate them. */
	ghes_ioremap_area = vmap(pages, AREA_PAGES, VM_MAP, PAGE_KERNEL);
	if (!ghes_ioremap_area)
		goto no_memory;
	for (slot = 0; slot < AREA_PAGES; slot++) {
		ghes_ptes[slot] = arch_pte(ghes_slot_address(slot));
		if (!ghes_ptes[slot]) {
			pr_err("the vm area is not mapped by single pages\n");
			ghes_ioremap_exit();
			return -ENXIO;
		}
	}
	if (!arch_init()) {
		pr_err("no flush_tlb_kernel_range() to be found: no broadcast\n");
		ghes_ioremap_exit();
		return -ENXIO;
	}
	for (slot = 0; slot < AREA_PAGES; slot++)
		set_pte(ghes_ptes[slot], __pte(0));
	ghes_shoot_down();
	ghes_frames_reset();
	return 0;

no_memory:
	ghes_ioremap_exit();
	return -ENOMEM;
}
