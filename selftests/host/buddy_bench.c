// SPDX-License-Identifier: GPL-2.0-only
/*
 * buddy_bench.c - plain buddy against adaptive
 *
 * The same random requests go to two pools of buddies, one that coalesces at
 * once and one whose lazy targets follow a histogram of the requests.  The
 * workloads differ in what is asked for and in how full the pool is; one
 * changes its habits half way.
 */
#include <time.h>

#include "ktap.h"
#include "buddy.h"

#define CHUNKS		32
#define CHUNK_ORDER	9
#define PAGES		(CHUNKS << CHUNK_ORDER)
#define REQUESTS	1000000u
/* How often the targets are derived anew, in requests. */
#define ADAPT_EVERY	1024u

struct workload {
	const char *name;
	/* weight of each order in requests; the second set from half way on */
	u8 first[CHUNK_ORDER + 1];
	u8 second[CHUNK_ORDER + 1];
	unsigned int fill;	/* per cent of the pages that may be in use */
	double keep;		/* share of plain's largest free block to keep */
};

static const struct workload workloads[] = {
	{ "single pages, few large", { 95, 0, 0, 0, 4, 0, 0, 0, 0, 1 },
	  { 95, 0, 0, 0, 4, 0, 0, 0, 0, 1 }, 60, 0.98 },
	{ "single pages and batches", { 50, 0, 10, 0, 38, 0, 1, 0, 0, 1 },
	  { 50, 0, 10, 0, 38, 0, 1, 0, 0, 1 }, 75, 0.98 },
	{ "habits change", { 90, 5, 0, 0, 4, 0, 0, 0, 0, 1 },
	  { 5, 0, 0, 80, 14, 0, 0, 0, 0, 1 }, 75, 0.98 },
	{ "nearly full", { 80, 10, 5, 2, 2, 1, 0, 0, 0, 0 },
	  { 80, 10, 5, 2, 2, 1, 0, 0, 0, 0 }, 95, 0.85 },
};

struct block {
	u16 chunk;
	u16 off;
	u8 order;
};

struct pool {
	struct mafc_buddy *chunk[CHUNKS];
	struct mafc_hist hist;
	struct block blocks[PAGES];
	unsigned int nblocks;
	unsigned int used;
	bool adaptive;
};

struct result {
	double work;		/* splits and merges per request */
	unsigned int failed;	/* requests of order 4 and up */
	double largest;		/* mean of the largest order, by chunk */
	double ns;		/* per request */
};

static void adapt(struct pool *p)
{
	u16 target[CHUNK_ORDER + 1];
	unsigned int i;

	mafc_hist_targets(&p->hist, CHUNK_ORDER, target);
	for (i = 0; i < CHUNKS; i++)
		mafc_buddy_set_lazy(p->chunk[i], target);
}

static bool pool_alloc(struct pool *p, unsigned int order)
{
	unsigned int i;
	int off;

	mafc_hist_add(&p->hist, order);
	for (i = 0; i < CHUNKS; i++) {
		off = mafc_buddy_alloc(p->chunk[i], order);
		if (off < 0)
			continue;
		p->blocks[p->nblocks++] = (struct block){ i, off, order };
		p->used += 1u << order;
		return true;
	}
	return false;
}

static void pool_free(struct pool *p, unsigned int i)
{
	struct block b = p->blocks[i];

	p->blocks[i] = p->blocks[--p->nblocks];
	p->used -= 1u << b.order;
	EXPECT(mafc_buddy_free(p->chunk[b.chunk], b.off, b.order) == 0);
}

static unsigned int draw(const u8 weights[], u64 *seed)
{
	unsigned int o, sum = 0, x;

	for (o = 0; o <= CHUNK_ORDER; o++)
		sum += weights[o];
	x = below(seed, sum);
	for (o = 0; x >= weights[o]; o++)
		x -= weights[o];
	return o;
}

static double largest(const struct pool *p)
{
	double sum = 0;
	unsigned int i;

	for (i = 0; i < CHUNKS; i++) {
		int o = mafc_buddy_largest(p->chunk[i]);

		sum += o < 0 ? 0 : 1u << o;
	}
	return sum / CHUNKS;
}

static struct result run(const struct workload *w, bool adaptive)
{
	struct pool *p = calloc(1, sizeof(*p));
	struct result r = { 0 };
	struct timespec t0, t1;
	u64 seed = 42, work = 0;
	unsigned int i, looks = 0;

	p->adaptive = adaptive;
	for (i = 0; i < CHUNKS; i++) {
		p->chunk[i] = memory(mafc_buddy_size(CHUNK_ORDER));
		mafc_buddy_init(p->chunk[i], CHUNK_ORDER);
	}
	clock_gettime(CLOCK_MONOTONIC, &t0);
	for (i = 0; i < REQUESTS; i++) {
		unsigned int o = draw(i < REQUESTS / 2 ? w->first : w->second,
				      &seed);
		u64 dice = rnd(&seed);

		while (p->nblocks && p->used + (1u << o) > PAGES / 100 * w->fill)
			pool_free(p, (dice = rnd(&seed)) % p->nblocks);
		if (!pool_alloc(p, o) && o >= 4)
			r.failed++;
		/* bursts of frees, so that fragments come to lie free */
		if (i % 4096 == 0)
			while (p->used > PAGES / 200 * w->fill)
				pool_free(p, rnd(&seed) % p->nblocks);
		if (p->adaptive && i % ADAPT_EVERY == 0)
			adapt(p);
		if (i % 1000 == 500) {
			r.largest += largest(p);
			looks++;
		}
	}
	clock_gettime(CLOCK_MONOTONIC, &t1);
	for (i = 0; i < CHUNKS; i++)
		work += p->chunk[i]->splits + p->chunk[i]->merges;
	r.work = (double)work / REQUESTS;
	r.largest /= looks;
	r.ns = ((t1.tv_sec - t0.tv_sec) * 1e9 + t1.tv_nsec - t0.tv_nsec) /
	       REQUESTS;
	for (i = 0; i < CHUNKS; i++)
		free(p->chunk[i]);
	free(p);
	return r;
}

static void test_adaptive_works_less(void)
{
	unsigned int i;

	printf("# %-26s %8s  %16s %14s %15s %13s\n", "", "", "splits+merges",
	       "failed large", "largest free", "time");
	printf("# %-26s %8s  %16s %14s %15s %13s\n", "workload", "buddy",
	       "per request", "requests", "pages/chunk", "ns/request");
	for (i = 0; i < sizeof(workloads) / sizeof(*workloads); i++) {
		const struct workload *w = &workloads[i];
		struct result plain = run(w, false), lazy = run(w, true);

		printf("# %-26s %8s  %16.3f %14u %15.1f %13.0f\n", w->name,
		       "plain", plain.work, plain.failed, plain.largest,
		       plain.ns);
		printf("# %-26s %8s  %16.3f %14u %15.1f %13.0f\n", "",
		       "adaptive", lazy.work, lazy.failed, lazy.largest,
		       lazy.ns);
		EXPECT(lazy.work < 0.7 * plain.work);
		EXPECT(lazy.failed <= plain.failed + REQUESTS / 10000);
		EXPECT(lazy.largest >= w->keep * plain.largest);
	}
}

static const struct ktap_test tests[] = {
	{ "adaptive_works_less", test_adaptive_works_less },
};

KTAP_MAIN(tests)
