/* SPDX-License-Identifier: GPL-2.0-only */
/* What the protocol does by x86's means. Included by ghes.c alone. */
#include <linux/kprobes.h>

static void (*broadcast)(unsigned long start, unsigned long end);

static __always_inline void arch_flush_local(unsigned long addr)
{
	asm volatile("invlpg (%0)" : : "r" (addr) : "memory");
}

static inline void arch_flush_all_cpus(unsigned long start, unsigned long end)
{
	broadcast(start, end);
}

/*
 * flush_tlb_kernel_range() is not exported, and neither is, since 0bd476e6c671 ("kallsyms:
 * unexport kallsyms_lookup_name() and kallsyms_on_each_symbol()", 5.7), the way to look it up;
 * a kprobe still says where a function is.
 */
static void *address_of(const char *name)
{
	struct kprobe probe = { .symbol_name = name };
	void *addr;

	if (register_kprobe(&probe))
		return NULL;
	addr = probe.addr;
	unregister_kprobe(&probe);
	/*
	 * Since cc66bb914578 ("x86/ibt,kprobes: Cure sym+0 equals fentry woes", 5.18) the probe
	 * may sit behind the function's ENDBR64.
	 */
	if (*(u32 *)(addr - 4) == 0xfa1e0ff3)
		addr -= 4;
	return addr;
}

static inline bool arch_init(void)
{
	broadcast = address_of("flush_tlb_kernel_range");
	return broadcast;
}

/* The entry of @addr, NULL if it is not one of 4 KiB. */
static inline pte_t *arch_pte(unsigned long addr)
{
	unsigned int level;
	pte_t *pte = lookup_address(addr, &level);

	return pte && level == PG_LEVEL_4K ? pte : NULL;
}
