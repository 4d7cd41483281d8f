// SPDX-License-Identifier: GPL-2.0-only
/*
 * markov_kunit.c - the PFM inside the kernel
 *
 * What selftests/host/markov_test.c shows at length.
 */
#include <kunit/test.h>

#include "../markov.h"

#define MEDIUM	1000
#define HIGH	2500

static struct mafc_pfm *make(struct kunit *test)
{
	struct mafc_pfm *p = kunit_kmalloc(test, sizeof(*p), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, p);
	mafc_pfm_init(p, MEDIUM, HIGH);
	return p;
}

static void feed(struct kunit *test, struct mafc_pfm *p, u32 frag, u32 times)
{
	struct mafc_pfm_sample s = {
		.frag = frag, .entropy_q16 = 30000, .free_rate_q16 = 30000,
		.heap_pages = 100,
	};

	while (times--)
		KUNIT_ASSERT_EQ(test, mafc_pfm_update(p, &s), 0);
}

static struct mafc_pfm_forecast ask(struct mafc_pfm *p)
{
	struct mafc_pfm_forecast f;

	mafc_pfm_forecast(p, &f);
	return f;
}

static void markov_states(struct kunit *test)
{
	static const u32 frag[] = { 0, 999, 1000, 2499, 2500, 10000 };
	static const enum mafc_pfm_state state[] = {
		MAFC_PFM_LOW, MAFC_PFM_LOW, MAFC_PFM_MEDIUM,
		MAFC_PFM_MEDIUM, MAFC_PFM_HIGH, MAFC_PFM_HIGH,
	};
	struct mafc_pfm *p = make(test);
	int i;

	KUNIT_EXPECT_EQ(test, ask(p).state, MAFC_PFM_LOW);
	for (i = 0; i < ARRAY_SIZE(frag); i++) {
		feed(test, p, frag[i], 1);
		KUNIT_EXPECT_EQ(test, ask(p).state, state[i]);
	}
}

/* Low, Medium and High in turns, then no High any more. */
static void markov_learns_and_forgets(struct kunit *test)
{
	struct mafc_pfm *p = make(test);
	int i;

	for (i = 0; i < 60; i++) {
		feed(test, p, 300, 3);
		feed(test, p, 1600, 3);
		feed(test, p, 4000, 3);
	}
	feed(test, p, 300, 3);
	feed(test, p, 1600, 1);
	KUNIT_EXPECT_GT(test, ask(p).high_ppm, 800000U);
	KUNIT_EXPECT_LE(test, ask(p).steps, 10U);
	for (i = 0; i < 600; i++) {
		feed(test, p, 300, 3);
		feed(test, p, 1600, 3);
	}
	feed(test, p, 300, 3);
	feed(test, p, 1600, 1);
	KUNIT_EXPECT_LT(test, ask(p).high_ppm, 150000U);
	KUNIT_EXPECT_GT(test, ask(p).steps, 10U);
}

/* A chain of two states, Medium and High, whose truth is known in closed form. */
static void markov_known_chain(struct kunit *test)
{
	struct mafc_pfm *p = make(test);
	u32 state = 1, high = 0, i, share;

	/* Medium goes to High with probability 1/32, High back with 1/4 */
	for (i = 0; i < 20000; i++) {
		state = state * 1664525 + 1013904223;
		share = state >> 27;
		high = high ? share >= 8 : share == 0;
		feed(test, p, high ? 4000 : 1200, 1);
	}
	feed(test, p, 1200, 20);
	/* 1 - (31/32)^10 = 0.272 */
	kunit_info(test, "Medium: %u ppm, true 272000", ask(p).high_ppm);
	KUNIT_EXPECT_GT(test, ask(p).high_ppm, 180000U);
	KUNIT_EXPECT_LT(test, ask(p).high_ppm, 360000U);
	KUNIT_EXPECT_GT(test, ask(p).steps, 16U);
	KUNIT_EXPECT_LT(test, ask(p).steps, 64U);
}

/* Bits of a place: entropy, free rate, size over the usual; no High of late. */
static void markov_contexts(struct kunit *test)
{
	struct mafc_pfm_sample s = {
		.frag = 300, .entropy_q16 = 20000, .free_rate_q16 = 30000,
		.heap_pages = 1ULL << 39,
	};
	struct mafc_pfm *p = make(test);
	int i;

	for (i = 0; i < 100; i++)
		mafc_pfm_update(p, &s);
	KUNIT_EXPECT_EQ(test, p->place % MAFC_PFM_CONTEXTS, 8);
	s.entropy_q16 += 10000;
	mafc_pfm_update(p, &s);
	KUNIT_EXPECT_EQ(test, p->place % MAFC_PFM_CONTEXTS, 9);
	s.entropy_q16 -= 10000;
	s.free_rate_q16 += 20000;
	mafc_pfm_update(p, &s);
	KUNIT_EXPECT_EQ(test, p->place % MAFC_PFM_CONTEXTS, 10);
	s.free_rate_q16 -= 20000;
	s.heap_pages *= 2;
	mafc_pfm_update(p, &s);
	KUNIT_EXPECT_EQ(test, p->place % MAFC_PFM_CONTEXTS, 12);
	s.frag = 5000;
	mafc_pfm_update(p, &s);
	s.frag = 300;
	mafc_pfm_update(p, &s);
	KUNIT_EXPECT_EQ(test, p->place % MAFC_PFM_CONTEXTS, 4);
}

static void markov_bad_samples(struct kunit *test)
{
	const struct mafc_pfm_sample good = {
		.frag = 5000, .entropy_q16 = 30000, .free_rate_q16 = 30000,
		.heap_pages = 100,
	};
	struct mafc_pfm_sample bad[4] = { good, good, good, good };
	struct mafc_pfm *p = make(test);
	int i;

	bad[0].frag = MAFC_PFM_FRAG_MAX + 1;
	bad[1].entropy_q16 = MAFC_PFM_ONE + 1;
	bad[2].free_rate_q16 = U32_MAX;
	bad[3].heap_pages = 0;
	for (i = 0; i <= ARRAY_SIZE(bad); i++) {
		feed(test, p, 5000, 20);
		KUNIT_EXPECT_EQ(test, ask(p).state, MAFC_PFM_HIGH);
		KUNIT_EXPECT_EQ(test, -EINVAL,
				mafc_pfm_update(p, i < ARRAY_SIZE(bad) ?
						   &bad[i] : NULL));
		KUNIT_EXPECT_EQ(test, ask(p).state, MAFC_PFM_LOW);
		KUNIT_EXPECT_EQ(test, ask(p).high_ppm, 0U);
	}
}

static void markov_thresholds(struct kunit *test)
{
	struct mafc_pfm *p = make(test);

	feed(test, p, 5000, 3);
	mafc_pfm_set_thresholds(p, MEDIUM, HIGH);
	KUNIT_EXPECT_TRUE(test, p->known);
	mafc_pfm_set_thresholds(p, 9000, 100);
	KUNIT_EXPECT_LT(test, p->medium, p->high);
	KUNIT_EXPECT_EQ(test, ask(p).state, MAFC_PFM_LOW);
	feed(test, p, 5000, 3);
	/* a senseless setting that stays the same does not start anew */
	mafc_pfm_set_thresholds(p, 9000, 100);
	KUNIT_EXPECT_TRUE(test, p->known);
}

static void markov_entropy(struct kunit *test)
{
	u64 even[4] = { 7, 7, 7, 7 }, one[4] = { 0, U64_MAX };
	u64 half[4] = { 1ULL << 63, 0, 0, 1ULL << 63 };
	u64 none[4] = { };
	int i;

	KUNIT_EXPECT_EQ(test, mafc_pfm_entropy(even, 4), MAFC_PFM_ONE);
	KUNIT_EXPECT_EQ(test, mafc_pfm_entropy(one, 4), 0U);
	KUNIT_EXPECT_EQ(test, mafc_pfm_entropy(half, 4), MAFC_PFM_ONE / 2);
	KUNIT_EXPECT_EQ(test, mafc_pfm_entropy(none, 4), 0U);
	KUNIT_EXPECT_EQ(test, mafc_pfm_entropy(even, 0), 0U);
	for (i = 0; i < 64; i++)
		KUNIT_EXPECT_EQ(test, mafc_log2_q16(1ULL << i), i * 65536U);
	/* log2(3) = 1.5849625 */
	KUNIT_EXPECT_LE(test, abs((int)mafc_log2_q16(3) - 103872), 2);
}

static struct kunit_case markov_cases[] = {
	KUNIT_CASE(markov_states),
	KUNIT_CASE(markov_learns_and_forgets),
	KUNIT_CASE(markov_known_chain),
	KUNIT_CASE(markov_contexts),
	KUNIT_CASE(markov_bad_samples),
	KUNIT_CASE(markov_thresholds),
	KUNIT_CASE(markov_entropy),
	{}
};

static struct kunit_suite markov_suite = {
	.name = "mafc_markov",
	.test_cases = markov_cases,
};

kunit_test_suite(markov_suite);
