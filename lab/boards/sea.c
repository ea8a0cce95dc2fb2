// SPDX-License-Identifier: Apache-2.0
/*
 * Takes synchronous external aborts: loads from an address of QEMU's virt machine where nothing
 * answers (ESR 0x92000010: do_sea -> apei_claim_sea -> ghes_notify_sea), on each CPU in turn, or on
 * one CPU at each multiple of the period, when others do, too. The kernel ends each load with SIGBUS.
 *
 *	sea PERIOD_US [COUNT [CPU]]	prints how many loads were made on each CPU when told to end
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
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

/* Sleep until the next multiple of `period` us of the clock that all CPUs share. */
static void meet(long period)
{
	struct timespec now;
	long long next;

	clock_gettime(CLOCK_MONOTONIC, &now);
	next = ((now.tv_sec * 1000000LL + now.tv_nsec / 1000) / period + 1) * period;
	now.tv_sec = next / 1000000;
	now.tv_nsec = next % 1000000 * 1000;
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &now, NULL);
}

int main(int argc, char **argv)
{
	long period = argc > 1 ? atol(argv[1]) : 10000, count = argc > 2 ? atol(argv[2]) : -1;
	int cpus = sysconf(_SC_NPROCESSORS_ONLN), one = argc > 3, cpu = one ? atoi(argv[3]) % cpus : 0;
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
		if (!one)
			cpu = (cpu + 1) % cpus;
		if (period && one)
			meet(period);
		else if (period)
			usleep(period);
	}
	for (cpu = 0; cpu < cpus; cpu++)
		printf("%ld%s", taken[cpu], cpu + 1 < cpus ? " " : "\n");
	return 0;
}
