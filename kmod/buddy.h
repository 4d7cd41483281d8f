/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * buddy.h - a buddy system over page offsets, with lazy coalescing
 * Hands out blocks of 2^k pages out of 2^order; never touches the pages. K. C. Knowlton, "A Fast
 * Storage Allocator" (CACM 8, 1965); R. E. Barkley and T. P. Lee, "A Lazy Buddy System Bounded by
 * Two Coalescing Delays per Class" (SOSP 1989), but the slack of an order comes from a histogram
 * of the requests. Nothing sleeps, allocates or locks: the caller serialises.
 */
#ifndef MAFC_BUDDY_H
#define MAFC_BUDDY_H
#include "pure.h"

#define MAFC_BUDDY_ORDER_MAX	16

/* The free blocks of one order. */
struct mafc_buddy_level {
	u32 nfree;
	u16 hint;	/* words of the level's bitmap before this one are empty */
	u16 lazy;	/* so many may stay uncoalesced */
};

/* In mafc_buddy_size() bytes.  A binary tree of nodes: 1 is all, 2n and 2n + 1 are halves of n. */
struct mafc_buddy {
	u32 order;	/* it manages 2^order pages */
	u32 free_pages;
	u32 pairs;	/* free blocks whose buddy is free too, in pairs: merges put off */
	u32 splits;	/* so far (wraps) */
	u32 merges;	/* likewise */
	u64 mem[];	/* order + 1 levels, tree bitmap of free blocks, bitmap of used pages */
};

size_t mafc_buddy_size(unsigned int order);
void mafc_buddy_init(struct mafc_buddy *b, unsigned int order);
int mafc_buddy_alloc(struct mafc_buddy *b, unsigned int order);
int mafc_buddy_free(struct mafc_buddy *b, unsigned int off, unsigned int order);
bool mafc_buddy_is_used(const struct mafc_buddy *b, unsigned int off);
void mafc_buddy_set_lazy(struct mafc_buddy *b, const u16 target[]);
void mafc_buddy_flush(struct mafc_buddy *b);
int mafc_buddy_largest(const struct mafc_buddy *b);
void mafc_buddy_counts(const struct mafc_buddy *b, u32 counts[]);

#define MAFC_HIST_HALF_LIFE	1024	/* requests after which those before weigh half */

/* Which orders were asked for lately; all zeros is an empty histogram. */
struct mafc_hist {
	u32 count[MAFC_BUDDY_ORDER_MAX + 1];
	u32 total;	/* sum of count */
	u16 age;	/* how often they were halved (wraps) */
};

void mafc_hist_add(struct mafc_hist *h, unsigned int order);
void mafc_hist_targets(const struct mafc_hist *h, unsigned int order, u16 target[]);
#endif /* MAFC_BUDDY_H */
