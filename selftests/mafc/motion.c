// SPDX-License-Identifier: GPL-2.0-only
/*
 * motion.c - no update is lost while pages move and spans are meshed
 *
 * Four threads own blocks in spans that share frames.  Each fills its blocks
 * with a pattern of the block's key and version, checks them before and after,
 * frees some and claims others as the protocol wants.  A fifth thread compacts
 * and shuffles the heap without a pause, so that every frame moves all the time
 * and spans are meshed as soon as their blocks allow it.  Now and then a frame
 * is left by all its blocks, so that its spans end and begin again.
 *
 * Beside their own blocks all threads add to the same counters: an addition that
 * goes to a frame that was left behind is missed.
 */
#include <sys/prctl.h>

#include "test.h"

#define THREADS		4
#define COUNTERS	4
#define OWN_MAX		64

/* A span for every position; positions are @npages apart. */
struct shape {
	unsigned int positions;
	unsigned int block_size;
	unsigned int nblocks;
	unsigned int npages;
	unsigned int own;	/* blocks of each thread, at most */
};

/* A position's span is attached by one thread, which alone sets bits in it. */
struct arena {
	struct heap *h;
	struct shape s;
	atomic_bool stop;
	_Atomic uint32_t drain;	/* the root that is to become empty */
	_Atomic uint64_t moved, meshed, dropped, passes;
	_Atomic uint64_t steps, updates, claims, frees, dissolved;
	_Atomic uint64_t *counter[COUNTERS];
	_Atomic uint64_t added;
	atomic_int compact_err;
	atomic_int bad;
	char why[160];
};

struct own {
	uint32_t page;
	uint32_t block;
	uint64_t version;	/* 0: none */
};

struct worker {
	struct arena *a;
	unsigned int id;
	uint64_t seed;
	struct own own[OWN_MAX];
};

static uint64_t key_of(const struct worker *w, const struct own *o)
{
	return ((uint64_t)w->id << 40) | ((uint64_t)o->page << 8) | o->block;
}

__attribute__((format(printf, 2, 3)))
static void complain(struct arena *a, const char *fmt, ...)
{
	va_list ap;

	if (!atomic_fetch_add(&a->bad, 1)) {
		va_start(ap, fmt);
		vsnprintf(a->why, sizeof(a->why), fmt, ap);
		va_end(ap);
	}
	atomic_store(&a->stop, true);
}

/* Makes a span where the kernel has ended one, if nobody else does. */
static bool position_make(struct arena *a, uint32_t page)
{
	unsigned int i;

	if (span_is(a->h, page) != MAFC_SPAN_NONE ||
	    !map_claim(a->h->small_map, page))
		return false;
	/* The kernel clears the bits one by one, the first page's first. */
	for (i = 1; i < a->s.npages; i++)
		while (!map_claim(a->h->small_map, page + i))
			sched_yield();
	span_make(a->h, page, a->s.block_size, a->s.nblocks, a->s.npages);
	atomic_fetch_add(&a->dissolved, 1);
	return true;
}

/* Attaches the span at a position; false if somebody has it, or it is meshed. */
static bool position_attach(struct arena *a, uint32_t page)
{
	return position_make(a, page) || span_attach(a->h, page);
}

/* Claims a block of an attached span. */
static bool claim(struct worker *w, struct own *o, uint32_t page)
{
	struct arena *a = w->a;
	const struct mafc_span *s = &a->h->span[page];
	unsigned int k, block = rng(&w->seed) % a->s.nblocks;

	for (k = 0; k < a->s.nblocks; k++, block = (block + 1) % a->s.nblocks) {
		if (((volatile const __u64 *)s->bitmap)[block / 64] >> (block % 64) & 1)
			continue;
		block_alloc(a->h, page, block);
		o->page = page;
		o->block = block;
		o->version = 1;
		return true;
	}
	return false;
}

static void obtain(struct worker *w, struct own *o)
{
	struct arena *a = w->a;
	uint32_t page = rng(&w->seed) % a->s.positions * a->s.npages;

	if (page == atomic_load(&a->drain) || !position_attach(a, page))
		return;
	if (claim(w, o, page)) {
		atomic_fetch_add(&a->claims, 1);
		block_fill(block_at(a->h, page, o->block), a->s.block_size,
			   key_of(w, o), o->version);
	}
	if (!span_detach(a->h, page))
		complain(a, "span %u was attached and is in state %u", page,
			 span_is(a->h, page));
}

static bool verify(struct worker *w, const struct own *o, const char *when)
{
	struct arena *a = w->a;
	const char *p = block_at(a->h, o->page, o->block);
	long at = block_check(p, a->s.block_size, key_of(w, o), o->version);

	if (at < 0)
		return true;
	complain(a, "%s: thread %u span %u block %u version %llu: word %ld is %llx",
		 when, w->id, o->page, o->block, (unsigned long long)o->version,
		 at, (unsigned long long)((const uint64_t *)p)[at]);
	return false;
}

static void release(struct worker *w, struct own *o)
{
	struct arena *a = w->a;

	if (!block_free(a->h, o->page, o->block))
		complain(a, "thread %u span %u block %u: freed once, found free",
			 w->id, o->page, o->block);
	o->version = 0;
	atomic_fetch_add(&a->frees, 1);
}

static void leave_drain(struct worker *w)
{
	uint32_t drain = atomic_load(&w->a->drain);
	unsigned int i;

	for (i = 0; i < w->a->s.own; i++)
		if (w->own[i].version &&
		    span_root(w->a->h, w->own[i].page) == drain &&
		    verify(w, &w->own[i], "when leaving"))
			release(w, &w->own[i]);
}

static void step(struct worker *w)
{
	struct arena *a = w->a;
	struct own *o = &w->own[rng(&w->seed) % a->s.own];
	unsigned int dice = rng(&w->seed) % 16;

	atomic_fetch_add(&a->steps, 1);
	if (!o->version) {
		obtain(w, o);
		return;
	}
	if (!verify(w, o, "before"))
		return;
	if (dice == 0) {
		release(w, o);
		return;
	}
	o->version++;
	block_fill(block_at(a->h, o->page, o->block), a->s.block_size,
		   key_of(w, o), o->version);
	atomic_fetch_add(a->counter[dice % COUNTERS], 1);
	atomic_fetch_add(&a->added, 1);
	atomic_fetch_add(&a->updates, 1);
}

/*
 * Threads that never sleep leave the mover little of two processors.  Short
 * bursts hit pages in motion as well.
 */
static void *work(void *arg)
{
	struct worker *w = arg;
	struct timespec nap = { 0 };
	unsigned int i;

	prctl(PR_SET_TIMERSLACK, 1);
	while (!atomic_load(&w->a->stop)) {
		leave_drain(w);
		for (i = rng(&w->seed) % 64; i; i--)
			step(w);
		nap.tv_nsec = rng(&w->seed) % 500000;
		nanosleep(&nap, NULL);
	}
	for (i = 0; i < w->a->s.own; i++)
		if (w->own[i].version)
			verify(w, &w->own[i], "at the end");
	return NULL;
}

/*
 * Another frame is to become empty, preferably one with several spans: once the
 * last one has been empty for a pass, or stays what it is.
 */
static void drain_next(struct arena *a, uint64_t *seed, unsigned int *age)
{
	uint32_t drain = atomic_load(&a->drain), page = 0;
	unsigned int tries;

	if (span_is(a->h, drain) == MAFC_SPAN_IDLE && span_live(a->h, drain) &&
	    ++*age < 16)
		return;
	if (span_is(a->h, drain) == MAFC_SPAN_IDLE && *age < 16) {
		*age = 16;	/* one more pass to end it */
		return;
	}
	for (tries = 0; tries < 8; tries++) {
		page = rng(seed) % a->s.positions * a->s.npages;
		if (span_is(a->h, page) == MAFC_SPAN_MESHED)
			break;
	}
	atomic_store(&a->drain, span_root(a->h, page));
	*age = 0;
}

/* Moves as fast as it can, but not so fast that the others do nothing. */
static void *shuffle(void *arg)
{
	const struct sched_param first = { .sched_priority = 1 };
	struct arena *a = arg;
	struct mafc_compact c;
	unsigned int age = 0;
	uint64_t seed = 1, steps = 0;
	int err;

	pthread_setschedparam(pthread_self(), SCHED_FIFO, &first);
	while (!atomic_load(&a->stop)) {
		err = heap_compact(a->h, MAFC_COMPACT_SHUFFLE, &c);
		if (err)
			atomic_store(&a->compact_err, err);
		atomic_fetch_add(&a->moved, c.moved);
		atomic_fetch_add(&a->meshed, c.meshed);
		atomic_fetch_add(&a->dropped, c.dropped);
		atomic_fetch_add(&a->passes, 1);
		steps += 128;
		while (atomic_load(&a->steps) < steps && !atomic_load(&a->stop))
			usleep(20);
		steps = atomic_load(&a->steps);
		drain_next(a, &seed, &age);
	}
	return NULL;
}

/*
 * Counters lie in spans of their own geometry, which are meshed with each other
 * and never become empty.
 */
static void arena_init(struct arena *a, struct heap *h, const struct shape *s)
{
	unsigned int i, page;

	memset(a, 0, sizeof(*a));
	a->h = h;
	a->s = *s;
	for (i = 0; i < s->positions; i++) {
		page = i * s->npages;
		span_make(h, page, s->block_size, s->nblocks, s->npages);
		span_detach(h, page);
	}
	for (i = 0; i < COUNTERS; i++) {
		page = (s->positions + i) * s->npages;
		span_make(h, page, s->block_size, s->nblocks - 1, s->npages);
		a->counter[i] = (void *)block_alloc(h, page, i);
		atomic_store(a->counter[i], 0);
		span_detach(h, page);
	}
}

static uint64_t counters_sum(struct arena *a)
{
	uint64_t sum = 0;
	unsigned int i;

	for (i = 0; i < COUNTERS; i++)
		sum += atomic_load(a->counter[i]);
	return sum;
}

/* Bits set in all roots together. */
static uint64_t live_sum(struct arena *a)
{
	uint64_t sum = 0;
	unsigned int i, page;

	for (i = 0; i < a->s.positions; i++) {
		page = i * a->s.npages;
		switch (span_is(a->h, page)) {
		case MAFC_SPAN_ATTACHED:
		case MAFC_SPAN_IDLE:
			sum += span_live(a->h, page);
			break;
		case MAFC_SPAN_MESHED:
			if (span_live(a->h, page))
				complain(a, "meshed span %u has bits of its own",
					 page);
			break;
		}
	}
	return sum;
}

FIXTURE(motion)
{
	struct heap h;
	struct arena a;
	struct worker w[THREADS];
	pthread_t thread[THREADS], mover;
};

FIXTURE_VARIANT(motion)
{
	struct shape s;
	uint64_t moves;
	bool cow;
};

/* The 100,000 moves of the acceptance test: on every kernel. */
FIXTURE_VARIANT_ADD(motion, one_page)
{
	.s = { .positions = 64, .block_size = 256, .nblocks = 16, .npages = 1,
	       .own = 48 },
	.moves = 100000,
};

/* Blocks that lie across the border of two pages. */
FIXTURE_VARIANT_ADD(motion, three_pages)
{
	.s = { .positions = 20, .block_size = 1536, .nblocks = 8, .npages = 3,
	       .own = 10 },
	.moves = 20000,
};

/* Many small blocks in a page, and bitmaps of four words. */
FIXTURE_VARIANT_ADD(motion, small_blocks)
{
	.s = { .positions = 32, .block_size = 16, .nblocks = 256, .npages = 1,
	       .own = 64 },
	.moves = 10000,
};

/* With children about, first writes go the way of copy on write. */
FIXTURE_VARIANT_ADD(motion, forking)
{
	.s = { .positions = 64, .block_size = 512, .nblocks = 8, .npages = 1,
	       .own = 32 },
	.moves = 10000,
	.cow = true,
};

FIXTURE_SETUP(motion)
{
	int err = heap_open(&self->h, 0);

	if (err == ENOENT)
		SKIP(return, "no /dev/mafc");
	ASSERT_EQ(0, err);
	ASSERT_EQ(0, heap_policy(&self->h, false));
	arena_init(&self->a, &self->h, &variant->s);
}

FIXTURE_TEARDOWN(motion)
{
	heap_close(&self->h);
}

/* A child that lives for a moment and looks at nothing. */
static void fork_once(unsigned int n)
{
	pid_t pid = fork();

	if (!pid) {
		sleep_ms(n % 3);
		_exit(0);
	}
	child_status(pid);
}

TEST_F_TIMEOUT(motion, no_update_is_lost, 240 * SLOW)
{
	struct arena *a = &self->a;
	uint64_t owned = 0;
	struct mafc_stat st;
	unsigned int i, k, n = 0;

	for (i = 0; i < THREADS; i++) {
		self->w[i].a = a;
		self->w[i].id = i + 1;
		self->w[i].seed = 0x9e3779b97f4a7c15ULL * (i + 1);
		ASSERT_EQ(0, pthread_create(&self->thread[i], NULL, work,
					    &self->w[i]));
	}
	ASSERT_EQ(0, pthread_create(&self->mover, NULL, shuffle, a));
	while (!atomic_load(&a->stop) && atomic_load(&a->moved) < variant->moves) {
		if (variant->cow)
			fork_once(n++);
		sleep_ms(20);
	}
	atomic_store(&a->stop, true);
	for (i = 0; i < THREADS; i++)
		pthread_join(self->thread[i], NULL);
	pthread_join(self->mover, NULL);

	TH_LOG("%llu moves, %llu meshes, %llu drops in %llu passes; %llu updates, %llu claims, %llu frees, %llu dissolved, %u forks",
	       (unsigned long long)a->moved, (unsigned long long)a->meshed,
	       (unsigned long long)a->dropped, (unsigned long long)a->passes,
	       (unsigned long long)a->updates, (unsigned long long)a->claims,
	       (unsigned long long)a->frees, (unsigned long long)a->dissolved, n);
	for (i = 0; i < THREADS; i++)
		for (k = 0; k < OWN_MAX; k++)
			owned += !!self->w[i].own[k].version;
	EXPECT_EQ(owned, live_sum(a));
	EXPECT_EQ(a->added, counters_sum(a));
	EXPECT_EQ(0, a->bad) TH_LOG("%s", a->why);
	EXPECT_EQ(0, a->compact_err);
	EXPECT_LE(variant->moves, a->moved);
	/* Without these the test would not have tested what it is for. */
	EXPECT_LT(50, a->meshed);
	EXPECT_LT(1000, a->updates);
	EXPECT_LT(10, a->dissolved);
	ASSERT_EQ(0, heap_stat(&self->h, &st));
	EXPECT_LE(a->moved, st.moved);
}

TEST_HARNESS_MAIN
