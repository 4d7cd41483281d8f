/* SPDX-License-Identifier: Apache-2.0 */
/* large.h - blocks of whole pages */
#ifndef MAFC_LARGE_H
#define MAFC_LARGE_H

#include "lock.h"

/* What begins or ends at a page. */
enum extent_kind {
	EXTENT_NONE,
	EXTENT_USED,	/* a block of the program */
	EXTENT_DIRTY,	/* free, may still hold its former contents */
	EXTENT_CLEAN,	/* free, reads as zeros */
};

/**
 * struct extent - tag of a large page; means something at the first and at the
 *	last page of an extent only
 * @pages: length of the extent
 * @next: free: next in its bin, by first page; 0: none
 * @prev: free: likewise
 * @head: enum extent_kind of the extent that begins here
 * @tail: enum extent_kind of the extent that ends here
 */
struct extent {
	uint32_t pages;
	uint32_t next;
	uint32_t prev;
	uint16_t head;
	uint16_t tail;
};

extern struct lock large_lock;

/* @align is a power of two.  With @zero the block is all zeros. */
void *large_alloc(size_t size, size_t align, bool zero);
/* @n blocks of a medium class (classes.h); large_give() takes any. */
unsigned large_take(unsigned cls, void **blocks, unsigned n);
void large_give(void **blocks, unsigned n);
/* Bytes of the block; 0: no block begins here. */
size_t large_size(const void *p);
/* Make the block @size bytes long where it is; false: not possible. */
bool large_resize(void *p, size_t size);
/* A block of @size bytes with the contents of @p, which is freed; or NULL. */
void *large_move(void *p, size_t size);
/* Release free memory; bytes released. */
size_t large_trim(void);
/* Bytes in free extents that may hold memory. */
size_t large_dirty(void);

#endif
