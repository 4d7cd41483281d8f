// SPDX-License-Identifier: GPL-2.0-only
/*
 * shrink.c - what a heap holds in reserve goes back when memory gets short
 */
#include "cgroup.h"
#include "test.h"

#define MB	(1024 * 1024UL)
#define PAGES	4096U	/* 16 MiB of which every second page is given up */

FIXTURE(shrink) {
	struct cgroup cg[2];
	struct gate gate[2];
	pid_t pid[2];
	uint64_t interval;
};

static uint64_t cached(pid_t pid)
{
	struct mafc_stat st = { .size = sizeof(st), .pid = pid };
	int fd = open("/dev/mafc", O_RDWR | O_CLOEXEC);
	int err = ioctl(fd, MAFC_IOC_STAT, &st);

	close(fd);
	return err ? UINT64_MAX : st.cached;
}

static void step(struct gate *g)
{
	pass(g->in[1]);
	await(g->out[0]);
}

/* A heap of many holes that the compactor leaves alone; looks at what is left. */
static int holes(const struct cgroup *cg, struct gate *g)
{
	struct heap h;
	unsigned int i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (cgroup_enter(cg) || heap_open(&h, 0) || heap_policy(&h, false))
		return 1;
	await(g->in[0]);
	map_set(h.large_map, 0, PAGES);
	for (i = 0; i < PAGES; i++)
		block_fill(h.large + i * PAGE, PAGE, i, 1);
	for (i = 0; i < PAGES; i += 2)
		if (heap_release(&h, i, 1, NULL))
			return 3;
	pass(g->out[1]);
	await(g->in[0]);
	for (i = 0; i < PAGES; i++)
		if (i & 1 ? block_check(h.large + i * PAGE, PAGE, i, 1) >= 0 :
			    *(uint64_t *)(h.large + i * PAGE))
			return 5;
	return 0;
}

FIXTURE_SETUP(shrink)
{
	unsigned int i;

	if (access("/dev/mafc", F_OK))
		SKIP(return, "no /dev/mafc");
	self->interval = tunable("interval_ms");
	for (i = 0; i < 2; i++) {
		if (cgroup_make(&self->cg[i], i ? "shrink2" : "shrink"))
			SKIP(return, "no memory cgroup");
		ASSERT_EQ(0, gate_open(&self->gate[i]));
		self->pid[i] = fork();
		if (!self->pid[i])
			_exit(holes(&self->cg[i], &self->gate[i]));
		step(&self->gate[i]);
		ASSERT_LT(PAGES / 4 * PAGE, cached(self->pid[i]));
	}
}

FIXTURE_TEARDOWN(shrink)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		if (self->pid[i]) {
			EXPECT_EQ(1, write(self->gate[i].in[1], "x", 1));
			EXPECT_EQ(0, child_status(self->pid[i]));
		}
		cgroup_remove(&self->cg[i]);
	}
	tunable_set_u64("interval_ms", self->interval);
}

/* A group over its limit gets its own reserves back, and nobody is killed. */
TEST_F_TIMEOUT(shrink, cgroup_limit, 60 * SLOW)
{
	uint64_t mine = cached(self->pid[0]), others = cached(self->pid[1]);
	char limit[32];

	snprintf(limit, sizeof(limit), "%llu", (unsigned long long)
		 (cgroup_get(&self->cg[0], "memory.current") - 5 * MB));
	ASSERT_EQ(0, cgroup_set(&self->cg[0], "memory.max", limit));
	TH_LOG("%llu KiB in reserve, then %llu", (unsigned long long)mine / 1024,
	       (unsigned long long)cached(self->pid[0]) / 1024);
	EXPECT_GE(mine - 4 * MB, cached(self->pid[0]));
	EXPECT_EQ(others, cached(self->pid[1]));
	EXPECT_EQ(0, cgroup_key(&self->cg[0], "memory.events", "oom_kill"));
	/* So that all can be read once more. */
	EXPECT_EQ(0, cgroup_set(&self->cg[0], "memory.max", "max"));
}

/* Without a limit, by request. */
TEST_F_TIMEOUT(shrink, cgroup_reclaim, 60 * SLOW)
{
	uint64_t mine = cached(self->pid[0]), others = cached(self->pid[1]);

	if (cgroup_set(&self->cg[0], "memory.reclaim", "1M") == ENOENT)
		SKIP(return, "no memory.reclaim");
	TH_LOG("%llu KiB in reserve, then %llu", (unsigned long long)mine / 1024,
	       (unsigned long long)cached(self->pid[0]) / 1024);
	EXPECT_GE(mine - MB, cached(self->pid[0]));
	EXPECT_EQ(others, cached(self->pid[1]));
}

/* The whole system: everybody's. */
TEST_F_TIMEOUT(shrink, drop_caches, 60 * SLOW)
{
	ASSERT_EQ(0, file_write("/proc/sys/vm/drop_caches", "2"));
	TH_LOG("%llu and %llu KiB left",
	       (unsigned long long)cached(self->pid[0]) / 1024,
	       (unsigned long long)cached(self->pid[1]) / 1024);
	EXPECT_GE(MB, cached(self->pid[0]));
	EXPECT_GE(MB, cached(self->pid[1]));
}

/* Pressure is when the compactor comes at once. */
TEST_F_TIMEOUT(shrink, urgent_compaction, 60 * SLOW)
{
	const uint32_t spans = 256;
	struct mafc_stat st;
	struct heap h;
	uint32_t i;

	ASSERT_EQ(0, tunable_set("interval_ms", "3600000"));
	ASSERT_EQ(0, heap_open(&h, 0));
	/* Pressure that is not ours may bring the compactor at any time: not yet. */
	ASSERT_EQ(0, heap_policy(&h, false));
	sleep_ms(3000);		/* the visit that was due already */
	for (i = 0; i < spans; i++) {
		span_make(&h, i, 256, 16, 1);
		block_fill(block_alloc(&h, i, i % 16), 256, i, 1);
		span_detach(&h, i);
	}
	sleep_ms(2000);
	ASSERT_EQ(0, heap_stat(&h, &st));
	ASSERT_EQ(0, st.meshed);
	ASSERT_EQ(0, heap_policy(&h, true));
	ASSERT_EQ(0, file_write("/proc/sys/vm/drop_caches", "2"));
	EXPECT_TRUE(WAIT_FOR(20000, !heap_stat(&h, &st) && st.meshed >= spans / 2));
	for (i = 0; i < spans; i++)
		EXPECT_EQ(-1, block_check(block_at(&h, i, i % 16), 256, i, 1));
	heap_close(&h);
}

TEST_HARNESS_MAIN
