/* SPDX-License-Identifier: Apache-2.0 */
/* small.h - the small region: its pages, spans, and what all threads share of a class */
#ifndef MAFC_SMALL_H
#define MAFC_SMALL_H
#include "types.h"
#include "sites.h"

/* Where the kernel may come in between two of our steps.  A test makes that likely. */
#ifndef race_window
#define race_window()	do { } while (0)
#endif

/* pages.c: which pages are in use */

#define PAGES_RUNS_MAX 16

extern struct lock pages_lock;

/* Take up to @want runs of @n pages (2^i, at most 32); their first pages; 0: out of memory. */
unsigned pages_take(unsigned n, unsigned want, uint32_t *runs);
void pages_give(uint32_t first, unsigned n);	/* their spans are gone, from NONE on */
uint32_t pages_top(void);	/* pages below have been in use at some time */
uint32_t pages_held(void);	/* pages in use, or free and not yet given back */
size_t pages_trim(void);	/* give all free pages back to the system; bytes given */

/* span.c: all that touches state word and bitmap, by the rules of the uapi header. */

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

/* The span of @pages pages that @p lies in. */
static inline struct mafc_span *span_of(const void *p, unsigned pages)
{
	struct mafc_span *s = &heap.spans[small_page(p)];

	return pages > 1 ? s - load(&s->head) : s;
}

/* Class of what lies in the small region; 0: no block.  Pages with chosen blocks hide it. */
static inline unsigned class_at(const void *p)
{
	unsigned cls = load(&heap.page_class[small_page(p)]);

	return likely(cls) || !sites || small_page(p) >= pages_top() ? cls :
	       load(&heap.spans[small_page(p)].size_class);
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
		n += count_bits(load(&s->bitmap[1])) + count_bits(load(&s->bitmap[2])) +
		     count_bits(load(&s->bitmap[3]));
	return n;
}

/* Make pages from pages_take() a span in @state. */
struct mafc_span *span_create(uint32_t page, unsigned cls, uint32_t state);
/* Give an empty span up: state NONE from @from, then its pages are free. */
bool span_retire(struct mafc_span *s, uint32_t from);
/* CAS of the state word, keeping what the kernel may have set beside it. */
bool span_change(struct mafc_span *s, uint32_t state, uint32_t to);
/* Claim up to @want free blocks of an ATTACHED span; @random orders them. */
unsigned span_claim(struct mafc_span *s, void **blocks, unsigned want, uint64_t random);
/* The span that holds the blocks of @s. */
static inline struct mafc_span *span_root(const struct mafc_span *s)
{
	uint32_t at = span_number(s), up;

	while ((up = load_acquire(&heap.spans[at].canonical)) != at)
		at = up;
	return &heap.spans[at];
}

/* Clear bits of a word on @root, that of @s, or on a later one, then set.  Those freed before. */
uint64_t span_clear(struct mafc_span *s, unsigned word, uint64_t mask, struct mafc_span **root);
/* Is @p a block in use, or in a cache?  One that is being meshed may not seem so. */
bool span_holds(const void *p);

/* central.c: up to @want blocks; 0: out of memory.  @size was asked for: for the statistics. */
unsigned central_take(unsigned cls, void **blocks, unsigned want, size_t size);
void central_give(unsigned cls, void **blocks, unsigned n);
/* Keep a thread's blocks for others, as they are; false: enough are kept. */
bool central_pass(unsigned cls, void **blocks, unsigned n);
/* Take back what was kept and nobody has wanted since the last call; or @all. */
void central_settle(bool all);
void central_trim(void);	/* give all empty spans up */
/* Around a fork; central_unlock() also in the child. */
void central_lock(void);
void central_unlock(bool child);
#endif
