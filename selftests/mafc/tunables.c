// SPDX-License-Identifier: GPL-2.0-only
/*
 * tunables.c - the files in sysfs, and what the compactor makes of them
 */
#include <dirent.h>
#include <sys/prctl.h>

#include "cgroup.h"
#include "test.h"

static const struct {
	const char *name;
	uint64_t min, max;
} files[] = {
	{ "enable", 0, 1 },
	{ "threshold_percent", 0, 100 },
	{ "budget_percent", 0, 100 },
	{ "interval_ms", 1, 3600000 },
	{ "medium_percent", 0, 100 },
	{ "high_percent", 0, 100 },
};

#define FILES (sizeof(files) / sizeof(files[0]))

FIXTURE(tunables) {
	struct heap h;
	uint64_t was[FILES];
};

FIXTURE_SETUP(tunables)
{
	unsigned int i;

	if (access("/dev/mafc", F_OK))
		SKIP(return, "no /dev/mafc");
	if (geteuid())
		SKIP(return, "not root");
	for (i = 0; i < FILES; i++)
		self->was[i] = tunable(files[i].name);
	ASSERT_EQ(0, heap_open(&self->h, 0));
}

FIXTURE_TEARDOWN(tunables)
{
	unsigned int i;

	for (i = 0; i < FILES; i++)
		tunable_set_u64(files[i].name, self->was[i]);
	heap_close(&self->h);
}

TEST_F(tunables, ranges)
{
	const char *bad[] = { "", " ", "x", "-1", "-0x1", "1 2", "1.5", "%",
		"99999999999999999999", "4294967296", "4294967297",
		"18446744073709551616" };
	unsigned int i, k;
	uint64_t value;

	for (i = 0; i < FILES; i++) {
		const char *name = files[i].name;

		ASSERT_NE(UINT64_MAX, tunable(name)) TH_LOG("%s", name);
		EXPECT_EQ(0, tunable_set_u64(name, files[i].min)) TH_LOG("%s", name);
		EXPECT_EQ(files[i].min, tunable(name));
		EXPECT_EQ(0, tunable_set_u64(name, files[i].max)) TH_LOG("%s", name);
		EXPECT_EQ(files[i].max, tunable(name));
		value = tunable(name);
		if (i)	/* a switch takes more than numbers: y, off, ... */
			EXPECT_EQ(EINVAL, tunable_set_u64(name, files[i].max + 1))
				TH_LOG("%s", name);
		if (files[i].min)
			EXPECT_EQ(EINVAL, tunable_set_u64(name, files[i].min - 1))
				TH_LOG("%s", name);
		for (k = 0; k < sizeof(bad) / sizeof(bad[0]); k++) {
			if (!bad[k][0] || (!i && bad[k][0] == '1'))
				continue;
			EXPECT_NE(0, tunable_set(name, bad[k]))
				TH_LOG("%s takes %s", name, bad[k]);
		}
		EXPECT_EQ(value, tunable(name)) TH_LOG("%s", name);
		EXPECT_EQ(0, tunable_set_u64(name, self->was[i]));
	}
}

/* Whatever is there is a number that fits on a line, and guarded. */
static int look_at_all(const char *dir, unsigned int *n, unsigned int *writable)
{
	struct dirent *e;
	char path[512], buf[64];
	struct stat sb;
	DIR *d = opendir(dir);
	int bad = 0, len;

	while (d && (e = readdir(d))) {
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (lstat(path, &sb) || !S_ISREG(sb.st_mode) ||
		    !strcmp(e->d_name, "uevent") || !strcmp(e->d_name, "dev"))
			continue;
		len = file_read(path, buf, sizeof(buf));
		if (len < 2 || buf[len - 1] != '\n' ||
		    strspn(buf, "0123456789") != (size_t)len - 1) {
			printf("# %s: %s\n", path, buf);
			bad++;
		}
		++*n;
		if (sb.st_mode & 0022) {
			printf("# %s: others may write\n", path);
			bad++;
		}
		if (sb.st_mode & 0200) {
			++*writable;
			if (!file_write(path, "?")) {
				printf("# %s takes nonsense\n", path);
				bad++;
			}
		} else if (!file_write(path, "1")) {
			printf("# %s is not to be written\n", path);
			bad++;
		}
	}
	if (d)
		closedir(d);
	return d ? bad : 1;
}

TEST_F(tunables, all_files)
{
	unsigned int n = 0, writable = 0, none = 0;

	EXPECT_EQ(0, look_at_all(SYSFS, &n, &writable));
	EXPECT_LE(FILES, writable);
	n = 0;
	EXPECT_EQ(0, look_at_all(SYSFS "counters", &n, &none));
	EXPECT_LE(11, n);
	EXPECT_EQ(0, none);
}

static int write_as_nobody(void *arg)
{
	if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
		return 255;
	return tunable_set("budget_percent", "100") ? 0 : 1;
}

TEST_F(tunables, not_for_everybody)
{
	EXPECT_EQ(0, child_status(spawn(write_as_nobody, NULL)));
}

/* Pages that the kthread should drop: @n of them. */
static void make_waste(struct heap *h, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		span_make(h, i, 4096, 1, 1);
		block_alloc(h, i, 0);
		h->small[i * PAGE] = 1;
		block_free(h, i, 0);
	}
}

static uint64_t dropped(struct heap *h)
{
	struct mafc_stat st;

	return heap_stat(h, &st) ? UINT64_MAX : st.dropped;
}

static void fast(void)
{
	tunable_set("interval_ms", "20");
	tunable_set("budget_percent", "50");
	tunable_set("enable", "1");
}

/* Each way to switch it off, in turn; the call works all the same. */
TEST_F_TIMEOUT(tunables, switched_off, 60)
{
	struct heap *h = &self->h;
	struct mafc_compact c;
	unsigned int i;
	uint64_t was;

	for (i = 0; i < 3; i++) {
		fast();
		if (i == 0)
			tunable_set("enable", "0");
		if (i == 1)
			tunable_set("budget_percent", "0");
		ASSERT_EQ(0, heap_policy(h, i != 2));
		sleep_ms(200);
		was = dropped(h);
		make_waste(h, 50);
		sleep_ms(1500);
		EXPECT_EQ(was, dropped(h)) TH_LOG("way %u", i);
		ASSERT_EQ(0, heap_compact(h, 0, &c));
		EXPECT_EQ(50, c.dropped);
		make_waste(h, 50);
		sleep_ms(300);
		EXPECT_EQ(was + 50, dropped(h)) TH_LOG("way %u", i);
		/* And on again. */
		fast();
		ASSERT_EQ(0, heap_policy(h, true));
		EXPECT_TRUE(WAIT_FOR(20000, dropped(h) == was + 100))
			TH_LOG("way %u", i);
	}
}

/* Below the threshold spans are left as they are. */
TEST_F_TIMEOUT(tunables, threshold, 60)
{
	struct heap *h = &self->h;
	struct mafc_stat st;
	unsigned int i;

	ASSERT_EQ(0, heap_policy(h, false));
	for (i = 0; i < 200; i++) {
		span_make(h, i, 512, 8, 1);
		memset(block_alloc(h, i, i % 8), 1, 512);
		span_detach(h, i);
	}
	fast();
	ASSERT_EQ(0, tunable_set("high_percent", "100"));
	ASSERT_EQ(0, tunable_set("medium_percent", "100"));
	ASSERT_EQ(0, tunable_set("threshold_percent", "100"));
	ASSERT_EQ(0, heap_policy(h, true));
	sleep_ms(1500);
	ASSERT_EQ(0, heap_stat(h, &st));
	EXPECT_EQ(0, st.meshed);
	ASSERT_EQ(0, tunable_set("threshold_percent", "5"));
	EXPECT_TRUE(WAIT_FOR(20000, !heap_stat(h, &st) && st.meshed >= 175));
}

struct churn {
	struct heap *h;
	atomic_bool stop;
};

/*
 * Work for the compactor that never ends: pages come and go.  In bursts, as
 * flushing the TLB of a processor that is at work takes an emulator so long that
 * the steps between two looks at the clock would get too large to tell anything.
 */
static void *churn(void *arg)
{
	struct churn *c = arg;
	unsigned int first = 0, i;

	while (!atomic_load(&c->stop)) {
		for (i = first; i < first + 256; i++) {
			block_alloc(c->h, i, 0);
			c->h->small[i * PAGE] = 1;
			block_free(c->h, i, 0);
		}
		first = (first + 256) % 4096;
		sleep_ms(10);
	}
	return NULL;
}

FIXTURE(budget) {
	struct heap h;
	uint64_t was[FILES];
};

FIXTURE_VARIANT(budget) {
	const char *percent;
	unsigned int p, seconds;
};

FIXTURE_VARIANT_ADD(budget, of_1_percent) { "1", 1, 10 };
FIXTURE_VARIANT_ADD(budget, of_5_percent) { "5", 5, 8 };
FIXTURE_VARIANT_ADD(budget, of_50_percent) { "50", 50, 5 };

FIXTURE_SETUP(budget)
{
	tunables_setup(_metadata, (void *)self, NULL);
}

FIXTURE_TEARDOWN(budget)
{
	tunables_teardown(_metadata, (void *)self, NULL);
}

/* CPU time over some seconds: what was saved up in one second may come on top. */
TEST_F_TIMEOUT(budget, is_kept, 60)
{
	struct churn c = { .h = &self->h };
	uint64_t start, ns, ms, most, was;
	unsigned int i;
	pthread_t t;

	for (i = 0; i < 4096; i++)
		span_make(&self->h, i, 4096, 1, 1);
	ASSERT_EQ(0, pthread_create(&t, NULL, churn, &c));
	ASSERT_EQ(0, tunable_set("interval_ms", "1"));
	/* What the test before overdrew would be slept off first. */
	ASSERT_EQ(0, tunable_set("budget_percent", "100"));
	sleep_ms(1500);
	ASSERT_EQ(0, tunable_set("budget_percent", variant->percent));
	sleep_ms(1200);
	was = dropped(&self->h);
	start = now_ms();
	ns = counter("compactor_cpu_ns");
	sleep_ms(variant->seconds * 1000);
	ns = counter("compactor_cpu_ns") - ns;
	ms = now_ms() - start;
	was = dropped(&self->h) - was;
	atomic_store(&c.stop, true);
	pthread_join(t, NULL);
	most = variant->p * (ms + 1000) * 10000;
	TH_LOG("%llu.%03llu %% of one CPU, %llu pages dropped",
	       (unsigned long long)(ns / 10000 / ms),
	       (unsigned long long)(ns / 10 / ms % 1000),
	       (unsigned long long)was);
	EXPECT_LE(ns, most + most / 4 + 60 * 1000000);
	/* There was enough to do to use a good part of it. */
	EXPECT_LE((uint64_t)variant->p * ms * 10000 / 8, ns);
	EXPECT_LT(0, was);
}

/* Spans with one block each, for the kthread to mesh. */
static void make_sparse(struct heap *h, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		span_make(h, i, 256, 16, 1);
		block_fill(block_alloc(h, i, i % 16), 256, i, 1);
		span_detach(h, i);
	}
}

static unsigned int wrong_blocks(struct heap *h, unsigned int n)
{
	unsigned int bad = 0, i;

	for (i = 0; i < n; i++)
		bad += block_check(block_at(h, i, i % 16), 256, i, 1) >= 0;
	return bad;
}

static int frozen(void *arg)
{
	struct cgroup *cg = arg;
	struct heap h;
	unsigned int k;

	if (cgroup_enter(cg) || heap_open(&h, 0))
		return 1;
	make_sparse(&h, 400);
	for (k = 0; k < 200; k++) {
		if (wrong_blocks(&h, 400))
			return 2;
		usleep(1000);
	}
	return 0;
}

/* A process in the freezer is compacted like any that sleeps. */
TEST_F_TIMEOUT(tunables, frozen_process, 60)
{
	struct mafc_stat st = { .size = sizeof(st) };
	int fd = open("/dev/mafc", O_RDWR | O_CLOEXEC);
	struct cgroup cg;
	pid_t pid;

	if (cgroup_make(&cg, "frozen"))
		SKIP(return, "no cgroup v2");
	fast();
	heap_close(&self->h);	/* the process shall have one of its own */
	pid = spawn(frozen, &cg);
	EXPECT_TRUE(WAIT_FOR(5000, counter("heaps") == 1));
	ASSERT_EQ(0, cgroup_set(&cg, "cgroup.freeze", "1"));
	ASSERT_TRUE(WAIT_FOR(5000, cgroup_key(&cg, "cgroup.events", "frozen") == 1));
	sleep_ms(1500);
	st.pid = pid;
	EXPECT_EQ(0, ioctl(fd, MAFC_IOC_STAT, &st));
	ASSERT_EQ(0, cgroup_set(&cg, "cgroup.freeze", "0"));
	EXPECT_EQ(0, child_status(pid));
	cgroup_remove(&cg);
	ASSERT_EQ(0, heap_open(&self->h, 0));
}

/* The kthread goes into the system's freezer, and comes out again. */
TEST_F_TIMEOUT(tunables, system_freezer, 60)
{
	struct heap *h = &self->h;
	struct mafc_stat st;

	if (file_write("/sys/power/pm_test", "freezer"))
		SKIP(return, "kernel without pm_test");
	file_write("/sys/module/suspend/parameters/pm_test_delay", "1");
	fast();
	make_sparse(h, 800);
	EXPECT_EQ(0, file_write("/sys/power/state", "freeze"));
	file_write("/sys/power/pm_test", "none");
	EXPECT_TRUE(WAIT_FOR(20000, !heap_stat(h, &st) && st.meshed >= 700));
	EXPECT_EQ(0, wrong_blocks(h, 800));
}

/* Processors come and go while it works. */
TEST_F_TIMEOUT(tunables, cpu_hotplug, 100)
{
	const char *cpu = "/sys/devices/system/cpu/cpu1/online";
	struct heap *h = &self->h;
	struct mafc_stat st;
	unsigned int i;

	if (access(cpu, W_OK))
		SKIP(return, "no processor to take away");
	fast();
	make_sparse(h, 800);
	for (i = 0; i < scaled(6, 2); i++) {
		ASSERT_EQ(0, file_write(cpu, i & 1 ? "1" : "0"));
		ASSERT_EQ(0, heap_compact(h, MAFC_COMPACT_SHUFFLE, NULL));
		sleep_ms(100);
		EXPECT_EQ(0, wrong_blocks(h, 800));
	}
	ASSERT_EQ(0, file_write(cpu, "1"));
	EXPECT_TRUE(WAIT_FOR(20000, !heap_stat(h, &st) && st.meshed >= 700));
	EXPECT_EQ(0, wrong_blocks(h, 800));
}

TEST_HARNESS_MAIN
