// SPDX-License-Identifier: Apache-2.0
/*
 * init.c - from the first call of malloc to a heap
 *
 * The first call comes from the dynamic loader, before any constructor has run
 * and before libc knows the environment; nothing here may rely on either.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cache.h"
#include "classes.h"
#include "init.h"
#include "lock.h"
#include "options.h"
#include "os.h"
#include "region.h"
#include "report.h"

struct heap heap;

struct lock start_lock;
bool heap_started;

static void no_device(void)
{
	const char *why = strerrorname_np(errno);

	if (options.require) {
		report_note("no usable /dev/mafc, which MAFC_REQUIRE asks for",
			    why);
		_exit(127);
	}
	if (options.verbose)
		report_note("no usable /dev/mafc, using anonymous memory", why);
}

static void publish_classes(void)
{
	unsigned i;

	for (i = 1; i < nclasses; i++)
		store(&heap.meta->classes[i].block_size, classes[i].size);
	store(&heap.meta->nclasses, nclasses);
	store_release(&heap.meta->magic, MAFC_META_MAGIC);
}

static bool start(void)
{
	options_read();
	classes_init();
	if (!os_device_start()) {
		no_device();
		if (!os_anon_start())
			return false;
	}
	heap.spans = (struct mafc_span *)reserves[RES_SPANS].base;
	heap.small_map = (uint64_t *)reserves[RES_SMALL_MAP].base;
	heap.large_map = (uint64_t *)reserves[RES_LARGE_MAP].base;
	publish_classes();
	cache_init();
	return true;
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
