// SPDX-License-Identifier: Apache-2.0
/*
 * cache.c - a thread's own blocks: refill, overflow, size, end
 * Bins double each time they run empty or over, while the thread's budget lasts.  Every few slow
 * calls one other bin is looked at, and emptied if it has not moved.  After its destructor has run,
 * and while its cache is set up, a thread goes without: a bin of no slots sends every call here.
 */
#include "cache_idle.h"
#include "large.h"
#include "program.h"
#include "small.h"
#include <pthread.h>
#include <sched.h>

#define BUDGET_MIN	((size_t)1 << 20)	/* an eighth with many threads */
#define BUDGET_LEAST	((size_t)1 << 10)	/* one of very many threads */
#define BUDGET_SHARE	24	/* of the heap: one part in so many */
#define PASS_MIN	8	/* blocks worth passing to another thread */
#define MORE		6	/* blocks freed than taken: no chance */
#define LOOK_EVERY	8	/* slow calls per look at another bin */
#define VISIT_EVERY	32	/* and per visit to the caches of others */

#define CACHE_BYTES 2048
_Static_assert(sizeof(struct cache) <= CACHE_BYTES, "one piece of the pool");

static void *no_slots[2];
struct bin no_bins[NCLASSES] = {
	[0 ... NCLASSES - 1] = { &no_slots[1], &no_slots[1] },
};

__thread struct my my = {
	.bins = no_bins,
};

/* Of the calling thread, even while its bins have been taken away. */
static __thread struct cache *my_cache;

static pthread_key_t key;
static bool have_key;
static uint32_t cpus;

static unsigned bin_count(const struct cache *c, unsigned cls)
{
	return c->slots[cls] - (c->bins[cls].end - c->bins[cls].top);
}

static unsigned take(unsigned cls, void **blocks, unsigned want, size_t size)
{
	unsigned n = 0;
	bool zeroed;

	if (classes[cls].size <= SMALL_MAX)
		return central_take(class_own(cls), blocks, want, size);
	while (n < want && (blocks[n] = large_take(classes[cls].size, GRAIN, &zeroed)))
		n++;
	return n;
}

static void give(unsigned cls, void **blocks, unsigned n)
{
	if (classes[cls].size > SMALL_MAX)
		large_give(blocks, n);
	else
		central_give(class_own(cls), blocks, n);
}

static size_t budget(void)
{
	uint32_t n = load(&idle_awake);
	size_t all = (((size_t)pages_top() << PAGE_SHIFT) +
		      load(&heap.meta->large_live)) / BUDGET_SHARE;

	all = MAX(all, n > cpus ? BUDGET_MIN / 8 : BUDGET_MIN);
	all = MIN(all, options.cache_kib << 10);
	return n > cpus ? MAX(all * cpus / n, BUDGET_LEAST) : all;
}

/* Give the @n oldest blocks of a bin back; @pass: to another thread, rather. */
static void bin_flush(struct cache *c, unsigned cls, unsigned n, bool pass)
{
	struct bin *b = &c->bins[cls];
	unsigned have = bin_count(c, cls);
	void **base = b->end - c->slots[cls];
	unsigned i;

	probe(flush, classes[cls].size, n);
	for (i = 0; unlikely(c->parked) && i < n; i++)
		if (!base[i])
			base[i] = sites_unpark(c, cls, false);
	if (!pass || n < PASS_MIN || load(&idle_awake) < 2 || cls >= nclasses ||
	    !central_pass(cls, base, n))
		give(cls, base, n);
	memmove(base, base + n, (have - n) * sizeof(*base));
	b->top -= n;
}

static void bin_free(struct cache *c, unsigned cls)
{
	unsigned slots = c->slots[cls];

	if (!slots)
		return;
	bin_flush(c, cls, bin_count(c, cls), false);
	pool_free(c->bins[cls].end - slots - 1, (slots + 1) * sizeof(void *));
	c->bins[cls] = no_bins[cls];
	c->slots[cls] = 0;
	c->room -= (size_t)slots * classes[cls].cost;
}

/* Twice the slots, and one; false when there is no more room. */
static bool bin_grow(struct cache *c, unsigned cls)
{
	unsigned old = c->slots[cls], count = bin_count(c, cls), slots;
	size_t size = classes[cls].cost, room = c->budget;
	struct bin *b = &c->bins[cls];
	void **base;

	if (old == classes[cls].bin_max)
		return false;
	slots = old ? old * 2 + 1 : c->room + 3 * size <= room ? 3 : 1;
	if (c->room + (slots - old) * size > room)
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
	c->room += (slots - old) * size;
	return true;
}

/* Look at one other bin; a count that did not change means: not in use. */
static void look_around(struct cache *c, unsigned busy)
{
	unsigned cls = c->hand, count;

	if (c->calls++ % LOOK_EVERY)
		return;
	c->budget = budget();
	if (c->calls % VISIT_EVERY == 1 && load(&idle_awake) > 1)
		idle_visit(false);
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

	if (my.ended || !have_key || options.debug)
		return NULL;
	c = pool_alloc(CACHE_BYTES);
	if (!c)
		return NULL;
	memset(c, 0, sizeof(*c));
	for (i = 0; i < NCLASSES; i++)
		c->bins[i] = no_bins[i];
	c->hand = 1;
	c->budget = budget();
	c->owner = &my;
	my_cache = c;
	my.bins = c->bins;
	idle_add(c);
	if (load(&idle_awake) > cpus)
		idle_visit(false);
	/* May call malloc: by now that works. */
	pthread_setspecific(key, c);
	return c;
}

/* The calling thread's cache, until it calls cache_leave(); NULL: it has to do without. */
static struct cache *cache_hold(void)
{
	struct cache *c = my_cache;

	if (unlikely(!c))
		c = cache_create();
	if (unlikely(!c))
		return NULL;
	cache_enter();
	if (unlikely(load(&my.bins) == no_bins)) {
		/* Whoever took the bins may not be done with them. */
		cache_leave();
		idle_return(c);
		cache_enter();
	}
	return c;
}

/*
 * What was freed is handed out again.  But while a class shrinks (from when a bin ran over, as long
 * as more is freed than taken), its fullest spans serve it, so that the others become empty.
 */
static void recycle(struct cache *c, unsigned cls)
{
	unsigned own = class_own(cls), n = bin_count(c, own);
	uint8_t slots = c->slots[own];
	struct bin b = c->bins[own];

	if (c->shrinks[own] == RAN_OVER || (c->shrinks[own] && n > c->slots[cls] / 2U + MORE)) {
		bin_flush(c, own, n, false);
		c->shrinks[own] = SHRINKS;
		return;
	}
	c->shrinks[own] = 0;
	if (n) {
		c->bins[own] = c->bins[cls];
		c->slots[own] = c->slots[cls];
		c->bins[cls] = b;
		c->slots[cls] = slots;
	}
}

/* NULL was on top of a bin that is not empty. */
static void *take_chosen(struct cache *c, unsigned cls)
{
	void *p = sites_unpark(c, cls, true);

	cache_leave();
	if (likely(p))
		sites_stack(p);
	return p;
}

void noinline *cache_refill(unsigned cls, size_t size)
{
	struct cache *c = cache_hold();
	void **base, *p = NULL;
	unsigned n, want, had = 0;

	if (unlikely(!c))
		return take(cls, &p, 1, size) ? p : NULL;
	if (unlikely(c->parked) && bin_count(c, cls) && !c->bins[cls].top[-1]) {
		c->bins[cls].top--;
		return take_chosen(c, cls);
	}
	look_around(c, cls);
	if (cls >= apart)
		recycle(c, cls);
	if (!bin_grow(c, cls) && !c->slots[cls]) {
		n = take(cls, &p, 1, size);
		base = &p;
	} else {
		base = c->bins[cls].end - c->slots[cls];
		n = had = bin_count(c, cls);
		want = c->slots[cls] / 2 + 1;
		if (n < want)
			n += take(cls, base + n, want - n, size);
	}
	if (unlikely(sites) && classes[cls].size <= SMALL_MAX)
		sites_choose(c, base + had, n - had, classes[cls].size);
	had = n;
	if (likely(n))
		p = base[--n];
	if (likely(c->slots[cls]))
		c->bins[cls].top = base + n;
	probe(refill, classes[cls].size, n);
	if (unlikely(!p) && had)
		return take_chosen(c, cls);
	cache_leave();
	return p;
}

/* The bin is full: make it longer, or flush the older half. */
static void make_room(struct cache *c, unsigned cls)
{
	look_around(c, cls);
	if (bin_grow(c, cls))
		return;
	bin_flush(c, cls, c->slots[cls] / 2 + 1, true);
	if (cls <= APART)
		c->shrinks[cls] = RAN_OVER;
}

void noinline cache_overflow(unsigned cls, void *p)
{
	struct cache *c = cache_hold();
	int chosen = unlikely(sites) ? sites_free(c, p) : 0;
	struct bin *b;

	if (unlikely(!c)) {
		give(cls, &p, 1);
		return;
	}
	b = &c->bins[cls];
	if (unlikely(b->top[-1] == p || chosen < 0)) {
		report_misuse("double free", p);
	} else if (unlikely(!c->slots[cls] && !bin_grow(c, cls))) {
		p = chosen ? sites_unpark(c, cls, false) : p;
		give(cls, &p, 1);
	} else {
		if (b->top == b->end)
			make_room(c, cls);
		*b->top++ = chosen ? NULL : p;
	}
	cache_leave();
}

void cache_empty(struct cache *c)
{
	unsigned cls;

	for (cls = 1; cls < all_classes; cls++)
		bin_free(c, cls);
}

void cache_trim(void)
{
	struct cache *c = my_cache ? cache_hold() : NULL;

	if (c) {
		cache_empty(c);
		cache_leave();
	}
	idle_visit(true);
}

static void cache_end(void *arg)
{
	struct cache *c = arg;
	int saved = errno;

	cache_hold();
	cache_empty(c);
	idle_remove(c);
	my.bins = no_bins;
	my.ended = true;
	my_cache = NULL;
	cache_leave();
	pool_free(c, CACHE_BYTES);
	errno = saved;
}

void cache_lock(void)
{
	lock_take(&idle_lock);
}

void cache_unlock(bool child)
{
	if (!child) {
		lock_drop(&idle_lock);
		return;
	}
	/* Those of other threads were copied in the middle of changes, by pages: they are lost. */
	lock_reset(&idle_lock);
	idle_forked(my_cache);
}

void cache_init(void)
{
	cpu_set_t set;

	cpus = sched_getaffinity(0, sizeof(set), &set) ? 0 : CPU_COUNT(&set);
	cpus = MAX(cpus, 4U);
	idle_init();
	have_key = !pthread_key_create(&key, cache_end);
}
