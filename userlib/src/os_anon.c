// SPDX-License-Identifier: Apache-2.0
/* os_anon.c - the backend without a device: anonymous memory, which nobody compacts */
#include "os.h"
#include <sys/mman.h>
#include <time.h>

/* A test plays the kernel: it puts the small region onto a file, to map a page at two addresses. */
#ifndef TEST_COMPACTS
#define TEST_COMPACTS false
#define mafc_test_map(small) true
#endif

/* Every moved piece may cost a VMA or two, of 65,530 by default. */
#define REMAPS_MAX	8192
#define EPOCH_MS	1000
#define CALLS		32

static bool anon_release(void *at, size_t len)
{
	return !madvise(at, len, MADV_DONTNEED);
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

uint32_t surplus_freed(struct surplus *s, uint32_t pages)
{
	uint32_t low = s->low;
	struct timespec t;
	uint64_t now;

	if (s->calls++ % CALLS)
		return 0;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	now = (uint64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
	if (now < s->until)
		return 0;
	/* An epoch that is long over says nothing about its end. */
	low = s->until && now < s->until + 4 * EPOCH_MS ? MIN(low, pages) / 2 : 0;
	s->low = pages;
	s->until = now + EPOCH_MS;
	return low;
}

static const struct os anon = {
	.compacts = TEST_COMPACTS,
	.release_min = (size_t)64 << 20,
	.release = anon_release,
	.remap = anon_remap,
};

bool os_anon_start(void)
{
	heap.os = &anon;
	return region_reserve(MAFC_REGION_MAX, 64) && mafc_test_map(&reserves[RES_SMALL]) &&
	       !mprotect(heap.meta, META_HEADER, PROT_READ | PROT_WRITE) && region_upto(false, 1);
}
