// SPDX-License-Identifier: Apache-2.0
/*
 * Takes synchronous external aborts: loads from an address of QEMU's virt machine where nothing
 * answers (ESR 0x92000010: do_sea -> apei_claim_sea -> ghes_notify_sea), on each CPU in turn. The
 * kernel ends each load with SIGBUS.
 *
 *	sea PERIOD_US [COUNT]	prints how many loads were made on each CPU when told to end
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define NOBODY 0x0b000000UL /* between virtio-mmio and the platform bus: hw/arm/virt.c, base_memmap */

static sigjmp_buf after;
static volatile sig_atomic_t over;

static void aborted(int number)
{
	(void)number;
	siglongjmp(after, 1);
}

static void end(int number)
{
	(void)number;
	over = 1;
}

int main(int argc, char **argv)
{
	long period = argc > 1 ? atol(argv[1]) : 10000, count = argc > 2 ? atol(argv[2]) : -1;
	int cpus = sysconf(_SC_NPROCESSORS_ONLN), cpu = 0;
	long *taken = calloc(cpus, sizeof(*taken));
	int fd = open("/dev/mem", O_RDONLY | O_SYNC);
	volatile unsigned *nobody;

	nobody = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, NOBODY);
	if (fd < 0 || !taken || nobody == MAP_FAILED) {
		perror("sea: /dev/mem");
		return 1;
	}
	signal(SIGBUS, aborted);
	signal(SIGTERM, end);
	while (!over && count--) {
		cpu_set_t here;

		CPU_ZERO(&here);
		CPU_SET(cpu, &here);
		sched_setaffinity(0, sizeof(here), &here);
		if (!sigsetjmp(after, 1)) {
			(void)*nobody;
			fprintf(stderr, "sea: somebody answers at %#lx\n", NOBODY);
			return 1;
		}
		taken[cpu]++;
		cpu = (cpu + 1) % cpus;
		if (period)
			usleep(period);
	}
	for (cpu = 0; cpu < cpus; cpu++)
		printf("%ld%s", taken[cpu], cpu + 1 < cpus ? " " : "\n");
	return 0;
}
