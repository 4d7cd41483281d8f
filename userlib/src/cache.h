/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache.h - a thread's own blocks; the common malloc and free in full
 *
 * A bin is a stack of addresses.  Below its first slot lies a NULL, so that a
 * pop finds out about an empty bin by what it pops, and a thread without a cache
 * has bins that are both empty and full: the common case needs no other check.
 */
#ifndef MAFC_CACHE_H
#define MAFC_CACHE_H

#include "types.h"

/**
 * struct bin - see types.h
 * @top: the slot after the last block
 * @end: the slot after the last slot
 */
struct bin {
	void **top;
	void **end;
};

struct cache;

/* Bins of the calling thread. */
extern __thread struct bin *my_bins
	__attribute__((tls_model("initial-exec")));

/* Most that a bin of size @size serves; NULL: go the slow way. */
static inline void *cache_pop(unsigned cls)
{
	struct bin *b = &my_bins[cls];
	void **top = b->top;
	void *p = top[-1];

	if (likely(p))
		b->top = top - 1;
	return p;
}

/*
 * False: go the slow way.  The block on top of the stack being freed once more
 * is the one double free that shows here; the others show when the bin is
 * flushed.
 */
static inline bool cache_push(unsigned cls, void *p)
{
	struct bin *b = &my_bins[cls];
	void **top = b->top;

	if (unlikely(top == b->end || top[-1] == p))
		return false;
	*top = p;
	b->top = top + 1;
	return true;
}

/* The bin was empty; @size is for the statistics.  NULL: out of memory. */
void *cache_refill(unsigned cls, size_t size);
/* The bin was full, or @p is on top of it already. */
void cache_overflow(unsigned cls, void *p);
/* Give all that the calling thread holds back. */
void cache_flush(void);
/* In the child of a fork: one thread is left. */
void cache_forked(void);
/* Once, when the heap is ready. */
void cache_init(void);

#endif
