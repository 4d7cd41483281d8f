/* SPDX-License-Identifier: Apache-2.0 */
/* init.h - from the first call of malloc to a heap, and over a fork */
#ifndef MAFC_INIT_H
#define MAFC_INIT_H

#include "types.h"

/* Make the heap if there is none yet; false: there is no memory for one. */
bool heap_start(void);
/* Register for fork(); safe to call from within malloc. */
void fork_init(void);

#endif
