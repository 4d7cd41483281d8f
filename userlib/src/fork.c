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
 *
 * Without threads nobody but a signal handler can come between: it may fork in
 * the middle of malloc, as nothing is locked then.
 *
 * fork() locks the list of streams after that.  Who holds it may be waiting for a
 * stream whose owner waits for memory: so it is locked before our own locks.
 */
#include <pthread.h>
#include <sys/single_threaded.h>

#include "cache.h"
#include "central.h"
#include "debug.h"
#include "init.h"
#include "large.h"
#include "pages.h"
#include "pool.h"

void _IO_list_lock(void);	/* of libc */
void _IO_list_unlock(void);
void _IO_list_resetlock(void);

static bool locked;

static void fork_prepare(void)
{
	if (__libc_single_threaded)
		return;
	_IO_list_lock();
	lock_take(&start_lock);
	cache_lock();
	central_lock();
	lock_take(&pages_lock);
	lock_take(&large_lock);
	lock_take(&pool_lock);
	locked = true;
}

static void fork_parent(void)
{
	if (!locked)
		return;
	locked = false;
	lock_drop(&pool_lock);
	lock_drop(&large_lock);
	lock_drop(&pages_lock);
	central_unlock(false);
	cache_unlock(false);
	lock_drop(&start_lock);
	_IO_list_unlock();
}

static void fork_child(void)
{
	if (!locked)
		return;
	locked = false;
	lock_reset(&pool_lock);
	lock_reset(&large_lock);
	lock_reset(&pages_lock);
	central_unlock(true);
	cache_unlock(true);
	lock_reset(&start_lock);
	debug_forked();
	_IO_list_resetlock();
}

/* At the first malloc, or when we are loaded: no fork may escape us. */
__attribute__((constructor)) void fork_init(void)
{
	static bool done;

	if (!__atomic_exchange_n(&done, true, __ATOMIC_RELAXED))
		pthread_atfork(fork_prepare, fork_parent, fork_child);
}
