/* SPDX-License-Identifier: Apache-2.0 */
/* program.h - towards the program: start, options, messages, misuse, probes */
#ifndef MAFC_PROGRAM_H
#define MAFC_PROGRAM_H
#include "types.h"

extern INTERNAL bool heap_started;
bool heap_start_slow(void);

/* Make the heap if there is none yet; false: there is no memory for one. */
static inline bool heap_start(void)
{
	return likely(load_acquire(&heap_started)) || heap_start_slow();
}

/* The environment variables (Documentation/library.rst). */
struct options {
	size_t verbose, require, compact, stats, debug;
	size_t cache_kib, reserve_gib, sites;
	bool go_on;	/* MAFC_ON_ERROR=continue */
};

extern INTERNAL struct options options;
void options_read(void);

/* One line on stderr: strings, up to a NULL; what does not fit is left out. */
void report_line(const char *s, ...);
#define DIGITS 24
const char *report_number(char *digits, uint64_t v, unsigned base);
void report_note(const char *what, const char *name);	/* "mafc: @what (@name)" */
/* The program did something wrong with @p: one line, then abort by default. */
void report_misuse(const char *what, const void *p);

/* MAFC_DEBUG=1 */
extern struct lock debug_lock;
void debug_new(void *p, size_t size);	/* fill it with junk */
/* Keep the freed block @p; the one kept the longest, reported if harmed, to be freed, or NULL. */
void *debug_keep(void *p, size_t size);

/* malloc() at a multiple of @align, a power of two. */
void *alloc_aligned(size_t align, size_t size);

/* Where perf and bpftrace can hook in: a nop, and a note about it. */
#if __has_include(<sys/sdt.h>)
#include <sys/sdt.h>
#define probe(name, a, b) DTRACE_PROBE2(mafc, name, a, b)
#else
#define probe(name, a, b) do { } while (0)
#endif
#endif
