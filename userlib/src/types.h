/* SPDX-License-Identifier: Apache-2.0 */
/*
 * types.h - the nouns of the library, and what all of its files share
 *
 * page      4 KiB of address space, numbered from the start of its region
 * region    one of the heap's mappings: meta, small, large
 * block     what malloc returns: no header, and never written to by us.  Where a free one was, the
 *           kernel may have put another span's live block
 * class     a block size, 1 .. nclasses - 1; 0: no small block
 * span      a run of small pages with blocks of one class; struct mafc_span of the uapi
 * root      the span in whose bitmap a block is accounted: its own, or that this was meshed into
 * bin       a thread's stack of blocks of one class that are ready for use
 * cache     a thread's bins
 * central   what all threads share of a class: lists of spans with free blocks
 * extent    a run of large pages, in use or free
 * reserve   address space of which a growing part, from the start, is usable
 *
 * Order of locks:
 *   idle_lock -> central.lock (class by class, ascending) -> pages_lock
 *   idle_lock -> large_lock
 *   pool_lock, debug_lock and sites_lock are leaves
 */
#ifndef MAFC_TYPES_H
#define MAFC_TYPES_H
#define _GNU_SOURCE	/* own headers come first */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <linux/mafc.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>

#define PAGE_SHIFT	12
#define PAGE_SIZE	(1UL << PAGE_SHIFT)
#define GRAIN		16UL			/* of block sizes, and the least alignment */
#define SMALL_MAX	16384UL			/* the largest small block */
#define MEDIUM_MAX	((size_t)512 << 10)	/* the largest block with a class */
#define NCLASSES	104
#define BIN_MAX		255			/* blocks in a bin */
#define HUGE_SHIFT	21			/* a 2 MiB mapping */
#define HUGE_PAGES	(1U << (HUGE_SHIFT - PAGE_SHIFT))

#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x)	__builtin_expect(!!(x), 0)
#define noinline	__attribute__((noinline))
#define UNUSED		__attribute__((unused))
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)	((a) < (b) ? (a) : (b))
#define MAX(a, b)	((a) > (b) ? (a) : (b))
#define round_up(x, to)	(((x) + (to) - 1) & ~((__typeof__(x))(to) - 1))
#define pages_of(bytes)	(((bytes) + PAGE_SIZE - 1) >> PAGE_SHIFT)

/* Of what other threads or the kernel see.  The last four are full barriers. */
#define load(p)			__atomic_load_n(p, __ATOMIC_RELAXED)
#define load_acquire(p)		__atomic_load_n(p, __ATOMIC_ACQUIRE)
#define store(p, v)		__atomic_store_n(p, v, __ATOMIC_RELAXED)
#define store_release(p, v)	__atomic_store_n(p, v, __ATOMIC_RELEASE)
#define count_add(p, n)		__atomic_fetch_add(p, n, __ATOMIC_RELAXED)
#define bits_set(p, mask)	__atomic_fetch_or(p, mask, __ATOMIC_SEQ_CST)
#define bits_clear(p, mask)	__atomic_fetch_and(p, ~(mask), __ATOMIC_SEQ_CST)
#define bits_put(p, mask, on)	((void)((on) ? bits_set(p, mask) : bits_clear(p, mask)))
#define exchange_if(p, old, new) \
	__atomic_compare_exchange_n(p, old, new, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)

#define MAFC_EXPORT	__attribute__((visibility("default")))
/* Variables of other files, reached without the global offset table. */
#define INTERNAL	__attribute__((visibility("hidden")))
/* With MAFC_PREFIX tests can link the library beside a sanitizer's malloc. */
#ifdef MAFC_PREFIX
#define API(name)	mafc_##name
#else
#define API(name)	name
#endif
#if __has_attribute(copy)
#define ALIAS(of)	__attribute__((alias(#of), visibility("default"), copy(of)))
#else
#define ALIAS(of)	__attribute__((alias(#of), visibility("default")))
#endif

/* A mutex that the child of a fork can set to 0; not atomic while there is one thread. */
struct lock {
	uint32_t word;	/* 0 free, 1 held, 2 held and somebody may be asleep on it */
};

void lock_slow(struct lock *l);
void lock_wake(struct lock *l);

static inline bool lock_try(struct lock *l)
{
	uint32_t free = 0;

	if (__libc_single_threaded)
		return !l->word && (l->word = 1);
	return __atomic_compare_exchange_n(&l->word, &free, 1, false, __ATOMIC_ACQUIRE,
					   __ATOMIC_RELAXED);
}

static inline void lock_take(struct lock *l)
{
	if (unlikely(!lock_try(l)))
		lock_slow(l);
}

static inline void lock_drop(struct lock *l)
{
	if (__libc_single_threaded)
		l->word = 0;
	else if (unlikely(__atomic_exchange_n(&l->word, 0, __ATOMIC_RELEASE) == 2))
		lock_wake(l);
}

/* In the child of a fork: the threads that may have waited do not exist. */
static inline void lock_reset(struct lock *l)
{
	store(&l->word, 0);
}

/* Where everything is; constant once heap_started is set. */
struct heap {
	uintptr_t small;		/* start of the small region */
	size_t small_bytes;
	uint8_t *page_class;		/* by small page, 0: see class_at(); small, for free() */
	struct mafc_span *spans;	/* by small page */
	uintptr_t large;
	size_t large_bytes;
	uint64_t *small_map;		/* page maps: a bit per page */
	uint64_t *large_map;
	uint64_t *small_dirty;		/* small pages that hold memory, where nobody compacts */
	struct extent *extents;		/* by large page */
	struct mafc_meta *meta;
	const struct os *os;
};

/* Constants of a class. */
struct size_class {
	uint32_t size;		/* bytes per block */
	uint16_t pages;		/* per span */
	uint16_t blocks;	/* per span */
	uint32_t reciprocal;	/* 2^32 / size, rounded up: divides an offset within the span */
	uint16_t bin_max;	/* most blocks that a bin may hold */
	uint32_t cost;		/* what one counts against a cache's budget, bytes */
};

/*
 * Classes 1 .. nclasses - 1 are of small blocks, nclasses .. apart - 1 of medium ones: whole pages
 * of the large region, with a class for the sake of the caches only.  The first APART classes have
 * so many blocks in a span that meshing cannot help them.  They have a second number each, from
 * apart on: malloc pops from that bin, free pushes to the first, cache.c decides between.
 */
#define APART 3

extern INTERNAL unsigned nclasses, apart, all_classes;
extern INTERNAL struct heap heap;
extern INTERNAL struct size_class classes[NCLASSES];
extern INTERNAL uint8_t class_of_grains[SMALL_MAX / GRAIN + 1];
extern INTERNAL uint8_t class_of_pages[(MEDIUM_MAX >> PAGE_SHIFT) + 1];

/* @medium_max is MEDIUM_MAX, or half of it where waiting blocks hold memory, or too much space. */
void classes_init(size_t medium_max);
/* Class of blocks of at least @size bytes, aligned to @align; 0: none. */
unsigned class_aligned(size_t size, size_t align);

/* The class that serves @size bytes, at most SMALL_MAX. */
static inline unsigned class_of(size_t size)
{
	return class_of_grains[(size + GRAIN - 1) / GRAIN];
}

/* The class in whose spans the blocks of class @cls lie. */
static inline unsigned class_own(unsigned cls)
{
	return cls < apart ? cls : cls - apart + 1;
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
