// SPDX-License-Identifier: Apache-2.0
/*
 * cache.c - a thread's own blocks: refill, overflow, size, end
 *
 * Bins start small and double each time they run empty or over, up to what their
 * class allows, while the thread's budget lasts.  The budget follows the size of
 * the heap, so that small heaps stay small, and is divided among the threads
 * when there are many.  Every few slow calls one other bin is looked at: when it
 * has not moved since the last look, its blocks go back.
 *
 * After a thread's destructor has run, and in the middle of setting a cache up,
 * the thread goes without: a bin of no slots sends every call here, and each
 * block through the central lists.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "cache.h"
#include "central.h"
#include "classes.h"
#include "large.h"
#include "options.h"
#include "pages.h"
#include "pool.h"
#include "report.h"

#define BUDGET_MIN	((size_t)64 << 10)
#define BUDGET_SHARE	24	/* of the heap: one part in so many */
#define LOOK_EVERY	8	/* slow calls per look at another bin */

/**
 * struct cache - what belongs to one thread
 * @bins: first, as &my_bins points here
 * @slots: number of slots of each bin: 0, 3, 7, .. 255
 * @seen: blocks in each bin when it was last looked at
 * @room: bytes that the bins hold when full
 * @calls: slow calls
 * @hand: the bin to look at next
 */
struct cache {
	struct bin bins[NCLASSES];
	uint8_t slots[NCLASSES];
	uint8_t seen[NCLASSES];
	size_t room;
	uint32_t calls;
	uint32_t hand;
};

#define CACHE_BYTES 2048
_Static_assert(sizeof(struct cache) <= CACHE_BYTES, "one piece of the pool");

static void *no_slots[2];
static struct bin no_bins[NCLASSES] = {
	[0 ... NCLASSES - 1] = { &no_slots[1], &no_slots[1] },
};

__thread struct bin *my_bins __attribute__((tls_model("initial-exec"))) =
	no_bins;

/* The thread is ending: no new cache for it. */
static __thread bool ended __attribute__((tls_model("initial-exec")));

static pthread_key_t key;
static bool have_key;
static uint32_t threads;
static uint32_t cpus;

static struct cache *mine(void)
{
	return my_bins == no_bins ? NULL : (struct cache *)my_bins;
}

static unsigned bin_count(const struct cache *c, unsigned cls)
{
	return c->slots[cls] - (c->bins[cls].end - c->bins[cls].top);
}

static unsigned take(unsigned cls, void **blocks, unsigned want, size_t size)
{
	return cls < nclasses ? central_take(cls, blocks, want, size) :
				large_take(cls, blocks, want);
}

static void give(unsigned cls, void **blocks, unsigned n)
{
	if (cls < nclasses)
		central_give(cls, blocks, n);
	else
		large_give(blocks, n);
}

static size_t budget(void)
{
	size_t heap_bytes = ((size_t)pages_top() << PAGE_SHIFT) +
			    load(&heap.meta->large_live);
	size_t all = MAX(heap_bytes / BUDGET_SHARE, BUDGET_MIN);
	uint32_t n = load(&threads);

	all = MIN(all, options.cache_kib << 10);
	return n > cpus ? all * cpus / n : all;
}

/* Give the @n oldest blocks of a bin back. */
static void bin_flush(struct cache *c, unsigned cls, unsigned n)
{
	struct bin *b = &c->bins[cls];
	unsigned have = bin_count(c, cls);
	void **base = b->end - c->slots[cls];

	give(cls, base, n);
	memmove(base, base + n, (have - n) * sizeof(*base));
	b->top -= n;
}

static void bin_free(struct cache *c, unsigned cls)
{
	unsigned slots = c->slots[cls];

	if (!slots)
		return;
	bin_flush(c, cls, bin_count(c, cls));
	pool_free(c->bins[cls].end - slots - 1, (slots + 1) * sizeof(void *));
	c->bins[cls] = no_bins[cls];
	c->slots[cls] = 0;
	c->room -= (size_t)slots * classes[cls].size;
}

/* Twice the slots, and one; false when there is no more room. */
static bool bin_grow(struct cache *c, unsigned cls)
{
	unsigned old = c->slots[cls], count = bin_count(c, cls);
	unsigned slots = old ? old * 2 + 1 : 3;
	size_t more = (size_t)(slots - old) * classes[cls].size;
	struct bin *b = &c->bins[cls];
	void **base;

	if (slots > classes[cls].bin_max || (old && c->room + more > budget()))
		return false;
	base = pool_alloc((slots + 1) * sizeof(void *));
	if (!base)
		return false;
	*base++ = NULL;
	memcpy(base, b->end - old, count * sizeof(void *));
	if (old)
		pool_free(b->end - old - 1, (old + 1) * sizeof(void *));
	b->top = base + count;
	b->end = base + slots;
	c->slots[cls] = slots;
	c->room += more;
	return true;
}

/* Look at one other bin; a count that did not change means: not in use. */
static void look_around(struct cache *c, unsigned busy)
{
	unsigned cls = c->hand, count;

	if (c->calls++ % LOOK_EVERY)
		return;
	c->hand = cls + 1 < all_classes ? cls + 1 : 1;
	if (cls == busy || !c->slots[cls])
		return;
	count = bin_count(c, cls);
	if (count == c->seen[cls])
		bin_free(c, cls);
	else
		c->seen[cls] = count;
}

static struct cache *cache_create(void)
{
	struct cache *c;
	unsigned i;

	if (ended || !have_key)
		return NULL;
	c = pool_alloc(CACHE_BYTES);
	if (!c)
		return NULL;
	memset(c, 0, sizeof(*c));
	for (i = 0; i < NCLASSES; i++)
		c->bins[i] = no_bins[i];
	c->hand = 1;
	count_add(&threads, 1);
	my_bins = c->bins;
	/* May call malloc: by now that works. */
	pthread_setspecific(key, c);
	return c;
}

void noinline *cache_refill(unsigned cls, size_t size)
{
	struct cache *c = mine();
	void **base, *p;
	unsigned n;

	if (unlikely(!c))
		c = cache_create();
	if (unlikely(!c))
		return take(cls, &p, 1, size) ? p : NULL;
	look_around(c, cls);
	if (!bin_grow(c, cls) && !c->slots[cls])
		return take(cls, &p, 1, size) ? p : NULL;
	base = c->bins[cls].end - c->slots[cls];
	n = take(cls, base, c->slots[cls] / 2 + 1, size);
	if (!n)
		return NULL;
	c->bins[cls].top = base + n - 1;
	return base[n - 1];
}

void noinline cache_overflow(unsigned cls, void *p)
{
	struct cache *c = mine();
	struct bin *b;

	if (unlikely(!c))
		c = cache_create();
	if (unlikely(!c || (!c->slots[cls] && !bin_grow(c, cls)))) {
		give(cls, &p, 1);
		return;
	}
	b = &c->bins[cls];
	if (b->top[-1] == p) {
		report_misuse("double free", p);
		return;
	}
	if (b->top == b->end) {
		look_around(c, cls);
		if (!bin_grow(c, cls))
			bin_flush(c, cls, c->slots[cls] / 2 + 1);
	}
	*b->top++ = p;
}

void cache_flush(void)
{
	struct cache *c = mine();
	unsigned cls;

	for (cls = 1; c && cls < all_classes; cls++)
		bin_free(c, cls);
}

static void cache_end(void *arg)
{
	struct cache *c = arg;
	int saved = errno;

	cache_flush();
	my_bins = no_bins;
	ended = true;
	pool_free(c, CACHE_BYTES);
	count_add(&threads, -1);
	errno = saved;
}

void cache_forked(void)
{
	/*
	 * The caches of the other threads stay as they are, and lost: each was
	 * copied while its owner may have been in the middle of a change, a page
	 * at a time, so that neither counts nor slots can be trusted.
	 */
	store(&threads, mine() ? 1 : 0);
}

void cache_init(void)
{
	cpu_set_t set;

	cpus = sched_getaffinity(0, sizeof(set), &set) ? 0 : CPU_COUNT(&set);
	cpus = MAX(cpus, 4U);
	have_key = !pthread_key_create(&key, cache_end);
}
