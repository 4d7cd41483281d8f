// SPDX-License-Identifier: Apache-2.0
/*
 * init.c - the start of the heap, and a fork
 * The first call comes from the dynamic loader, before any constructor has run and before libc
 * knows the environment: nothing here may rely on either.
 */
#include "cache.h"
#include "large.h"
#include "os.h"
#include "program.h"
#include "small.h"
#include <pthread.h>

void _IO_list_lock(void);	/* of libc */
void _IO_list_unlock(void);
void _IO_list_resetlock(void);

struct heap heap;
bool heap_started;
static struct lock start_lock;	/* guards the start */
static bool fork_locked;

static void no_device(void)
{
	const char *why = strerrorname_np(errno);

	if (options.require) {
		report_note("no usable /dev/mafc, which MAFC_REQUIRE asks for", why);
		_exit(127);
	}
	if (options.verbose)
		report_note("no usable /dev/mafc, using anonymous memory", why);
}

static bool start(void)
{
	unsigned i;

	options_read();
	if (!os_device_start()) {
		no_device();
		if (!os_anon_start())
			return false;
	}
	classes_init(heap.os->compacts && options.compact && reserves[RES_LARGE].size >> 36 ?
		     MEDIUM_MAX : MEDIUM_MAX / 2);
	heap.small = (uintptr_t)reserves[RES_SMALL].base;
	heap.small_bytes = reserves[RES_SMALL].size;
	heap.page_class = (uint8_t *)reserves[RES_PAGE_CLASS].base;
	heap.spans = (struct mafc_span *)reserves[RES_SPANS].base;
	heap.small_map = (uint64_t *)reserves[RES_SMALL_MAP].base;
	heap.small_dirty = (uint64_t *)reserves[RES_SMALL_DIRTY].base;
	heap.extents = (struct extent *)reserves[RES_EXTENTS].base;
	heap.large = (uintptr_t)reserves[RES_LARGE].base;
	heap.large_bytes = reserves[RES_LARGE].size;
	heap.large_map = (uint64_t *)reserves[RES_LARGE_MAP].base;
	for (i = 1; i < nclasses; i++)
		store(&heap.meta->classes[i].block_size, classes[i].size);
	store(&heap.meta->nclasses, nclasses);
	store_release(&heap.meta->magic, MAFC_META_MAGIC);
	cache_init();
	return true;
}

/* All locks are held across a fork, in their order; library.rst has the rest. */
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
	lock_take(&sites_lock);
	fork_locked = true;
}

static void fork_done(void (*drop)(struct lock *l), void (*drop_list)(void), bool child)
{
	if (!fork_locked)
		return;
	fork_locked = false;
	drop(&sites_lock);
	drop(&pool_lock);
	drop(&large_lock);
	drop(&pages_lock);
	central_unlock(child);
	cache_unlock(child);
	drop(&start_lock);
	drop_list();
}

static void fork_parent(void)
{
	fork_done(lock_drop, _IO_list_unlock, false);
}

/* At worst, one block that debug_keep() was filling is lost. */
static void fork_child(void)
{
	if (fork_locked)
		lock_reset(&debug_lock);
	fork_done(lock_reset, _IO_list_resetlock, true);
}

/* At the first malloc, or when we are loaded: no fork may escape us. */
__attribute__((constructor)) static void fork_init(void)
{
	static bool done;

	if (!__atomic_exchange_n(&done, true, __ATOMIC_RELAXED))
		pthread_atfork(fork_prepare, fork_parent, fork_child);
}

bool noinline heap_start_slow(void)
{
	static bool failed;
	bool first = false;
	int saved = errno;

	lock_take(&start_lock);
	if (!heap_started && !failed) {
		first = start();
		failed = !first;
		store_release(&heap_started, first);
	}
	lock_drop(&start_lock);
	/* May call malloc, which finds the heap by now. */
	if (first)
		fork_init();
	errno = saved;
	return heap_started;
}
