/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sites.h - chosen blocks, and the call stacks of who has them (MAFC_SITES)
 * The table is the library's own; mafc(1) finds it by struct mafc_meta, and reads it from outside.
 */
#ifndef MAFC_SITES_H
#define MAFC_SITES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SITES_MAGIC	0x53495431U	/* changes with what follows */
#define SITES_MAX	16384U		/* records; the first is not used */
#define SITES_CHAINS	4096U		/* by page number */
#define SITES_FRAMES	19		/* the library's own, three or four, among them */

struct site {
	uint32_t seq;		/* odd while frames are written */
	uint32_t next;		/* of its chain, or a free one; 0: none */
	uint64_t addr, size;	/* of the block; 0: a free record */
	uint64_t weight;	/* bytes of blocks that it stands for */
	uint32_t parked;	/* the next whose block is free in the same cache; 0: none */
	uint32_t nframes;	/* 0: the program does not have the block */
	uint64_t frames[SITES_FRAMES];	/* return addresses, the innermost first */
};

struct sites {
	uint32_t magic;		/* SITES_MAGIC */
	uint32_t used;		/* records [1, used) have been in use */
	uint32_t free;		/* list of those that are not any longer */
	uint32_t lost;		/* blocks that found no record */
	uint64_t interval;	/* bytes per chosen block */
	uint32_t chains[SITES_CHAINS];
	struct site records[SITES_MAX];
};

struct cache;
struct lock;
extern struct sites *sites __attribute__((visibility("hidden")));	/* NULL: off */
extern struct lock sites_lock;

/* Choose among blocks from the lists; each has NULL in its place then, and waits in @c, if any. */
bool sites_choose(struct cache *c, void **blocks, unsigned n, size_t size);
/* The block, of class @cls, that such a NULL stands for. It is chosen no longer, unless @keep. */
void *sites_unpark(struct cache *c, unsigned cls, bool keep);
void sites_stack(void *p);	/* the program gets it */
/* @p is free; 1: it waits in @c, the bin gets NULL; 0: it is chosen no longer; -1: twice. */
int sites_free(struct cache *c, const void *p);
#endif
