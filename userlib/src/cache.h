/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cache.h - a thread's own blocks; the common malloc and free in full
 * A bin is a stack with a NULL below, so that a pop needs no other check for emptiness.  A thread
 * without a cache has bins that are both empty and full.  The owner says, with plain stores, when
 * it is in the middle of something: others empty its cache when it sleeps (cache_idle.c).
 */
#ifndef MAFC_CACHE_H
#define MAFC_CACHE_H
#include "types.h"

struct bin {
	void **top;	/* the slot after the last block */
	void **end;	/* the slot after the last slot */
};

/* What a thread has at hand. */
struct my {
	struct bin *bins;	/* by class; no_bins without a cache */
	uint32_t busy;		/* it is working on the bins */
	bool ended;		/* its destructor has run: no cache any longer */
};

extern INTERNAL __thread struct my my;

/* What lies between is seen by nobody else, or belongs to nobody else. */
static inline void cache_enter(void)
{
	store(&my.busy, 1);
	__asm__ volatile("" ::: "memory");
}

static inline void cache_leave(void)
{
	store_release(&my.busy, 0);
}

/* A block of class @cls, or NULL: go the slow way. */
static inline void *cache_pop(unsigned cls)
{
	struct bin *b;
	void **top, *p;

	cache_enter();
	b = &my.bins[cls];
	top = b->top;
	p = top[-1];
	if (likely(p))
		b->top = top - 1;
	cache_leave();
	return p;
}

/* False: go the slow way.  Of double frees, only that of the top shows here. */
static inline bool cache_push(unsigned cls, void *p)
{
	struct bin *b;
	void **top;
	bool ok;

	cache_enter();
	b = &my.bins[cls];
	top = b->top;
	ok = likely(top != b->end) && likely(top[-1] != p);
	if (ok) {
		*top = p;
		b->top = top + 1;
	}
	cache_leave();
	return ok;
}

/* The bin was empty; @size is for the statistics.  NULL: out of memory. */
void *cache_refill(unsigned cls, size_t size);
/* The bin was full, or @p is on top of it already. */
void cache_overflow(unsigned cls, void *p);
void cache_trim(void);	/* give all that this thread holds back, and what idle ones do */
void cache_lock(void);	/* around a fork */
void cache_unlock(bool child);
void cache_init(void);	/* once, when the heap is ready */
#endif
