// SPDX-License-Identifier: GPL-2.0-only
/*
 * matcher_kunit.c - the matcher inside the kernel
 *
 * What selftests/host/matcher_test.c and matcher_sim.c show at length.
 */
#include <kunit/test.h>
#include <linux/mm.h>

#include "../matcher.h"

#define SPANS	4000

struct round {
	struct mafc_matcher *m;
	u64 (*bits)[4];
	u8 *gone;
	u32 state;
};

static int matcher_init(struct kunit *test)
{
	struct round *r = kunit_kzalloc(test, sizeof(*r), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, r);
	test->priv = r;
	r->state = 1;
	r->m = kvmalloc(mafc_matcher_size(SPANS), GFP_KERNEL);
	r->bits = kvmalloc_array(SPANS, sizeof(*r->bits), GFP_KERNEL);
	r->gone = kunit_kmalloc(test, SPANS, GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, r->m);
	KUNIT_ASSERT_NOT_NULL(test, r->bits);
	KUNIT_ASSERT_NOT_NULL(test, r->gone);
	mafc_matcher_init(r->m, SPANS);
	return 0;
}

static void matcher_exit(struct kunit *test)
{
	struct round *r = test->priv;

	if (!r)
		return;
	kvfree(r->m);
	kvfree(r->bits);
}

static u32 random(struct round *r)
{
	r->state = r->state * 1664525 + 1013904223;
	return r->state >> 16;
}

static u32 popcount(const u64 bits[4])
{
	return hweight64(bits[0]) + hweight64(bits[1]) + hweight64(bits[2]) +
	       hweight64(bits[3]);
}

/* Random spans; their live blocks. */
static u32 populate(struct kunit *test, unsigned int nblocks, u32 percent)
{
	struct round *r = test->priv;
	u32 i, k, live = 0;

	KUNIT_ASSERT_EQ(test, mafc_matcher_reset(r->m, nblocks), 0);
	for (i = 0; i < r->m->capacity; i++) {
		memset(r->bits[i], 0, sizeof(r->bits[i]));
		for (k = 0; k < nblocks; k++) {
			if (random(r) % 100 < percent)
				r->bits[i][k / 64] |= 1ULL << (k % 64);
		}
		k = popcount(r->bits[i]);
		live += k;
		r->gone[i] = !k || k == nblocks;
		KUNIT_ASSERT_EQ(test, mafc_matcher_add(r->m, i, r->bits[i]),
				r->gone[i] ? -EINVAL : 0);
	}
	return live;
}

/* Plays the round, @fail per cent of the proposals failing. */
static u32 play(struct kunit *test, u32 fail)
{
	struct round *r = test->priv;
	u32 dst, src, meshes = 0, k;

	while (mafc_matcher_next(r->m, &dst, &src) || r->m->paused) {
		if (r->m->paused)
			continue;
		KUNIT_ASSERT_LT(test, dst, r->m->capacity);
		KUNIT_ASSERT_LT(test, src, r->m->capacity);
		KUNIT_ASSERT_FALSE(test, r->gone[dst] || r->gone[src]);
		r->gone[src] = true;
		for (k = 0; k < 4; k++)
			KUNIT_ASSERT_FALSE(test, !!(r->bits[dst][k] &
						    r->bits[src][k]));
		if (random(r) % 100 < fail) {
			mafc_matcher_done(r->m, false);
			continue;
		}
		for (k = 0; k < 4; k++)
			r->bits[dst][k] |= r->bits[src][k];
		mafc_matcher_done(r->m, true);
		meshes++;
	}
	return meshes;
}

static void matcher_packs(struct kunit *test)
{
	static const struct {
		u32 percent;
		u32 most;	/* held/live, in 1/100, for 4,000 spans */
	} want[] = { { 15, 115 }, { 25, 115 }, { 40, 121 }, { 50, 142 } };
	struct round *r = test->priv;
	u32 i, k, live, held;

	for (i = 0; i < ARRAY_SIZE(want); i++) {
		live = populate(test, 16, want[i].percent);
		play(test, 0);
		for (k = held = 0; k < r->m->capacity; k++)
			held += !r->gone[k];
		kunit_info(test, "%u %%: held/live %u/100, %llu steps per span",
			   want[i].percent, held * 1600 / live,
			   div64_u64(r->m->steps, r->m->capacity));
		KUNIT_EXPECT_LE(test, held * 1600, live * want[i].most);
		KUNIT_EXPECT_LT(test, r->m->steps, 256ULL * r->m->capacity);
	}
}

static void matcher_all_sizes(struct kunit *test)
{
	static const unsigned int sizes[] = { 2, 8, 15, 17, 32, 64, 65, 256 };
	u32 i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		populate(test, sizes[i], 10);
		KUNIT_EXPECT_GT(test, play(test, 0), 0U);
		populate(test, sizes[i], 10);
		play(test, 40);
	}
}

static void matcher_bad_input(struct kunit *test)
{
	struct round *r = test->priv;
	u64 none[4] = { }, one[4] = { 1 }, beyond[4] = { 1, 0, 0, 1 };
	u32 dst, src;

	KUNIT_EXPECT_EQ(test, mafc_matcher_reset(r->m, 1), -EINVAL);
	KUNIT_EXPECT_NE(test, mafc_matcher_add(r->m, 0, one), 0);
	KUNIT_EXPECT_FALSE(test, mafc_matcher_next(r->m, &dst, &src));
	KUNIT_EXPECT_EQ(test, mafc_matcher_reset(r->m, 257), -EINVAL);
	KUNIT_EXPECT_EQ(test, mafc_matcher_reset(r->m, 16), 0);
	KUNIT_EXPECT_EQ(test, mafc_matcher_add(r->m, 0, none), -EINVAL);
	KUNIT_EXPECT_EQ(test, mafc_matcher_add(r->m, 0, beyond), -EINVAL);
	KUNIT_EXPECT_EQ(test, mafc_matcher_add(r->m, 0, one), 0);
	KUNIT_EXPECT_FALSE(test, mafc_matcher_next(r->m, &dst, &src));
	KUNIT_EXPECT_EQ(test, mafc_matcher_add(r->m, 0, one), -EBUSY);
	mafc_matcher_done(r->m, true);
}

static struct kunit_case matcher_cases[] = {
	KUNIT_CASE(matcher_packs),
	KUNIT_CASE(matcher_all_sizes),
	KUNIT_CASE(matcher_bad_input),
	{}
};

static struct kunit_suite matcher_suite = {
	.name = "mafc_matcher",
	.init = matcher_init,
	.exit = matcher_exit,
	.test_cases = matcher_cases,
};

kunit_test_suite(matcher_suite);
