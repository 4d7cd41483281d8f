// SPDX-License-Identifier: GPL-2.0-only
/* sysfs.c - tunables and counters, see Documentation/ABI/testing/sysfs-class-misc-mafc */
#include <linux/device.h>
#include <linux/kstrtox.h>
#include <linux/sysfs.h>
#include "mafc.h"

unsigned int mafc_enable = 1;		/* whether the compactor works at all */
unsigned int mafc_threshold_percent = 5; /* fragmentation from which on it works on a heap */
unsigned int mafc_budget_percent = 1;	/* CPU time it may use, of one CPU; 0 switches it off */
unsigned int mafc_interval_ms = 1000;	/* between two visits to a heap that changes */
unsigned int mafc_medium_percent = 10;	/* bounds of the model's states */
unsigned int mafc_high_percent = 25;

static ssize_t store_uint(const char *buf, size_t count, unsigned int *value,
			  unsigned int min, unsigned int max)
{
	unsigned int v;
	int err = kstrtouint(buf, 10, &v);

	if (err)
		return err;
	if (v < min || v > max)
		return -EINVAL;
	WRITE_ONCE(*value, v);
	mafc_compactor_kick();
	return count;
}

#define SHOW(name, value)						\
static ssize_t name##_show(struct device *dev, struct device_attribute *attr, char *buf) \
{									\
	return sysfs_emit(buf, "%llu\n", (u64)(value));			\
}

#define TUNABLE(name, min, max)						\
SHOW(name, READ_ONCE(mafc_##name))					\
static ssize_t name##_store(struct device *dev, struct device_attribute *attr, \
			    const char *buf, size_t count)		\
{									\
	return store_uint(buf, count, &mafc_##name, min, max);		\
}									\
static DEVICE_ATTR_RW(name);

#define TUNABLES(T)							\
	T(enable, 0, 1) T(threshold_percent, 0, 100) T(budget_percent, 0, 100) \
	T(interval_ms, 1, 3600000) T(medium_percent, 0, 100) T(high_percent, 0, 100)

#define ATTRIBUTE(name, ...)	&dev_attr_##name.attr,

TUNABLES(TUNABLE)
static struct attribute *tunables[] = { TUNABLES(ATTRIBUTE) NULL };
static const struct attribute_group tunables_group = { .attrs = tunables };

#define COUNTER(name, value)						\
SHOW(name, value)							\
static DEVICE_ATTR_RO(name);

#define TOTAL(name)	atomic64_read(&mafc_total[MAFC_N_##name])

#define COUNTERS(C)							\
	C(heaps, READ_ONCE(mafc_heaps_count))				\
	C(faults, TOTAL(FAULTS)) C(cow_copies, TOTAL(COW)) C(pages_meshed, TOTAL(MESHED)) \
	C(pages_moved, TOTAL(MOVED)) C(pages_dropped, TOTAL(DROPPED)) \
	C(pages_pinned, TOTAL(PINNED)) C(compactions, TOTAL(COMPACTIONS)) C(waits, TOTAL(WAITS)) \
	C(longest_away_ns, atomic64_read(&mafc_away_max))		\
	C(compactor_cpu_ns, mafc_compactor_cpu_ns())

COUNTERS(COUNTER)
static struct attribute *counters[] = { COUNTERS(ATTRIBUTE) NULL };
static const struct attribute_group counters_group = { .name = "counters", .attrs = counters };

static ssize_t held_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	ssize_t len = 0;
	int nid;

	for (nid = 0; nid < nr_node_ids; nid++)
		len += sysfs_emit_at(buf, len, "%lu%c", PAGE_SIZE *
				     atomic_long_read(&mafc_node_frames[nid]),
				     nid + 1 < nr_node_ids ? ' ' : '\n');
	return len;
}
static DEVICE_ATTR_RO(held);

static struct attribute *nodes[] = { &dev_attr_held.attr, NULL };
static const struct attribute_group nodes_group = { .name = "nodes", .attrs = nodes };

const struct attribute_group *mafc_sysfs_groups[] = {
	&tunables_group, &counters_group, &nodes_group, NULL
};
