// SPDX-License-Identifier: Apache-2.0
/*
 * fork.c - the heap over a fork of a program with threads
 *
 * All locks are held across the fork, in their order, so that the child's copy
 * is consistent; there the locks are simply reset.  On the device the kernel
 * gives the child its own heap at the same addresses, and a descriptor that
 * would have to be opened again is not kept.
 *
 * Registered at the first malloc, ahead of everybody: our handlers run last
 * before the fork and first after it, so that those of others may use malloc.
 */
#include <pthread.h>

#include "cache.h"
#include "central.h"
#include "debug.h"
#include "init.h"
#include "large.h"
#include "pages.h"
#include "pool.h"

static void fork_prepare(void)
{
	cache_lock();
	central_lock();
	lock_take(&pages_lock);
	lock_take(&large_lock);
	lock_take(&pool_lock);
}

static void fork_parent(void)
{
	lock_drop(&pool_lock);
	lock_drop(&large_lock);
	lock_drop(&pages_lock);
	central_unlock(false);
	cache_unlock(false);
}

static void fork_child(void)
{
	lock_reset(&pool_lock);
	lock_reset(&large_lock);
	lock_reset(&pages_lock);
	central_unlock(true);
	cache_unlock(true);
	debug_forked();
}

void fork_init(void)
{
	pthread_atfork(fork_prepare, fork_parent, fork_child);
}
