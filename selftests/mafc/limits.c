// SPDX-License-Identifier: GPL-2.0-only
/*
 * limits.c - very large heaps, very many of them, and calls that are cut short
 */
#include <sys/prctl.h>

#include "test.h"

#define TIB_PAGES	0x10000000U

/* Everything once, at both ends of both regions. */
static int use_ends(uint32_t pages)
{
	static const uint32_t end[] = { 0, 1, 0x7fff, 0x8000 };
	struct heap h;
	unsigned int i, k;
	pid_t pid;

	if (heap_open(&h, pages))
		return 1;
	for (i = 0; i < 8; i++) {
		uint32_t page = i < 4 ? end[i] : pages - 1 - end[i - 4];

		span_make(&h, page, 1024, 4, 1);
		block_fill(block_alloc(&h, page, i % 4), 1024, i, 1);
		span_detach(&h, page);
		map_set(h.large_map, page, 1);
		block_fill(h.large + page * PAGE, PAGE, i, 1);
	}
	if (heap_compact(&h, MAFC_COMPACT_SHUFFLE, NULL))
		return 2;
	pid = fork();
	for (i = 0; i < 8; i++) {
		uint32_t page = i < 4 ? end[i] : pages - 1 - end[i - 4];

		k = block_check(block_at(&h, page, i % 4), 1024, i, 1) < 0;
		if (!k || block_check(h.large + page * PAGE, PAGE, i, 1) >= 0)
			return 3;
		block_fill(h.large + page * PAGE, PAGE, i, 2);
	}
	if (!pid)
		_exit(0);
	if (child_status(pid))
		return 4;
	if (heap_release(&h, 0, pages, NULL))
		return 5;
	return h.large[(size_t)(pages - 1) * PAGE] ? 6 : 0;
}

static int use_tib(void *arg)
{
	return use_ends((uintptr_t)arg);
}

FIXTURE(limits) { uint64_t heaps; };

FIXTURE_SETUP(limits)
{
	if (access("/dev/mafc", F_OK))
		SKIP(return, "no /dev/mafc");
	self->heaps = counter("heaps");
}

FIXTURE_TEARDOWN(limits)
{
	EXPECT_TRUE(WAIT_FOR(10000, counter("heaps") == self->heaps));
}

TEST_F_TIMEOUT(limits, one_tebibyte, 60 * SLOW)
{
	uint64_t start = now_ms();

	EXPECT_EQ(0, child_status(spawn(use_tib, (void *)(uintptr_t)TIB_PAGES)));
	TH_LOG("%llu ms", (unsigned long long)(now_ms() - start));
	EXPECT_EQ(0, child_status(spawn(use_tib, (void *)(uintptr_t)MAFC_REGION_MAX)));
}

/* Untouched address space is not counted, even where all else is. */
TEST_F_TIMEOUT(limits, strict_overcommit, 60 * SLOW)
{
	const char *file = "/proc/sys/vm/overcommit_memory";
	uint64_t was = file_u64(file);
	char text[8];

	if (file_write(file, "2"))
		SKIP(return, "cannot set overcommit_memory: not root?");
	EXPECT_EQ(0, child_status(spawn(use_tib, (void *)(uintptr_t)TIB_PAGES)));
	snprintf(text, sizeof(text), "%d", (int)was);
	file_write(file, text);
}

static int small_heap(void *arg)
{
	int *ready = arg, i;
	struct heap h;

	if (heap_open(&h, 0))
		return 1;
	for (i = 0; i < 4; i++) {
		span_make(&h, i, 512, 8, 1);
		block_fill(block_alloc(&h, i, i), 512, i, 1);
		span_detach(&h, i);
	}
	if (write(ready[1], "x", 1) != 1)
		return 2;
	pause();
	return 0;
}

/* Hundreds of processes, all visited by the compactor, and kept small. */
TEST_F_TIMEOUT(limits, many_heaps, 100 * SLOW)
{
	const unsigned int n = scaled(300, 3);
	uint64_t meshed = counter("pages_meshed"), start;
	struct mafc_stat st = { .size = sizeof(st) };
	pid_t pid[300];
	unsigned int i;
	int ready[2], fd;
	char c;

	ASSERT_EQ(0, pipe(ready));
	for (i = 0; i < n; i++) {
		pid[i] = spawn(small_heap, ready);
		ASSERT_LT(0, pid[i]);
	}
	for (i = 0; i < n; i++)
		ASSERT_EQ(1, read(ready[0], &c, 1));
	EXPECT_EQ(self->heaps + n, counter("heaps"));
	fd = open("/dev/mafc", O_RDWR);
	st.pid = pid[n / 2];
	ASSERT_EQ(0, ioctl(fd, MAFC_IOC_STAT, &st));
	/* A heap of nearly nothing takes nearly nothing. */
	EXPECT_GE(256 * 1024, st.held) TH_LOG("%llu", (unsigned long long)st.held);
	tunable_set("budget_percent", "50");
	tunable_set("interval_ms", "100");
	EXPECT_TRUE(WAIT_FOR(40000, counter("pages_meshed") >= meshed + 3 * n))
		TH_LOG("%llu of %u", (unsigned long long)(counter("pages_meshed") - meshed), 3 * n);
	tunable_set("interval_ms", "1000");
	tunable_set("budget_percent", "1");
	start = now_ms();
	for (i = 0; i < n; i++)
		kill(pid[i], SIGKILL);
	for (i = 0; i < n; i++)
		child_status(pid[i]);
	EXPECT_TRUE(WAIT_FOR(20000, counter("heaps") == self->heaps));
	TH_LOG("%u heaps ended within %llu ms", n,
	       (unsigned long long)(now_ms() - start));
}

static unsigned int maps_lines(void)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned int n = 0;
	int c;

	while (f && (c = getc(f)) != EOF)
		n += c == '\n';
	if (f)
		fclose(f);
	return n;
}

/* A heap of idle spans, whose blocks can be meshed by 16. */
static int sparse_heap(struct heap *h, uint32_t spans)
{
	uint32_t i;
	int err = heap_open(h, 0);

	for (i = 0; !err && i < spans; i++) {
		span_make(h, i, 256, 16, 1);
		block_fill(block_alloc(h, i, i % 16), 256, i, 1);
		span_detach(h, i);
	}
	return err;
}

static uint32_t wrong_blocks(struct heap *h, uint32_t spans)
{
	uint32_t bad = 0, i;

	for (i = 0; i < spans; i++)
		bad += block_check(block_at(h, i, i % 16), 256, i, 1) >= 0;
	return bad;
}

TEST_F_TIMEOUT(limits, mappings_do_not_grow, 60 * SLOW)
{
	const uint32_t spans = scaled(8000, 4);
	struct mafc_compact c = { 0 };
	unsigned int before, after;
	struct heap h;

	ASSERT_EQ(0, sparse_heap(&h, spans));
	before = maps_lines();
	ASSERT_EQ(0, heap_compact(&h, MAFC_COMPACT_SHUFFLE, &c));
	after = maps_lines();
	EXPECT_LT(spans / 2, c.meshed);
	EXPECT_LT(0, c.moved);
	EXPECT_LE(after, before + 1);	/* stdio may have got a buffer */
	EXPECT_EQ(0, wrong_blocks(&h, spans));
	heap_close(&h);
}

/* A time budget is kept to, and the next call goes on. */
TEST_F_TIMEOUT(limits, budget, 60 * SLOW)
{
	const uint32_t spans = 6000;
	struct mafc_compact c = { .size = sizeof(c) };
	uint64_t meshed = 0, most = 0;
	unsigned int calls;
	struct heap h;

	ASSERT_EQ(0, sparse_heap(&h, spans));
	ASSERT_EQ(0, heap_policy(&h, false));
	for (calls = 0; calls < 5000 && meshed < spans * 14 / 16; calls++) {
		c = (struct mafc_compact){ .size = sizeof(c),
			.budget_us = 5000 + calls * 100 };
		ASSERT_EQ(0, ioctl(h.fd, MAFC_IOC_COMPACT, &c));
		meshed += c.meshed;
		if (c.meshed > most)
			most = c.meshed;
	}
	EXPECT_LT(2, calls);
	EXPECT_LE(spans * 14 / 16, meshed);
	EXPECT_GT(spans * 14 / 16, most);
	EXPECT_EQ(0, wrong_blocks(&h, spans));
	heap_close(&h);
}

static void nothing(int sig) { }

struct poke { pthread_t who; atomic_bool stop; };

static void *poke(void *arg)
{
	struct poke *p = arg;

	while (!atomic_load(&p->stop)) {
		usleep(2000);
		pthread_kill(p->who, SIGUSR1);
	}
	return NULL;
}

/* A signal ends the call; what was done stays done. */
TEST_F_TIMEOUT(limits, signals, 60)
{
	const struct sigaction sa = { .sa_handler = nothing };
	struct poke p = { .who = pthread_self() };
	const uint32_t spans = 6000;
	unsigned int interrupted = 0, calls;
	struct mafc_compact c;
	uint64_t meshed = 0;
	struct heap h;
	pthread_t t;
	int err;

	ASSERT_EQ(0, sparse_heap(&h, spans));
	ASSERT_EQ(0, heap_policy(&h, false));
	ASSERT_EQ(0, sigaction(SIGUSR1, &sa, NULL));
	ASSERT_EQ(0, pthread_create(&t, NULL, poke, &p));
	for (calls = 0; calls < 40; calls++) {
		err = heap_compact_once(&h, MAFC_COMPACT_SHUFFLE, &c);
		ASSERT_TRUE(!err || err == EINTR);
		interrupted += err == EINTR;
		meshed += c.meshed;
	}
	atomic_store(&p.stop, true);
	pthread_join(t, NULL);
	EXPECT_LT(0, interrupted);
	ASSERT_EQ(0, heap_compact(&h, 0, &c));
	EXPECT_LE(spans * 14 / 16, meshed + c.meshed);
	EXPECT_EQ(0, wrong_blocks(&h, spans));
	heap_close(&h);
}

static int compact_for_ever(void *arg)
{
	struct heap h;

	if (sparse_heap(&h, 3000))
		return 1;
	if (write(*(int *)arg, "x", 1) != 1)
		return 2;
	for (;;)
		heap_compact(&h, MAFC_COMPACT_SHUFFLE, NULL);
}

/* kill -9 in the middle of it. */
TEST_F_TIMEOUT(limits, killed_while_compacting, 100 * SLOW)
{
	uint64_t start, longest = 0, seed = 8;
	unsigned int i;
	int ready[2];
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(ready));
	for (i = 0; i < scaled(20, 2); i++) {
		pid = spawn(compact_for_ever, &ready[1]);
		ASSERT_EQ(1, read(ready[0], &c, 1));
		usleep(rng(&seed) % 100000);
		start = now_ms();
		kill(pid, SIGKILL);
		EXPECT_EQ(1000 + SIGKILL, child_status(pid));
		if (now_ms() - start > longest)
			longest = now_ms() - start;
	}
	TH_LOG("ended within %llu ms", (unsigned long long)longest);
	EXPECT_GE(5000, longest);
}

TEST_HARNESS_MAIN
