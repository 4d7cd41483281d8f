// SPDX-License-Identifier: GPL-2.0-only
/*
 * memcg.c - who pays, and what happens at a limit
 */
#include <sys/prctl.h>
#include <sys/resource.h>

#include "cgroup.h"
#include "test.h"

#define MB		(1024 * 1024UL)
#define PAGES_OF(mb)	((mb) * MB / PAGE)

FIXTURE(memcg) {
	struct cgroup cg, other;
	uint64_t heaps;
};

FIXTURE_SETUP(memcg)
{
	if (access("/dev/mafc", F_OK))
		SKIP(return, "no /dev/mafc");
	if (cgroup_make(&self->cg, "memcg"))
		SKIP(return, "no memory cgroup");
	ASSERT_EQ(0, cgroup_make(&self->other, "memcg2"));
	self->heaps = counter("heaps");
}

FIXTURE_TEARDOWN(memcg)
{
	cgroup_remove(&self->cg);
	cgroup_remove(&self->other);
	EXPECT_TRUE(WAIT_FOR(5000, counter("heaps") == self->heaps));
}

/* A step in a process in the group; 0 is well. */
#define IN_GROUP(group, stmt) ({					\
	pid_t _pid = fork();						\
									\
	if (!_pid) {							\
		struct heap h;						\
									\
		prctl(PR_SET_PDEATHSIG, SIGKILL);			\
		if (cgroup_enter(group) || heap_open(&h, 0))		\
			_exit(77);					\
		stmt;							\
		_exit(0);						\
	}								\
	_pid;								\
})

static void touch(struct heap *h, unsigned int mb)
{
	unsigned int i;

	map_set(h->large_map, 0, PAGES_OF(mb));
	for (i = 0; i < PAGES_OF(mb); i++)
		h->large[i * PAGE] = 1;
}

static void *stay(struct heap *h, int fd, int answer)
{
	pass(answer);
	await(fd);
	return h;
}

static uint64_t held(pid_t pid)
{
	struct mafc_stat st = { .size = sizeof(st), .pid = pid };
	int fd = open("/dev/mafc", O_RDWR | O_CLOEXEC);
	int err = ioctl(fd, MAFC_IOC_STAT, &st);

	close(fd);
	return err ? 0 : st.held;
}

/* What is held is charged, to whoever touched it, and comes back. */
TEST_F_TIMEOUT(memcg, charges, 60 * SLOW)
{
	uint64_t bytes, kernel, start;
	struct gate g;
	pid_t pid;

	ASSERT_EQ(0, gate_open(&g));
	pid = IN_GROUP(&self->cg, ({
		stay(&h, g.in[0], g.out[1]);
		touch(&h, 24);
		stay(&h, g.in[0], g.out[1]);
		heap_release(&h, 0, PAGES_OF(16), NULL);
		heap_compact(&h, 0, NULL);
		heap_compact(&h, 0, NULL);
		stay(&h, g.in[0], g.out[1]);
	}));
	await(g.out[0]);
	start = cgroup_kernel_bytes(&self->cg);
	pass(g.in[1]);
	await(g.out[0]);
	bytes = held(pid);
	EXPECT_LE(24 * MB, bytes);
	EXPECT_GE(27 * MB, bytes);
	/* Counters of a group are summed up every two seconds or so. */
	EXPECT_TRUE(WAIT_FOR(8000, (kernel = cgroup_kernel_bytes(&self->cg)) >= start + bytes * 97 / 100 &&
			     kernel <= start + bytes * 105 / 100 + MB))
		TH_LOG("%llu held, %llu charged, %llu before",
		       (unsigned long long)bytes, (unsigned long long)kernel,
		       (unsigned long long)start);
	EXPECT_LE(bytes, cgroup_get(&self->cg, "memory.current") + MB);
	pass(g.in[1]);
	await(g.out[0]);
	bytes = held(pid);
	EXPECT_GE(11 * MB, bytes);
	EXPECT_TRUE(WAIT_FOR(8000, (kernel = cgroup_kernel_bytes(&self->cg)) <= start + bytes * 105 / 100 + MB))
		TH_LOG("%llu held, %llu charged", (unsigned long long)bytes,
		       (unsigned long long)kernel);
	pass(g.in[1]);
	EXPECT_EQ(0, child_status(pid));
	EXPECT_TRUE(WAIT_FOR(10000, cgroup_kernel_bytes(&self->cg) < MB / 2))
		TH_LOG("%llu", (unsigned long long)cgroup_kernel_bytes(&self->cg));
}

static void touch_small(struct heap *h, unsigned int mb)
{
	unsigned int i;

	for (i = 0; i < PAGES_OF(mb); i++) {
		span_make(h, i, 512, 8, 1);
		block_fill(block_alloc(h, i, i % 8), 512, i, 1);
		span_detach(h, i);
	}
}

static void *compact_all(void *arg)
{
	for (;;)
		heap_compact(arg, MAFC_COMPACT_SHUFFLE, NULL);
	return NULL;
}

FIXTURE(limit) {
	struct cgroup cg, other;
	uint64_t heaps;
};

FIXTURE_VARIANT(limit) {
	bool small;		/* which region */
	bool compact;		/* while a thread compacts */
	bool fork;		/* by copies after fork */
};

FIXTURE_VARIANT_ADD(limit, large) { };
FIXTURE_VARIANT_ADD(limit, small) { .small = true };
FIXTURE_VARIANT_ADD(limit, compacting) { .compact = true };
FIXTURE_VARIANT_ADD(limit, copying) { .fork = true };

FIXTURE_SETUP(limit)
{
	memcg_setup(_metadata, (void *)self, NULL);
}

FIXTURE_TEARDOWN(limit)
{
	memcg_teardown(_metadata, (void *)self, NULL);
}

/* Over the limit the group's OOM killer acts, in the group, and soon. */
TEST_F_TIMEOUT(limit, kills_inside, 100 * SLOW)
{
	uint64_t start = now_ms();
	pid_t pid, beside;
	struct gate g;
	struct heap mine;

	ASSERT_EQ(0, heap_open(&mine, 0));
	touch(&mine, 4);
	ASSERT_EQ(0, gate_open(&g));
	ASSERT_EQ(0, cgroup_set(&self->cg, "memory.max", "24M"));
	cgroup_set(&self->cg, "memory.swap.max", "0");
	/* One that is in no danger, in the group beside it. */
	beside = fork();
	if (!beside) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (cgroup_enter(&self->other))
			_exit(77);
		stay(&mine, g.in[0], g.out[1]);
		touch(&mine, 40);
		_exit(mine.large[30 * MB] != 1);
	}
	pid = fork();
	if (!pid) {
		pthread_t t;
		struct heap h;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* The heap of fork, or one of its own. */
		heap_close(&mine);
		if (heap_open(&h, 0))
			_exit(77);
		if (variant->fork)
			touch(&h, 40);
		if (variant->fork && fork())
			for (;;)
				pause();
		if (cgroup_enter(&self->cg))
			_exit(77);
		if (variant->compact)
			pthread_create(&t, NULL, compact_all, &h);
		if (variant->small)
			touch_small(&h, 40);
		else
			touch(&h, 40);
		_exit(0);
	}
	if (variant->fork) {
		EXPECT_TRUE(WAIT_FOR(60000, cgroup_key(&self->cg, "memory.events", "oom_kill") == 1));
		kill(pid, SIGKILL);
	}
	EXPECT_EQ(1000 + SIGKILL, child_status(pid));
	TH_LOG("killed after %llu ms", (unsigned long long)(now_ms() - start));
	EXPECT_EQ(1, cgroup_key(&self->cg, "memory.events", "oom_kill"));
	EXPECT_EQ(0, cgroup_key(&self->other, "memory.events", "oom_kill"));
	await(g.out[0]);
	pass(g.in[1]);
	EXPECT_EQ(0, child_status(beside));
	EXPECT_TRUE(WAIT_FOR(10000, cgroup_kernel_bytes(&self->cg) < MB));
	heap_close(&mine);
}

/*
 * The compactor works on a heap whose group is at its limit, and must not be
 * the one who goes over it.
 */
TEST_F_TIMEOUT(memcg, compaction_at_the_limit, 60 * SLOW)
{
	char limit[32];
	struct gate g;
	pid_t pid;

	ASSERT_EQ(0, gate_open(&g));
	pid = IN_GROUP(&self->cg, ({
		struct mafc_stat st;

		heap_policy(&h, false);
		touch_small(&h, 16);
		stay(&h, g.in[0], g.out[1]);
		/* As the kthread goes about it, and by a call. */
		heap_policy(&h, true);
		if (!WAIT_FOR(20000, !heap_stat(&h, &st) && st.meshed > 1000))
			_exit(1);
		if (heap_compact(&h, 0, NULL))
			_exit(2);
		for (unsigned int i = 0; i < PAGES_OF(16); i++)
			if (block_check(block_at(&h, i, i % 8), 512, i, 1) >= 0)
				_exit(3);
	}));
	await(g.out[0]);
	tunable_set("interval_ms", "50");
	tunable_set("budget_percent", "50");
	snprintf(limit, sizeof(limit), "%llu", (unsigned long long)
		 cgroup_get(&self->cg, "memory.current") + 256 * 1024);
	ASSERT_EQ(0, cgroup_set(&self->cg, "memory.max", limit));
	pass(g.in[1]);
	EXPECT_EQ(0, child_status(pid));
	EXPECT_EQ(0, cgroup_key(&self->cg, "memory.events", "oom_kill"));
	tunable_set("interval_ms", "1000");
	tunable_set("budget_percent", "1");
}

/* Copies after fork are charged to who writes. */
TEST_F_TIMEOUT(memcg, child_in_another_group, 60 * SLOW)
{
	uint64_t mine, his, before;
	struct gate g;
	struct heap *own;
	pid_t pid, child;

	ASSERT_EQ(0, gate_open(&g));
	pid = IN_GROUP(&self->cg, ({
		own = &h;
		touch(own, 16);
		child = fork();
		if (!child) {
			if (cgroup_enter(&self->other))
				_exit(1);
			stay(own, g.in[0], g.out[1]);
			touch(own, 16);
			stay(own, g.in[0], g.out[1]);
			_exit(0);
		}
		_exit(child_status(child));
	}));
	await(g.out[0]);
	WAIT_FOR(5000, cgroup_kernel_bytes(&self->cg) >= 16 * MB);
	mine = cgroup_kernel_bytes(&self->cg);
	before = cgroup_kernel_bytes(&self->other);
	EXPECT_GE(MB, before);
	pass(g.in[1]);
	await(g.out[0]);
	EXPECT_TRUE(WAIT_FOR(8000, (his = cgroup_kernel_bytes(&self->other)) >= 16 * MB));
	EXPECT_GE(18 * MB, his);
	EXPECT_GE(mine + MB, cgroup_kernel_bytes(&self->cg));
	pass(g.in[1]);
	EXPECT_EQ(0, child_status(pid));
	EXPECT_TRUE(WAIT_FOR(10000, cgroup_kernel_bytes(&self->other) < MB &&
			     cgroup_kernel_bytes(&self->cg) < MB));
}

/* memory.high makes it slower, and no more than that. */
TEST_F_TIMEOUT(memcg, high, 60 * SLOW)
{
	pid_t pid;

	ASSERT_EQ(0, cgroup_set(&self->cg, "memory.high", "12M"));
	pid = IN_GROUP(&self->cg, touch(&h, 13));
	EXPECT_EQ(0, child_status(pid));
	EXPECT_LT(0, cgroup_key(&self->cg, "memory.events", "high"));
	EXPECT_EQ(0, cgroup_key(&self->cg, "memory.events", "oom_kill"));
}

HEAP_FIXTURE(locks)

/* Pinned in memory they are, but neither sparse regions nor compaction stop. */
TEST_F(locks, mlockall)
{
	struct heap *h = &self->h;
	struct mafc_compact c;
	struct mafc_stat st;
	unsigned int i;

	map_set(h->small_map, 0, 64);
	map_set(h->large_map, 1000, 64);
	memset(h->small, 1, 32 * PAGE);
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		SKIP(return, "mlockall: %s", strerror(errno));
	/* What was handed out is there; what was not is no reason to fail. */
	ASSERT_EQ(0, heap_stat(h, &st));
	EXPECT_GE(8 * MB, st.held);
	memset(h->large + 1000 * PAGE, 2, 64 * PAGE);
	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, heap_compact(h, MAFC_COMPACT_SHUFFLE, &c));
		EXPECT_LE(64, c.moved);
	}
	for (i = 0; i < 32 * PAGE; i++)
		if (h->small[i] != 1)
			break;
	EXPECT_EQ(32 * PAGE, i);
	EXPECT_EQ(0, munlockall());
	ASSERT_EQ(0, heap_compact(h, MAFC_COMPACT_SHUFFLE, &c));
	EXPECT_LE(64, c.moved);
	EXPECT_EQ(0, mlock(h->small, 32 * PAGE));
	EXPECT_EQ(0, munlock(h->small, 32 * PAGE));
}

/* Address space that is not to be had is ENOMEM, and can be had later. */
static int with_less_address_space(void *arg)
{
	struct rlimit was, now;
	struct heap h;

	if (getrlimit(RLIMIT_AS, &was))
		return 1;
	now = was;
	now.rlim_cur = 200 * MB;	/* one region of two */
	if (setrlimit(RLIMIT_AS, &now))
		return 2;
	if (heap_open(&h, 0) != ENOMEM)
		return 3;
	close(h.fd);
	if (h.small && h.small != MAP_FAILED)
		munmap(h.small, h.setup.small_pages * PAGE);
	munmap(h.meta, h.setup.meta_bytes);
	if (setrlimit(RLIMIT_AS, &was))
		return 4;
	if (heap_open(&h, 0))
		return 5;
	touch(&h, 1);
	return 0;
}

TEST(address_space_limit)
{
	if (access("/dev/mafc", F_OK))
		SKIP(return, "no /dev/mafc");
	EXPECT_EQ(0, child_status(spawn(with_less_address_space, NULL)));
}

TEST_HARNESS_MAIN
