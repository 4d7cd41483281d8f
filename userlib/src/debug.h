/* SPDX-License-Identifier: Apache-2.0 */
/* debug.h - MAFC_DEBUG=1: writes after free, reads of what was never written */
#ifndef MAFC_DEBUG_H
#define MAFC_DEBUG_H

#include "types.h"

/* Fill a new block of @size bytes with junk. */
void debug_new(void *p, size_t size);
/*
 * Keep the freed block @p for a while.  Returns the block that has been kept
 * the longest, unharmed or reported, to be freed in its place; NULL: none yet.
 */
void *debug_keep(void *p, size_t size);

/* In the child of a fork. */
void debug_forked(void);

#endif
