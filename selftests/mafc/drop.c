// SPDX-License-Identifier: GPL-2.0-only
/*
 * drop.c - pages without live blocks go, and no other
 */
#include "test.h"

HEAP_FIXTURE(drop)

/* Is the page there?  Told by the table, without touching it. */
static uint64_t mapped(struct heap *h)
{
	struct mafc_stat st;

	sleep_ms(120);	/* figures may be 100 ms old */
	return heap_stat(h, &st) ? 0 : st.mapped / PAGE;
}

static uint64_t compact_drops(struct heap *h)
{
	struct mafc_compact c;

	return heap_compact(h, 0, &c) ? UINT64_MAX : c.dropped;
}

TEST_F(drop, empty_pages_of_spans)
{
	struct heap *h = &self->h;
	unsigned int i;
	uint64_t base;

	/* Attached and idle ones; every third keeps a block. */
	for (i = 0; i < 60; i++) {
		span_make(h, i, 256, 16, 1);
		memset(h->small + i * PAGE, 1, PAGE);
		if (i % 3 == 0)
			block_fill(block_alloc(h, i, i % 16), 256, i, 1);
		else
			block_alloc(h, i, 5);
		if (i & 1)
			span_detach(h, i);
	}
	base = mapped(h);
	for (i = 0; i < 60; i++)
		if (i % 3)
			EXPECT_TRUE(block_free(h, i, 5));
	/* Attached ones without a block: 20.  Idle ones with one are meshed. */
	EXPECT_EQ(40, compact_drops(h));
	EXPECT_EQ(base - 40, mapped(h));
	for (i = 0; i < 60; i += 3)
		EXPECT_EQ(-1, block_check(block_at(h, i, i % 16), 256, i, 1));
	for (i = 0; i < 60; i++) {
		EXPECT_TRUE(map_test(h->small_map, i));
		if (i % 3 == 0)
			continue;
		EXPECT_EQ(i & 1 ? MAFC_SPAN_IDLE : MAFC_SPAN_ATTACHED, span_is(h, i));
		memset(h->small + i * PAGE, 2, PAGE);
	}
	EXPECT_EQ(40, compact_drops(h));
}

TEST_F(drop, memory_goes_back)
{
	struct mafc_stat before, after;
	struct heap *h = &self->h;
	unsigned int i;

	for (i = 0; i < 2000; i++) {
		span_make(h, i, 4096, 1, 1);
		block_alloc(h, i, 0)[0] = 1;
	}
	ASSERT_EQ(0, heap_stat(h, &before));
	for (i = 0; i < 2000; i++)
		block_free(h, i, 0);
	EXPECT_EQ(2000, compact_drops(h));
	/* What was not needed between two passes is given back. */
	EXPECT_EQ(0, compact_drops(h));
	EXPECT_EQ(0, compact_drops(h));
	ASSERT_EQ(0, heap_stat(h, &after));
	EXPECT_LE(2000 * PAGE, before.held);
	EXPECT_GE(300 * PAGE, after.held)
		TH_LOG("%llu", (unsigned long long)after.held);
}

/* Pages in the middle of spans: blocks that cross borders count for both. */
TEST_F(drop, parts_of_spans)
{
	struct heap *h = &self->h;
	unsigned int i, page;
	uint64_t base;

	/* 16 pages, blocks of two pages each */
	span_make(h, 0, 8192, 8, 16);
	for (i = 0; i < 8; i++)
		block_fill(block_alloc(h, 0, i), 8192, i, 1);
	/* 3 pages, 8 blocks of 1,5 KiB: blocks 2 and 5 cross the borders */
	span_make(h, 16, 1536, 8, 3);
	for (i = 0; i < 8; i++)
		block_fill(block_alloc(h, 16, i), 1536, 100 + i, 1);
	base = mapped(h);
	EXPECT_EQ(0, compact_drops(h));

	block_free(h, 0, 3);
	EXPECT_EQ(2, compact_drops(h));
	block_free(h, 16, 0);
	block_free(h, 16, 1);
	EXPECT_EQ(0, compact_drops(h));	/* block 2 is partly in page 0 */
	block_free(h, 16, 2);
	EXPECT_EQ(1, compact_drops(h));
	EXPECT_EQ(base - 3, mapped(h));
	block_free(h, 16, 5);
	EXPECT_EQ(0, compact_drops(h));	/* 3 and 4 in page 1, 6 and 7 in 2 */
	for (i = 0; i < 8; i++)
		if (i != 3)
			EXPECT_EQ(-1, block_check(block_at(h, 0, i), 8192, i, 1));
	for (i = 3; i < 8; i++)
		if (i != 5)
			EXPECT_EQ(-1, block_check(block_at(h, 16, i), 1536, 100 + i, 1));
	/* They come back when a block is claimed there. */
	for (i = 0; i < 3; i++)
		block_fill(block_alloc(h, 16, i), 1536, 100 + i, 2);
	for (page = 0; page < 8; page++)
		for (i = 0; i < 8; i++)
			if (i < 3 || i > 5)
				EXPECT_EQ(-1, block_check(block_at(h, 16, i), 1536,
							  100 + i, i < 3 ? 2 : 1));
	EXPECT_EQ(0, compact_drops(h));
}

/* The end of the last page that holds no block is no reason to keep it. */
TEST_F(drop, tail_of_the_last_page)
{
	struct heap *h = &self->h;

	span_make(h, 0, 2688, 3, 2);	/* 8064 of 8192 bytes */
	block_fill(block_alloc(h, 0, 0), 2688, 1, 1);
	h->small[2 * PAGE - 1] = 1;	/* written, but in no block */
	EXPECT_EQ(1, compact_drops(h));
	EXPECT_EQ(-1, block_check(block_at(h, 0, 0), 2688, 1, 1));
}

TEST_F(drop, given_up_spans)
{
	struct heap *h = &self->h;
	unsigned int i;

	for (i = 0; i < 32; i += 2) {
		span_make(h, i, 1024, 8, 2);
		block_fill(block_alloc(h, i, 0), 1024, i, 1);
		block_fill(block_alloc(h, i, 7), 1024, i, 1);
	}
	/* As the library ends a span: state, then bits of the page map. */
	for (i = 0; i < 32; i += 4) {
		atomic_store(span_state(h, i), MAFC_SPAN_NONE);
		atomic_store(span_state(h, i + 1), MAFC_SPAN_NONE);
		if (i < 16)
			map_clear(h->small_map, i, 2);
	}
	/* Whose bits are set, the library is about to use. */
	EXPECT_EQ(8, compact_drops(h));
	EXPECT_EQ(SIGBUS, touch_signal(h->small + 4 * PAGE, false));
	for (i = 2; i < 32; i += 4)
		EXPECT_EQ(-1, block_check(block_at(h, i, 7), 1024, i, 1));
	map_clear(h->small_map, 16, 2);
	EXPECT_EQ(2, compact_drops(h));
}

/* States in which a span is the library's or the kernel's to judge. */
TEST_F(drop, not_in_other_states)
{
	const uint32_t states[] = { MAFC_SPAN_BUSY, MAFC_SPAN_MESHED,
		MAFC_SPAN_DEAD, 7, 0xff };
	struct heap *h = &self->h;
	unsigned int i;

	for (i = 0; i < 5; i++) {
		span_make(h, i, 512, 8, 1);
		strcpy(h->small + i * PAGE, "kept");
		atomic_store(span_state(h, i), states[i]);
	}
	EXPECT_EQ(0, compact_drops(h));
	for (i = 0; i < 5; i++)
		EXPECT_STREQ("kept", h->small + i * PAGE);
}

/* The program sleeps and never calls again: the kthread does it. */
TEST_F_TIMEOUT(drop, idle_process, 60 * SLOW)
{
	const uint64_t interval = tunable("interval_ms");
	struct heap *h = &self->h;
	struct mafc_stat st;
	unsigned int i;

	for (i = 0; i < 500; i++) {
		span_make(h, i, 4096, 1, 1);
		block_alloc(h, i, 0)[0] = 1;
		if (i % 5)
			block_free(h, i, 0);
	}
	if (tunable_set("interval_ms", "50"))
		SKIP(return, "cannot set the interval: not root?");
	ASSERT_EQ(0, heap_policy(h, true));
	/* A compaction is counted when it is over. */
	EXPECT_TRUE(WAIT_FOR(30000, !heap_stat(h, &st) && st.dropped == 400 &&
			     st.held < 300 * PAGE && st.compactions))
		TH_LOG("%llu dropped, %llu held, %llu compactions",
		       (unsigned long long)st.dropped, (unsigned long long)st.held,
		       (unsigned long long)st.compactions);
	tunable_set_u64("interval_ms", interval);
}

/*
 * A thread claims blocks in empty pages, writes, checks and frees, while
 * another one drops whatever it finds empty.
 */
struct claimer {
	struct heap *h;
	atomic_bool *stop;
	unsigned int page, block_size, nblocks;
	_Atomic uint64_t claims, wrong;
};

static void *claim_and_free(void *arg)
{
	struct claimer *c = arg;
	uint64_t seed = c->page + 1, n, key;
	unsigned int block, k;
	char *p;

	for (n = 1; !atomic_load(c->stop); n++) {
		block = rng(&seed) % c->nblocks;
		key = c->page * 1000 + block;
		p = block_alloc(c->h, c->page, block);
		block_fill(p, c->block_size, key, n);
		for (k = rng(&seed) % 4; k; k--) {
			if (block_check(p, c->block_size, key, n) >= 0) {
				atomic_fetch_add(&c->wrong, 1);
				break;
			}
			sched_yield();
		}
		if (!block_free(c->h, c->page, block))
			atomic_fetch_add(&c->wrong, 1);
		atomic_fetch_add(&c->claims, 1);
		/* Empty for a while, so that there is something to drop. */
		if (rng(&seed) % 4 == 0)
			usleep(rng(&seed) % 200);
	}
	return NULL;
}

#define CLAIMERS	4

TEST_F_TIMEOUT(drop, claim_during_drop, 120 * SLOW)
{
	const uint64_t want = scaled(3000, 2);
	struct heap *h = &self->h;
	struct claimer c[CLAIMERS];
	pthread_t t[CLAIMERS];
	atomic_bool stop = false;
	uint64_t dropped = 0, wrong = 0, n;
	unsigned int i;

	for (i = 0; i < CLAIMERS; i++) {
		c[i] = (struct claimer){ h, &stop, i * 8,
			i & 1 ? 3072 : 512, 8, 0, 0 };
		span_make(h, i * 8, c[i].block_size, 8, i & 1 ? 6 : 1);
		ASSERT_EQ(0, pthread_create(&t[i], NULL, claim_and_free, &c[i]));
	}
	while (dropped < want && !wrong) {
		n = compact_drops(h);
		ASSERT_NE(UINT64_MAX, n);
		dropped += n;
		for (i = 0, wrong = 0; i < CLAIMERS; i++)
			wrong += c[i].wrong;
	}
	atomic_store(&stop, true);
	for (i = 0; i < CLAIMERS; i++) {
		pthread_join(t[i], NULL);
		EXPECT_LT(50, c[i].claims);
		EXPECT_EQ(0, c[i].wrong);
		EXPECT_EQ(0, span_live(h, i * 8));
	}
	EXPECT_LE(want, dropped);
}

TEST_HARNESS_MAIN
