/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * For mimalloc's tests: its own names for what every malloc has.
 *
 * Its first-class heaps are nothing here: blocks of one are ordinary blocks. Alignment at an offset is not to
 * be had at all.
 */
#ifndef PEERS_MIMALLOC_H
#define PEERS_MIMALLOC_H

#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct mi_heap_s mi_heap_t;
enum { mi_option_verbose };

#define mi_option_disable(option) ((void)(option))
#define mi_malloc malloc
#define mi_calloc calloc
#define mi_realloc realloc
#define mi_reallocarray reallocarray
#define mi_free free
#define mi_memalign memalign
#define mi_posix_memalign posix_memalign
#define mi_usable_size malloc_usable_size
#define mi_realpath realpath
#define mi_malloc_aligned(size, align) memalign(align, size)
#define mi_malloc_aligned_at(size, align, offset) ((offset) % (align) ? NULL : memalign(align, size))
#define mi_collect(force) malloc_trim(0)
#define mi_stats_print(out) malloc_stats()
#define mi_stats_reset() ((void)0)
#define mi_debug_show_arenas() ((void)0)

#define mi_heap_new() ((mi_heap_t *)NULL)
#define mi_heap_malloc_tp(heap, type) ((void)(heap), (type *)malloc(sizeof(type)))
#define mi_heap_malloc_aligned(heap, size, align) ((void)(heap), memalign(align, size))
#define mi_heap_contains_block(heap, p) ((void)(heap), malloc_usable_size(p) > 0)
#define mi_heap_destroy(heap) ((void)(heap))
#define mi_heap_delete(heap) ((void)(heap))

static inline void *mi_zalloc_aligned(size_t size, size_t align)
{
	void *p = memalign(align, size);

	return p ? memset(p, 0, size) : p;
}

#endif
