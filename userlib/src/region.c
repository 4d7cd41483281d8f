// SPDX-License-Identifier: Apache-2.0
/* region.c - address space: reserved at the start, usable as it is needed */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <sys/resource.h>

#include "options.h"
#include "large.h"
#include "region.h"

#define GUARD		((size_t)1 << HUGE_SHIFT)
#define POOL_MAX	((size_t)1 << 34)
/* Regions smaller than this serve nobody. */
#define PLAN_MIN_PAGES	1024U
/* One step makes an eighth more usable, within these limits. */
#define STEP_MIN	((size_t)64 << 10)
#define STEP_MAX	((size_t)4 << 20)

struct reserve reserves[RES_COUNT];

static struct {
	char *base;
	size_t size;
} whole;

static uint32_t plan_pages(uint64_t bytes)
{
	uint64_t pages = bytes >> PAGE_SHIFT;

	if (pages >= MAFC_REGION_ALIGN)
		pages -= pages % MAFC_REGION_ALIGN;
	return MIN(pages, (uint64_t)MAFC_REGION_MAX);
}

/* Under a limit of address space the program wants some of it for itself. */
void region_plan_first(struct region_plan *plan)
{
	uint64_t total = (uint64_t)options.reserve_gib << 30;
	struct rlimit limit;

	plan->small_pages = plan_pages(total / 2);
	plan->large_pages = plan->small_pages;
	if (getrlimit(RLIMIT_AS, &limit) || limit.rlim_cur / 2 >= total)
		return;
	plan->small_pages = plan_pages(limit.rlim_cur / 4);
	plan->large_pages = plan_pages(limit.rlim_cur / 2);
}

bool region_plan_smaller(struct region_plan *plan)
{
	plan->small_pages = plan_pages((uint64_t)plan->small_pages << 11);
	plan->large_pages = plan_pages((uint64_t)plan->large_pages << 11);
	return plan->small_pages >= PLAN_MIN_PAGES &&
	       plan->large_pages >= PLAN_MIN_PAGES;
}

static size_t private_bytes(const struct region_plan *plan, enum reserve_id id)
{
	size_t all = ((size_t)plan->small_pages + plan->large_pages)
		     << PAGE_SHIFT;

	switch (id) {
	case RES_PAGE_CLASS:
		return plan->small_pages;
	case RES_SMALL_DIRTY:
		return plan->small_pages / 8;
	case RES_EXTENTS:
		return plan->large_pages * sizeof(struct extent);
	default:
		return MIN(POOL_MAX, all / 64);
	}
}

static char *carve(char *at, enum reserve_id id, size_t size, size_t usable)
{
	reserves[id] = (struct reserve){ at, size, usable };
	return at + round_up(size, 65536UL);
}

bool region_reserve(const struct region_plan *plan)
{
	static const enum reserve_id private[] = {
		RES_PAGE_CLASS, RES_SMALL_DIRTY, RES_EXTENTS, RES_POOL,
	};
	size_t small = (size_t)plan->small_pages << PAGE_SHIFT;
	size_t large = (size_t)plan->large_pages << PAGE_SHIFT;
	size_t i, own = 0;
	char *at;

	for (i = 0; i < sizeof(private) / sizeof(private[0]); i++)
		own += round_up(private_bytes(plan, private[i]), 65536UL);
	/* Guards: before all, between all, after all. */
	whole.size = own + small + large + 6 * GUARD;
	at = mmap(NULL, whole.size, PROT_NONE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED)
		return false;
	whole.base = at;
	at += GUARD;
	for (i = 0; i < sizeof(private) / sizeof(private[0]); i++)
		at = carve(at, private[i], private_bytes(plan, private[i]), 0);
	/* Sparse: a huge page would hold 2 MiB for a few bytes. */
	madvise(whole.base + GUARD, own, MADV_NOHUGEPAGE);
	at = (char *)round_up((uintptr_t)at + GUARD, GUARD);
	at = carve(at, RES_SMALL, small, 0);
	at = (char *)round_up((uintptr_t)at + GUARD, GUARD);
	carve(at, RES_LARGE, large, 0);

	heap.small = (uintptr_t)reserves[RES_SMALL].base;
	heap.large = (uintptr_t)reserves[RES_LARGE].base;
	heap.page_class = (uint8_t *)reserves[RES_PAGE_CLASS].base;
	return true;
}

void region_unreserve(void)
{
	munmap(whole.base, whole.size);
}

bool reserve_grow(enum reserve_id id, size_t upto)
{
	struct reserve *r = &reserves[id];
	size_t step = MIN(MAX(r->usable / 8, STEP_MIN), STEP_MAX);
	size_t goal;

	if (likely(upto <= r->usable))
		return true;
	if (upto > r->size)
		return false;
	goal = MIN(round_up(MAX(upto, r->usable + step), STEP_MIN), r->size);
	if (mprotect(r->base + r->usable, goal - r->usable,
		     PROT_READ | PROT_WRITE))
		return false;
	r->usable = goal;
	return true;
}

bool region_small_upto(uint32_t pages)
{
	return reserve_grow(RES_SMALL, (size_t)pages << PAGE_SHIFT) &&
	       reserve_grow(RES_SPANS, pages * sizeof(struct mafc_span)) &&
	       reserve_grow(RES_SMALL_MAP, round_up(pages, 64U) / 8) &&
	       reserve_grow(RES_PAGE_CLASS, pages) &&
	       reserve_grow(RES_SMALL_DIRTY, round_up(pages, 64U) / 8);
}

bool region_large_upto(uint32_t pages)
{
	return reserve_grow(RES_LARGE, (size_t)pages << PAGE_SHIFT) &&
	       reserve_grow(RES_LARGE_MAP, round_up(pages, 64U) / 8) &&
	       reserve_grow(RES_EXTENTS, pages * sizeof(struct extent));
}
