// SPDX-License-Identifier: Apache-2.0
/* region.c - address space: reserved at the start, usable in steps, as that may mean paid for */
#include "large.h"
#include "os.h"
#include "program.h"
#include <sys/mman.h>
#include <sys/resource.h>

#define GUARD		((size_t)1 << HUGE_SHIFT)
#define POOL_MAX	((size_t)1 << 34)
#define POOL_SIZES	13	/* log2 of the largest piece, and one more */
#define PAGES_MIN	1024U	/* regions smaller than this serve nobody */
/* One step makes an eighth more usable, within these limits. */
#define STEP_MIN	((size_t)64 << 10)
#define STEP_MAX	((size_t)4 << 20)

struct reserve reserves[RES_COUNT];
static struct reserve whole;

/* What each small, or large, page needs. */
static const struct {
	bool large;
	uint16_t bits;
} needs[RES_COUNT] = {
	[RES_SMALL_MAP]	  = { false, 1 },
	[RES_LARGE_MAP]	  = { true, 1 },
	[RES_SPANS]	  = { false, 8 * sizeof(struct mafc_span) },
	[RES_PAGE_CLASS]  = { false, 8 },
	[RES_SMALL_DIRTY] = { false, 1 },
	[RES_EXTENTS]	  = { true, 8 * sizeof(struct extent) },
	[RES_SMALL]	  = { false, 8 * PAGE_SIZE },
	[RES_LARGE]	  = { true, 8 * PAGE_SIZE },
};

static size_t bytes_for(enum reserve_id id, uint32_t pages)
{
	return round_up((size_t)pages * needs[id].bits, 64) / 8;
}

static bool reserve_all(uint32_t small, uint32_t large)
{
	struct reserve *r;
	unsigned id;
	char *at;

	whole.size = META_HEADER + 8 * GUARD;
	for (id = 0; id < RES_COUNT; id++) {
		r = &reserves[id];
		r->usable = 0;
		r->size = id == RES_POOL ? MIN(POOL_MAX, (small + (size_t)large) * PAGE_SIZE / 64) :
			  bytes_for(id, needs[id].large ? large : small);
		whole.size += round_up(r->size, ALIGN_MAX);
	}
	at = mmap(NULL, whole.size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		return false;
	whole.base = at;
	heap.meta = (struct mafc_meta *)at;
	at += META_HEADER;
	for (id = 0; id < RES_COUNT; id++) {
		if (id == RES_PAGE_CLASS || id >= RES_SMALL)
			at = (char *)round_up((uintptr_t)at + GUARD, GUARD);
		reserves[id].base = at;
		at += round_up(reserves[id].size, ALIGN_MAX);
	}
	/* Sparse: a huge page would hold 2 MiB for a few bytes. */
	at = reserves[RES_PAGE_CLASS].base;
	madvise(at, reserves[RES_SMALL].base - at, MADV_NOHUGEPAGE);
	return true;
}

bool region_reserve(uint32_t max, uint32_t align)
{
	uint64_t total = (uint64_t)options.reserve_gib << 30;
	uint64_t small = total / 2 >> PAGE_SHIFT, large = small;
	struct rlimit limit;

	/* Under a limit of address space the program wants some of it for itself. */
	if (!getrlimit(RLIMIT_AS, &limit) && limit.rlim_cur / 2 < total) {
		small = limit.rlim_cur / 4 >> PAGE_SHIFT;
		large = limit.rlim_cur / 2 >> PAGE_SHIFT;
	}
	do {
		small = MIN(small, max) / align * align;
		large = MIN(large, max) / align * align;
		if (small && large && reserve_all(small, large))
			return true;
		small /= 2;
		large /= 2;
	} while (MIN(small, large) >= PAGES_MIN);
	errno = ENOMEM;
	return false;
}

void region_unreserve(void)
{
	munmap(whole.base, whole.size);
}

void region_drop_meta(void)
{
	size_t room = reserves[RES_PAGE_CLASS].base - GUARD - whole.base;

	munmap(whole.base, room);
	whole.base += room;
	whole.size -= room;
}

static bool reserve_grow(enum reserve_id id, size_t upto)
{
	struct reserve *r = &reserves[id];
	size_t step = MIN(MAX(r->usable / 8, STEP_MIN), STEP_MAX), goal;

	if (likely(upto <= r->usable))
		return true;
	if (upto > r->size)
		return false;
	goal = MIN(round_up(MAX(upto, r->usable + step), STEP_MIN), r->size);
	if (mprotect(r->base + r->usable, goal - r->usable, PROT_READ | PROT_WRITE))
		return false;
	r->usable = goal;
	return true;
}

bool region_upto(bool large, uint32_t pages)
{
	unsigned id;

	for (id = 0; id < RES_COUNT; id++)
		if (id != RES_POOL && needs[id].large == large &&
		    !reserve_grow(id, bytes_for(id, pages)))
			return false;
	return true;
}

/* A free piece; here, unlike in blocks, nobody else writes. */
struct piece {
	struct piece *next;
};

/* Guards what follows, and RES_POOL. */
struct lock pool_lock;
static struct piece *pieces[POOL_SIZES];
static size_t pool_used;

void *pool_alloc(size_t bytes)
{
	struct piece *p, **first = &pieces[__builtin_ctzl(bytes)];

	lock_take(&pool_lock);
	p = *first;
	if (p) {
		*first = p->next;
	} else {
		pool_used = round_up(pool_used, MIN(bytes, 64UL));
		if (reserve_grow(RES_POOL, pool_used + bytes)) {
			p = (struct piece *)(reserves[RES_POOL].base + pool_used);
			pool_used += bytes;
		}
	}
	lock_drop(&pool_lock);
	return p;
}

void pool_free(void *p, size_t bytes)
{
	struct piece *piece = p, **first = &pieces[__builtin_ctzl(bytes)];

	lock_take(&pool_lock);
	piece->next = *first;
	*first = piece;
	lock_drop(&pool_lock);
}
