// SPDX-License-Identifier: Apache-2.0
/*
 * extents.c - runs of large pages: tags, and bins by size
 * Good fit in constant time after M. Masmano et al., "TLSF" (ECRTS'04): bins of one size below 32
 * pages, then 16 per doubling, and a bitmap of those with anything.  Only the first extent of the
 * bin that the size itself falls into is tried; in higher bins all fit.
 */
#include "large.h"

#define LINEAR		32U	/* bins of one size */
#define SUB_SHIFT	4	/* log2 of bins per doubling */
#define BINS		512U

/* The free extents of one kind. */
struct shelf {
	uint64_t filled[BINS / 64];	/* bit i: first[i] is not 0 */
	uint32_t first[BINS];		/* by bin, first page of an extent */
};

static struct shelf shelves[EXTENT_CLEAN + 1];
uint32_t extents_top = 1;		/* page 0 stays unused: 0 ends lists */
uint32_t extents_dirty;

static unsigned bin_of(uint32_t pages)
{
	unsigned log;

	if (pages < LINEAR)
		return pages;
	log = 31 - __builtin_clz(pages);
	return LINEAR + ((log - 5) << SUB_SHIFT) +
	       (pages >> (log - SUB_SHIFT) & ((1U << SUB_SHIFT) - 1));
}

void extent_tag(uint32_t first, uint32_t pages, enum extent_kind kind)
{
	struct extent *e = heap.extents;

	e[first].pages = pages;
	e[first + pages - 1].pages = pages;
	e[first + pages - 1].tail = kind;
	e[first].head = kind;
}

static void shelf_add(uint32_t first, uint32_t pages, enum extent_kind kind)
{
	struct extent *e = heap.extents;
	struct shelf *s = &shelves[kind];
	unsigned bin = bin_of(pages);

	extent_tag(first, pages, kind);
	e[first].prev = 0;
	e[first].next = s->first[bin];
	if (s->first[bin])
		e[s->first[bin]].prev = first;
	s->first[bin] = first;
	s->filled[bin / 64] |= 1ULL << bin % 64;
	if (kind == EXTENT_DIRTY)
		store(&extents_dirty, extents_dirty + pages);
}

uint32_t extent_remove(uint32_t first)
{
	struct extent *e = heap.extents, *x = &e[first];
	struct shelf *s = &shelves[x->head];
	unsigned bin = bin_of(x->pages);

	if (x->next)
		e[x->next].prev = x->prev;
	if (x->prev)
		e[x->prev].next = x->next;
	else
		s->first[bin] = x->next;
	if (!s->first[bin])
		s->filled[bin / 64] &= ~(1ULL << bin % 64);
	if (x->head == EXTENT_DIRTY)
		store(&extents_dirty, extents_dirty - x->pages);
	e[first + x->pages - 1].tail = EXTENT_NONE;
	x->head = EXTENT_NONE;
	return x->pages;
}

void extent_insert(uint32_t first, uint32_t pages, enum extent_kind kind)
{
	struct extent *e = heap.extents;
	uint32_t n;

	/* The tags of what is merged would lie inside: they go first. */
	e[first].head = EXTENT_NONE;
	e[first + pages - 1].tail = EXTENT_NONE;
	if (first > 1 && e[first - 1].tail == kind) {
		n = extent_remove(first - e[first - 1].pages);
		first -= n;
		pages += n;
	}
	if (first + pages < extents_top && e[first + pages].head == kind)
		pages += extent_remove(first + pages);
	/* What never was in use needs no tag. */
	if (kind == EXTENT_CLEAN && first + pages == extents_top)
		store(&extents_top, first);
	else
		shelf_add(first, pages, kind);
}

/* The first page from @page on whose address is a multiple of @align pages. */
static uint64_t aligned_page(uint32_t page, uint32_t align)
{
	uint64_t base = heap.large >> PAGE_SHIFT;

	return round_up(base + page, align) - base;
}

/* First bin from @bin on that has anything; BINS: none. */
static unsigned next_filled(const struct shelf *s, unsigned bin)
{
	uint64_t bits;

	for (; bin < BINS; bin = (bin | 63) + 1) {
		bits = s->filled[bin / 64] >> bin % 64;
		if (bits)
			return bin + __builtin_ctzll(bits);
	}
	return BINS;
}

uint32_t extent_find(enum extent_kind kind, uint32_t pages, uint32_t align)
{
	const struct shelf *s = &shelves[kind];
	unsigned bin = bin_of(pages);
	uint32_t x, len;
	uint64_t at;

	do {
		bin = next_filled(s, bin);
		if (bin == BINS)
			return 0;
		x = s->first[bin++];
		at = aligned_page(x, align);
	} while (at - x + pages > heap.extents[x].pages);
	len = extent_remove(x);
	if (at > x)
		shelf_add(x, at - x, kind);
	if (x + len > at + pages)
		shelf_add(at + pages, x + len - at - pages, kind);
	return at;
}

uint32_t extent_extend(uint32_t pages, uint32_t align)
{
	uint32_t before = extents_top;
	uint64_t at = aligned_page(before, align);

	if (at + pages > heap.large_bytes >> PAGE_SHIFT || !region_upto(true, at + pages))
		return 0;
	store(&extents_top, at + pages);
	if (at > before)
		extent_insert(before, at - before, EXTENT_CLEAN);
	return at;
}

bool extent_take_after(uint32_t first, uint32_t pages)
{
	enum extent_kind kind;
	uint32_t len;

	if (first == extents_top)
		return extent_extend(pages, 1) != 0;
	kind = heap.extents[first].head;
	if ((kind != EXTENT_DIRTY && kind != EXTENT_CLEAN) || heap.extents[first].pages < pages)
		return false;
	len = extent_remove(first);
	if (len > pages)
		shelf_add(first + pages, len - pages, kind);
	return true;
}

uint32_t extent_longest(void)
{
	unsigned bin = BINS;

	while (bin && !shelves[EXTENT_DIRTY].first[--bin])
		;
	return shelves[EXTENT_DIRTY].first[bin];
}
