// SPDX-License-Identifier: GPL-2.0-only
/*
 * markov_test.c - the PFM against Markov chains whose probabilities are known
 *
 * FUZZ_STEPS and FUZZ_SEED in the environment set length and seed.
 */
#include <math.h>

#include "ktap.h"
#include "markov.h"

#define MEDIUM	1000
#define HIGH	2500
#define STATES	6
#define HORIZON	MAFC_PFM_HORIZON

/*
 * A chain that makes samples: states 0 to 2 are Low, Medium and High while the
 * program mostly allocates, 3 to 5 while it mostly frees.
 */
struct chain {
	const char *name;
	double p[STATES][STATES];
};

static const struct chain chains[] = {
	{ "calm", {
		{ .98, .02 }, { .05, .94, .01 }, { 0, .10, .90 },
		{ 1 }, { 1 }, { 1 } } },
	{ "restless", {
		{ .70, .25, .05 }, { .25, .50, .25 }, { .10, .30, .60 },
		{ 1 }, { 1 }, { 1 } } },
	{ "frees announce High", {
		{ .95, .03, 0, .02 }, { .10, .85, 0, 0, .05 }, { 0, .25, .75 },
		{ 0, 0, 0, .50, .50 }, { 0, 0, 0, 0, .40, .60 },
		{ 0, 0, .20, 0, 0, .80 } } },
};

static bool is_high(int state)
{
	return state % 3 == 2;
}

/* Probability of High within HORIZON steps, exactly. */
static void truth(const struct chain *c, double out[STATES])
{
	double next[STATES] = { 0 };
	int k, i, j;

	memset(out, 0, STATES * sizeof(*out));
	for (k = 0; k < HORIZON; k++) {
		for (i = 0; i < STATES; i++) {
			next[i] = 0;
			for (j = 0; j < STATES; j++)
				next[i] += c->p[i][j] * (is_high(j) ? 1 : out[j]);
		}
		memcpy(out, next, sizeof(next));
	}
}

static int move(const struct chain *c, int state, u64 *seed)
{
	double x = ldexp(rnd(seed) >> 11, -53);
	int j;

	for (j = 0; j < STATES - 1; j++) {
		x -= c->p[state][j];
		if (x < 0)
			break;
	}
	return j;
}

static struct mafc_pfm_sample sample_of(int state)
{
	static const u32 frag[] = { 300, 1700, 4000 };

	return (struct mafc_pfm_sample){
		.frag = frag[state % 3],
		.entropy_q16 = MAFC_PFM_ONE / 2,
		.free_rate_q16 = MAFC_PFM_ONE * (state < 3 ? 1 : 3) / 4,
		.heap_pages = 10000,
	};
}

/* Scores of a long run, after a time to learn. */
static void score_chain(const struct chain *c)
{
	enum { LEARN = 2000, STEPS = 100000 };
	struct mafc_pfm *p = memory(sizeof(*p));
	double best[STATES], error = 0, ideal = 0, pfm = 0, persist = 0;
	static u8 state[LEARN + STEPS + HORIZON];
	struct mafc_pfm_forecast f;
	u64 seed = 1;
	int i, k;

	truth(c, best);
	for (i = 1; i < LEARN + STEPS + HORIZON; i++)
		state[i] = move(c, state[i - 1], &seed);
	mafc_pfm_init(p, MEDIUM, HIGH);
	for (i = 0; i < LEARN + STEPS; i++) {
		struct mafc_pfm_sample s = sample_of(state[i]);
		bool event = false;
		double told;

		EXPECT(mafc_pfm_update(p, &s) == 0);
		if (i < LEARN)
			continue;
		mafc_pfm_forecast(p, &f);
		EXPECT((int)f.state == state[i] % 3);
		told = f.high_ppm / 1e6;
		for (k = 1; k <= HORIZON; k++)
			event |= is_high(state[i + k]);
		error += fabs(told - best[state[i]]);
		ideal += pow(best[state[i]] - event, 2);
		pfm += pow(told - event, 2);
		persist += pow(is_high(state[i]) - event, 2);
	}
	printf("# %-20s %10.4f %10.4f %12.4f %14.4f\n", c->name, ideal / STEPS,
	       pfm / STEPS, persist / STEPS, error / STEPS);
	EXPECT(pfm < persist);
	EXPECT(pfm < 1.05 * ideal + 0.002 * STEPS);
	EXPECT(error / STEPS < 0.06);
	free(p);
}

static void test_known_chains(void)
{
	unsigned int i;

	printf("# Brier score of    true chain        pfm  persistence  |pfm - truth|\n");
	for (i = 0; i < sizeof(chains) / sizeof(*chains); i++)
		score_chain(&chains[i]);
}

static void feed(struct mafc_pfm *p, u32 frag, unsigned int times)
{
	struct mafc_pfm_sample s = {
		.frag = frag, .entropy_q16 = 30000, .free_rate_q16 = 30000,
		.heap_pages = 100,
	};

	while (times--)
		EXPECT(mafc_pfm_update(p, &s) == 0);
}

static struct mafc_pfm_forecast ask(struct mafc_pfm *p)
{
	struct mafc_pfm_forecast f;

	mafc_pfm_forecast(p, &f);
	return f;
}

/* Without experience it stays as it is, more or less. */
static void test_newborn(void)
{
	struct mafc_pfm *p = memory(sizeof(*p));

	mafc_pfm_init(p, MEDIUM, HIGH);
	EXPECT(ask(p).state == MAFC_PFM_LOW && ask(p).high_ppm == 0);
	feed(p, 0, 1);
	EXPECT(ask(p).state == MAFC_PFM_LOW && ask(p).high_ppm < 50000);
	EXPECT(ask(p).steps > HORIZON);
	mafc_pfm_init(p, MEDIUM, HIGH);
	feed(p, 5000, 1);
	EXPECT(ask(p).state == MAFC_PFM_HIGH && ask(p).high_ppm > 900000);
	EXPECT(ask(p).steps == 0);
	free(p);
}

static void test_thresholds(void)
{
	static const u32 frag[] = { 0, 999, 1000, 2499, 2500, 10000 };
	static const int state[] = { 0, 0, 1, 1, 2, 2 };
	struct mafc_pfm *p = memory(sizeof(*p));
	u32 m, h, f;
	int i;

	for (i = 0; i < 6; i++) {
		mafc_pfm_init(p, MEDIUM, HIGH);
		feed(p, frag[i], 1);
		EXPECT((int)ask(p).state == state[i]);
	}
	/* any thresholds, also senseless ones, give a model that works */
	for (m = 0; m < 12000; m += 997) {
		for (h = 0; h < 12000; h += 1499) {
			mafc_pfm_init(p, m, h);
			EXPECT(p->medium >= 1 && p->medium < p->high &&
			       p->high <= MAFC_PFM_FRAG_MAX);
			for (f = 0; f <= 10000; f += 500)
				feed(p, f, 1);
			EXPECT(ask(p).state == MAFC_PFM_HIGH);
			f = p->trials[p->place];
			/* the same setting again forgets nothing */
			mafc_pfm_set_thresholds(p, m, h);
			EXPECT(p->known);
		}
	}
	mafc_pfm_init(p, MEDIUM, HIGH);
	feed(p, 5000, 100);
	mafc_pfm_set_thresholds(p, MEDIUM, 6000);
	EXPECT(!p->known && p->high == 6000);
	free(p);
}

/* The way up to High is learned, and so is that it is not taken any more. */
static void test_learns_and_forgets(void)
{
	struct mafc_pfm *p = memory(sizeof(*p));
	u32 before;
	int i;

	mafc_pfm_init(p, MEDIUM, HIGH);
	feed(p, 1600, 1);
	before = ask(p).high_ppm;
	for (i = 0; i < 60; i++) {
		feed(p, 300, 3);
		feed(p, 1600, 3);
		feed(p, 4000, 3);
	}
	feed(p, 300, 3);
	feed(p, 1600, 1);
	EXPECT(ask(p).high_ppm > 800000 && ask(p).high_ppm > before);
	EXPECT(ask(p).steps <= 10);
	for (i = 0; i < 600; i++) {
		feed(p, 300, 3);
		feed(p, 1600, 3);
	}
	feed(p, 300, 3);
	feed(p, 1600, 1);
	EXPECT(ask(p).high_ppm < 150000);
	EXPECT(ask(p).steps > 10);
	free(p);
}

/* Entropy, free rate and size are compared with what they were before. */
static void test_contexts(void)
{
	const struct mafc_pfm_sample usual = { 300, 20000, 30000, 1000 };
	struct mafc_pfm *p = memory(sizeof(*p));
	struct mafc_pfm_sample s;
	unsigned int k, c, bits;

	mafc_pfm_init(p, MEDIUM, HIGH);
	for (k = 0; k < 100; k++) {
		mafc_pfm_update(p, &usual);
		/* 8: at none of ten steps it was High */
		EXPECT(p->place % MAFC_PFM_CONTEXTS == (k < HORIZON ? 0 : 8));
	}
	for (bits = 0; bits < 8; bits++) {
		for (k = 0; k < 2; k++) {
			/* all a little up, which does not count; then some much */
			s = usual;
			s.entropy_q16 += k && bits & 1 ? 10000 : 1000;
			s.free_rate_q16 += k && bits & 2 ? 20000 : 1500;
			s.heap_pages += k && bits & 4 ? 200 : 40;
			mafc_pfm_update(p, &s);
			EXPECT(p->place % MAFC_PFM_CONTEXTS == 8 + k * bits);
		}
		EXPECT(p->turns[8][8 + bits] >= 1 && p->turns[8][8] > 50);
		for (k = 0; k < 100; k++)
			mafc_pfm_update(p, &usual);
		EXPECT(p->place % MAFC_PFM_CONTEXTS == 8);
	}
	/* what stays becomes usual */
	s = usual;
	s.heap_pages = 1ULL << 39;
	for (k = 0; k < 100; k++) {
		mafc_pfm_update(p, &s);
		EXPECT(p->place % MAFC_PFM_CONTEXTS == (k < 42 ? 12 : 8) ||
		       (k > 30 && k < 60));
	}
	feed(p, 5000, 1);
	feed(p, 300, HORIZON - 1);
	EXPECT(p->place % MAFC_PFM_CONTEXTS < 8);
	feed(p, 300, 1);
	EXPECT(p->place % MAFC_PFM_CONTEXTS >= 8);
	for (k = 0; k < 5000; k++)
		mafc_pfm_update(p, &usual);
	for (k = 0; k < MAFC_PFM_PLACES; k++) {
		EXPECT(p->trials[k] <= 512);
		for (c = 0; c < MAFC_PFM_BANDS; c++)
			EXPECT(p->moves[k][c] <= 512);
	}
	free(p);
}

static void test_bad_samples(void)
{
	const struct mafc_pfm_sample good = { 5000, 30000, 30000, 100 };
	struct mafc_pfm_sample bad[] = { good, good, good, good, good };
	struct mafc_pfm *p = memory(sizeof(*p)), *before = memory(sizeof(*p));
	int i;

	bad[0].frag = MAFC_PFM_FRAG_MAX + 1;
	bad[1].entropy_q16 = MAFC_PFM_ONE + 1;
	bad[2].free_rate_q16 = ~0u;
	bad[3].heap_pages = 0;
	bad[4].heap_pages = MAFC_PFM_PAGES_MAX + 1;
	for (i = -1; i < 5; i++) {
		mafc_pfm_init(p, MEDIUM, HIGH);
		feed(p, 300, 20);
		feed(p, 5000, 20);
		memcpy(before, p, sizeof(*p));
		EXPECT(mafc_pfm_update(p, i < 0 ? NULL : &bad[i]) == -EINVAL);
		EXPECT(ask(p).state == MAFC_PFM_LOW);
		EXPECT(ask(p).high_ppm == 0 && ask(p).steps == 0);
		/* what was learned stays, nothing is learned from the gap */
		EXPECT(!memcmp(before->moves, p->moves, sizeof(p->moves)));
		EXPECT(!memcmp(before->hits, p->hits, sizeof(p->hits)));
		feed(p, 300, 1);
		EXPECT(!memcmp(before->moves, p->moves, sizeof(p->moves)));
		EXPECT(!memcmp(before->hits, p->hits, sizeof(p->hits)));
		EXPECT(p->known && ask(p).state == MAFC_PFM_LOW);
	}
	free(before);
	free(p);
}

static u32 odd(u64 *seed)
{
	static const u32 edge[] = { 0, 1, 999, 1000, 9999, 10000, 10001,
				    65535, 65536, 65537, 0x7fffffff, ~0u };

	return below(seed, 2) ? edge[below(seed, 12)] : below(seed, 10001);
}

/* Whatever comes in, what goes out is a probability. */
static void test_fuzz(void)
{
	const char *text = getenv("FUZZ_STEPS"), *start = getenv("FUZZ_SEED");
	unsigned long i, steps = text ? strtoul(text, NULL, 0) : 200000;
	u64 seed = start ? strtoull(start, NULL, 0) : 1;
	struct mafc_pfm *p = memory(sizeof(*p));
	unsigned int k;

	mafc_pfm_init(p, MEDIUM, HIGH);
	for (i = 0; i < steps && !ktap_failed; i++) {
		struct mafc_pfm_sample s = {
			odd(&seed), odd(&seed), odd(&seed),
			below(&seed, 8) ? rnd(&seed) >> below(&seed, 64) : 0,
		};
		struct mafc_pfm_forecast f;

		if (below(&seed, 1000) == 0)
			mafc_pfm_set_thresholds(p, odd(&seed), odd(&seed));
		mafc_pfm_update(p, below(&seed, 50) ? &s : NULL);
		if (i % 16)
			continue;
		mafc_pfm_forecast(p, &f);
		EXPECT(f.high_ppm <= 1000000);
		EXPECT(f.steps <= MAFC_PFM_STEPS_MAX);
		EXPECT(f.state <= MAFC_PFM_HIGH);
		EXPECT(p->known || (!f.high_ppm && f.state == MAFC_PFM_LOW));
		for (k = 0; k < MAFC_PFM_PLACES; k++)
			EXPECT(p->hits[k] <= p->trials[k]);
	}
	free(p);
}

static void test_log2(void)
{
	u64 x, seed = 1;
	int i;

	EXPECT(mafc_log2_q16(0) == 0 && mafc_log2_q16(1) == 0);
	for (i = 0; i < 64; i++)
		EXPECT(mafc_log2_q16(1ULL << i) == (u32)i << 16);
	for (i = 0; i < 100000; i++) {
		x = rnd(&seed) >> below(&seed, 64);
		if (x)
			EXPECT(fabs(mafc_log2_q16(x) - log2(x) * 65536) < 3);
	}
	EXPECT(mafc_log2_q16(~0ULL) < 64u << 16);
}

static void test_entropy(void)
{
	u64 seed = 1, count[1024];
	unsigned int n, i;
	int k;

	memset(count, 0, sizeof(count));
	EXPECT(mafc_pfm_entropy(count, 0) == 0);
	EXPECT(mafc_pfm_entropy(count, 1024) == 0);
	count[5] = ~0ULL;
	EXPECT(mafc_pfm_entropy(count, 1024) == 0);
	EXPECT(mafc_pfm_entropy(count + 5, 1) == 0);
	for (i = 0; i < 1024; i++)
		count[i] = ~0ULL;
	for (n = 2; n <= 1024; n *= 2)
		EXPECT(mafc_pfm_entropy(count, n) == MAFC_PFM_ONE);
	for (k = 0; k < 2000; k++) {
		double sum = 0, h = 0;

		n = 2 + below(&seed, 95);
		for (i = 0; i < n; i++) {
			count[i] = below(&seed, 3) ?
				   rnd(&seed) >> (20 + below(&seed, 44)) : 0;
			sum += count[i];
		}
		for (i = 0; i < n; i++) {
			if (count[i])
				h -= count[i] / sum * log2(count[i] / sum);
		}
		EXPECT(!sum || fabs(mafc_pfm_entropy(count, n) -
				    h / log2(n) * 65536) < 16);
	}
}

static const struct ktap_test tests[] = {
	{ "known_chains", test_known_chains },
	{ "newborn", test_newborn },
	{ "thresholds", test_thresholds },
	{ "learns_and_forgets", test_learns_and_forgets },
	{ "contexts", test_contexts },
	{ "bad_samples", test_bad_samples },
	{ "fuzz", test_fuzz },
	{ "log2", test_log2 },
	{ "entropy", test_entropy },
};

KTAP_MAIN(tests)
