// SPDX-License-Identifier: Apache-2.0
/*
 * cache_idle.c - emptying the caches of threads that sleep
 * An asymmetric Dekker handshake.  The owner stores my.busy, then loads my.bins; we store my.bins =
 * no_bins, then load my.busy.  One must see the other's store: the full barrier that this needs on
 * the owner's side is put there by us, with membarrier(2).  A thread that was stopped in the middle
 * of an operation is busy, and left alone.
 */
#include "cache_idle.h"
#include "small.h"
#include <linux/membarrier.h>
#include <time.h>

#define VISIT_MS	10	/* least time between two rounds */
#define VISIT_MAX	256	/* caches per round */

struct lock idle_lock;
uint32_t idle_awake;

static LIST_HEAD(, cache) caches;	/* all */
static struct cache *hand;	/* the next to be visited */
static uint64_t visited;	/* time of the last round, in milliseconds */
static bool can_take;		/* there is membarrier */

void idle_init(void)
{
#ifndef __SANITIZE_THREAD__	/* It does not know this kind of ordering. */
	can_take = !syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
#endif
}

void idle_add(struct cache *c)
{
	lock_take(&idle_lock);
	LIST_INSERT_HEAD(&caches, c, list);
	store(&idle_awake, idle_awake + 1);
	lock_drop(&idle_lock);
}

void idle_remove(struct cache *c)
{
	lock_take(&idle_lock);
	if (hand == c)
		hand = LIST_NEXT(c, list);
	LIST_REMOVE(c, list);
	if (c->owner->bins != no_bins)
		store(&idle_awake, idle_awake - 1);
	lock_drop(&idle_lock);
}

void idle_return(struct cache *c)
{
	lock_take(&idle_lock);
	if (c->owner->bins == no_bins) {
		store(&c->owner->bins, c->bins);
		store(&idle_awake, idle_awake + 1);
	}
	lock_drop(&idle_lock);
}

/* Somebody else's bins: may be anything by now, but a change shows. */
static uint64_t stamp_of(struct cache *c)
{
	uint64_t sum = 0;
	unsigned i;

	for (i = 1; i < all_classes; i++)
		sum = sum * 31 + (uintptr_t)load(&c->bins[i].top);
	return sum | 1;
}

/* Take the bins from one who has not used them; does not count yet. */
static bool suspect(struct cache *c, bool all)
{
	uint64_t stamp = stamp_of(c);

	c->suspect = (all || stamp == c->stamp) && c->owner != &my && c->owner->bins != no_bins;
	c->stamp = stamp;
	if (c->suspect)
		store(&c->owner->bins, no_bins);
	return c->suspect;
}

static void settle(struct cache *c, bool sure)
{
	c->suspect = false;
	if (!sure || load_acquire(&c->owner->busy)) {
		store(&c->owner->bins, c->bins);
		return;
	}
	cache_empty(c);
	store(&idle_awake, idle_awake - 1);
}

static void round_trip(bool all)
{
	struct cache *c, *first = hand ? hand : LIST_FIRST(&caches);
	unsigned n = 0, suspects = 0;
	bool sure;

	for (c = first; c && (all || n < VISIT_MAX); c = LIST_NEXT(c, list), n++)
		suspects += suspect(c, all);
	hand = c;
	sure = suspects && !syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
	for (c = first; suspects && n--; c = LIST_NEXT(c, list))
		if (c->suspect)
			settle(c, sure);
}

void idle_visit(bool all)
{
	struct timespec t;
	uint64_t now;

	if (!can_take || !lock_try(&idle_lock))
		return;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	now = (uint64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
	if (all || now >= visited + VISIT_MS) {
		visited = now;
		if (all)
			hand = NULL;
		round_trip(all);
		central_settle(all);
	}
	lock_drop(&idle_lock);
}

void idle_forked(struct cache *c)
{
	LIST_INIT(&caches);
	hand = NULL;
	if (c)
		LIST_INSERT_HEAD(&caches, c, list);
	idle_awake = c && c->owner->bins != no_bins;
}
