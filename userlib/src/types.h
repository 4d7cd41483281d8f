/* SPDX-License-Identifier: Apache-2.0 */
/*
 * types.h - the nouns of the library, and the structures that carry them
 *
 * page      4 KiB of address space.  Numbered from the start of its region.
 * region    one of the heap's mappings: meta, small, large.  On /dev/mafc or on
 *           anonymous memory: the backend (os.h) is all that differs.
 * block     what malloc returns.  No header, and never written to by us: when
 *           a block is free, the kernel may have put another span's live block
 *           into the same place.
 * class     a block size, 1 .. nclasses - 1.  0 stands for "no small block".
 * span      a run of small pages with blocks of one class.  Its descriptor,
 *           struct mafc_span of the uapi, is shared with the kernel.
 * root      the span in whose bitmap a block is accounted: its own span, or the
 *           one that the kernel meshed its span into.
 * bin       a thread's stack of blocks of one class that are ready for use.
 * cache     a thread's bins.
 * central   what all threads share of a class: lists of spans with free blocks.
 * extent    a run of large pages, in use or free.
 * reserve   address space of which a growing part, from the start, is usable.
 *
 * Life of a small block: its page is set in the page map (pages.c), the page
 * becomes a span (span.c), a refill sets the block's bit and moves its address
 * into a bin (central.c, cache.c), malloc pops it, free pushes it back to the
 * bin of whichever thread frees it, a flush clears its bit.
 *
 * Order of locks; each is named once, where it is defined:
 *   idle_lock -> central.lock (class by class, ascending) -> pages_lock
 *   idle_lock -> large_lock
 *   pool_lock is a leaf: nothing is locked beneath it.
 */
#ifndef MAFC_TYPES_H
#define MAFC_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/mafc.h>

#define PAGE_SHIFT	12
#define PAGE_SIZE	(1UL << PAGE_SHIFT)
#define GRAIN		16UL	/* of block sizes, and the least alignment */
#define SMALL_MAX	16384UL	/* the largest small block */
#define NCLASSES	MAFC_CLASSES_MAX
#define BIN_MAX		255	/* blocks in a bin */
#define HUGE_SHIFT	21	/* a 2 MiB mapping */
#define HUGE_PAGES	(1U << (HUGE_SHIFT - PAGE_SHIFT))

#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x)	__builtin_expect(!!(x), 0)
#define noinline	__attribute__((noinline))
#define MIN(a, b)	((a) < (b) ? (a) : (b))
#define MAX(a, b)	((a) > (b) ? (a) : (b))
#define round_up(x, to)	(((x) + (to) - 1) & ~((__typeof__(x))(to) - 1))
#define pages_of(bytes)	(((bytes) + PAGE_SIZE - 1) >> PAGE_SHIFT)

/* Shared with other threads or with the kernel; the order is said each time. */
#define load(p)			__atomic_load_n(p, __ATOMIC_RELAXED)
#define load_acquire(p)		__atomic_load_n(p, __ATOMIC_ACQUIRE)
#define store(p, v)		__atomic_store_n(p, v, __ATOMIC_RELAXED)
#define store_release(p, v)	__atomic_store_n(p, v, __ATOMIC_RELEASE)
#define count_add(p, n)		__atomic_fetch_add(p, n, __ATOMIC_RELAXED)

/*
 * The exported names.  With MAFC_PREFIX they are mafc_malloc and so on, so that
 * tests can link the library under a sanitizer that brings its own malloc.
 */
#define MAFC_EXPORT __attribute__((visibility("default")))
/* For variables of other files: reached without the global offset table. */
#define INTERNAL __attribute__((visibility("hidden")))
#ifdef MAFC_PREFIX
#define API(name) mafc_##name
#else
#define API(name) name
#endif

/**
 * struct heap - where everything is; constant once heap_ready() holds
 * @small: start of the small region
 * @small_bytes: its size
 * @page_class: class of the span at each small page, 0 where there was never
 *	one; a byte per page, so that free() finds it in the cache
 * @spans: descriptors, by small page
 * @large: start of the large region
 * @large_bytes: its size
 * @small_map: page map of the small region, one bit per page
 * @large_map: page map of the large region
 * @meta: header of the meta region
 * @os: the backend
 */
struct heap {
	uintptr_t small;
	size_t small_bytes;
	uint8_t *page_class;
	struct mafc_span *spans;
	uintptr_t large;
	size_t large_bytes;
	uint64_t *small_map;
	uint64_t *large_map;
	struct mafc_meta *meta;
	const struct os *os;
};

/**
 * struct size_class - constants of a class; written once, before it is used
 * @size: bytes per block
 * @pages: pages per span
 * @blocks: blocks per span
 * @reciprocal: 2^32 / size, rounded up: divides an offset within the span
 * @bin_max: most blocks that a bin of this class may hold
 */
struct size_class {
	uint32_t size;
	uint16_t pages;
	uint16_t blocks;
	uint32_t reciprocal;
	uint16_t bin_max;
};

extern INTERNAL struct heap heap;
extern INTERNAL struct size_class classes[NCLASSES];
extern INTERNAL uint8_t class_of_grains[SMALL_MAX / GRAIN + 1];

/* The class that serves @size bytes, at most SMALL_MAX. */
static inline unsigned class_of(size_t size)
{
	return class_of_grains[(size + GRAIN - 1) / GRAIN];
}

static inline bool in_small(const void *p)
{
	return (uintptr_t)p - heap.small < heap.small_bytes;
}

static inline bool in_large(const void *p)
{
	return (uintptr_t)p - heap.large < heap.large_bytes;
}

/* Number of the small page that @p lies in. */
static inline uint32_t small_page(const void *p)
{
	return ((uintptr_t)p - heap.small) >> PAGE_SHIFT;
}

static inline uint32_t large_page(const void *p)
{
	return ((uintptr_t)p - heap.large) >> PAGE_SHIFT;
}

/* The builtin would call a table-driven function on most machines. */
static inline unsigned count_bits(uint64_t x)
{
	x -= x >> 1 & 0x5555555555555555ULL;
	x = (x & 0x3333333333333333ULL) + (x >> 2 & 0x3333333333333333ULL);
	x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return (x * 0x0101010101010101ULL) >> 56;
}

/* xorshift64*: decides orders only, so that quality matters little. */
static inline uint64_t random_next(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 0x2545f4914f6cdd1dULL;
}

#endif
