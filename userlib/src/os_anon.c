// SPDX-License-Identifier: Apache-2.0
/*
 * os_anon.c - the backend without a device: anonymous memory
 *
 * The meta region has the layout that the kernel would give it, so that nothing
 * above this file needs to know.  Nobody compacts here.
 *
 * MAFC_TEST_FILE puts the small region onto a file in memory, so that a test can
 * map one page at two addresses, as the kernel does when it meshes spans.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include "os.h"
#include "region.h"

/* Every moved piece may cost a VMA or two, of 65,530 by default. */
#define REMAPS_MAX 8192
/* Keeps what is mprotect'ed apart aligned on every page size. */
#define STEP 65536UL

static bool anon_release(size_t off, size_t len)
{
	return !madvise((char *)heap.large + off, len, MADV_DONTNEED);
}

static void anon_purge(size_t off, size_t len)
{
	madvise((char *)heap.small + off, len, MADV_DONTNEED);
}

static bool anon_remap(size_t from, size_t to, size_t len)
{
	static uint32_t remaps;

	if (count_add(&remaps, 1) >= REMAPS_MAX) {
		count_add(&remaps, -1);
		return false;
	}
	return mremap((char *)heap.large + from, len, len,
		      MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
		      (char *)heap.large + to) != MAP_FAILED;
}

static int anon_fragmentation(void)
{
	return -1;
}

static const struct os anon = {
#ifdef MAFC_TEST_FILE
	.compacts = true,	/* the test does */
#endif
	.release_min = (size_t)64 << 20,
	.release = anon_release,
	.purge = anon_purge,
	.remap = anon_remap,
	.fragmentation = anon_fragmentation,
};

#ifdef MAFC_TEST_FILE
extern int mafc_test_file;
int mafc_test_file = -1;

static bool anon_test_file(void)
{
	struct reserve *r = &reserves[RES_SMALL];

	mafc_test_file = memfd_create("mafc", MFD_CLOEXEC);
	return mafc_test_file >= 0 && !ftruncate(mafc_test_file, r->size) &&
	       mmap(r->base, r->size, PROT_NONE, MAP_SHARED | MAP_FIXED,
		    mafc_test_file, 0) != MAP_FAILED;
}
#else
static bool anon_test_file(void)
{
	return true;
}
#endif

static bool anon_meta(const struct region_plan *plan)
{
	size_t size[] = {
		round_up(PAGE_SIZE + plan->small_pages / 8, STEP),
		round_up(plan->large_pages / 8UL, STEP),
		round_up(plan->small_pages * sizeof(struct mafc_span), STEP),
	};
	size_t all = size[0] + size[1] + size[2];
	char *base = mmap(NULL, all, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (base == MAP_FAILED)
		return false;
	reserves[RES_SMALL_MAP] = (struct reserve){ base, size[0], 0 };
	base += size[0];
	reserves[RES_LARGE_MAP] = (struct reserve){ base, size[1], 0 };
	base += size[1];
	reserves[RES_SPANS] = (struct reserve){ base, size[2], 0 };
	return reserve_grow(RES_SMALL_MAP, 2 * PAGE_SIZE);
}

static bool anon_try(const struct region_plan *plan)
{
	if (!region_reserve(plan))
		return false;
	if (!anon_meta(plan) || !anon_test_file()) {
		region_unreserve();
		return false;
	}
	heap.meta = (struct mafc_meta *)reserves[RES_SMALL_MAP].base;
	/* The header shares the reserve of the map that follows it. */
	reserves[RES_SMALL_MAP].base += PAGE_SIZE;
	reserves[RES_SMALL_MAP].size -= PAGE_SIZE;
	reserves[RES_SMALL_MAP].usable -= PAGE_SIZE;
	heap.small_bytes = reserves[RES_SMALL].size;
	heap.large_bytes = reserves[RES_LARGE].size;
	heap.os = &anon;
	return true;
}

bool os_anon_start(void)
{
	struct region_plan plan;

	region_plan_first(&plan);
	do {
		if (anon_try(&plan))
			return true;
	} while (region_plan_smaller(&plan));
	return false;
}
