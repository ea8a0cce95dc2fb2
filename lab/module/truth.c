// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ground truth: every access, kept in memory, and the module's files in debugfs/ghes2015:
 *   run      write 1 to start a run, 0 to stop it
 *   summary  JSON: state, counters, addresses
 *   truth    struct truth, one after the other, in the order in which accesses began to be logged
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>
#include <linux/timekeeping.h>
#include <linux/vmalloc.h>

#include "ghes2015.h"

static unsigned int records = 1 << 18;
module_param(records, uint, 0444);
MODULE_PARM_DESC(records, "room for ground truth, 64 bytes each; what does not fit is counted");

static const char * const counter_names[COUNTERS] = {
	[C_READS] = "reads", [C_READS_JUNK] = "junk_reads",
	[C_WRITES] = "writes", [C_WRITES_JUNK] = "junk_writes", [C_MIXED] = "mixed",
	[C_TOUCHES] = "touches", [C_TOUCH_FAULTS] = "touch_faults", [C_UNWALKED] = "unwalked",
	[C_NMI_SENT] = "nmi_sent", [C_NMI_TAKEN] = "nmi_taken", [C_NMI_LOST] = "nmi_lost",
	[C_SLOW_BARRIERS] = "slow_barriers", [C_WINDOWS] = "windows",
	[C_EDITS] = "edits", [C_SHOOTDOWNS] = "shootdowns",
};
static const char * const state_names[] = {
	[STATE_IDLE] = "idle", [STATE_RUNNING] = "running",
	[STATE_DONE] = "done", [STATE_STOPPED] = "stopped",
};

static struct truth *ring;
static atomic64_t logged;
static atomic64_t counters[COUNTERS];
static struct dentry *dir;
static DEFINE_MUTEX(run_mutex);

void truth_count(enum counter c)
{
	atomic64_inc(&counters[c]);
}

/* Any context, NMI too. The first records are kept: a reader may then look while it fills. */
void truth_log(const struct truth *t)
{
	bool write = t->flags & TRUTH_WRITE;
	s64 i = atomic64_inc_return(&logged) - 1;

	if (i < records)
		ring[i] = *t;
	truth_count(write ? C_WRITES : C_READS);
	if (t->flags & TRUTH_JUNK)
		truth_count(write ? C_WRITES_JUNK : C_READS_JUNK);
	if (t->flags & TRUTH_MIXED)
		truth_count(C_MIXED);
}

void truth_reset(void)
{
	unsigned int i;

	for (i = 0; i < COUNTERS; i++)
		atomic64_set(&counters[i], 0);
	atomic64_set(&logged, 0);
}

static ssize_t truth_read(struct file *file, char __user *to, size_t size, loff_t *pos)
{
	size_t have = min_t(u64, atomic64_read(&logged), records) * sizeof(*ring);

	return simple_read_from_buffer(to, size, pos, ring, have);
}

static const struct file_operations truth_fops = {
	.owner = THIS_MODULE, .read = truth_read, .llseek = default_llseek,
};

static void show_frames(struct seq_file *m, enum slot slot)
{
	unsigned int i;

	for (i = 0; i < FRAMES; i++)
		seq_printf(m, "%s\"0x%llx\"", i ? ", " : "", ghes_frame_phys(slot, i));
}

static int summary_show(struct seq_file *m, void *unused)
{
	s64 n = atomic64_read(&logged);
	unsigned int i;

	seq_printf(m, "{\"state\": \"%s\", \"cpus\": %u, \"records\": %lld, \"dropped\": %lld",
		   state_names[storm_state()], storm_cpus(), min_t(s64, n, records),
		   max_t(s64, n - records, 0));
	for (i = 0; i < COUNTERS; i++)
		seq_printf(m, ", \"%s\": %lld", counter_names[i], (s64)atomic64_read(&counters[i]));
	seq_printf(m, ", \"slots\": {\"irq\": \"0x%lx\", \"nmi\": \"0x%lx\"}",
		   ghes_slot_address(SLOT_IRQ), ghes_slot_address(SLOT_NMI));
	seq_puts(m, ", \"frames\": {\"irq\": [");
	show_frames(m, SLOT_IRQ);
	seq_puts(m, "], \"nmi\": [");
	show_frames(m, SLOT_NMI);
	seq_puts(m, "]}}\n");
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(summary);

static ssize_t run_write(struct file *file, const char __user *from, size_t size, loff_t *pos)
{
	bool on;
	int error = kstrtobool_from_user(from, size, &on);

	if (error)
		return error;
	mutex_lock(&run_mutex);
	if (on)
		error = storm_start();
	else
		storm_stop();
	mutex_unlock(&run_mutex);
	return error ?: size;
}

static const struct file_operations run_fops = {
	.owner = THIS_MODULE, .write = run_write, .llseek = noop_llseek,
};

static int __init ghes2015_init(void)
{
	int error;

	BUILD_BUG_ON(sizeof(struct truth) != 64);
	if (!records)
		return -EINVAL;
	ring = vzalloc(array_size(records, sizeof(*ring)));
	if (!ring)
		return -ENOMEM;
	error = ghes_ioremap_init();
	if (error)
		goto free;
#ifdef CONFIG_X86
	error = register_nmi_handler(NMI_LOCAL, ghes_notify_nmi, 0, "ghes2015");
	if (error)
		goto exit;
#endif
	dir = debugfs_create_dir("ghes2015", NULL);
	debugfs_create_file("truth", 0400, dir, NULL, &truth_fops);
	debugfs_create_file("summary", 0400, dir, NULL, &summary_fops);
	debugfs_create_file("run", 0200, dir, NULL, &run_fops);
	return 0;

#ifdef CONFIG_X86
exit:
	ghes_ioremap_exit();
#endif
free:
	vfree(ring);
	return error;
}

static void __exit ghes2015_exit(void)
{
	/* Nobody can start a run any more, then nothing runs any more, then nothing is left. */
	debugfs_remove(dir);
	storm_stop();
#ifdef CONFIG_X86
	unregister_nmi_handler(NMI_LOCAL, "ghes2015");
#endif
	ghes_ioremap_exit();
	vfree(ring);
}

module_init(ghes2015_init);
module_exit(ghes2015_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("The GHES mapping protocol of 2015, for testing ghesrace: it really races");
