/* SPDX-License-Identifier: Apache-2.0 */
/* extents.h - runs of large pages: tags, bins; all under large_lock */
#ifndef MAFC_EXTENTS_H
#define MAFC_EXTENTS_H

#include "large.h"
#include "region.h"

static inline struct extent *extents(void)
{
	return (struct extent *)reserves[RES_EXTENTS].base;
}

/* Pages below this have been part of an extent at some time. */
uint32_t extents_top(void);
uint32_t extents_dirty(void);
void extent_tag(uint32_t first, uint32_t pages, enum extent_kind kind);
/* Put a free run into its bin, merged with free neighbours of its kind. */
void extent_insert(uint32_t first, uint32_t pages, enum extent_kind kind);
/* Take a free extent out of its bin; its length. */
uint32_t extent_remove(uint32_t first);
/*
 * Cut @pages pages at a multiple of @align pages out of a free extent of @kind;
 * what is left of it stays free.  First page, or 0: none fits.
 */
uint32_t extent_find(enum extent_kind kind, uint32_t pages, uint32_t align);
/* The same, from pages that never were in use. */
uint32_t extent_extend(uint32_t pages, uint32_t align);
/* Take the @pages pages from @first on, if these are free; not tagged yet. */
bool extent_take_after(uint32_t first, uint32_t pages);
/* A dirty extent of the longest kind, 0: none. */
uint32_t extent_longest(void);

#endif
