// SPDX-License-Identifier: GPL-2.0-only
/*
 * buddy_test.c - the buddy against a model that only knows which pages are used
 *
 * FUZZ_STEPS and FUZZ_SEED in the environment set length and seed.
 */
#include "ktap.h"
#include "buddy.h"

#define ORDERS	(MAFC_BUDDY_ORDER_MAX + 1)

static struct mafc_buddy *make(unsigned int order)
{
	struct mafc_buddy *b = memory(mafc_buddy_size(order));

	mafc_buddy_init(b, order);
	return b;
}

static bool run_is(const u8 *used, unsigned int off, unsigned int order,
		   u8 value)
{
	unsigned int i;

	for (i = 0; i < 1u << order; i++) {
		if (used[off + i] != value)
			return false;
	}
	return true;
}

/* Largest aligned free run; -1: none. */
static int model_largest(const u8 *used, unsigned int order)
{
	unsigned int off;
	int o;

	for (o = order; o >= 0; o--) {
		for (off = 0; off < 1u << order; off += 1u << o) {
			if (run_is(used, off, o, 0))
				return o;
		}
	}
	return -1;
}

/* Everything that can be known about the buddy from outside. */
static void compare(const struct mafc_buddy *b, const u8 *used)
{
	u32 counts[ORDERS], total = 0, pages = 0;
	unsigned int i;

	for (i = 0; i < 1u << b->order; i++) {
		ASSERT(mafc_buddy_is_used(b, i) == used[i]);
		pages += !used[i];
	}
	ASSERT(b->free_pages == pages);
	mafc_buddy_counts(b, counts);
	for (i = 0; i <= b->order; i++)
		total += counts[i] << i;
	ASSERT(total == pages);
	ASSERT(mafc_buddy_largest(b) == model_largest(used, b->order));
	if (b->pairs == 0) {
		/* coalesced: the largest is there in one piece */
		int o = mafc_buddy_largest(b);

		ASSERT(o < 0 || counts[o]);
	}
}

static void test_empty(void)
{
	unsigned int order;

	for (order = 0; order < ORDERS; order++) {
		struct mafc_buddy *b = make(order);

		EXPECT(b->free_pages == 1u << order);
		EXPECT(mafc_buddy_largest(b) == (int)order);
		EXPECT(mafc_buddy_alloc(b, order + 1) == -ENOSPC);
		EXPECT(mafc_buddy_alloc(b, 77) == -ENOSPC);
		EXPECT(mafc_buddy_alloc(b, order) == 0);
		EXPECT(mafc_buddy_largest(b) == -1);
		EXPECT(mafc_buddy_alloc(b, 0) == -ENOSPC);
		EXPECT(mafc_buddy_free(b, 0, order) == 0);
		EXPECT(mafc_buddy_largest(b) == (int)order);
		EXPECT(b->splits == 0 && b->merges == 0);
		free(b);
	}
}

static void test_compact(void)
{
	EXPECT(mafc_buddy_size(4) <= 6 * 16);
	EXPECT(mafc_buddy_size(9) <= 1 * 512);
	EXPECT(mafc_buddy_size(16) <= 65536 / 2);
}

static void test_lowest_first(void)
{
	struct mafc_buddy *b = make(9);
	int i;

	for (i = 0; i < 512; i++)
		EXPECT(mafc_buddy_alloc(b, 0) == i);
	EXPECT(mafc_buddy_alloc(b, 0) == -ENOSPC);
	for (i = 511; i >= 0; i -= 3)
		EXPECT(mafc_buddy_free(b, i, 0) == 0);
	for (i = 511 % 3; i < 512; i += 3)
		EXPECT(mafc_buddy_alloc(b, 0) == i);
	free(b);
}

static void test_piecewise_free(void)
{
	struct mafc_buddy *b = make(6);
	int i;

	EXPECT(mafc_buddy_alloc(b, 4) == 0);
	EXPECT(mafc_buddy_alloc(b, 4) == 16);
	for (i = 31; i >= 16; i--)
		EXPECT(mafc_buddy_free(b, i, 0) == 0);
	EXPECT(mafc_buddy_largest(b) == 5);
	EXPECT(mafc_buddy_alloc(b, 4) == 16);
	/* and a larger run than was ever allocated in one piece */
	EXPECT(mafc_buddy_free(b, 0, 5) == 0);
	EXPECT(mafc_buddy_largest(b) == 6);
	free(b);
}

static void test_bad_free(void)
{
	struct mafc_buddy *b = make(6), *before = memory(mafc_buddy_size(6));

	EXPECT(mafc_buddy_alloc(b, 3) == 0);
	EXPECT(mafc_buddy_alloc(b, 0) == 8);
	memcpy(before, b, mafc_buddy_size(6));
	EXPECT(mafc_buddy_free(b, 9, 0) == -EINVAL);
	EXPECT(mafc_buddy_free(b, 8, 1) == -EINVAL);
	EXPECT(mafc_buddy_free(b, 0, 4) == -EINVAL);
	EXPECT(mafc_buddy_free(b, 2, 2) == -EINVAL);
	EXPECT(mafc_buddy_free(b, 64, 0) == -EINVAL);
	EXPECT(mafc_buddy_free(b, ~0u, 0) == -EINVAL);
	EXPECT(mafc_buddy_free(b, 0, 7) == -EINVAL);
	EXPECT(mafc_buddy_free(b, 0, ~0u) == -EINVAL);
	EXPECT(memcmp(before, b, mafc_buddy_size(6)) == 0);
	EXPECT(mafc_buddy_free(b, 8, 0) == 0);
	EXPECT(mafc_buddy_free(b, 8, 0) == -EINVAL);
	free(before);
	free(b);
}

static void test_lazy(void)
{
	u16 target[7] = { 8, 0, 0, 0, 0, 0, 0 };
	struct mafc_buddy *b = make(6);
	u32 counts[7], splits, merges;
	int i;

	mafc_buddy_set_lazy(b, target);
	for (i = 0; i < 64; i++)
		EXPECT(mafc_buddy_alloc(b, 0) == i);
	for (i = 0; i < 8; i++)
		EXPECT(mafc_buddy_free(b, i, 0) == 0);
	mafc_buddy_counts(b, counts);
	EXPECT(counts[0] == 8 && b->merges == 0);
	EXPECT(mafc_buddy_largest(b) == 3);
	/* the orders in demand cost nothing now */
	splits = b->splits;
	EXPECT(mafc_buddy_alloc(b, 0) == 0 && b->splits == splits);
	EXPECT(mafc_buddy_free(b, 0, 0) == 0 && b->merges == 0);
	/* a large request finds the put-off block, and merges just that */
	EXPECT(mafc_buddy_alloc(b, 2) == 0 && b->merges == 3);
	mafc_buddy_counts(b, counts);
	EXPECT(counts[0] == 4);
	mafc_buddy_flush(b);
	mafc_buddy_counts(b, counts);
	EXPECT(counts[0] == 0 && counts[2] == 1 && b->pairs == 0);
	/* what exceeds the target is merged at once: 8 stay, 2 become 1 */
	merges = b->merges;
	for (i = 32; i < 42; i++)
		EXPECT(mafc_buddy_free(b, i, 0) == 0);
	mafc_buddy_counts(b, counts);
	EXPECT(counts[0] == 8 && counts[1] == 1 && b->merges == merges + 1);
	free(b);
}

static unsigned long setting(const char *name, unsigned long standard)
{
	const char *text = getenv(name);

	return text ? strtoul(text, NULL, 0) : standard;
}

/* One random call, on the buddy and on the model. */
static void fuzz_step(struct mafc_buddy *b, u8 *used, u64 *seed)
{
	unsigned int order = b->order, pages = 1u << order;
	unsigned int o = below(seed, 3) ? below(seed, order + 1) / 2 :
					  below(seed, order + 2);
	unsigned int off = below(seed, pages + 1);
	u16 target[ORDERS];
	bool fits = o <= order;
	bool valid;
	int ret, want;

	if (fits && below(seed, 8))
		off &= ~((1u << o) - 1);
	valid = fits && off < pages && !(off & ((1u << o) - 1));
	switch (below(seed, 64)) {
	case 0:
		for (o = 0; o < ORDERS; o++)
			target[o] = below(seed, 2) ? below(seed, pages >> o ?
							   pages >> o : 1) : 0;
		mafc_buddy_set_lazy(b, target);
		break;
	case 1:
		mafc_buddy_flush(b);
		ASSERT(b->pairs == 0);
		break;
	case 2 ... 32:
		ret = mafc_buddy_alloc(b, o);
		if (!fits || model_largest(used, order) < (int)o) {
			ASSERT(ret == -ENOSPC);
			break;
		}
		ASSERT(ret >= 0 && ret < (int)pages);
		ASSERT(!(ret & ((1u << o) - 1)) && run_is(used, ret, o, 0));
		memset(used + ret, 1, 1u << o);
		break;
	default:
		want = valid && run_is(used, off, o, 1) ? 0 : -EINVAL;
		ret = mafc_buddy_free(b, off, o);
		ASSERT(ret == want);
		if (!ret)
			memset(used + off, 0, 1u << o);
	}
}

static void test_fuzz(void)
{
	static const unsigned int orders[] = { 0, 1, 4, 5, 6, 7, 9, 11 };
	unsigned long steps = setting("FUZZ_STEPS", 400000);
	u64 seed = setting("FUZZ_SEED", 1);
	unsigned int k;

	for (k = 0; k < sizeof(orders) / sizeof(*orders); k++) {
		struct mafc_buddy *b = make(orders[k]);
		u8 *used = calloc(1, 1u << orders[k]);
		unsigned long i;

		for (i = 0; i < steps >> (orders[k] / 2); i++) {
			fuzz_step(b, used, &seed);
			if (i % 16 == 0)
				compare(b, used);
			if (ktap_failed) {
				printf("# order %u, step %lu\n", orders[k], i);
				break;
			}
		}
		free(used);
		free(b);
	}
}

/* The invariants at the largest size, where words matter most. */
static void test_largest_order(void)
{
	struct mafc_buddy *b = make(16);
	u8 *used = calloc(1, 65536);
	u64 seed = 7;
	int i;

	for (i = 0; i < 2000 && !ktap_failed; i++)
		fuzz_step(b, used, &seed);
	compare(b, used);
	for (i = 0; i < 65536; i++) {
		if (used[i])
			EXPECT(mafc_buddy_free(b, i, 0) == 0);
	}
	mafc_buddy_flush(b);
	EXPECT(mafc_buddy_largest(b) == 16);
	EXPECT(mafc_buddy_alloc(b, 16) == 0);
	free(used);
	free(b);
}

static void test_hist(void)
{
	struct mafc_hist h = { 0 };
	u16 target[10];
	int i;

	mafc_hist_targets(&h, 9, target);
	for (i = 0; i < 10; i++)
		EXPECT(target[i] == 0);
	for (i = 0; i < 100000; i++)
		mafc_hist_add(&h, 0);
	EXPECT(h.total < 2 * MAFC_HIST_HALF_LIFE);
	EXPECT(h.age == 100000 / MAFC_HIST_HALF_LIFE - 1);
	mafc_hist_targets(&h, 9, target);
	EXPECT(target[0] > 0 && target[0] <= 256 && target[4] == 0);
	/* habits change: the targets follow within a few half-lives */
	for (i = 0; i < 3 * MAFC_HIST_HALF_LIFE; i++)
		mafc_hist_add(&h, i % 8 ? 4 : 99);
	EXPECT(h.count[4] > h.count[0]);
	EXPECT(h.count[MAFC_BUDDY_ORDER_MAX] > 0);
	mafc_hist_targets(&h, 9, target);
	EXPECT(target[4] > 0 && target[4] <= 16);
	for (i = 0; i < 20 * MAFC_HIST_HALF_LIFE; i++)
		mafc_hist_add(&h, 4);
	mafc_hist_targets(&h, 9, target);
	EXPECT(target[0] == 0);
}

static const struct ktap_test tests[] = {
	{ "empty", test_empty },
	{ "compact", test_compact },
	{ "lowest_first", test_lowest_first },
	{ "piecewise_free", test_piecewise_free },
	{ "bad_free", test_bad_free },
	{ "lazy", test_lazy },
	{ "fuzz", test_fuzz },
	{ "largest_order", test_largest_order },
	{ "hist", test_hist },
};

KTAP_MAIN(tests)
