// SPDX-License-Identifier: Apache-2.0
/*
 * large.c - blocks of whole pages
 * Extents with boundary tags (D. Knuth, TAOCP 1, 2.5).  What was in use before ("dirty") is
 * preferred, as its pages are likely to be there, and not merged with what still reads as zeros.
 */
#include "large.h"
#include "program.h"

#define DIRTY_MIN	((16U << 20) >> PAGE_SHIFT)	/* may always be free (anonymous) */
#define REMAP_MIN	((size_t)1 << 20)		/* below, copying is faster */

/* Guards all tags and bins, and RES_LARGE and followers. */
struct lock large_lock;
static struct surplus surplus;

/* The first and the last word may have bits of neighbours. */
void large_mark(const void *p, uint32_t pages, bool used)
{
	uint32_t first = large_page(p), last = first + pages - 1;
	uint64_t *word = &heap.large_map[first / 64], *end = &heap.large_map[last / 64];
	uint64_t mask = ~0ULL << first % 64;

	if (!heap.os->compacts)
		return;		/* nobody looks */
	if (word < end) {
		bits_put(word, mask, used);
		while (++word < end)
			store_release(word, used ? ~0ULL : 0);
		mask = ~0ULL;
	}
	bits_put(word, mask & (~0ULL >> (63 - last % 64)), used);
}

static size_t byte_offset(uint32_t page)
{
	return (size_t)page << PAGE_SHIFT;
}

static void *page_address(uint32_t page)
{
	return (void *)(heap.large + byte_offset(page));
}

static void count_large(int64_t pages)
{
	struct mafc_meta *m = heap.meta;

	store(&m->large_live, m->large_live + pages * (int64_t)PAGE_SIZE);
}

/* Release extents until @keep dirty pages are left, the longest first: that takes least calls. */
static size_t release_down_to(uint32_t keep)
{
	uint32_t first, pages;
	size_t released = 0;

	while (extents_dirty > keep && (first = extent_longest())) {
		pages = extent_remove(first);
		if (!heap.os->release(page_address(first), byte_offset(pages))) {
			extent_insert(first, pages, EXTENT_DIRTY);
			break;
		}
		extent_insert(first, pages, EXTENT_CLEAN);
		released += byte_offset(pages);
	}
	return released;
}

static void limit_dirty(void)
{
	uint32_t free = extents_dirty, live = heap.meta->large_live >> PAGE_SHIFT, excess;

	if (heap.os->compacts)
		return;
	excess = surplus_freed(&surplus, free);
	if (excess && free > DIRTY_MIN)
		release_down_to(free - excess);
	else if (free > 4 * DIRTY_MIN && free / 8 > live)
		release_down_to(live);
}

static uint32_t find_clean(uint32_t pages, uint32_t align)
{
	uint32_t at = extent_find(EXTENT_CLEAN, pages, align);

	/* Long blocks that begin at few addresses soon find memory there. */
	if (!at && pages >= HUGE_PAGES && align < HUGE_PAGES)
		at = extent_extend(pages, HUGE_PAGES);
	return at ? at : extent_extend(pages, align);
}

/* Pages at a multiple of @align; says if they are zero. 0: out of memory. */
static uint32_t take_pages(uint32_t pages, uint32_t align, bool *zero)
{
	uint32_t at = extent_find(EXTENT_DIRTY, pages, align);

	*zero = !at;
	if (!at)
		at = find_clean(pages, align);
	/* Short of address space: what is clean can be merged. */
	if (!at && release_down_to(0))
		at = find_clean(pages, align);
	surplus.low = MIN(surplus.low, extents_dirty);
	if (at) {
		extent_tag(at, pages, EXTENT_USED);
		count_large(pages);
		store(&heap.meta->large_allocs, heap.meta->large_allocs + 1);
	}
	return at;
}

void *large_take(size_t size, size_t align, bool *zeroed)
{
	uint32_t at = 0;

	if (size <= heap.large_bytes && align <= heap.large_bytes) {
		lock_take(&large_lock);
		at = take_pages(MAX(pages_of(size), 1UL), MAX(align >> PAGE_SHIFT, 1UL), zeroed);
		lock_drop(&large_lock);
	}
	return at ? page_address(at) : NULL;
}

void *large_alloc(size_t size, size_t align, bool zero)
{
	bool zeroed;
	void *p = large_take(size, align, &zeroed);

	if (!p)
		return NULL;
	large_mark(p, MAX(pages_of(size), 1UL), true);
	probe(large_alloc, p, size);
	return zero && !zeroed ? memset(p, 0, size) : p;
}

size_t large_size(const void *p)
{
	struct extent *e = &heap.extents[large_page(p)];

	return !((uintptr_t)p & (PAGE_SIZE - 1)) && large_page(p) < load(&extents_top) &&
	       e->head == EXTENT_USED ? byte_offset(e->pages) : 0;
}

static void free_pages(uint32_t first, uint32_t pages)
{
	size_t bytes = byte_offset(pages);
	bool clean = false;

	if (unlikely(bytes >= heap.os->release_min)) {
		/* Still tagged as in use: nobody else comes near. */
		lock_drop(&large_lock);
		clean = heap.os->release(page_address(first), bytes);
		lock_take(&large_lock);
	}
	large_mark(page_address(first), pages, false);
	extent_insert(first, pages, clean ? EXTENT_CLEAN : EXTENT_DIRTY);
	count_large(-(int64_t)pages);
	limit_dirty();
}

static bool free_block(void *p)
{
	uint32_t first = large_page(p), pages = large_size(p) >> PAGE_SHIFT;

	if (unlikely(!pages))
		return false;
	heap.extents[first].head = EXTENT_NONE;
	free_pages(first, pages);
	store(&heap.meta->large_frees, heap.meta->large_frees + 1);
	return true;
}

void large_give(void **blocks, unsigned n)
{
	bool ok;

	for (; n--; blocks++) {
		lock_take(&large_lock);
		ok = free_block(*blocks);
		lock_drop(&large_lock);
		if (unlikely(!ok))
			report_misuse("free of what is no block", *blocks);
	}
}

static bool grow_in_place(uint32_t first, uint32_t old, uint32_t pages)
{
	if (!extent_take_after(first + old, pages - old))
		return false;
	/* The former last page lies inside now; its tag must not show. */
	heap.extents[first + old - 1].tail = EXTENT_NONE;
	extent_tag(first, pages, EXTENT_USED);
	large_mark(page_address(first + old), pages - old, true);
	count_large((int64_t)pages - old);
	return true;
}

bool large_resize(void *p, size_t size)
{
	uint32_t first = large_page(p), pages = MAX(pages_of(size), 1UL), old;
	bool ok = true;

	if (size > heap.large_bytes)
		return false;
	lock_take(&large_lock);
	old = heap.extents[first].pages;
	if (pages < old) {
		heap.extents[first + old - 1].tail = EXTENT_NONE;
		extent_tag(first, pages, EXTENT_USED);
		free_pages(first + pages, old - pages);
	} else if (pages > old) {
		ok = grow_in_place(first, old, pages);
	}
	lock_drop(&large_lock);
	return ok;
}

void *large_move(void *p, size_t size)
{
	size_t old = large_size(p), len = MIN(old, round_up(size, PAGE_SIZE));
	void *new = large_alloc(size, PAGE_SIZE, false);

	if (!new)
		return NULL;
	if (len < REMAP_MIN ||
	    !heap.os->remap((uintptr_t)p - heap.large, (uintptr_t)new - heap.large, len))
		memcpy(new, p, MIN(len, size));
	large_give(&p, 1);
	return new;
}

size_t large_trim(void)
{
	size_t released;

	lock_take(&large_lock);
	released = release_down_to(0);
	lock_drop(&large_lock);
	return released;
}
