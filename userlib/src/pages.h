/* SPDX-License-Identifier: Apache-2.0 */
/* pages.h - which pages of the small region are in use */
#ifndef MAFC_PAGES_H
#define MAFC_PAGES_H

#include "lock.h"

#define PAGES_RUNS_MAX 16

extern struct lock pages_lock;

/*
 * Take up to @want runs of @n pages each (a power of two, at most 32), set
 * their bits in the page map and store the first page of each.  Returns how
 * many; 0: out of memory.
 */
unsigned pages_take(unsigned n, unsigned want, uint32_t *runs);
/* Clear the bits of @n pages.  Their spans are gone, from NONE on. */
void pages_give(uint32_t first, unsigned n);
/* Pages below this have been in use at some time. */
uint32_t pages_top(void);
/* Pages that hold memory: in use, or free and not yet given back. */
uint32_t pages_held(void);
/* Give free pages back to the system, all of them; bytes given. */
size_t pages_trim(void);

#endif
