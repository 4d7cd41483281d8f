// SPDX-License-Identifier: GPL-2.0-only
/*
 * fork_kill.c - processes that end at the wrong moment
 *
 * A thousand children are forked from a process under load, write to what they
 * share, fork or exec, and are killed at a random moment.  Afterwards as many
 * heaps exist and as much memory is charged as before; that the module can be
 * unloaded is seen by who runs the tests.
 */
#include <sys/prctl.h>

#include "cgroup.h"
#include "test.h"

#define PAGES		256
#define WRITERS		2

struct load {
	struct heap *h;
	atomic_bool stop;
	_Atomic uint64_t writes;
	_Atomic uint64_t wrong;
};

struct writer {
	struct load *l;
	unsigned int id;
};

/* Each writer owns every second page, and knows what it wrote last. */
static void *write_pages(void *arg)
{
	struct writer *w = arg;
	struct load *l = w->l;
	uint64_t seed = w->id + 77, last[PAGES] = { 0 };
	unsigned int page;
	char *p;

	while (!atomic_load(&l->stop)) {
		page = (rng(&seed) % (PAGES / 2)) * 2 + w->id % 2;
		p = (page < PAGES / 2 && page % 3 ? l->h->small : l->h->large) +
		    page * PAGE;
		if (last[page] && block_check(p, 256, page, last[page]) >= 0)
			atomic_fetch_add(&l->wrong, 1);
		block_fill(p, 256, page, ++last[page]);
		if (atomic_fetch_add(&l->writes, 1) % 64 == 0)
			usleep(rng(&seed) % 500);
	}
	return NULL;
}

static void touch_some(struct heap *h, uint64_t seed, unsigned int n)
{
	unsigned int page;

	while (n--) {
		page = rng(&seed) % PAGES;
		h->small[page * PAGE + rng(&seed) % PAGE] = 1;
		h->large[page * PAGE + rng(&seed) % PAGE] = 1;
	}
}

/* What a child does until it is killed, or ends by itself. */
static void child(struct heap *h, unsigned int n)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	touch_some(h, n + 1, n % 16);
	switch (n % 4) {
	case 0:
		execl("/bin/true", "true", NULL);
		break;
	case 1:
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			touch_some(h, n, 8);
			execl("/bin/true", "true", NULL);
		}
		break;
	case 2:
		heap_compact(h, MAFC_COMPACT_SHUFFLE, NULL);
		break;
	}
	for (;;)
		touch_some(h, n, 1);
}

static int forks_under_load(struct heap *h, unsigned int n)
{
	struct load l = { .h = h };
	struct writer w[WRITERS];
	pthread_t t[WRITERS];
	uint64_t seed = 4711;
	unsigned int i;
	pid_t pid;

	for (i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){ &l, i };
		if (pthread_create(&t[i], NULL, write_pages, &w[i]))
			return 1;
	}
	for (i = 0; i < n; i++) {
		pid = fork();
		if (!pid)
			child(h, i);
		if (pid < 0)
			return 2;
		usleep(rng(&seed) % 3000);
		kill(pid, SIGKILL);
		child_status(pid);
	}
	atomic_store(&l.stop, true);
	for (i = 0; i < WRITERS; i++)
		pthread_join(t[i], NULL);
	return l.wrong ? 3 : l.writes < n ? 4 : 0;
}

static void make_spans(struct heap *h)
{
	unsigned int i;

	map_set(h->large_map, 0, PAGES);
	for (i = 0; i < PAGES; i++) {
		span_make(h, i, 256, 16, 1);
		block_alloc(h, i, i < PAGES / 2 ? 0 : i % 16);
		h->small[i * PAGE] = 0;
		h->large[i * PAGE] = 0;
		/* The second half can be meshed, and is. */
		if (i >= PAGES / 2)
			span_detach(h, i);
	}
}

struct result {
	int err;
	uint64_t held, held_after;
	uint64_t heaps_after;
};

/* The process under load, in a cgroup of its own. */
static int loaded_process(struct result *r, unsigned int n)
{
	struct mafc_stat st;
	struct heap h;

	if (heap_open(&h, 0))
		return 1;
	make_spans(&h);
	if (heap_stat(&h, &st))
		return 1;
	r->held = st.held;
	r->err = forks_under_load(&h, n);
	/* The grandchildren have their orders to die as well. */
	while (waitpid(-1, NULL, 0) > 0)
		;
	WAIT_FOR(5000, counter("heaps") == 1);
	r->heaps_after = counter("heaps");
	heap_compact(&h, 0, NULL);
	if (heap_stat(&h, &st))
		return 1;
	r->held_after = st.held;
	return 0;
}

FIXTURE(kills) {
	struct result *r;
};

FIXTURE_SETUP(kills)
{
	if (access("/dev/mafc", F_OK))
		SKIP(return, "no /dev/mafc");
	self->r = shared_alloc(sizeof(*self->r));
	ASSERT_NE(MAP_FAILED, self->r);
	/* The compactor works all the time. */
	tunable_set("budget_percent", "50");
	tunable_set("interval_ms", "5");
}

FIXTURE_TEARDOWN(kills)
{
	tunable_set("budget_percent", "1");
	tunable_set("interval_ms", "1000");
}

TEST_F_TIMEOUT(kills, thousand_forks, 250 * SLOW)
{
	const unsigned int n = 1000;
	uint64_t heaps = counter("heaps"), usage;
	struct cgroup cg;
	bool group;
	pid_t pid;

	ASSERT_EQ(0, heaps);
	group = !cgroup_make(&cg, "kills");
	pid = fork();
	if (!pid) {
		if (group && cgroup_enter(&cg))
			_exit(77);
		/* Who loses his parent is to be waited for as well. */
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		_exit(loaded_process(self->r, n));
	}
	EXPECT_EQ(0, child_status(pid));
	EXPECT_EQ(0, self->r->err);
	EXPECT_EQ(1, self->r->heaps_after);
	TH_LOG("held %llu before, %llu after",
	       (unsigned long long)self->r->held,
	       (unsigned long long)self->r->held_after);
	/* Copies that it had to make lie in new chunks: some slack. */
	EXPECT_LE(self->r->held_after, self->r->held * 2);
	EXPECT_TRUE(WAIT_FOR(5000, counter("heaps") == heaps))
		TH_LOG("%llu heaps", (unsigned long long)counter("heaps"));
	if (!group)
		SKIP(return, "no memory cgroup: its charge was not looked at");
	EXPECT_TRUE(WAIT_FOR(10000, (usage = cgroup_kernel_bytes(&cg)) < 512 * 1024))
		TH_LOG("%llu bytes charged", (unsigned long long)usage);
	cgroup_remove(&cg);
}

/* A process that ends while all its threads write and compact. */
static void *end_it(void *arg)
{
	sleep_ms((uintptr_t)arg % 7);
	if ((uintptr_t)arg % 2)
		kill(getpid(), SIGKILL);
	_exit(0);
}

static void *shuffle(void *arg)
{
	for (;;)
		heap_compact(arg, MAFC_COMPACT_SHUFFLE, NULL);
	return NULL;
}

TEST_F_TIMEOUT(kills, exit_in_threads, 60 * SLOW)
{
	uint64_t heaps = counter("heaps");
	unsigned int i, n = scaled(60, 2);
	int status;
	pid_t pid;

	for (i = 0; i < n; i++) {
		pid = fork();
		if (!pid) {
			struct load l = { .h = &(struct heap){ 0 } };
			struct writer w[WRITERS];
			pthread_t t;
			int k;

			if (heap_open(l.h, 0))
				_exit(1);
			make_spans(l.h);
			for (k = 0; k < WRITERS; k++) {
				w[k] = (struct writer){ &l, k };
				pthread_create(&t, NULL, write_pages, &w[k]);
			}
			pthread_create(&t, NULL, shuffle, l.h);
			pthread_create(&t, NULL, end_it, (void *)(uintptr_t)i);
			/* The first thread goes and the others stay, or it execs. */
			if (i % 5 == 4) {
				sleep_ms(i % 3);
				execl("/bin/true", "true", NULL);
			}
			pthread_exit(NULL);
		}
		status = child_status(pid);
		EXPECT_TRUE(status == 0 || status == 1000 + SIGKILL)
			TH_LOG("round %u: %d", i, status);
	}
	EXPECT_TRUE(WAIT_FOR(5000, counter("heaps") == heaps));
}

/* Many children at once, which die in any order. */
TEST_F_TIMEOUT(kills, crowd, 60 * SLOW)
{
	const unsigned int n = scaled(64, 2);
	uint64_t heaps = counter("heaps");
	struct heap h;
	pid_t pid[64];
	unsigned int i, k;

	ASSERT_EQ(0, heap_open(&h, 0));
	make_spans(&h);
	for (i = 0; i < n; i++) {
		pid[i] = fork();
		if (!pid[i]) {
			touch_some(&h, i, 32);
			pause();
		}
		ASSERT_LT(0, pid[i]);
	}
	EXPECT_EQ(heaps + 1 + n, counter("heaps"));
	for (i = 0; i < n; i++) {
		k = (i * 7 + 3) % n;
		kill(pid[k], SIGKILL);
		child_status(pid[k]);
		if (i == n / 2)
			heap_compact(&h, MAFC_COMPACT_SHUFFLE, NULL);
		touch_some(&h, i, 2);
	}
	EXPECT_TRUE(WAIT_FOR(5000, counter("heaps") == heaps + 1));
	for (i = 0; i < PAGES; i++)
		EXPECT_EQ(i, i + h.large[i * PAGE] / 2);	/* still there */
	heap_close(&h);
}

TEST_HARNESS_MAIN
