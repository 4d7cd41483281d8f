/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * buddy.h - a buddy system over page offsets, with lazy coalescing
 *
 * DOC: buddy
 *
 * A buddy hands out blocks of 2^k pages out of 2^order pages.  It deals in
 * offsets only and never touches the pages.  K. C. Knowlton, "A Fast Storage
 * Allocator" (CACM 8, 1965) is the buddy system; leaving freed blocks of the
 * orders in demand uncoalesced is after R. E. Barkley and T. P. Lee, "A Lazy
 * Buddy System Bounded by Two Coalescing Delays per Class" (SOSP 1989).  Here
 * the slack of an order comes from a histogram of the requests, struct
 * mafc_hist, rather than from the number of its live blocks.
 *
 * Nothing sleeps, allocates or locks: the caller serialises all calls on one
 * instance.
 */
#ifndef MAFC_BUDDY_H
#define MAFC_BUDDY_H

#include "pure.h"

#define MAFC_BUDDY_ORDER_MAX	16

/**
 * struct mafc_buddy_level - the free blocks of one order
 * @nfree: number of free blocks
 * @hint: words of the level's bitmap before this one are empty
 * @lazy: so many free blocks may stay uncoalesced
 */
struct mafc_buddy_level {
	u32 nfree;
	u16 hint;
	u16 lazy;
};

/**
 * struct mafc_buddy - one buddy; lies in mafc_buddy_size() bytes of the caller
 * @order: it manages 2^@order pages
 * @free_pages: pages that are not allocated
 * @pairs: free blocks whose buddy is free too, in pairs: merges put off
 * @splits: blocks split so far (wraps)
 * @merges: pairs of blocks merged so far (wraps)
 * @mem: @order + 1 levels, the tree bitmap of free blocks, the bitmap of
 *	used pages
 *
 * The blocks are the nodes of a complete binary tree: node 1 is all pages, the
 * halves of node n are 2n and 2n + 1.
 */
struct mafc_buddy {
	u32 order;
	u32 free_pages;
	u32 pairs;
	u32 splits;
	u32 merges;
	u64 mem[];
};

size_t mafc_buddy_size(unsigned int order);
void mafc_buddy_init(struct mafc_buddy *b, unsigned int order);
int mafc_buddy_alloc(struct mafc_buddy *b, unsigned int order);
int mafc_buddy_free(struct mafc_buddy *b, unsigned int off,
		    unsigned int order);
bool mafc_buddy_is_used(const struct mafc_buddy *b, unsigned int off);
void mafc_buddy_set_lazy(struct mafc_buddy *b, const u16 target[]);
void mafc_buddy_flush(struct mafc_buddy *b);
int mafc_buddy_largest(const struct mafc_buddy *b);
void mafc_buddy_counts(const struct mafc_buddy *b, u32 counts[]);

/**
 * mafc_buddy_free_pages() - how much is free
 * @b: the buddy
 *
 * Return: the number of pages that are not allocated.
 */
static inline unsigned int mafc_buddy_free_pages(const struct mafc_buddy *b)
{
	return b->free_pages;
}

/* Requests after which those counted so far weigh half. */
#define MAFC_HIST_HALF_LIFE	1024

/**
 * struct mafc_hist - which orders were asked for lately
 * @count: requests by order, halved every MAFC_HIST_HALF_LIFE requests
 * @total: sum of @count
 * @age: how often they were halved (wraps)
 *
 * All zeros is a valid, empty histogram.
 */
struct mafc_hist {
	u32 count[MAFC_BUDDY_ORDER_MAX + 1];
	u32 total;
	u16 age;
};

void mafc_hist_add(struct mafc_hist *h, unsigned int order);
void mafc_hist_targets(const struct mafc_hist *h, unsigned int order,
		       u16 target[]);

#endif /* MAFC_BUDDY_H */
