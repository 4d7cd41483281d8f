// SPDX-License-Identifier: Apache-2.0
/*
 * stats.c - what glibc's programs ask about the heap, and what ours do
 *
 * mallinfo() and its like are about an allocator with one heap and free lists;
 * the figures here are the nearest that make sense.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>

#include "../include/mafc.h"
#include "cache.h"
#include "central.h"
#include "classes.h"
#include "init.h"
#include "large.h"
#include "malloc.h"
#include "options.h"
#include "os.h"
#include "pages.h"
#include "probe.h"
#include "report.h"
#include "stats.h"

static uint64_t class_live(unsigned cls)
{
	struct mafc_class_count *c = &heap.meta->classes[cls];
	uint64_t frees = load(&c->frees), allocs = load(&c->allocs);

	return allocs > frees ? allocs - frees : 0;
}

void usage_get(struct usage *u)
{
	unsigned i;

	*u = (struct usage){ .small = 0 };
	if (!heap_start())
		return;
	for (i = 1; i < nclasses; i++)
		u->small += class_live(i) * classes[i].size;
	u->large = load(&heap.meta->large_live);
	u->free_large = large_dirty();
	u->held = ((size_t)pages_held() << PAGE_SHIFT) + u->large +
		  u->free_large;
}

MAFC_EXPORT int mafc_get_fragmentation(void)
{
	struct usage u;
	int percent;

	usage_get(&u);
	percent = heap.os ? heap.os->fragmentation() : 0;
	if (percent >= 0)
		return MIN(percent, 100);
	if (u.held <= u.small + u.large)
		return 0;
	return (u.held - u.small - u.large) * 100 / u.held;
}

MAFC_EXPORT int mafc_on_device(void)
{
	return heap_start() && heap.os->compacts;
}

MAFC_EXPORT int API(malloc_trim)(size_t pad);
int API(malloc_trim)(size_t pad)
{
	int saved = errno;
	size_t released;

	(void)pad;
	if (!heap_start())
		return 0;
	cache_trim();
	central_trim();
	released = pages_trim() + large_trim();
	probe(trim, pad, released);
	errno = saved;
	return released > 0;
}

MAFC_EXPORT struct mallinfo2 API(mallinfo2)(void);
struct mallinfo2 API(mallinfo2)(void)
{
	struct usage u;

	usage_get(&u);
	return (struct mallinfo2){
		.arena = u.held - u.large,
		.hblks = heap.meta ? load(&heap.meta->large_allocs) -
				     load(&heap.meta->large_frees) : 0,
		.hblkhd = u.large,
		.uordblks = u.small,
		.fordblks = u.held - u.large - MIN(u.small, u.held - u.large),
		.keepcost = u.free_large,
	};
}

static int to_int(size_t v)
{
	return MIN(v, (size_t)INT_MAX);
}

MAFC_EXPORT struct mallinfo API(mallinfo)(void);
struct mallinfo API(mallinfo)(void)
{
	struct mallinfo2 m = API(mallinfo2)();

	return (struct mallinfo){
		.arena = to_int(m.arena),
		.hblks = to_int(m.hblks),
		.hblkhd = to_int(m.hblkhd),
		.uordblks = to_int(m.uordblks),
		.fordblks = to_int(m.fordblks),
		.keepcost = to_int(m.keepcost),
	};
}

/* The parameters tune what does not exist here: accepted, without effect. */
MAFC_EXPORT int API(mallopt)(int param, int value);
int API(mallopt)(int param, int value)
{
	(void)param, (void)value;
	return 1;
}

#ifndef MAFC_PREFIX
struct mallinfo __libc_mallinfo(void)
	__attribute__((alias("mallinfo"), visibility("default"), nothrow, leaf));
int __libc_mallopt(int param, int value) ALIAS(mallopt);
#endif

static void stat_line(const char *name, size_t value)
{
	struct text t = { .len = 0 };

	text_str(&t, name);
	text_dec(&t, value);
	text_out(&t);
}

MAFC_EXPORT void API(malloc_stats)(void);
void API(malloc_stats)(void)
{
	struct usage u;

	usage_get(&u);
	report_note("heap on", mafc_on_device() ? "/dev/mafc" :
		    "anonymous memory");
	stat_line("in small blocks    = ", u.small);
	stat_line("in large blocks    = ", u.large);
	stat_line("system bytes       = ", u.held);
	stat_line("in use bytes       = ", u.small + u.large);
	stat_line("fragmentation (%)  = ", mafc_get_fragmentation());
}

__attribute__((destructor)) static void stats_at_exit(void)
{
	if (options.stats)
		API(malloc_stats)();
}

static void xml_size(FILE *f, unsigned cls)
{
	const struct mafc_class_count *c = &heap.meta->classes[cls];

	if (!load(&c->allocs))
		return;
	fprintf(f, "  <class size=\"%u\" live=\"%llu\" allocs=\"%llu\" "
		"frees=\"%llu\" requested=\"%llu\"/>\n", classes[cls].size,
		(unsigned long long)class_live(cls), load(&c->allocs),
		load(&c->frees), load(&c->requested));
}

/* The frame of glibc's document, with our own elements in it. */
MAFC_EXPORT int API(malloc_info)(int options, FILE *f);
int API(malloc_info)(int options, FILE *f)
{
	struct usage u;
	unsigned i;

	if (options || !heap_start())
		return options ? EINVAL : ENOMEM;
	usage_get(&u);
	fputs("<malloc version=\"1\">\n<heap nr=\"0\">\n <sizes>\n", f);
	for (i = 1; i < nclasses; i++)
		xml_size(f, i);
	fprintf(f, " </sizes>\n <total type=\"fast\" count=\"0\" size=\"0\"/>\n"
		" <total type=\"rest\" count=\"0\" size=\"%zu\"/>\n"
		" <system type=\"current\" size=\"%zu\"/>\n"
		" <system type=\"max\" size=\"%zu\"/>\n</heap>\n",
		u.held - MIN(u.held, u.small + u.large), u.held, u.held);
	fprintf(f, "<total type=\"mmap\" count=\"%llu\" size=\"%zu\"/>\n"
		"<system type=\"current\" size=\"%zu\"/>\n"
		"<fragmentation percent=\"%d\"/>\n</malloc>\n",
		load(&heap.meta->large_allocs) - load(&heap.meta->large_frees),
		u.large, u.held, mafc_get_fragmentation());
	return 0;
}
