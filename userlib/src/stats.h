/* SPDX-License-Identifier: Apache-2.0 */
/* stats.h - how much is held, how much is in use */
#ifndef MAFC_STATS_H
#define MAFC_STATS_H

#include "types.h"

/**
 * struct usage - of the whole heap, in bytes
 * @small: in small blocks, those in caches included
 * @large: in large blocks
 * @held: memory held from the system, about; on the device the kernel knows
 *	better
 * @free_large: in free extents that may hold memory
 */
struct usage {
	size_t small;
	size_t large;
	size_t held;
	size_t free_large;
};

void usage_get(struct usage *u);

#endif
