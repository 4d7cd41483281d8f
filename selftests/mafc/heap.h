/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * heap.h - a heap on /dev/mafc without the library
 *
 * The least that a user of uapi/mafc.h must do, so that the tests see the
 * kernel's side alone and can put spans into any state.
 */
#ifndef MAFC_SELFTEST_HEAP_H
#define MAFC_SELFTEST_HEAP_H

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../uapi/mafc.h"

#define PAGE 4096UL

struct heap {
	int fd;
	struct mafc_setup setup;
	char *meta;
	char *small;
	char *large;
	struct mafc_meta *header;
	struct mafc_span *span;
	_Atomic uint64_t *small_map;
	_Atomic uint64_t *large_map;
};

/* Returns 0, or an errno value. */
static inline int heap_map(struct heap *h)
{
	const int prot = PROT_READ | PROT_WRITE;

	h->meta = mmap(NULL, h->setup.meta_bytes, prot, MAP_SHARED, h->fd,
		       MAFC_OFF_META);
	if (h->meta == MAP_FAILED)
		return errno;
	h->small = mmap(NULL, h->setup.small_pages * PAGE, prot, MAP_SHARED,
			h->fd, MAFC_OFF_SMALL);
	if (h->small == MAP_FAILED)
		return errno;
	h->large = mmap(NULL, h->setup.large_pages * PAGE, prot, MAP_SHARED,
			h->fd, MAFC_OFF_LARGE);
	if (h->large == MAP_FAILED)
		return errno;
	h->header = (void *)h->meta;
	h->span = (void *)(h->meta + h->setup.spans);
	h->small_map = (void *)(h->meta + h->setup.small_map);
	h->large_map = (void *)(h->meta + h->setup.large_map);
	return 0;
}

/* A heap of @pages small and as many large pages; 0 is the least there can be. */
static inline int heap_open(struct heap *h, uint32_t pages)
{
	memset(h, 0, sizeof(*h));
	h->fd = open("/dev/mafc", O_RDWR | O_CLOEXEC);
	if (h->fd < 0)
		return errno;
	h->setup.size = sizeof(h->setup);
	h->setup.small_pages = pages ? pages : MAFC_REGION_ALIGN;
	h->setup.large_pages = h->setup.small_pages;
	if (ioctl(h->fd, MAFC_IOC_SETUP, &h->setup))
		return errno;
	return heap_map(h);
}

static inline void heap_close(struct heap *h)
{
	if (h->large)
		munmap(h->large, h->setup.large_pages * PAGE);
	if (h->small)
		munmap(h->small, h->setup.small_pages * PAGE);
	if (h->meta)
		munmap(h->meta, h->setup.meta_bytes);
	close(h->fd);
}

static inline void map_set(_Atomic uint64_t *map, uint32_t page, uint32_t n)
{
	for (; n--; page++)
		atomic_fetch_or(&map[page / 64], 1ULL << (page % 64));
}

static inline void map_clear(_Atomic uint64_t *map, uint32_t page, uint32_t n)
{
	for (; n--; page++)
		atomic_fetch_and(&map[page / 64], ~(1ULL << (page % 64)));
}

static inline bool map_test(_Atomic uint64_t *map, uint32_t page)
{
	return map[page / 64] >> (page % 64) & 1;
}

/* Takes one page if nobody has it. */
static inline bool map_claim(_Atomic uint64_t *map, uint32_t page)
{
	uint64_t bit = 1ULL << (page % 64);

	return !(atomic_fetch_or(&map[page / 64], bit) & bit);
}

static inline _Atomic uint32_t *span_state(struct heap *h, uint32_t page)
{
	return (_Atomic uint32_t *)&h->span[page].state;
}

/* Makes a span at @page, ATTACHED, without allocated blocks. */
static inline void span_make(struct heap *h, uint32_t page, uint32_t block_size,
			     uint32_t nblocks, uint32_t npages)
{
	struct mafc_span *s = &h->span[page];
	uint32_t i;

	map_set(h->small_map, page, npages);
	memset(s->bitmap, 0, sizeof(s->bitmap));
	s->canonical = page;
	s->block_size = block_size;
	s->nblocks = nblocks;
	s->npages = npages;
	for (i = 1; i < npages; i++) {
		h->span[page + i].head = i;
		atomic_store(span_state(h, page + i), MAFC_SPAN_TAIL);
	}
	atomic_store(span_state(h, page), MAFC_SPAN_ATTACHED);
}

static inline unsigned int span_live(const struct heap *h, uint32_t page)
{
	const __u64 *b = h->span[page].bitmap;

	return __builtin_popcountll(b[0]) + __builtin_popcountll(b[1]) +
	       __builtin_popcountll(b[2]) + __builtin_popcountll(b[3]);
}

static inline unsigned int span_is(struct heap *h, uint32_t page)
{
	return MAFC_SPAN_STATE(atomic_load(span_state(h, page)));
}

static inline char *block_at(struct heap *h, uint32_t page, uint32_t block)
{
	return h->small + page * PAGE + (size_t)block * h->span[page].block_size;
}

static inline char *block_alloc(struct heap *h, uint32_t page, uint32_t block)
{
	atomic_fetch_or((_Atomic uint64_t *)&h->span[page].bitmap[block / 64],
			1ULL << (block % 64));
	return block_at(h, page, block);
}

/* The span that holds the blocks of the span at @page. */
static inline uint32_t span_root(struct heap *h, uint32_t page)
{
	uint32_t c;

	while ((c = atomic_load((_Atomic uint32_t *)&h->span[page].canonical)) != page)
		page = c;
	return page;
}

/* As the library frees; false is a double free. */
static inline bool block_free(struct heap *h, uint32_t page, uint32_t block)
{
	uint64_t bit = 1ULL << (block % 64);
	uint32_t root = span_root(h, page), next;

	for (;;) {
		if (atomic_fetch_and((_Atomic uint64_t *)&h->span[root].bitmap[block / 64],
				     ~bit) & bit)
			return true;
		next = span_root(h, page);
		if (next == root)
			return false;
		root = next;
	}
}

/* ATTACHED -> IDLE, flags kept. */
static inline bool span_detach(struct heap *h, uint32_t page)
{
	uint32_t old = atomic_load(span_state(h, page));

	do {
		if (MAFC_SPAN_STATE(old) != MAFC_SPAN_ATTACHED)
			return false;
	} while (!atomic_compare_exchange_weak(span_state(h, page), &old,
					       (old & ~0xffU) | MAFC_SPAN_IDLE));
	return true;
}

/* IDLE -> ATTACHED, flags kept. */
static inline bool span_attach(struct heap *h, uint32_t page)
{
	uint32_t old = atomic_load(span_state(h, page));

	do {
		if (MAFC_SPAN_STATE(old) != MAFC_SPAN_IDLE)
			return false;
	} while (!atomic_compare_exchange_weak(span_state(h, page), &old,
					       (old & ~0xffU) | MAFC_SPAN_ATTACHED));
	return true;
}

/* May the compactor's kthread work on the heap? */
static inline int heap_policy(struct heap *h, bool compact)
{
	struct mafc_policy p = {
		.size = sizeof(p),
		.set = MAFC_POLICY_COMPACT,
		.compact = compact,
	};

	return ioctl(h->fd, MAFC_IOC_POLICY, &p) ? errno : 0;
}

static inline int heap_compact_once(struct heap *h, uint32_t flags,
				    struct mafc_compact *out)
{
	*out = (struct mafc_compact){ .size = sizeof(*out), .flags = flags };
	return ioctl(h->fd, MAFC_IOC_COMPACT, out) ? errno : 0;
}

/* Goes on after signals; task work of io_uring is one to the kernel. */
static inline int heap_compact(struct heap *h, uint32_t flags,
			       struct mafc_compact *out)
{
	struct mafc_compact c, sum = { .size = sizeof(sum), .flags = flags };
	int err;

	do {
		err = heap_compact_once(h, flags, &c);
		sum.meshed += c.meshed;
		sum.moved += c.moved;
		sum.dropped += c.dropped;
		sum.released += c.released;
	} while (err == EINTR);
	if (out)
		*out = sum;
	return err;
}

static inline int heap_release(struct heap *h, uint64_t page, uint64_t n,
			       uint64_t *released)
{
	struct mafc_release r = {
		.size = sizeof(r), .offset = page * PAGE, .length = n * PAGE,
	};
	int err = ioctl(h->fd, MAFC_IOC_RELEASE, &r) ? errno : 0;

	if (released)
		*released = r.released;
	return err;
}

static inline int heap_remap(struct heap *h, uint64_t from, uint64_t to,
			     uint64_t n)
{
	struct mafc_remap r = {
		.size = sizeof(r), .from = from * PAGE, .to = to * PAGE,
		.length = n * PAGE,
	};

	return ioctl(h->fd, MAFC_IOC_REMAP, &r) ? errno : 0;
}

static inline int heap_stat(struct heap *h, struct mafc_stat *st)
{
	memset(st, 0, sizeof(*st));
	st->size = sizeof(*st);
	return ioctl(h->fd, MAFC_IOC_STAT, st) ? errno : 0;
}

/* Content of word @i of a block that belongs to @key, at version @version. */
static inline uint64_t pattern(uint64_t key, uint64_t version, uint64_t i)
{
	uint64_t x = key * 0x9e3779b97f4a7c15ULL ^ version * 0xbf58476d1ce4e5b9ULL ^
		     (i + 1) * 0x94d049bb133111ebULL;

	x ^= x >> 31;
	return x * 0xd6e8feb86659fd93ULL;
}

static inline void block_fill(char *p, size_t size, uint64_t key, uint64_t version)
{
	size_t i;

	for (i = 0; i < size / 8; i++)
		((volatile uint64_t *)p)[i] = pattern(key, version, i);
}

/* Index of the first word that is wrong, or -1. */
static inline long block_check(const char *p, size_t size, uint64_t key,
			       uint64_t version)
{
	size_t i;

	for (i = 0; i < size / 8; i++)
		if (((const volatile uint64_t *)p)[i] != pattern(key, version, i))
			return i;
	return -1;
}

#endif /* MAFC_SELFTEST_HEAP_H */
