// SPDX-License-Identifier: GPL-2.0-only
/*
 * mesh.c - spans whose live blocks do not overlap share frames
 */
#include "test.h"

HEAP_FIXTURE(mesh)

/* A span with the blocks of @bits, filled with patterns, idle. */
static void make(struct heap *h, uint32_t page, uint32_t block_size,
		 uint32_t nblocks, uint32_t npages, uint64_t bits)
{
	unsigned int b;

	span_make(h, page, block_size, nblocks, npages);
	for (b = 0; b < nblocks && b < 64; b++)
		if (bits >> b & 1)
			block_fill(block_alloc(h, page, b), block_size,
				   page * 1000 + b, 1);
	span_detach(h, page);
}

/* Blocks of @bits that do not hold what make() put there. */
static int wrong(struct heap *h, uint32_t page, uint64_t bits)
{
	uint32_t size = h->span[page].block_size;
	int bad = 0, b;

	for (b = 0; b < 64; b++)
		if (bits >> b & 1)
			bad += block_check(block_at(h, page, b), size,
					   page * 1000 + b, 1) >= 0;
	return bad;
}

static uint64_t compact_meshes(struct heap *h)
{
	struct mafc_compact c;

	return heap_compact(h, 0, &c) ? UINT64_MAX : c.meshed;
}

TEST_F(mesh, two_spans)
{
	struct heap *h = &self->h;
	uint32_t root, other;
	struct mafc_stat st;

	make(h, 3, 512, 8, 1, 0x0f);
	make(h, 7, 512, 8, 1, 0x30);
	atomic_fetch_or(span_state(h, 3), MAFC_SPAN_LISTED);
	ASSERT_EQ(1, compact_meshes(h));
	EXPECT_EQ(0, wrong(h, 3, 0x0f) + wrong(h, 7, 0x30));
	root = span_root(h, 3);
	EXPECT_EQ(root, span_root(h, 7));
	other = root == 3 ? 7 : 3;
	EXPECT_EQ(root, h->span[other].canonical);
	EXPECT_EQ(MAFC_SPAN_MESHED, span_is(h, other));
	EXPECT_EQ(MAFC_SPAN_IDLE, span_is(h, root));
	EXPECT_TRUE(*span_state(h, root) & MAFC_SPAN_ROOT);
	EXPECT_FALSE(*span_state(h, other) & MAFC_SPAN_ROOT);
	EXPECT_TRUE(*span_state(h, 3) & MAFC_SPAN_LISTED);
	EXPECT_FALSE(*span_state(h, 7) & MAFC_SPAN_LISTED);
	EXPECT_EQ(0x3f, h->span[root].bitmap[0]);
	EXPECT_EQ(0, h->span[other].bitmap[0]);

	/* One memory: what is written by one address is read by the other. */
	EXPECT_EQ(-1, block_check(block_at(h, 7, 0), 512, 3000, 1));
	block_at(h, 7, 0)[17] ^= 1;
	EXPECT_EQ(2, block_check(block_at(h, 3, 0), 512, 3000, 1));
	ASSERT_EQ(0, heap_stat(h, &st));
	EXPECT_EQ(1, st.meshed);
	EXPECT_EQ(0, compact_meshes(h));
}

TEST_F(mesh, what_does_not_fit)
{
	struct heap *h = &self->h;
	unsigned int i;

	make(h, 0, 512, 8, 1, 0x11);	/* blocks in common */
	make(h, 1, 512, 8, 1, 0x12);
	make(h, 2, 512, 8, 1, 0xff);	/* full */
	make(h, 10, 256, 16, 1, 1);	/* other sizes */
	make(h, 11, 272, 15, 1, 2);
	make(h, 12, 256, 15, 1, 4);
	make(h, 14, 512, 8, 2, 0x82);	/* 7 lies in page 0 as well: 1 stays empty */
	make(h, 20, 1024, 4, 1, 1);	/* attached */
	make(h, 21, 1024, 4, 1, 2);
	ASSERT_TRUE(span_attach(h, 21));
	make(h, 30, 2048, 2, 1, 0);	/* empty */
	make(h, 31, 2048, 2, 1, 1);
	EXPECT_EQ(0, compact_meshes(h));
	for (i = 0; i < 32; i++)
		EXPECT_NE(MAFC_SPAN_MESHED, span_is(h, i));
	EXPECT_EQ(0, wrong(h, 0, 0x11) + wrong(h, 1, 0x12) + wrong(h, 2, 0xff));
	EXPECT_EQ(0, wrong(h, 20, 1) + wrong(h, 21, 2) + wrong(h, 31, 1));
}

/* Many virtual pages on one frame are the normal case. */
TEST_F(mesh, many_on_one_frame)
{
	struct mafc_stat before, after;
	struct heap *h = &self->h;
	uint32_t i, root;

	for (i = 0; i < 16; i++)
		make(h, i * 3, 256, 16, 1, 1ULL << i);
	ASSERT_EQ(0, heap_stat(h, &before));
	EXPECT_EQ(15, compact_meshes(h));
	root = span_root(h, 0);
	for (i = 0; i < 16; i++) {
		EXPECT_EQ(root, span_root(h, i * 3));
		EXPECT_EQ(0, wrong(h, i * 3, 1ULL << i));
	}
	EXPECT_EQ(0xffff, h->span[root].bitmap[0]);
	ASSERT_TRUE(WAIT_FOR(3000, !heap_stat(h, &after) &&
			     after.live == 16 * 256));
	EXPECT_EQ(before.mapped, after.mapped);
	EXPECT_GE(before.held - before.cached - 15 * PAGE, after.held - after.cached);
	/* They move together. */
	for (i = 0; i < 20; i++)
		ASSERT_EQ(0, heap_compact(h, MAFC_COMPACT_SHUFFLE, NULL));
	for (i = 0; i < 16; i++)
		EXPECT_EQ(0, wrong(h, i * 3, 1ULL << i));
	ASSERT_EQ(0, heap_stat(h, &after));
	EXPECT_LE(20, after.moved);
}

/* More spans than can be on one frame: the rest get frames of their own. */
TEST_F(mesh, more_than_a_ring_holds)
{
	struct heap *h = &self->h;
	unsigned int i, k, roots = 0;

	for (i = 0; i < 200; i++) {
		span_make(h, i, 16, 256, 1);
		block_fill(block_alloc(h, i, i), 16, i, 1);
		span_detach(h, i);
	}
	for (k = 0; k < 3; k++)
		compact_meshes(h);
	for (i = 0; i < 200; i++) {
		EXPECT_EQ(-1, block_check(block_at(h, i, i), 16, i, 1));
		roots += span_root(h, i) == i;
	}
	EXPECT_LE(4, roots);
	EXPECT_GE(16, roots);
	ASSERT_EQ(0, heap_compact(h, MAFC_COMPACT_SHUFFLE, NULL));
	for (i = 0; i < 200; i++)
		EXPECT_EQ(-1, block_check(block_at(h, i, i), 16, i, 1));
}

TEST_F(mesh, several_pages)
{
	struct heap *h = &self->h;
	unsigned int i;

	/* 1,5 KiB: blocks 2 and 5 cross the borders of 3 pages. */
	make(h, 0, 1536, 8, 3, 0x92);
	make(h, 10, 1536, 8, 3, 0x49);
	make(h, 20, 1536, 8, 3, 0x24);
	/* Every page has a block, so none is dropped and all can be meshed. */
	ASSERT_EQ(6, compact_meshes(h));
	EXPECT_EQ(0, wrong(h, 0, 0x92) + wrong(h, 10, 0x49) + wrong(h, 20, 0x24));
	EXPECT_EQ(0xff, h->span[span_root(h, 0)].bitmap[0]);
	for (i = 0; i < 5; i++)
		ASSERT_EQ(0, heap_compact(h, MAFC_COMPACT_SHUFFLE, NULL));
	EXPECT_EQ(0, wrong(h, 0, 0x92) + wrong(h, 10, 0x49) + wrong(h, 20, 0x24));
}

TEST_F(mesh, new_blocks_in_a_root)
{
	struct heap *h = &self->h;
	uint32_t root, other;

	make(h, 0, 512, 8, 1, 0x01);
	make(h, 1, 512, 8, 1, 0x02);
	ASSERT_EQ(1, compact_meshes(h));
	root = span_root(h, 0);
	other = 1 - root;
	EXPECT_FALSE(span_attach(h, other));
	ASSERT_TRUE(span_attach(h, root));
	EXPECT_TRUE(*span_state(h, root) & MAFC_SPAN_ROOT);
	block_fill(block_alloc(h, root, 5), 512, 55, 1);
	/* Attached: neither meshed nor ended, even without a block. */
	make(h, 2, 512, 8, 1, 0x80);
	EXPECT_EQ(0, compact_meshes(h));
	EXPECT_TRUE(block_free(h, 0, 0));
	EXPECT_TRUE(block_free(h, 1, 1));
	EXPECT_TRUE(block_free(h, other, 5));
	EXPECT_EQ(0, compact_meshes(h));
	EXPECT_EQ(MAFC_SPAN_ATTACHED, span_is(h, root));
	EXPECT_EQ(MAFC_SPAN_MESHED, span_is(h, other));
	block_fill(block_alloc(h, root, 5), 512, 55, 2);
	ASSERT_TRUE(span_detach(h, root));
	EXPECT_EQ(1, compact_meshes(h));
	EXPECT_EQ(-1, block_check(block_at(h, root, 5), 512, 55, 2));
	EXPECT_EQ(0, wrong(h, 2, 0x80));
}

/* A free finds the block whichever address it comes by, once. */
TEST_F(mesh, frees)
{
	struct heap *h = &self->h;
	unsigned int i;

	for (i = 0; i < 8; i++)
		make(h, i, 512, 8, 1, 1ULL << i);
	ASSERT_EQ(7, compact_meshes(h));
	for (i = 0; i < 8; i++) {
		EXPECT_TRUE(block_free(h, (i * 3) % 8, i));
		EXPECT_FALSE(block_free(h, i, i));
		EXPECT_FALSE(block_free(h, (i * 5 + 1) % 8, i));
	}
	EXPECT_EQ(0, span_live(h, span_root(h, 0)));
}

/* The end: for good, or for the library to finish where it has a list. */
TEST_F(mesh, dissolve)
{
	struct heap *h = &self->h;
	struct mafc_compact c;
	unsigned int i;

	for (i = 0; i < 8; i += 2)
		make(h, i, 1024, 8, 2, 0x11 << i / 2);
	ASSERT_EQ(6, compact_meshes(h));
	for (i = 0; i < 8; i += 2)
		if (i % 4)
			atomic_fetch_or(span_state(h, i), MAFC_SPAN_LISTED);
	for (i = 0; i < 8; i++)
		EXPECT_TRUE(block_free(h, 0, i));
	ASSERT_EQ(0, heap_compact(h, 0, &c));
	EXPECT_LE(2, c.dropped);
	for (i = 0; i < 8; i += 2) {
		EXPECT_EQ(i, h->span[i].canonical);
		EXPECT_EQ(i % 4 ? MAFC_SPAN_DEAD | MAFC_SPAN_LISTED : MAFC_SPAN_NONE,
			  *span_state(h, i));
		EXPECT_EQ(!!(i % 4), map_test(h->small_map, i));
		EXPECT_EQ(!!(i % 4), map_test(h->small_map, i + 1));
	}
	EXPECT_EQ(SIGBUS, touch_signal(h->small, true));
	/* The library unlists and ends the others, and uses all again. */
	for (i = 2; i < 8; i += 4) {
		atomic_store(span_state(h, i), MAFC_SPAN_NONE);
		map_clear(h->small_map, i, 2);
	}
	ASSERT_EQ(0, heap_compact(h, 0, NULL));
	for (i = 0; i < 8; i++) {
		EXPECT_TRUE(map_claim(h->small_map, i));
		map_clear(h->small_map, i, 1);
		make(h, i, 512, 8, 1, 1ULL << i);
	}
	EXPECT_EQ(7, compact_meshes(h));
	for (i = 0; i < 8; i++)
		EXPECT_EQ(0, wrong(h, i, 1ULL << i));
}

/* A page of the heap that nobody uses must not stay mapped to a frame. */
TEST_F(mesh, dissolved_memory_goes_back)
{
	struct mafc_stat before, after;
	struct heap *h = &self->h;
	unsigned int i, k;

	for (i = 0; i < 1600; i++)
		make(h, i, 256, 16, 1, 1ULL << i % 16);
	EXPECT_EQ(1500, compact_meshes(h));
	ASSERT_EQ(0, heap_stat(h, &before));
	for (i = 0; i < 1600; i++)
		EXPECT_TRUE(block_free(h, i, i % 16));
	for (k = 0; k < 3; k++)
		compact_meshes(h);
	ASSERT_EQ(0, heap_stat(h, &after));
	EXPECT_GT(before.held, after.held);
	EXPECT_GE(before.mapped - 1600 * PAGE, after.mapped);
	for (i = 0; i < 1600; i++)
		EXPECT_EQ(MAFC_SPAN_NONE, span_is(h, i));
}

/*
 * Threads free each block once, and once more, while its span is being meshed:
 * the first succeeds, the second is noticed, and no bit is left.
 */
#define FREERS		3
#define FREE_SPANS	96

struct freer {
	struct heap *h;
	unsigned int id;
	_Atomic unsigned int *round;
	_Atomic unsigned int *done;
	uint64_t falsely, unnoticed, wrong;
};

static uint64_t span_bits(unsigned int page, unsigned int round)
{
	uint64_t s = page * 131 + round * 7 + 1;

	rng(&s);
	return 1ULL << rng(&s) % 16 | 1ULL << rng(&s) % 16 | 1ULL << rng(&s) % 16;
}

static void free_round(struct freer *f, unsigned int round)
{
	uint64_t seed = round * FREERS + f->id + 1;
	unsigned int page, b;
	uint64_t bits;

	for (page = 0; page < FREE_SPANS; page++) {
		bits = span_bits(page, round);
		for (b = 0; b < 16; b++) {
			if (!(bits >> b & 1) || (page + b) % FREERS != f->id)
				continue;
			f->wrong += block_check(block_at(f->h, page, b), 256,
						page * 1000 + b, 1) >= 0;
			f->falsely += !block_free(f->h, page, b);
			f->unnoticed += block_free(f->h, page, b);
			if (rng(&seed) % 16 == 0)
				usleep(rng(&seed) % 100);
		}
	}
}

static void *free_all(void *arg)
{
	struct freer *f = arg;
	unsigned int seen = 0, round;

	for (;;) {
		while ((round = atomic_load(f->round)) == seen)
			usleep(50);
		if (round == UINT32_MAX)
			return NULL;
		seen = round;
		free_round(f, round);
		atomic_fetch_add(f->done, 1);
	}
}

TEST_F_TIMEOUT(mesh, free_during_mesh, 120 * SLOW)
{
	const unsigned int rounds = scaled(150, 2);
	_Atomic unsigned int round = 0, done;
	struct heap *h = &self->h;
	struct freer f[FREERS];
	pthread_t t[FREERS];
	uint64_t meshed = 0;
	unsigned int i, r;

	for (i = 0; i < FREERS; i++) {
		f[i] = (struct freer){ h, i, &round, &done, 0, 0, 0 };
		ASSERT_EQ(0, pthread_create(&t[i], NULL, free_all, &f[i]));
	}
	for (r = 1; r <= rounds; r++) {
		for (i = 0; i < FREE_SPANS; i++)
			make(h, i, 256, 16, 1, span_bits(i, r));
		atomic_store(&done, 0);
		atomic_store(&round, r);
		do {
			meshed += compact_meshes(h);
		} while (atomic_load(&done) < FREERS);
		/* All free: everything meshed is dissolved. */
		ASSERT_EQ(0, heap_compact(h, 0, NULL));
		for (i = 0; i < FREE_SPANS; i++) {
			if (span_live(h, i))
				break;
			if (span_is(h, i) == MAFC_SPAN_MESHED)
				break;
			atomic_store(span_state(h, i), MAFC_SPAN_NONE);
			map_clear(h->small_map, i, 1);
		}
		ASSERT_EQ(FREE_SPANS, i)
			TH_LOG("round %u span %u: state %u, %u live", r, i,
			       span_is(h, i), span_live(h, i));
	}
	atomic_store(&round, UINT32_MAX);
	for (i = 0; i < FREERS; i++) {
		pthread_join(t[i], NULL);
		EXPECT_EQ(0, f[i].falsely);
		EXPECT_EQ(0, f[i].unnoticed);
		EXPECT_EQ(0, f[i].wrong);
	}
	EXPECT_LT(rounds, meshed);
}

TEST_HARNESS_MAIN
