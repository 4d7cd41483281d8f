// SPDX-License-Identifier: Apache-2.0
/* stats.c - what programs ask about the heap; library.rst says what the figures are */
#include "../include/mafc.h"
#include "cache.h"
#include "large.h"
#include "program.h"
#include "small.h"
#include <limits.h>
#include <malloc.h>
#include <stdio.h>

/* Of the whole heap, in bytes. */
struct usage {
	size_t small;		/* in small blocks, those in caches included */
	size_t large;		/* in large blocks */
	size_t held;		/* from the system, about; on the device the kernel knows better */
	size_t free_large;	/* in free extents that may hold memory */
	size_t blocks;		/* large blocks, by number */
};

static uint64_t class_live(unsigned cls)
{
	struct mafc_class_count *c = &heap.meta->classes[cls];
	uint64_t frees = load(&c->frees), allocs = load(&c->allocs);

	return allocs > frees ? allocs - frees : 0;
}

static struct usage usage_get(void)
{
	struct usage u = { .small = 0 };
	unsigned i;

	if (!heap_start())
		return u;
	for (i = 1; i < nclasses; i++)
		u.small += class_live(i) * classes[i].size;
	u.large = load(&heap.meta->large_live);
	u.free_large = (size_t)load(&extents_dirty) << PAGE_SHIFT;
	u.blocks = load(&heap.meta->large_allocs) - load(&heap.meta->large_frees);
	u.held = ((size_t)pages_held() << PAGE_SHIFT) + u.large + u.free_large;
	return u;
}

MAFC_EXPORT int mafc_get_fragmentation(void)
{
	struct usage u = usage_get();
	int percent = heap.os && heap.os->fragmentation ? heap.os->fragmentation() : -1;

	if (percent >= 0)
		return MIN(percent, 100);
	return u.held > u.small + u.large ? (u.held - u.small - u.large) * 100 / u.held : 0;
}

MAFC_EXPORT int mafc_on_device(void)
{
	return heap_start() && heap.os->compacts;
}

MAFC_EXPORT int API(malloc_trim)(size_t pad)
{
	int saved = errno;
	size_t released;

	if (!heap_start())
		return 0;
	cache_trim();
	central_trim();
	released = pages_trim() + large_trim();
	probe(trim, pad, released);
	errno = saved;
	return released > 0;
}

MAFC_EXPORT struct mallinfo2 API(mallinfo2)(void)
{
	struct usage u = usage_get();

	return (struct mallinfo2){
		.arena = u.held - u.large,
		.hblks = u.blocks,
		.hblkhd = u.large,
		.uordblks = u.small,
		.fordblks = u.held - u.large - MIN(u.small, u.held - u.large),
		.keepcost = u.free_large,
	};
}

#define INT(field) .field = MIN(m.field, (size_t)INT_MAX)

MAFC_EXPORT struct mallinfo API(mallinfo)(void)
{
	struct mallinfo2 m = API(mallinfo2)();

	return (struct mallinfo){ INT(arena), INT(hblks), INT(hblkhd), INT(uordblks),
				  INT(fordblks), INT(keepcost) };
}

/* The parameters tune what does not exist here: accepted, without effect. */
MAFC_EXPORT int API(mallopt)(int param UNUSED, int value UNUSED)
{
	return 1;
}

#ifndef MAFC_PREFIX
struct mallinfo __libc_mallinfo(void)
	__attribute__((alias("mallinfo"), visibility("default"), nothrow, leaf));
int __libc_mallopt(int param, int value) ALIAS(mallopt);
#endif

static void stat_line(const char *name, size_t value)
{
	char digits[DIGITS];

	report_line(name, report_number(digits, value, 10), NULL);
}

MAFC_EXPORT void API(malloc_stats)(void)
{
	struct usage u = usage_get();

	report_note("heap on", mafc_on_device() ? "/dev/mafc" : "anonymous memory");
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

/* The frame of glibc's document, with our own elements in it. */
MAFC_EXPORT int API(malloc_info)(int options, FILE *f)
{
	const struct mafc_class_count *c;
	struct usage u;
	unsigned i;

	if (options || !heap_start())
		return options ? EINVAL : ENOMEM;
	u = usage_get();
	fputs("<malloc version=\"1\">\n<heap nr=\"0\">\n <sizes>\n", f);
	for (i = 1, c = &heap.meta->classes[1]; i < nclasses; i++, c++)
		if (load(&c->allocs))
			fprintf(f, "  <class size=\"%u\" live=\"%llu\" allocs=\"%llu\" "
				"frees=\"%llu\" requested=\"%llu\"/>\n", classes[i].size,
				(unsigned long long)class_live(i), load(&c->allocs),
				load(&c->frees), load(&c->requested));
	fprintf(f, " </sizes>\n <total type=\"fast\" count=\"0\" size=\"0\"/>\n"
		" <total type=\"rest\" count=\"0\" size=\"%zu\"/>\n"
		" <system type=\"current\" size=\"%zu\"/>\n"
		" <system type=\"max\" size=\"%zu\"/>\n</heap>\n"
		"<total type=\"mmap\" count=\"%zu\" size=\"%zu\"/>\n"
		"<system type=\"current\" size=\"%zu\"/>\n"
		"<fragmentation percent=\"%d\"/>\n</malloc>\n",
		u.held - MIN(u.held, u.small + u.large), u.held, u.held,
		u.blocks, u.large, u.held, mafc_get_fragmentation());
	return 0;
}
