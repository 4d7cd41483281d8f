/* SPDX-License-Identifier: Apache-2.0 */
/* central.h - what all threads share of a class */
#ifndef MAFC_CENTRAL_H
#define MAFC_CENTRAL_H

#include "types.h"

/*
 * Hand out up to @want blocks of class @cls; 0: out of memory.  @size is what
 * was asked for by the call that needs them: for the statistics.
 */
unsigned central_take(unsigned cls, void **blocks, unsigned want, size_t size);
/* Take @n blocks of class @cls back. */
void central_give(unsigned cls, void **blocks, unsigned n);
/*
 * Keep blocks that one thread has too many of for those that have too few, as
 * they are; false: enough are kept.
 */
bool central_pass(unsigned cls, void **blocks, unsigned n);
/* Take back what was kept and nobody has wanted since the last call; or @all. */
void central_settle(bool all);
/* Give all empty spans up. */
void central_trim(void);
/* Around a fork; central_unlock() also in the child. */
void central_lock(void);
void central_unlock(bool child);

#endif
