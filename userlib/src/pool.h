/* SPDX-License-Identifier: Apache-2.0 */
/* pool.h - memory for the library's own, growing structures */
#ifndef MAFC_POOL_H
#define MAFC_POOL_H

#include "lock.h"

extern struct lock pool_lock;

/* @bytes is a power of two, 16 .. 4096; contents are undefined; may fail. */
void *pool_alloc(size_t bytes);
void pool_free(void *p, size_t bytes);

#endif
