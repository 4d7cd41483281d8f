/* SPDX-License-Identifier: Apache-2.0 */
/* os.h - the operating system, as the allocator sees it: backends, address space, own memory */
#ifndef MAFC_OS_H
#define MAFC_OS_H
#include "types.h"

/* A backend.  Offsets and lengths are in bytes, of whole pages. */
struct os {
	bool compacts;		/* the kernel drops free pages and clears page-map bits by itself */
	size_t release_min;	/* free extents of so many bytes are released at once */
	/* Drop pages, where it @compacts large ones only; the next touch finds zeros, or: false. */
	bool (*release)(void *at, size_t len);
	/* Move pages to another place of the large region; false: cannot. */
	bool (*remap)(size_t from, size_t to, size_t len);
	/* External fragmentation in per cent, -1: not known.  May be NULL. */
	int (*fragmentation)(void);
};

/* Set heap.os, heap.meta and the reserves.  False, with errno set: cannot. */
bool os_device_start(void);
bool os_anon_start(void);

/*
 * In the order of addresses; the first three follow the header of the meta region.  What is of
 * large pages is guarded by large_lock, RES_POOL by pool_lock, the rest by pages_lock.
 */
enum reserve_id {
	RES_SMALL_MAP, RES_LARGE_MAP, RES_SPANS,
	RES_PAGE_CLASS, RES_SMALL_DIRTY, RES_EXTENTS, RES_POOL,
	RES_SMALL, RES_LARGE, RES_COUNT
};

struct reserve {
	char *base;
	size_t size;	/* bytes of address space */
	size_t usable;	/* bytes from the start that may be touched */
};

extern INTERNAL struct reserve reserves[RES_COUNT];

#define ALIGN_MAX	65536UL		/* of what is mprotect'ed apart: every page size */
#define META_HEADER	ALIGN_MAX	/* room for heap.meta */

/*
 * Reserve address space for all: regions of at most @max pages, a multiple of @align, apart from
 * each other and aligned to 2 MiB.  False, with errno set: not even for the smallest.
 */
bool region_reserve(uint32_t max, uint32_t align);
void region_unreserve(void);
void region_drop_meta(void);	/* make room for a meta region at another place */
/* Make all that belongs to the large, or small, pages [0, @pages) usable. */
bool region_upto(bool large, uint32_t pages);

/* Memory for our own growing structures: @bytes is a power of two, 16 .. 4096; NULL: none. */
extern struct lock pool_lock;
void *pool_alloc(size_t bytes);
void pool_free(void *p, size_t bytes);

/* Free memory to be given back, where only we do: half of what was free all through an epoch. */
struct surplus {
	uint32_t low;	/* fewest that were free in this epoch; kept by who takes some */
	uint32_t calls;	/* to look at the clock now and then only */
	uint64_t until;	/* end of the epoch, in milliseconds */
};

/* @pages are free, after some were freed: how many of them are to be released. */
uint32_t surplus_freed(struct surplus *s, uint32_t pages);
#endif
