/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region.h - address space: reserved at the start, made usable as it is needed
 *
 * Reserving everything at the start keeps the regions where they are for good;
 * making it usable in steps lets the library live with strict overcommit, where
 * usable means paid for.
 */
#ifndef MAFC_REGION_H
#define MAFC_REGION_H

#include "types.h"

/**
 * struct reserve - see types.h
 * @base: its start
 * @size: bytes of address space
 * @usable: bytes from the start that may be touched
 */
struct reserve {
	char *base;
	size_t size;
	size_t usable;
};

/* Guarded by pages_lock: SMALL .. SMALL_DIRTY; large_lock: LARGE .. EXTENTS. */
enum reserve_id {
	RES_SMALL,
	RES_SPANS,
	RES_SMALL_MAP,
	RES_PAGE_CLASS,
	RES_SMALL_DIRTY,
	RES_LARGE,
	RES_LARGE_MAP,
	RES_EXTENTS,
	RES_POOL,
	RES_COUNT
};

extern INTERNAL struct reserve reserves[RES_COUNT];

/**
 * struct region_plan - how large the regions are to be
 * @small_pages: pages of the small region
 * @large_pages: pages of the large region
 */
struct region_plan {
	uint32_t small_pages;
	uint32_t large_pages;
};

/* The first plan to try, and the next smaller one; false when at the end. */
void region_plan_first(struct region_plan *plan);
bool region_plan_smaller(struct region_plan *plan);

/*
 * Reserve address space for both regions, apart from each other, the large one
 * aligned to 2 MiB, and for the library's own tables.  Sets &heap.
 */
bool region_reserve(const struct region_plan *plan);
void region_unreserve(void);

bool reserve_grow(enum reserve_id id, size_t upto);
/* Make all that belongs to pages [0, @pages) usable. */
bool region_small_upto(uint32_t pages);
bool region_large_upto(uint32_t pages);

#endif
