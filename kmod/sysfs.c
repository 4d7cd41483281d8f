// SPDX-License-Identifier: GPL-2.0-only
/*
 * sysfs.c - tunables and counters under /sys/class/misc/mafc
 *
 * Documentation/ABI/testing/sysfs-class-misc-mafc describes each file.
 */
#include <linux/device.h>
#include <linux/kstrtox.h>
#include <linux/sysfs.h>

#include "mafc.h"

/* Whether the compactor works at all. */
bool mafc_enable = true;

/* External fragmentation, per cent, from which on it works on a heap. */
unsigned int mafc_threshold_percent = 5;

/* CPU time it may use, in per cent of one CPU; 0 switches it off. */
unsigned int mafc_budget_percent = 1;

/* Time between two visits to a heap that changes, milliseconds. */
unsigned int mafc_interval_ms = 1000;

/* Bounds of the states Low, Medium and High of the model, per cent. */
unsigned int mafc_medium_percent = 10;
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

#define TUNABLE(name, min, max)						\
static ssize_t name##_show(struct device *dev,				\
			   struct device_attribute *attr, char *buf)	\
{									\
	return sysfs_emit(buf, "%u\n", READ_ONCE(mafc_##name));		\
}									\
static ssize_t name##_store(struct device *dev,				\
			    struct device_attribute *attr,		\
			    const char *buf, size_t count)		\
{									\
	return store_uint(buf, count, &mafc_##name, min, max);		\
}									\
static DEVICE_ATTR_RW(name)

TUNABLE(threshold_percent, 0, 100);
TUNABLE(budget_percent, 0, 100);
TUNABLE(interval_ms, 1, 3600000);
TUNABLE(medium_percent, 0, 100);
TUNABLE(high_percent, 0, 100);

static ssize_t enable_show(struct device *dev, struct device_attribute *attr,
			   char *buf)
{
	return sysfs_emit(buf, "%d\n", READ_ONCE(mafc_enable));
}

static ssize_t enable_store(struct device *dev, struct device_attribute *attr,
			    const char *buf, size_t count)
{
	bool v;
	int err = kstrtobool(buf, &v);

	if (err)
		return err;
	WRITE_ONCE(mafc_enable, v);
	mafc_compactor_kick();
	return count;
}
static DEVICE_ATTR_RW(enable);

static struct attribute *tunables[] = {
	&dev_attr_enable.attr,
	&dev_attr_threshold_percent.attr,
	&dev_attr_budget_percent.attr,
	&dev_attr_interval_ms.attr,
	&dev_attr_medium_percent.attr,
	&dev_attr_high_percent.attr,
	NULL,
};

static const struct attribute_group tunables_group = {
	.attrs = tunables,
};

#define COUNTER(name, value)						\
static ssize_t name##_show(struct device *dev,				\
			   struct device_attribute *attr, char *buf)	\
{									\
	return sysfs_emit(buf, "%llu\n", (u64)(value));			\
}									\
static DEVICE_ATTR_RO(name)

COUNTER(heaps, mafc_heaps_count());
COUNTER(faults, atomic64_read(&mafc_total[MAFC_N_FAULTS]));
COUNTER(cow_copies, atomic64_read(&mafc_total[MAFC_N_COW]));
COUNTER(pages_meshed, atomic64_read(&mafc_total[MAFC_N_MESHED]));
COUNTER(pages_moved, atomic64_read(&mafc_total[MAFC_N_MOVED]));
COUNTER(pages_dropped, atomic64_read(&mafc_total[MAFC_N_DROPPED]));
COUNTER(pages_pinned, atomic64_read(&mafc_total[MAFC_N_PINNED]));
COUNTER(compactions, atomic64_read(&mafc_total[MAFC_N_COMPACTIONS]));
COUNTER(waits, atomic64_read(&mafc_total[MAFC_N_WAITS]));
COUNTER(longest_away_ns, atomic64_read(&mafc_away_max));
COUNTER(compactor_cpu_ns, mafc_compactor_cpu_ns());

static struct attribute *counters[] = {
	&dev_attr_heaps.attr,
	&dev_attr_faults.attr,
	&dev_attr_cow_copies.attr,
	&dev_attr_pages_meshed.attr,
	&dev_attr_pages_moved.attr,
	&dev_attr_pages_dropped.attr,
	&dev_attr_pages_pinned.attr,
	&dev_attr_compactions.attr,
	&dev_attr_waits.attr,
	&dev_attr_longest_away_ns.attr,
	&dev_attr_compactor_cpu_ns.attr,
	NULL,
};

static const struct attribute_group counters_group = {
	.name = "counters",
	.attrs = counters,
};

const struct attribute_group *mafc_sysfs_groups[] = {
	&tunables_group,
	&counters_group,
	NULL,
};
