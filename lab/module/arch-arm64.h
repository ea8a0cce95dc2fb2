/* SPDX-License-Identifier: GPL-2.0-only */
/* What the protocol does by arm64's means. Included by ghes.c alone. */
#include <asm/barrier.h>
#include <asm/sysreg.h>
#include <asm/tlbflush.h>

/* This PE's entries alone, which no kernel ever did for a kernel address: the fault. */
static __always_inline void arch_flush_local(unsigned long addr)
{
	dsb(nshst);
	asm volatile("tlbi vaae1, %0" : : "r" (__TLBI_VADDR(addr, 0)) : "memory");
	dsb(nsh);
	isb();
}

/* As arch/arm64/include/asm/tlbflush.h: flush_tlb_kernel_range(). */
static inline void arch_flush_all_cpus(unsigned long start, unsigned long end)
{
	dsb(ishst);
	for (; start < end; start += PAGE_SIZE)
		asm volatile("tlbi vaale1is, %0" : : "r" (__TLBI_VADDR(start, 0)) : "memory");
	dsb(ish);
	isb();
}

static inline bool arch_init(void)
{
	return true;
}

/*
 * The entry of @addr, NULL if it is not one of a page. init_mm is not exported: the table is found
 * as the CPU finds it. With 52-bit addresses TTBR1 points into its page, which is what is masked.
 */
static inline pte_t *arch_pte(unsigned long addr)
{
	pgd_t *pgd = phys_to_virt(read_sysreg(ttbr1_el1) & GENMASK_ULL(47, PAGE_SHIFT));
	p4d_t *p4d;
	pud_t *pud;
	pmd_t *pmd;

	p4d = p4d_offset(pgd_offset_pgd(pgd, addr), addr);
	if (p4d_none(READ_ONCE(*p4d)))
		return NULL;
	pud = pud_offset(p4d, addr);
	if (pud_none(READ_ONCE(*pud)) || pud_sect(READ_ONCE(*pud)))
		return NULL;
	pmd = pmd_offset(pud, addr);
	if (pmd_none(READ_ONCE(*pmd)) || pmd_sect(READ_ONCE(*pmd)))
		return NULL;
	return pte_offset_kernel(pmd, addr);
}
