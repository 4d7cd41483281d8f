/* SPDX-License-Identifier: Apache-2.0 */
/*
 * surplus.h - how much free memory is more than is needed
 *
 * Only for the anonymous backend, where nobody but us gives memory back.  Free
 * pages that stayed free all through an epoch were not needed in it: half of
 * them go at its end.  What a program frees and allocates all the time stays.
 */
#ifndef MAFC_SURPLUS_H
#define MAFC_SURPLUS_H

#include "types.h"

/**
 * struct surplus - about one kind of free pages; guarded by its user's lock
 * @low: fewest that were free in this epoch
 * @calls: to look at the clock now and then only
 * @until: end of the epoch, in milliseconds
 */
struct surplus {
	uint32_t low;
	uint32_t calls;
	uint64_t until;
};

/* @pages are free after some were taken. */
static inline void surplus_taken(struct surplus *s, uint32_t pages)
{
	s->low = MIN(s->low, pages);
}

/* @pages are free after some were freed; how many of them are to be released. */
uint32_t surplus_freed(struct surplus *s, uint32_t pages);

#endif
