// SPDX-License-Identifier: GPL-2.0-only
/*
 * large.c - RELEASE and REMAP of the large region, and the decay of what the
 * library has given up there
 */
#include "test.h"

HEAP_FIXTURE(large)

#define REGION	((uint64_t)MAFC_REGION_ALIGN)

static uint64_t *word(struct heap *h, uint64_t page)
{
	return (uint64_t *)(h->large + page * PAGE);
}

static void fill(struct heap *h, uint64_t page, unsigned int n, uint64_t version)
{
	for (; n--; page++)
		block_fill(h->large + page * PAGE, PAGE, page, version);
}

/* Pages of the range that do not hold what page @key and on did. */
static int wrong(struct heap *h, uint64_t page, unsigned int n, uint64_t key,
		 uint64_t version)
{
	int bad = 0;

	for (; n--; page++, key++)
		bad += block_check(h->large + page * PAGE, PAGE, key, version) >= 0;
	return bad;
}

static int not_zero(struct heap *h, uint64_t page, unsigned int n)
{
	static const char zeros[PAGE];
	int bad = 0;

	for (; n--; page++)
		bad += !!memcmp(h->large + page * PAGE, zeros, PAGE);
	return bad;
}

TEST_F(large, release)
{
	struct heap *h = &self->h;
	struct mafc_stat before, after;
	uint64_t n;

	map_set(h->large_map, 0, 1200);
	fill(h, 0, 1100, 1);
	ASSERT_EQ(0, heap_stat(h, &before));
	ASSERT_EQ(0, heap_release(h, 10, 1000, &n));
	EXPECT_EQ(1000 * PAGE, n);
	EXPECT_EQ(0, wrong(h, 0, 10, 0, 1));
	EXPECT_EQ(0, wrong(h, 1010, 90, 1010, 1));
	ASSERT_EQ(0, heap_stat(h, &after));
	EXPECT_LE(before.dropped + 1000, after.dropped);
	EXPECT_GT(before.held - 500 * PAGE, after.held);
	EXPECT_EQ(0, not_zero(h, 10, 1000));
	/* Nothing is there, or only a part. */
	ASSERT_EQ(0, heap_release(h, 1150, 20, &n));
	EXPECT_EQ(0, n);
	*word(h, 1155) = 1;
	ASSERT_EQ(0, heap_release(h, 1150, 20, &n));
	EXPECT_LE(PAGE, n);
	EXPECT_EQ(0, not_zero(h, 1150, 20));
	ASSERT_EQ(0, heap_release(h, 20000, REGION - 20000, &n));
	EXPECT_EQ(0, n);
}

TEST_F(large, remap)
{
	struct heap *h = &self->h;
	struct mafc_stat before, after;

	map_set(h->large_map, 0, 8192);
	fill(h, 0, 700, 1);
	fill(h, 5000, 700, 2);
	ASSERT_EQ(0, heap_stat(h, &before));
	/* Over the borders of leaves, at different places of both. */
	ASSERT_EQ(0, heap_remap(h, 0, 5003, 650));
	ASSERT_EQ(0, heap_stat(h, &after));
	EXPECT_EQ(0, wrong(h, 5003, 650, 0, 1));
	EXPECT_EQ(0, wrong(h, 5000, 3, 5000, 2));
	EXPECT_EQ(0, wrong(h, 5653, 47, 5653, 2));
	EXPECT_EQ(0, wrong(h, 650, 50, 650, 1));
	EXPECT_EQ(0, not_zero(h, 0, 650));
	/* What was at the place is gone, and nothing was copied. */
	EXPECT_GE(before.held, after.held);
	EXPECT_EQ(before.cow_copies, after.cow_copies);
	EXPECT_EQ(before.moved, after.moved);
	/* Back again, from above to below, side by side. */
	ASSERT_EQ(0, heap_remap(h, 5003, 4353, 650));
	EXPECT_EQ(0, wrong(h, 4353, 650, 0, 1));
	ASSERT_EQ(0, heap_remap(h, 4353, 5003, 650));
	EXPECT_EQ(0, wrong(h, 5003, 650, 0, 1));
	ASSERT_EQ(0, heap_compact(h, MAFC_COMPACT_SHUFFLE, NULL));
	EXPECT_EQ(0, wrong(h, 5003, 650, 0, 1));
}

/* Holes stay holes, and what was at their new place is gone as well. */
TEST_F(large, remap_with_holes)
{
	struct heap *h = &self->h;
	unsigned int i;

	map_set(h->large_map, 0, 2048);
	for (i = 0; i < 200; i += 3)
		fill(h, i, 1, 1);
	fill(h, 1000, 200, 2);
	ASSERT_EQ(0, heap_remap(h, 0, 1000, 200));
	for (i = 0; i < 200; i++)
		EXPECT_EQ(0, i % 3 ? not_zero(h, 1000 + i, 1) :
				     wrong(h, 1000 + i, 1, i, 1));
	EXPECT_EQ(0, not_zero(h, 0, 200));
}

TEST_F(large, bad_ranges)
{
	struct heap *h = &self->h;
	const struct {
		uint64_t offset, length;
	} bad[] = {
		{ 0, 0 }, { 1, PAGE }, { 0, 1 }, { 0, PAGE + 1 }, { PAGE / 2, PAGE },
		{ REGION * PAGE, PAGE }, { (REGION - 1) * PAGE, 2 * PAGE },
		{ 0, (REGION + 1) * PAGE }, { 0, -PAGE }, { -PAGE, PAGE },
		{ -PAGE, 2 * PAGE }, { PAGE, -PAGE }, { 1ULL << 63, PAGE },
	};
	struct mafc_release r;
	struct mafc_remap m;
	unsigned int i;

	map_set(h->large_map, 0, REGION);
	fill(h, 0, 4, 1);
	fill(h, REGION - 2, 2, 1);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		r = (struct mafc_release){ .size = sizeof(r),
			.offset = bad[i].offset, .length = bad[i].length };
		EXPECT_EQ(-1, ioctl(h->fd, MAFC_IOC_RELEASE, &r)) TH_LOG("%u", i);
		EXPECT_EQ(EINVAL, errno);
		m = (struct mafc_remap){ .size = sizeof(m),
			.from = bad[i].offset, .to = 100 * PAGE,
			.length = bad[i].length };
		EXPECT_EQ(-1, ioctl(h->fd, MAFC_IOC_REMAP, &m)) TH_LOG("%u", i);
		EXPECT_EQ(EINVAL, errno);
		m.to = m.from;
		m.from = 100 * PAGE;
		EXPECT_EQ(-1, ioctl(h->fd, MAFC_IOC_REMAP, &m)) TH_LOG("%u", i);
		EXPECT_EQ(EINVAL, errno);
	}
	/* Ranges that overlap. */
	EXPECT_EQ(EINVAL, heap_remap(h, 0, 0, 1));
	EXPECT_EQ(EINVAL, heap_remap(h, 0, 1, 2));
	EXPECT_EQ(EINVAL, heap_remap(h, 1, 0, 2));
	EXPECT_EQ(EINVAL, heap_remap(h, 0, 3, 4));
	EXPECT_EQ(0, wrong(h, 0, 4, 0, 1));
	EXPECT_EQ(0, wrong(h, REGION - 2, 2, REGION - 2, 1));
	EXPECT_EQ(0, heap_release(h, REGION - 1, 1, NULL));
	EXPECT_EQ(0, not_zero(h, REGION - 1, 1));
	EXPECT_EQ(0, heap_remap(h, 0, REGION - 1, 1));
	EXPECT_EQ(0, wrong(h, REGION - 1, 1, 0, 1));
}

/* Pages whose map bit is clear can be released, and moved to. */
TEST_F(large, map_bits_do_not_matter)
{
	struct heap *h = &self->h;
	uint64_t n;

	map_set(h->large_map, 0, 4);
	fill(h, 0, 4, 1);
	map_clear(h->large_map, 0, 2);
	ASSERT_EQ(0, heap_release(h, 0, 1, &n));
	EXPECT_EQ(PAGE, n);
	ASSERT_EQ(0, heap_remap(h, 1, 9, 1));
	EXPECT_EQ(SIGBUS, touch_signal((char *)word(h, 9), false));
	map_set(h->large_map, 9, 1);
	EXPECT_EQ(0, wrong(h, 9, 1, 1, 1));
}

/* Given up by the library: gone with a compaction, zeros when it comes back. */
TEST_F(large, given_up_pages)
{
	struct heap *h = &self->h;
	struct mafc_compact c;
	struct mafc_stat st;

	map_set(h->large_map, 100, 300);
	fill(h, 100, 300, 1);
	map_clear(h->large_map, 150, 200);
	ASSERT_EQ(0, heap_compact(h, 0, &c));
	EXPECT_EQ(200, c.dropped);
	EXPECT_EQ(SIGBUS, touch_signal((char *)word(h, 150), false));
	EXPECT_EQ(0, wrong(h, 100, 50, 100, 1));
	EXPECT_EQ(0, wrong(h, 350, 50, 350, 1));
	map_set(h->large_map, 150, 200);
	EXPECT_EQ(0, not_zero(h, 150, 200));
	ASSERT_TRUE(WAIT_FOR(2000, !heap_stat(h, &st) && st.live == 300 * PAGE));
}

/*
 * The kthread gives the program some time to take them back, and they are kept
 * for as long as it does.
 */
TEST_F(large, decay)
{
	const uint64_t interval = tunable("interval_ms");
	struct heap *h = &self->h;
	struct mafc_stat st;

	if (tunable_set("interval_ms", "200"))
		SKIP(return, "cannot set the interval: not root?");
	map_set(h->large_map, 0, 64);
	fill(h, 0, 64, 1);
	map_clear(h->large_map, 0, 32);
	ASSERT_EQ(0, heap_policy(h, true));
	EXPECT_TRUE(WAIT_FOR(20000, !heap_stat(h, &st) && st.dropped >= 32))
		TH_LOG("%llu dropped", (unsigned long long)st.dropped);
	EXPECT_EQ(0, wrong(h, 32, 32, 32, 1));
	EXPECT_EQ(32, st.dropped);
	tunable_set_u64("interval_ms", interval);
}

struct neighbour {
	struct heap *h;
	atomic_bool stop;
	uint64_t page;
	_Atomic uint64_t touched;
};

/* Makes one page come and go: its fault may fill others ahead. */
static void *touch_and_release(void *arg)
{
	struct neighbour *n = arg;

	while (!atomic_load(&n->stop)) {
		*(volatile uint64_t *)word(n->h, n->page) = 1;
		heap_release(n->h, n->page, 1, NULL);
		atomic_fetch_add(&n->touched, 1);
	}
	return NULL;
}

/* A fault in the block beside the place that pages are moved to. */
TEST_F_TIMEOUT(large, remap_beside_faults, 60 * SLOW)
{
	const unsigned int rounds = scaled(500, 2);
	struct neighbour n = { .h = &self->h, .page = 63 };
	struct heap *h = &self->h;
	unsigned int r;
	pthread_t t;
	int bad = 0;

	/* A heap so large that faults take pages ahead. */
	map_set(h->large_map, 0, 4096);
	for (r = 1024; r < 4096; r++)
		*word(h, r) = 1;
	ASSERT_EQ(0, pthread_create(&t, NULL, touch_and_release, &n));
	for (r = 1; r <= rounds; r++) {
		fill(h, 512, 16, r);
		ASSERT_EQ(0, heap_remap(h, 512, 64, 16));
		bad += wrong(h, 64, 16, 512, r);
	}
	atomic_store(&n.stop, true);
	pthread_join(t, NULL);
	EXPECT_EQ(0, bad) TH_LOG("of %u pages", 16 * rounds);
	EXPECT_LT(10, n.touched);
}

struct ranges {
	struct heap *h;
	atomic_bool stop;
	_Atomic uint64_t ops, bad;
};

/* Writes to pages that another thread releases: old contents, or zeros. */
static void *write_all(void *arg)
{
	struct ranges *x = arg;
	uint64_t seed = 9, n, was;
	volatile uint64_t *p;

	for (n = 1; !atomic_load(&x->stop); n++) {
		p = word(x->h, rng(&seed) % 64) + rng(&seed) % 512;
		was = *p;
		if (was && was > n)
			atomic_fetch_add(&x->bad, 1);
		*p = n;
		was = *p;
		if (was && was != n)
			atomic_fetch_add(&x->bad, 1);
		atomic_fetch_add(&x->ops, 1);
	}
	return NULL;
}

/* Of releases during writes nothing stays behind: one memory, for all to see. */
static int release_during_writes(struct heap *h, unsigned int rounds)
{
	struct ranges x = { .h = h };
	pthread_t t;
	unsigned int i;
	int err = 0;

	map_set(h->large_map, 0, 64);
	if (pthread_create(&t, NULL, write_all, &x))
		return -1;
	for (i = 0; i < rounds && !err; i++) {
		err = heap_release(h, i % 48, 16, NULL);
		if (i % 32 == 0)
			heap_compact(h, MAFC_COMPACT_SHUFFLE, NULL);
		if (i % 64 == 0)
			usleep(100);
	}
	atomic_store(&x.stop, true);
	pthread_join(t, NULL);
	if (err || x.bad || !x.ops) {
		printf("# error %d, %llu of %llu words wrong\n", err,
		       (unsigned long long)x.bad, (unsigned long long)x.ops);
		return -1;
	}
	/* A page that went must not be written to any longer by a stale entry. */
	fill(h, 0, 64, 7);
	if (heap_compact(h, MAFC_COMPACT_SHUFFLE, NULL))
		return -1;
	return wrong(h, 0, 64, 0, 7);
}

TEST_F_TIMEOUT(large, release_during_writes, 60 * SLOW)
{
	EXPECT_EQ(0, release_during_writes(&self->h, scaled(500, 2)));
}

static int hold_pages(void *arg)
{
	struct heap *h = arg;
	char c;

	return read(h->fd, &c, 1) != 1;
}

/* The same after fork, while a child has the pages too. */
TEST_F_TIMEOUT(large, release_during_writes_after_fork, 60 * SLOW)
{
	struct heap *h = &self->h, child = *h;
	int p[2];
	pid_t pid;

	ASSERT_EQ(0, pipe(p));
	map_set(h->large_map, 0, 64);
	memset(h->large, 0, 64 * PAGE);
	child.fd = p[0];
	pid = spawn(hold_pages, &child);
	EXPECT_EQ(0, release_during_writes(h, scaled(500, 2)));
	ASSERT_EQ(1, write(p[1], "x", 1));
	EXPECT_EQ(0, child_status(pid));
}

struct shared_test { struct heap *h; int in, out; };

static int look_after_release(void *arg)
{
	struct shared_test *s = arg;
	char c;
	int bad;

	if (read(s->in, &c, 1) != 1)
		return 99;
	bad = wrong(s->h, 0, 600, 0, 1);
	/* And the other way round: the child's doings are not the parent's. */
	if (heap_release(s->h, 100, 100, NULL) || heap_remap(s->h, 0, 1000, 50))
		return 98;
	bad += not_zero(s->h, 100, 100) + wrong(s->h, 1000, 50, 0, 1);
	bad += not_zero(s->h, 0, 50);
	if (write(s->out, "x", 1) != 1 || read(s->in, &c, 1) != 1)
		return 97;
	return !!bad;
}

/* Leaves that are shared with a child. */
TEST_F(large, after_fork)
{
	struct heap *h = &self->h;
	int down[2], up[2];
	struct shared_test s = { .h = h };
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe(down));
	ASSERT_EQ(0, pipe(up));
	s.in = down[0];
	s.out = up[1];
	map_set(h->large_map, 0, 2048);
	fill(h, 0, 600, 1);
	pid = spawn(look_after_release, &s);
	ASSERT_EQ(0, heap_release(h, 500, 50, NULL));
	EXPECT_EQ(0, not_zero(h, 500, 50));
	ASSERT_EQ(0, heap_remap(h, 200, 1500, 100));
	EXPECT_EQ(0, wrong(h, 1500, 100, 200, 1));
	EXPECT_EQ(0, not_zero(h, 200, 100));
	ASSERT_EQ(1, write(down[1], "x", 1));
	ASSERT_EQ(1, read(up[0], &c, 1));
	EXPECT_EQ(0, wrong(h, 0, 200, 0, 1));
	EXPECT_EQ(0, wrong(h, 1500, 100, 200, 1));
	/* What moved is still shared: a write to it must not show. */
	fill(h, 1500, 100, 2);
	fill(h, 0, 100, 2);
	ASSERT_EQ(1, write(down[1], "x", 1));
	EXPECT_EQ(0, child_status(pid));
}

/* Moving written pages under a thread that goes on writing at both places. */
TEST_F_TIMEOUT(large, remap_during_writes_elsewhere, 60 * SLOW)
{
	struct heap *h = &self->h;
	struct ranges x = { .h = h };
	const unsigned int rounds = scaled(500, 2);
	unsigned int r, at = 512;
	pthread_t t;
	int bad = 0;

	map_set(h->large_map, 0, 2048);
	ASSERT_EQ(0, pthread_create(&t, NULL, write_all, &x));
	fill(h, at, 40, 1);
	for (r = 0; r < rounds; r++) {
		unsigned int to = 512 + (at - 512 + 40) % 1400;

		ASSERT_EQ(0, heap_remap(h, at, to, 40));
		bad += wrong(h, to, 40, 512, 1);
		at = to;
		if (r % 16 == 0)
			ASSERT_EQ(0, heap_compact(h, MAFC_COMPACT_SHUFFLE, NULL));
	}
	atomic_store(&x.stop, true);
	pthread_join(t, NULL);
	EXPECT_EQ(0, bad);
	EXPECT_EQ(0, x.bad);
	EXPECT_LT(0, x.ops);
}

TEST_HARNESS_MAIN
