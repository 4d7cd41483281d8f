/* SPDX-License-Identifier: Apache-2.0 */
/*
 * span.h - one span: its blocks, its state, its root
 *
 * The uapi header has the rules of the state word and of the bitmap; this file
 * and span.c are the only ones that touch either, and central.c the only one
 * that calls for a change of state.
 */
#ifndef MAFC_SPAN_H
#define MAFC_SPAN_H

#include "types.h"

/*
 * Where the kernel may come in between two of our steps.  A test makes that
 * likely.
 */
#ifdef MAFC_TEST_FILE
void mafc_test_race(void);
#define race_window()	mafc_test_race()
#else
#define race_window()	do { } while (0)
#endif

/* Our use of mafc_span.lib[]. */
#define span_next(s)	((s)->lib[0])	/* page number of a span, 0: none */
#define span_prev(s)	((s)->lib[1])
#define span_list(s)	((s)->lib[2])	/* list it is linked in, and 1; 0: none */

#define span_state(s)	load_acquire(&(s)->state)

static inline uint32_t span_number(const struct mafc_span *s)
{
	return s - heap.spans;
}

static inline uintptr_t span_address(const struct mafc_span *s)
{
	return heap.small + ((uintptr_t)span_number(s) << PAGE_SHIFT);
}

/* Block number @n of the span. */
static inline void *span_block(const struct mafc_span *s, unsigned n)
{
	return (void *)(span_address(s) +
			(uintptr_t)n * classes[load(&s->size_class)].size);
}

static inline bool span_empty(const struct mafc_span *s)
{
	return !(load(&s->bitmap[0]) | load(&s->bitmap[1]) |
		 load(&s->bitmap[2]) | load(&s->bitmap[3]));
}

/* Most spans have 64 blocks or less, which is one word. */
static inline unsigned span_used(const struct mafc_span *s)
{
	unsigned n = count_bits(load(&s->bitmap[0]));

	if (load(&s->nblocks) > 64)
		n += count_bits(load(&s->bitmap[1])) +
		     count_bits(load(&s->bitmap[2])) +
		     count_bits(load(&s->bitmap[3]));
	return n;
}

/* Make pages that were taken from the page map a span in @state. */
struct mafc_span *span_create(uint32_t page, unsigned cls, uint32_t state);
/* Give an empty span up: state NONE from @from, then its pages are free. */
bool span_retire(struct mafc_span *s, uint32_t from);
/* CAS of the state word, keeping what the kernel may have set beside it. */
bool span_change(struct mafc_span *s, uint32_t state, uint32_t to);
/* Claim up to @want free blocks of an ATTACHED span; @random orders them. */
unsigned span_claim(struct mafc_span *s, void **blocks, unsigned want,
		    uint64_t random);
/*
 * Clear the bits @mask of word @word on the root of @s.  Bits that are clear
 * already have been freed before; these are returned.  @root is set.
 */
uint64_t span_clear(struct mafc_span *s, unsigned word, uint64_t mask,
		    struct mafc_span **root);
/* Is @p a block in use, or in a cache?  One that is being meshed may not seem so. */
bool span_holds(const void *p);

#endif
