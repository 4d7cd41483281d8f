/* SPDX-License-Identifier: Apache-2.0 */
/* large.h - blocks of whole pages (large.c), and the runs they are cut from (extents.c) */
#ifndef MAFC_LARGE_H
#define MAFC_LARGE_H
#include "os.h"

extern struct lock large_lock;

/* @align is a power of two.  @zero: all zeros.  large_take() does not mark it; is it @zeroed? */
void *large_alloc(size_t size, size_t align, bool zero);
void *large_take(size_t size, size_t align, bool *zeroed);
void large_give(void **blocks, unsigned n);	/* of any length */
/* Has the program these pages?  Others, those of cached blocks among them, may be dropped. */
void large_mark(const void *p, uint32_t pages, bool used);
size_t large_size(const void *p);	/* in bytes; 0: no block begins here */
/* Make the block @size bytes long where it is; false: not possible. */
bool large_resize(void *p, size_t size);
/* A block of @size bytes with the contents of @p, which is freed; or NULL. */
void *large_move(void *p, size_t size);
size_t large_trim(void);	/* release free memory; bytes released */

/* What begins or ends at a page. */
enum extent_kind {
	EXTENT_NONE,
	EXTENT_USED,	/* a block of the program */
	EXTENT_DIRTY,	/* free, may still hold its former contents */
	EXTENT_CLEAN,	/* free, reads as zeros */
};

/* Tag of a large page; means something at the first and the last page of an extent only. */
struct extent {
	uint32_t pages;		/* length of the extent */
	uint32_t next;		/* free: in its bin, by first page; 0: none */
	uint32_t prev;
	uint16_t head;		/* kind of the extent that begins here */
	uint16_t tail;		/* kind of the extent that ends here */
};

/* All of the following is under large_lock; load() the two without. */
extern INTERNAL uint32_t extents_top;	/* pages below have been part of an extent */
extern INTERNAL uint32_t extents_dirty;	/* pages of dirty extents */

void extent_tag(uint32_t first, uint32_t pages, enum extent_kind kind);
/* Put a free run into its bin, merged with free neighbours of its kind. */
void extent_insert(uint32_t first, uint32_t pages, enum extent_kind kind);
uint32_t extent_remove(uint32_t first);	/* take it out of its bin; its length */
/* Cut @pages pages at a multiple of @align out of a free extent.  First page; 0: none fits. */
uint32_t extent_find(enum extent_kind kind, uint32_t pages, uint32_t align);
/* The same, from pages that never were in use. */
uint32_t extent_extend(uint32_t pages, uint32_t align);
/* Take the @pages pages from @first on, if these are free; not tagged yet. */
bool extent_take_after(uint32_t first, uint32_t pages);
uint32_t extent_longest(void);	/* a dirty one of the longest kind; 0: none */
#endif
