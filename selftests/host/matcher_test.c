// SPDX-License-Identifier: GPL-2.0-only
/*
 * matcher_test.c - the matcher's promises, against brute force
 *
 * FUZZ_STEPS and FUZZ_SEED in the environment set length and seed.
 */
#include "ktap.h"
#include "matcher.h"

#define SPANS	400

struct model {
	u64 bits[SPANS][4];
	bool gone[SPANS];	/* meshed away, or dropped from the round */
	unsigned int n;
	unsigned int nblocks;
};

static struct mafc_matcher *make(u32 max_spans)
{
	struct mafc_matcher *m = memory(mafc_matcher_size(max_spans));

	mafc_matcher_init(m, max_spans);
	return m;
}

static unsigned int live(const u64 bits[4])
{
	return hweight64(bits[0]) + hweight64(bits[1]) + hweight64(bits[2]) +
	       hweight64(bits[3]);
}

static bool disjoint(const u64 a[4], const u64 b[4])
{
	return !(a[0] & b[0]) && !(a[1] & b[1]) && !(a[2] & b[2]) &&
	       !(a[3] & b[3]);
}

/* Spans with @percent of their blocks live; empty and full ones are no use. */
static void populate(struct model *w, struct mafc_matcher *m, unsigned int n,
		     unsigned int nblocks, unsigned int percent, u64 *seed)
{
	unsigned int i, k;
	int want;

	memset(w, 0, sizeof(*w));
	w->n = n;
	w->nblocks = nblocks;
	EXPECT(mafc_matcher_reset(m, nblocks) == 0);
	for (i = 0; i < n; i++) {
		for (k = 0; k < nblocks; k++) {
			if (below(seed, 100) < percent)
				w->bits[i][k / 64] |= 1ULL << (k % 64);
		}
		k = live(w->bits[i]);
		w->gone[i] = k == 0 || k == nblocks;
		want = w->gone[i] ? -EINVAL : 0;
		EXPECT(mafc_matcher_add(m, i, w->bits[i]) == want);
	}
}

/* Plays a round; a share of the proposals fails. Returns the meshes. */
static unsigned int play(struct model *w, struct mafc_matcher *m,
			 unsigned int fail_percent, u64 *seed)
{
	unsigned int proposals = 0, meshes = 0, k;
	u32 dst, src;

	while (mafc_matcher_next(m, &dst, &src) || m->paused) {
		if (m->paused)
			continue;
		if (dst >= w->n || src >= w->n || dst == src ||
		    w->gone[dst] || w->gone[src] ||
		    !disjoint(w->bits[dst], w->bits[src]) ||
		    live(w->bits[src]) > live(w->bits[dst]) ||
		    proposals++ > w->n) {
			EXPECT(!"a bad proposal");
			return 0;
		}
		w->gone[src] = true;
		if (below(seed, 100) < fail_percent) {
			if (below(seed, 2))
				mafc_matcher_done(m, false);
			continue;
		}
		for (k = 0; k < 4; k++)
			w->bits[dst][k] |= w->bits[src][k];
		mafc_matcher_done(m, true);
		meshes++;
	}
	return meshes;
}

/* A pair that is still there. */
static bool pair_left(const struct model *w)
{
	unsigned int i, k;

	for (i = 0; i < w->n; i++) {
		for (k = 0; k < w->n; k++) {
			if (i != k && !w->gone[i] && !w->gone[k] &&
			    disjoint(w->bits[i], w->bits[k]))
				return true;
		}
	}
	return false;
}

static void test_proposals(void)
{
	const char *steps = getenv("FUZZ_STEPS"), *start = getenv("FUZZ_SEED");
	unsigned int rounds = steps ? strtoul(steps, NULL, 0) / 256 : 1500;
	u64 seed = start ? strtoull(start, NULL, 0) : 1;
	struct mafc_matcher *m = make(SPANS * 2);
	struct model *w = memory(sizeof(*w));
	unsigned int i;

	for (i = 0; i < rounds && !ktap_failed; i++) {
		populate(w, m, below(&seed, SPANS), 2 + below(&seed, 255),
			 1 + below(&seed, 60), &seed);
		play(w, m, below(&seed, 2) * below(&seed, 100), &seed);
	}
	free(w);
	free(m);
}

/* Up to 16 blocks, and with few spans, the search is exhaustive. */
static void test_nothing_overlooked(void)
{
	struct mafc_matcher *m = make(SPANS);
	struct model *w = memory(sizeof(*w));
	u64 seed = 3;
	unsigned int i;

	for (i = 0; i < 1500 && !ktap_failed; i++) {
		populate(w, m, below(&seed, SPANS), 2 + below(&seed, 15),
			 5 + below(&seed, 60), &seed);
		mafc_matcher_reset(m, w->nblocks);
		for (unsigned int k = 0; k < w->n; k++)
			mafc_matcher_add(m, k, w->bits[k]);
		play(w, m, 0, &seed);
		EXPECT(!pair_left(w));
	}
	free(w);
	free(m);
}

/* Up to 16 blocks it is so with any number of spans: one pair among many, too empty to look up. */
static void test_one_pair_of_many(void)
{
	struct mafc_matcher *m = make(20000);
	u32 dst, src, i;

	mafc_matcher_reset(m, 16);
	for (i = 0; i < 20000; i++) {
		u64 bits[4] = { 0x21 | 0x200 << i % 3 | 0x1000 << i / 3 % 4 };

		if (i == 7777)
			bits[0] = 0x1f;
		if (i == 12345)
			bits[0] = 0x1e0;
		EXPECT(mafc_matcher_add(m, i, bits) == 0);
	}
	EXPECT(mafc_matcher_next(m, &dst, &src) && dst == 7777 && src == 12345);
	mafc_matcher_done(m, true);
	do
		EXPECT(!mafc_matcher_next(m, &dst, &src));
	while (m->paused);
	free(m);
}

/* The first proposal: the fullest span of all, with the fullest that fits. */
static void test_fullest_first(void)
{
	struct mafc_matcher *m = make(SPANS);
	struct model *w = memory(sizeof(*w));
	u64 seed = 4;
	unsigned int i, k, most, best;
	u32 dst, src;

	for (i = 0; i < 3000 && !ktap_failed; i++) {
		populate(w, m, SPANS, 16, 45, &seed);
		if (!mafc_matcher_next(m, &dst, &src))
			continue;
		for (k = most = best = 0; k < SPANS; k++) {
			if (w->gone[k])
				continue;
			if (live(w->bits[k]) > most)
				most = live(w->bits[k]);
			if (k != dst &&
			    disjoint(w->bits[k], w->bits[dst]) &&
			    live(w->bits[k]) > best)
				best = live(w->bits[k]);
		}
		EXPECT(live(w->bits[src]) == best);
		/* fuller ones were passed over only for want of a partner */
		for (k = 0; k < SPANS; k++) {
			unsigned int j;

			if (w->gone[k] ||
			    live(w->bits[k]) <= live(w->bits[dst]))
				continue;
			for (j = 0; j < SPANS; j++)
				EXPECT(w->gone[j] || j == k ||
				       !disjoint(w->bits[k], w->bits[j]));
		}
	}
	free(w);
	free(m);
}

/*
 * No span that is still there, fits and is emptier than the destination was when it was picked is
 * fuller than the partner proposed: if at most 9 of the first 16 places are free, and the first 16
 * blocks differ from span to span.
 */
static void test_fullest_partner(void)
{
	struct mafc_matcher *m = make(SPANS);
	struct model *w = memory(sizeof(*w));
	unsigned int i, k, n, percent, searches = 0;
	u8 *seen = memory(65536);
	u64 seed = 8;

	for (i = 0; i < 3000 && !ktap_failed; i++) {
		unsigned int had = 0;
		u32 dst, src, last = SPANS;

		memset(seen, 0, 65536);
		populate(w, m, SPANS, 2 + below(&seed, 63), 20 + below(&seed, 60), &seed);
		percent = below(&seed, 2) * below(&seed, 60);
		mafc_matcher_reset(m, w->nblocks);
		for (k = 0; k < w->n; k++) {
			/* of the lowest six places none or nearly all, to have all numbers of them */
			n = w->nblocks > 12 ? below(&seed, 4) : 2;
			w->bits[k][0] &= n ? ~0ULL : ~0x3fULL;
			w->bits[k][0] |= n == 1 ? 0x3f & ~(1u << below(&seed, 8)) : 0;
			n = live(w->bits[k]);
			w->gone[k] = !n || n == w->nblocks || seen[(u16)w->bits[k][0]]++;
			if (!w->gone[k])
				EXPECT(mafc_matcher_add(m, k, w->bits[k]) == 0);
		}
		while (mafc_matcher_next(m, &dst, &src) || m->paused) {
			unsigned int best = 0, end = w->nblocks < 16 ? w->nblocks : 16;

			if (m->paused)
				continue;
			if (dst != last)
				had = live(w->bits[dst]);
			last = dst;
			for (k = n = 0; k < end; k++)
				n += !(w->bits[dst][0] >> k & 1);
			for (k = 0; k < w->n && n <= 9; k++)
				if (!w->gone[k] && k != dst && live(w->bits[k]) > best &&
				    live(w->bits[k]) < had && disjoint(w->bits[k], w->bits[dst]))
					best = live(w->bits[k]);
			searches += n <= 9;
			EXPECT(live(w->bits[src]) >= best);
			w->gone[src] = true;
			if (below(&seed, 100) < percent) {
				mafc_matcher_done(m, false);
				continue;
			}
			for (k = 0; k < 4; k++)
				w->bits[dst][k] |= w->bits[src][k];
			mafc_matcher_done(m, true);
		}
	}
	EXPECT(searches > 100000);
	free(seen);
	free(w);
	free(m);
}

/* Fewest groups of disjoint spans, by trying all ways. */
static unsigned int fewest(const u64 bits[], unsigned int n, u64 groups[],
			   unsigned int used, unsigned int best)
{
	unsigned int g;

	if (used >= best)
		return best;
	if (!n)
		return used;
	for (g = 0; g <= used; g++) {
		u64 old = g < used ? groups[g] : 0;

		if (old & *bits)
			continue;
		groups[g] = old | *bits;
		best = fewest(bits + 1, n - 1, groups, used + (g == used), best);
		groups[g] = old;
	}
	return best;
}

/* On average, greedy is near the best there is. */
static void test_near_optimum(void)
{
	struct mafc_matcher *m = make(16);
	struct model *w = memory(sizeof(*w));
	unsigned int i, k, held = 0, optimum = 0;
	u64 seed = 5;

	for (i = 0; i < 2000 && !ktap_failed; i++) {
		u64 bits[9], groups[10];
		unsigned int n = 0;

		populate(w, m, 9, 8, 20 + below(&seed, 30), &seed);
		mafc_matcher_reset(m, 8);
		for (k = 0; k < 9; k++) {
			if (w->gone[k])
				continue;
			mafc_matcher_add(m, k, w->bits[k]);
			bits[n++] = w->bits[k][0];
		}
		optimum += fewest(bits, n, groups, 0, n + 1);
		held += n - play(w, m, 0, &seed);
	}
	printf("# spans held: %u, by exhaustive search %u\n", held, optimum);
	EXPECT(held >= optimum && held * 100 <= optimum * 103);
	free(w);
	free(m);
}

static void test_failures(void)
{
	struct mafc_matcher *m = make(100);
	u64 full[4] = { 0x7fff }, one[4] = { 0x8000 };
	u32 dst, src;
	int i;

	mafc_matcher_reset(m, 16);
	EXPECT(mafc_matcher_add(m, 1000, full) == 0);
	for (i = 0; i < 50; i++)
		EXPECT(mafc_matcher_add(m, i, one) == 0);
	/* the verdict "failed" costs the source, in the end the destination */
	for (i = 0; mafc_matcher_next(m, &dst, &src); i++) {
		EXPECT(dst == 1000 && src < 50);
		mafc_matcher_done(m, false);
	}
	EXPECT(i > 1 && i < 20);
	/* without a proposal a verdict means nothing */
	mafc_matcher_done(m, true);
	mafc_matcher_done(m, false);
	EXPECT(!mafc_matcher_next(m, &dst, &src));
	free(m);
}

static void test_bad_spans(void)
{
	struct mafc_matcher *m = make(3);
	u64 ok[4] = { 1 }, none[4] = { 0 }, beyond[4] = { 1ULL << 40 };
	u64 far[4] = { 1, 0, 0, 1 }, full[4] = { 0xff };
	u32 dst, src;

	EXPECT(mafc_matcher_add(m, 0, ok) != 0);
	EXPECT(!mafc_matcher_next(m, &dst, &src));
	EXPECT(mafc_matcher_reset(m, 0) == -EINVAL);
	EXPECT(mafc_matcher_reset(m, 1) == -EINVAL);
	EXPECT(mafc_matcher_reset(m, 257) == -EINVAL);
	EXPECT(mafc_matcher_add(m, 0, ok) != 0);
	EXPECT(mafc_matcher_reset(m, 8) == 0);
	EXPECT(mafc_matcher_add(m, 0, none) == -EINVAL);
	EXPECT(mafc_matcher_add(m, 0, full) == -EINVAL);
	EXPECT(mafc_matcher_add(m, 0, beyond) == -EINVAL);
	EXPECT(mafc_matcher_add(m, 0, far) == -EINVAL);
	EXPECT(mafc_matcher_add(m, 0, ok) == 0);
	EXPECT(mafc_matcher_add(m, 1, ok) == 0);
	EXPECT(mafc_matcher_add(m, 2, ok) == 0);
	EXPECT(mafc_matcher_add(m, 3, ok) == -ENOSPC);
	EXPECT(!mafc_matcher_next(m, &dst, &src));
	EXPECT(mafc_matcher_add(m, 3, ok) == -EBUSY);
	EXPECT(mafc_matcher_reset(m, 256) == 0);
	EXPECT(mafc_matcher_add(m, 7, far) == 0);
	EXPECT(m->capacity == 1);
	EXPECT(mafc_matcher_add(m, 7, far) == -ENOSPC);
	free(m);
}

/* Every 8th block, wherever it is in the span: eight spans to a page. */
static void test_regular_pattern(void)
{
	static const unsigned int sizes[] = { 8, 16, 32, 64, 128, 256 };
	struct mafc_matcher *m = make(20000);
	u32 dst, src;
	unsigned int i, k;

	for (k = 0; k < sizeof(sizes) / sizeof(*sizes); k++) {
		unsigned int meshes = 0, spans;

		mafc_matcher_reset(m, sizes[k]);
		spans = m->capacity / 8 * 8;
		for (i = 0; i < spans; i++) {
			u64 b = 0x0101010101010101ULL << (i % 8);
			u64 bits[4] = { b, b, b, b };

			if (sizes[k] < 64)
				bits[0] &= (1ULL << sizes[k]) - 1;
			bits[1] = sizes[k] > 64 ? b : 0;
			bits[2] = sizes[k] > 128 ? b : 0;
			bits[3] = sizes[k] > 128 ? b : 0;
			EXPECT(mafc_matcher_add(m, i, bits) == 0);
		}
		while (mafc_matcher_next(m, &dst, &src) || m->paused) {
			if (m->paused)
				continue;
			mafc_matcher_done(m, true);
			meshes++;
		}
		EXPECT(meshes * 1000 >= (spans - spans / 8) * 999);
	}
	free(m);
}

/* Nothing fits: long searches are cut in pieces, and come to an end. */
static void test_hopeless(void)
{
	struct mafc_matcher *m = make(20000);
	unsigned int i, calls = 0;
	u64 most = 0, before, seed = 6;
	u32 dst, src;

	mafc_matcher_reset(m, 64);
	for (i = 0; i < 20000; i++) {
		u64 bits[4] = { (rnd(&seed) & rnd(&seed)) | 1ULL << 40 };

		EXPECT(mafc_matcher_add(m, i, bits) == 0);
	}
	do {
		before = m->steps;
		EXPECT(!mafc_matcher_next(m, &dst, &src));
		if (m->steps - before > most)
			most = m->steps - before;
		calls++;
	} while (m->paused);
	EXPECT(calls > 1 && most < 80000);
	EXPECT(m->steps / 20000 < 6000);
	free(m);
}

static const struct ktap_test tests[] = {
	{ "proposals", test_proposals },
	{ "nothing_overlooked", test_nothing_overlooked },
	{ "one_pair_of_many", test_one_pair_of_many },
	{ "fullest_first", test_fullest_first },
	{ "fullest_partner", test_fullest_partner },
	{ "near_optimum", test_near_optimum },
	{ "failures", test_failures },
	{ "bad_spans", test_bad_spans },
	{ "regular_pattern", test_regular_pattern },
	{ "hopeless", test_hopeless },
};

KTAP_MAIN(tests)
