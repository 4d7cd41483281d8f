// SPDX-License-Identifier: GPL-2.0-only
/*
 * buddy_kunit.c - the buddy inside the kernel
 *
 * The same properties as in selftests/host/buddy_test.c, with the kernel's bit
 * operations and under its sanitizers; the long fuzzing is done over there.
 */
#include <kunit/test.h>
#include <linux/module.h>

#include "../buddy.h"

static struct mafc_buddy *make(struct kunit *test, unsigned int order)
{
	struct mafc_buddy *b;

	b = kunit_kmalloc(test, mafc_buddy_size(order), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, b);
	mafc_buddy_init(b, order);
	return b;
}

static void buddy_empty_and_full(struct kunit *test)
{
	unsigned int order;

	for (order = 0; order <= MAFC_BUDDY_ORDER_MAX; order++) {
		struct mafc_buddy *b = make(test, order);

		KUNIT_EXPECT_EQ(test, b->free_pages, 1U << order);
		KUNIT_EXPECT_EQ(test, mafc_buddy_largest(b), (int)order);
		KUNIT_EXPECT_EQ(test, mafc_buddy_alloc(b, order + 1), -ENOSPC);
		KUNIT_EXPECT_EQ(test, mafc_buddy_alloc(b, order), 0);
		KUNIT_EXPECT_EQ(test, mafc_buddy_largest(b), -1);
		KUNIT_EXPECT_EQ(test, mafc_buddy_alloc(b, 0), -ENOSPC);
		KUNIT_EXPECT_EQ(test, mafc_buddy_free(b, 0, order), 0);
		KUNIT_EXPECT_EQ(test, mafc_buddy_largest(b), (int)order);
		kunit_kfree(test, b);
	}
}

static void buddy_lowest_first(struct kunit *test)
{
	struct mafc_buddy *b = make(test, 9);
	int i;

	for (i = 0; i < 512; i++)
		KUNIT_ASSERT_EQ(test, mafc_buddy_alloc(b, 0), i);
	KUNIT_EXPECT_EQ(test, mafc_buddy_alloc(b, 0), -ENOSPC);
	for (i = 511; i > 0; i -= 2)
		KUNIT_ASSERT_EQ(test, mafc_buddy_free(b, i, 0), 0);
	for (i = 1; i < 512; i += 2)
		KUNIT_ASSERT_EQ(test, mafc_buddy_alloc(b, 0), i);
}

static void buddy_piecewise_free(struct kunit *test)
{
	struct mafc_buddy *b = make(test, 4);
	int i;

	KUNIT_EXPECT_EQ(test, mafc_buddy_alloc(b, 4), 0);
	for (i = 0; i < 16; i++)
		KUNIT_EXPECT_EQ(test, mafc_buddy_free(b, i * 5 % 16, 0), 0);
	KUNIT_EXPECT_EQ(test, mafc_buddy_largest(b), 4);
	KUNIT_EXPECT_EQ(test, mafc_buddy_alloc(b, 4), 0);
}

static void buddy_bad_free(struct kunit *test)
{
	struct mafc_buddy *b = make(test, 6), *before;

	KUNIT_EXPECT_EQ(test, mafc_buddy_alloc(b, 3), 0);
	before = kunit_kmalloc(test, mafc_buddy_size(6), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, before);
	memcpy(before, b, mafc_buddy_size(6));
	KUNIT_EXPECT_EQ(test, mafc_buddy_free(b, 8, 0), -EINVAL);
	KUNIT_EXPECT_EQ(test, mafc_buddy_free(b, 0, 4), -EINVAL);
	KUNIT_EXPECT_EQ(test, mafc_buddy_free(b, 1, 1), -EINVAL);
	KUNIT_EXPECT_EQ(test, mafc_buddy_free(b, 64, 0), -EINVAL);
	KUNIT_EXPECT_EQ(test, mafc_buddy_free(b, U32_MAX, 0), -EINVAL);
	KUNIT_EXPECT_EQ(test, mafc_buddy_free(b, 0, U32_MAX), -EINVAL);
	KUNIT_EXPECT_MEMEQ(test, before, b, mafc_buddy_size(6));
	KUNIT_EXPECT_EQ(test, mafc_buddy_free(b, 0, 3), 0);
	KUNIT_EXPECT_EQ(test, mafc_buddy_free(b, 0, 3), -EINVAL);
}

static void buddy_lazy(struct kunit *test)
{
	u16 target[10] = { 64 };
	struct mafc_buddy *b = make(test, 9);
	u32 counts[10];
	int i;

	mafc_buddy_set_lazy(b, target);
	for (i = 0; i < 64; i++)
		mafc_buddy_alloc(b, 0);
	KUNIT_EXPECT_EQ(test, mafc_buddy_alloc(b, 8), 256);
	for (i = 0; i < 64; i++)
		KUNIT_EXPECT_EQ(test, mafc_buddy_free(b, i, 0), 0);
	mafc_buddy_counts(b, counts);
	KUNIT_EXPECT_EQ(test, counts[0], 64U);
	KUNIT_EXPECT_EQ(test, b->merges, 0U);
	KUNIT_EXPECT_EQ(test, mafc_buddy_largest(b), 8);
	/* what was put off is made good when it is needed */
	KUNIT_EXPECT_EQ(test, mafc_buddy_alloc(b, 8), 0);
	KUNIT_EXPECT_EQ(test, mafc_buddy_free(b, 0, 8), 0);
	KUNIT_EXPECT_EQ(test, mafc_buddy_free(b, 256, 8), 0);
	mafc_buddy_flush(b);
	mafc_buddy_counts(b, counts);
	KUNIT_EXPECT_EQ(test, counts[9], 1U);
}

/* Used pages are known; whatever the buddy says must agree with them. */
static void buddy_random_walk(struct kunit *test)
{
	struct mafc_buddy *b = make(test, 9);
	u8 *used = kunit_kzalloc(test, 512, GFP_KERNEL);
	u16 target[10] = { 8, 4, 4, 0, 2 };
	u32 state = 1, pages = 512, i, k;

	KUNIT_ASSERT_NOT_NULL(test, used);
	mafc_buddy_set_lazy(b, target);
	for (i = 0; i < 50000; i++) {
		u32 order, off;
		int ret;

		state = state * 1664525 + 1013904223;
		order = (state >> 16) % 5;
		off = (state >> 20) % 512 & ~((1U << order) - 1);
		if (state >> 31) {
			ret = mafc_buddy_alloc(b, order);
			if (ret < 0)
				continue;
			KUNIT_ASSERT_NULL(test, memchr(used + ret, 1, 1 << order));
			memset(used + ret, 1, 1 << order);
			pages -= 1 << order;
		} else {
			ret = mafc_buddy_free(b, off, order);
			if (memchr(used + off, 0, 1 << order)) {
				KUNIT_ASSERT_EQ(test, ret, -EINVAL);
				continue;
			}
			KUNIT_ASSERT_EQ(test, ret, 0);
			memset(used + off, 0, 1 << order);
			pages += 1 << order;
		}
		KUNIT_ASSERT_EQ(test, b->free_pages, pages);
	}
	for (k = 0; k < 512; k++) {
		KUNIT_ASSERT_EQ(test, mafc_buddy_is_used(b, k), !!used[k]);
		if (used[k])
			mafc_buddy_free(b, k, 0);
	}
	mafc_buddy_flush(b);
	KUNIT_EXPECT_EQ(test, mafc_buddy_largest(b), 9);
}

static void hist_targets(struct kunit *test)
{
	struct mafc_hist h = { };
	u16 target[10];
	int i;

	for (i = 0; i < 5000; i++)
		mafc_hist_add(&h, 0);
	KUNIT_EXPECT_EQ(test, h.age, 5000 / MAFC_HIST_HALF_LIFE - 1);
	mafc_hist_targets(&h, 9, target);
	KUNIT_EXPECT_EQ(test, target[0], 256);
	KUNIT_EXPECT_EQ(test, target[4], 0);
	for (i = 0; i < 10 * MAFC_HIST_HALF_LIFE; i++)
		mafc_hist_add(&h, 4);
	mafc_hist_targets(&h, 9, target);
	KUNIT_EXPECT_EQ(test, target[0], 0);
	KUNIT_EXPECT_GT(test, target[4], 0);
}

static struct kunit_case buddy_cases[] = {
	KUNIT_CASE(buddy_empty_and_full),
	KUNIT_CASE(buddy_lowest_first),
	KUNIT_CASE(buddy_piecewise_free),
	KUNIT_CASE(buddy_bad_free),
	KUNIT_CASE(buddy_lazy),
	KUNIT_CASE(buddy_random_walk),
	KUNIT_CASE(hist_targets),
	{}
};

static struct kunit_suite buddy_suite = {
	.name = "mafc_buddy",
	.test_cases = buddy_cases,
};

kunit_test_suite(buddy_suite);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("KUnit tests of M-AFC's pure cores");
