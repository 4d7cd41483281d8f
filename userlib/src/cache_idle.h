/* SPDX-License-Identifier: Apache-2.0 */
/* cache_idle.h - the cache as a structure, and what others do to it */
#ifndef MAFC_CACHE_IDLE_H
#define MAFC_CACHE_IDLE_H
#include "cache.h"
#include <sys/queue.h>

enum { SHRINKS = 1, RAN_OVER };

/* What belongs to one thread; from @list on guarded by idle_lock. */
struct cache {
	struct bin bins[NCLASSES];	/* first, as my.bins points here */
	uint8_t slots[NCLASSES];	/* of each bin: 0, 1, 3, 7, .. 255 */
	uint8_t seen[NCLASSES];		/* blocks in each bin when it was last looked at */
	uint8_t shrinks[APART + 1];	/* of the classes with two bins: see recycle() */
	size_t room;			/* bytes that the bins hold when full */
	size_t budget;			/* and may hold, as of the last look around */
	uint32_t calls;			/* slow ones */
	uint32_t hand;			/* the bin to look at next */
	uint32_t parked;		/* list of sites.c: blocks that NULLs in bins stand for */
	struct my *owner;
	LIST_ENTRY(cache) list;		/* of all caches */
	uint64_t stamp;			/* says whether the bins have moved since the last visit */
	bool suspect;			/* being taken away */
};

extern struct lock idle_lock;	/* guards the list of all caches, and my.bins of other threads */
extern uint32_t idle_awake;	/* caches in use by threads that are awake, about */
extern struct bin no_bins[NCLASSES];

void idle_init(void);
void idle_add(struct cache *c);
void idle_remove(struct cache *c);
void idle_return(struct cache *c);	/* finds its bins taken away: it is awake again */
/* Now and then: empty some caches that have not moved; @all: all that can be. */
void idle_visit(bool all);
void idle_forked(struct cache *c);	/* in the child of a fork, only @c is left */
void cache_empty(struct cache *c);	/* give all blocks and slots back */
#endif
