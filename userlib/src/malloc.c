// SPDX-License-Identifier: Apache-2.0
/*
 * malloc.c - malloc, free and their like
 * Valgrind and others replace the functions that they know.  Those that they may not know call
 * these, so that no block gets past them.
 */
#include "cache.h"
#include "large.h"
#include "program.h"
#include "small.h"

static void *fail(int error)
{
	errno = error;
	return NULL;
}

/* The program gets @p, whole pages, or NULL. */
static inline void *whole(void *p)
{
	if (unlikely(sites) && p && sites_choose(NULL, &p, 1, large_size(p)))
		sites_stack(p);
	return p;
}

/* Of blocks of @size bytes; 0: they are small, or go without caches. */
static inline unsigned medium_class(size_t size)
{
	return size > SMALL_MAX && size <= MEDIUM_MAX ? class_of_pages[pages_of(size)] : 0;
}

/* There was no address space for @size bytes: is there now? */
static bool make_room(size_t size)
{
	if (size > heap.large_bytes)
		return false;
	cache_trim();
	return true;
}

static void *alloc_large(size_t size, size_t align, bool zero)
{
	unsigned cls;
	void *p;

	if (unlikely(size > PTRDIFF_MAX || !heap_start()))
		return fail(ENOMEM);
	cls = medium_class(size);
	if (cls)
		size = classes[cls].size;
	else if (size > SMALL_MAX)
		/* What differs little in size can take each other's place. */
		size = round_up(size, MIN(1UL << HUGE_SHIFT, 1UL << (59 - __builtin_clzl(size))));
	p = large_alloc(size, align, zero);
	if (unlikely(!p) && make_room(size))
		p = large_alloc(size, align, zero);
	return likely(p) ? whole(p) : fail(ENOMEM);
}

static void *alloc_cached(unsigned cls, size_t size)
{
	void *p = cache_pop(cls);

	return likely(p) ? p : cache_refill(cls, size);
}

/* From the cache, where there is a class; if @at_hand, only from there. */
static void *alloc_medium(size_t size, bool at_hand)
{
	unsigned cls = medium_class(size);
	void *p = !cls ? NULL : at_hand ? cache_pop(cls) : alloc_cached(cls, size);

	if (likely(p))
		large_mark(p, classes[cls].pages, true);
	return whole(p);
}

static void noinline *alloc_slow(size_t size)
{
	void *p = NULL;

	if (likely(heap_start()))
		p = size > SMALL_MAX ? alloc_medium(size, false) :
				       cache_refill(class_of(size), size);
	/* Also when the small region is full. */
	if (unlikely(!p))
		return alloc_large(size, GRAIN, false);
	if (unlikely(options.debug))
		debug_new(p, size);
	return p;
}

static inline void *alloc(size_t size)
{
	void *p;

	if (likely(size <= SMALL_MAX)) {
		p = cache_pop(class_of(size));
		if (likely(p))
			return p;
	}
	return alloc_slow(size);
}

/* Blocks of the right length may wait in the cache. */
static void release_large(void *p)
{
	size_t size = large_size(p);
	unsigned cls = medium_class(size);

	if (unlikely(sites))
		sites_free(NULL, p);
	if (!cls || classes[cls].size != size) {
		large_give(&p, 1);
		return;
	}
	large_mark(p, classes[cls].pages, false);
	if (!cache_push(cls, p))
		cache_overflow(cls, p);
}

static size_t block_size(const void *p)
{
	if (in_small(p))
		return classes[class_at(p)].size;
	return in_large(p) ? large_size(p) : 0;
}

static void noinline release_slow(void *p)
{
	int saved = errno;
	unsigned cls;

	if (!p)
		return;
	if (unlikely(options.debug) && (in_small(p) ? span_holds(p) : block_size(p) > 0)) {
		p = debug_keep(p, block_size(p));
		if (!p)
			goto out;
	}
	if (in_small(p)) {
		cls = class_at(p);
		if (likely(cls))
			cache_overflow(cls, p);
		else
			report_misuse("free of what is no block", p);
	} else if (in_large(p)) {
		release_large(p);
	} else {
		report_misuse("free of memory that is not from malloc", p);
	}
out:
	errno = saved;
}

static inline void release(void *p)
{
	if (likely(in_small(p)) && likely(cache_push(load(&heap.page_class[small_page(p)]), p)))
		return;
	release_slow(p);
}

void *alloc_aligned(size_t align, size_t size)
{
	unsigned cls;
	void *p;

	if (align <= GRAIN)
		return alloc(size);
	if (unlikely(!heap_start()))
		return fail(ENOMEM);
	cls = class_aligned(size, align);
	p = cls ? alloc_cached(cls, size) : align <= PAGE_SIZE ? alloc_medium(size, false) : NULL;
	return likely(p) ? p : alloc_large(size, align, false);
}

MAFC_EXPORT void *API(malloc)(size_t size)
{
	return alloc(size);
}

MAFC_EXPORT void noinline API(free)(void *p)
{
	release(p);
}

MAFC_EXPORT void *API(calloc)(size_t n, size_t size)
{
	size_t bytes;
	void *p;

	if (unlikely(__builtin_mul_overflow(n, size, &bytes)))
		return fail(ENOMEM);
	p = bytes > SMALL_MAX ? alloc_medium(bytes, true) : alloc(bytes);
	if (likely(p))
		return memset(p, 0, bytes);
	return bytes > SMALL_MAX ? alloc_large(bytes, GRAIN, true) : NULL;
}

/* Worth keeping: what fits, and leaves less than a quarter unused. */
static bool keep_block(size_t have, size_t size)
{
	return size <= have && size >= have - have / 4;
}

static void noinline *resize(void *p, size_t size)
{
	size_t have = block_size(p);
	void *new;

	if (unlikely(!have)) {
		report_misuse("realloc of what is no block", p);
		return fail(ENOMEM);
	}
	if (in_small(p) && keep_block(have, size))
		return p;	/* realloc() could not see that */
	if (size > SMALL_MAX && in_large(p)) {
		if (pages_of(size) << PAGE_SHIFT == have)
			return p;
		if (unlikely(sites))
			sites_free(NULL, p);
		new = large_resize(p, size) ? p : large_move(p, size);
		if (unlikely(!new) && make_room(size))
			new = large_move(p, size);
		return likely(new) ? whole(new) : fail(ENOMEM);
	}
	new = alloc(size);
	if (unlikely(!new))
		return size <= have ? p : NULL;
	memcpy(new, p, MIN(size, have));
	release(p);
	return new;
}

MAFC_EXPORT void noinline *API(realloc)(void *p, size_t size)
{
	if (!p)
		return alloc(size);
	if (!size) {
		release(p);
		return NULL;
	}
	if (in_small(p) && keep_block(classes[load(&heap.page_class[small_page(p)])].size, size))
		return p;
	return resize(p, size);
}

MAFC_EXPORT void *API(reallocarray)(void *p, size_t n, size_t size)
{
	size_t bytes;

	return __builtin_mul_overflow(n, size, &bytes) ? fail(ENOMEM) : API(realloc)(p, bytes);
}

#define FREE(name, ...) \
	MAFC_EXPORT void API(name)(void *p, ##__VA_ARGS__) { API(free)(p); }

FREE(cfree)
FREE(free_sized, size_t size UNUSED)
FREE(free_aligned_sized, size_t align UNUSED, size_t size UNUSED)

static bool power_of_two(size_t n)
{
	return n && !(n & (n - 1));
}

MAFC_EXPORT void *API(memalign)(size_t align, size_t size)
{
	if (align > SIZE_MAX / 2 + 1)
		return fail(EINVAL);
	if (!power_of_two(align) && align > GRAIN)
		align = 1UL << (64 - __builtin_clzl(align));
	return alloc_aligned(align, size);
}

MAFC_EXPORT void *API(aligned_alloc)(size_t align, size_t size)
{
	return power_of_two(align) ? alloc_aligned(align, size) : fail(EINVAL);
}

MAFC_EXPORT int API(posix_memalign)(void **p, size_t align, size_t size)
{
	void *new;

	if (!power_of_two(align) || align % sizeof(void *))
		return EINVAL;
	new = alloc_aligned(align, size);
	if (!new)
		return ENOMEM;
	*p = new;
	return 0;
}

MAFC_EXPORT void noinline *API(valloc)(size_t size)
{
	return alloc_aligned(PAGE_SIZE, size);
}

MAFC_EXPORT void *API(pvalloc)(size_t size)
{
	return size > PTRDIFF_MAX ? fail(ENOMEM) : API(valloc)(round_up(size, PAGE_SIZE));
}

MAFC_EXPORT size_t API(malloc_usable_size)(void *p)
{
	return p ? block_size(p) : 0;
}

#ifndef MAFC_PREFIX
void *__libc_malloc(size_t size) ALIAS(malloc);
void *__libc_calloc(size_t n, size_t size) ALIAS(calloc);
void *__libc_realloc(void *p, size_t size) ALIAS(realloc);
void *__libc_reallocarray(void *p, size_t n, size_t size) ALIAS(reallocarray);
void __libc_free(void *p) ALIAS(free);
void __libc_cfree(void *p) ALIAS(cfree);
void *__libc_memalign(size_t align, size_t size) ALIAS(memalign);
void *__libc_valloc(size_t size) ALIAS(valloc);
void *__libc_pvalloc(size_t size) ALIAS(pvalloc);
int __posix_memalign(void **p, size_t align, size_t size) ALIAS(posix_memalign);
#endif
