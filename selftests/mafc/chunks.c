// SPDX-License-Identifier: GPL-2.0-only
/*
 * chunks.c - what a heap takes from the system at a time, and how it coalesces
 */
#include "test.h"

#define KB	1024UL
#define PAGES	10240U	/* 40 MiB */
#define FAIL	"/sys/kernel/debug/fail_page_alloc/"

HEAP_FIXTURE(chunks)

static uint64_t largest_free(struct heap *h)
{
	struct mafc_stat st;

	return heap_stat(h, &st) ? UINT64_MAX : st.largest_free;
}

/* Touches the large region; the largest free run seen on the way. */
static uint64_t touch(struct heap *h, unsigned int pages)
{
	uint64_t largest = 0, now;
	unsigned int i;

	map_set(h->large_map, 0, pages);
	for (i = 0; i < pages; i++) {
		block_fill(h->large + i * PAGE, 64, i, 1);
		now = i % 64 ? 0 : largest_free(h);
		if (now > largest)
			largest = now;
	}
	return largest;
}

static unsigned int wrong(struct heap *h, unsigned int pages)
{
	unsigned int i, bad = 0;

	for (i = 0; i < pages; i++)
		bad += block_check(h->large + i * PAGE, 64, i, 1) >= 0;
	return bad;
}

/* From 64 KiB to 2 MiB, as the heap grows. */
TEST_F_TIMEOUT(chunks, grow, 60 * SLOW)
{
	struct heap *h = &self->h;

	EXPECT_GE(64 * KB, touch(h, 64));
	EXPECT_LE(1024 * KB, touch(h, PAGES));
	EXPECT_GE(2048 * KB, largest_free(h));
	EXPECT_EQ(0, wrong(h, PAGES));
}

/* Page by page where the system has no larger pieces. */
TEST_F_TIMEOUT(chunks, fall_back, 60 * SLOW)
{
	struct heap *h = &self->h;
	uint64_t largest;

	if (file_write(FAIL "min-order", "1") ||
	    file_write(FAIL "task-filter", "Y") ||
	    file_write("/proc/self/make-it-fail", "1"))
		SKIP(return, "no fault injection in this kernel");
	file_write(FAIL "verbose", "0");
	file_write(FAIL "ignore-gfp-wait", "N");
	file_write(FAIL "times", "-1");
	file_write(FAIL "interval", "1");
	ASSERT_EQ(0, file_write(FAIL "probability", "100"));
	largest = touch(h, PAGES / 4);
	file_write(FAIL "probability", "0");
	file_write(FAIL "task-filter", "N");
	file_write("/proc/self/make-it-fail", "0");
	/* What the meta region had taken before is all there is in one piece. */
	EXPECT_GE(16 * KB, largest);
	EXPECT_EQ(0, wrong(h, PAGES / 4));
	touch(h, PAGES);
	EXPECT_EQ(0, wrong(h, PAGES));
	EXPECT_EQ(0, heap_release(h, 0, PAGES, NULL));
}

/* Merges that were put off are no fragmentation. */
TEST_F_TIMEOUT(chunks, coalesce, 60 * SLOW)
{
	struct heap *h = &self->h;
	uint64_t seed = 1, held;
	struct mafc_stat st;
	unsigned int i, k;

	touch(h, PAGES);
	/* Enough requests of one page for the targets to be set, time and again. */
	for (k = 0; k < scaled(40000, 4); k++) {
		i = rng(&seed) % PAGES;
		ASSERT_EQ(0, heap_release(h, i, 1, NULL));
		block_fill(h->large + i * PAGE, 64, i, 1);
	}
	EXPECT_EQ(0, wrong(h, PAGES));
	ASSERT_EQ(0, heap_stat(h, &st));
	held = st.held;
	ASSERT_EQ(0, heap_release(h, 0, PAGES, NULL));
	ASSERT_EQ(0, heap_stat(h, &st));
	/* Empty chunks went back; the one that is kept is in one piece. */
	EXPECT_GE(held / 8, st.held);
	EXPECT_LE(st.cached / 4, st.largest_free);
	ASSERT_EQ(0, heap_compact(h, 0, NULL));
	ASSERT_EQ(0, heap_compact(h, 0, NULL));
	ASSERT_EQ(0, heap_stat(h, &st));
	EXPECT_GE(512 * KB, st.held);
}

TEST_HARNESS_MAIN
