/* SPDX-License-Identifier: Apache-2.0 */
/* init.h - from the first call of malloc to a heap, and over a fork */
#ifndef MAFC_INIT_H
#define MAFC_INIT_H

#include "lock.h"

extern INTERNAL bool heap_started;
extern struct lock start_lock;	/* guards the start */
bool heap_start_slow(void);

/* Make the heap if there is none yet; false: there is no memory for one. */
static inline bool heap_start(void)
{
	return likely(load_acquire(&heap_started)) || heap_start_slow();
}

/* Register for fork(); safe to call from within malloc. */
void fork_init(void);

#endif
