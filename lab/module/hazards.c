// SPDX-License-Identifier: GPL-2.0-only
/*
 * The neighbours of the race: a page-table edit that an NMI interrupts, and an IPI-and-wait where
 * none may be sent.
 *
 * Nothing here can hang the guest. The edit's NMI is awaited for 20 ms at most. The shootdown's
 * wait has no bound of its own, but what would make it endless is kept away: turns alternate, so
 * there is one sender at a time, and all other CPUs walk or sleep with interrupts on, no lock that
 * they want is held, and stop_machine() can't begin before this CPU takes part.
 */
#include <linux/irqflags.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pgtable.h>

#include "ghes2015.h"

/*
 * As mm/vmalloc.c had it until 5.12, and as GHES called it until 4.14, for pages of our area: clears
 * their entries and leaves the TLB alone. In its midst comes an NMI.
 */
PROBED void unmap_kernel_range_noflush(unsigned long addr, unsigned long size)
{
	unsigned long end = addr + size;

	storm_nmi_here();
	for (; addr < end; addr += PAGE_SIZE)
		set_pte(ghes_pte(addr), __pte(0));
}

void hazard_torn_edit(void)
{
	unsigned long addr = ghes_scratch_address();

	if (cfg.torn == TORN_ENTRY)
		addr = ghes_slot_address(SLOT_NMI);
	/* No other CPU can be in an NMI that uses the page: turns alternate, and NMIs with them. */
	unmap_kernel_range_noflush(addr, PAGE_SIZE);
	truth_count(C_EDITS);
}

/* The receivers run do_kernel_range_flush(), as for any vunmap. */
void hazard_shootdown(void)
{
	unsigned long flags;

	if (cfg.shootdown == SHOOTDOWN_LEGAL) {
		ghes_shoot_down();
	} else {
		local_irq_save(flags);
		ghes_shoot_down();
		local_irq_restore(flags);
	}
	truth_count(C_SHOOTDOWNS);
}
