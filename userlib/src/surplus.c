// SPDX-License-Identifier: Apache-2.0
/* surplus.c - how much free memory is more than is needed */
#define _GNU_SOURCE
#include <time.h>

#include "surplus.h"

#define EPOCH_MS	1000
#define CALLS		32

uint32_t surplus_freed(struct surplus *s, uint32_t pages)
{
	struct timespec t;
	uint32_t low = s->low;
	uint64_t now;

	if (s->calls++ % CALLS)
		return 0;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	now = (uint64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
	if (now < s->until)
		return 0;
	s->low = pages;
	/* An epoch that is long over says nothing about its end. */
	if (s->until && now < s->until + 4 * EPOCH_MS)
		low = MIN(low, pages) / 2;
	else
		low = 0;
	s->until = now + EPOCH_MS;
	return low;
}
