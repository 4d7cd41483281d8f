// SPDX-License-Identifier: Apache-2.0
/* span.c - one span: its blocks, its state, its root */
#include "pages.h"
#include "span.h"

struct mafc_span *span_create(uint32_t page, unsigned cls, uint32_t state)
{
	const struct size_class *c = &classes[cls];
	struct mafc_span *s = &heap.spans[page];
	unsigned i;

	for (i = 0; i < 4; i++)
		store(&s->bitmap[i], 0);
	store(&s->canonical, page);
	store(&s->block_size, c->size);
	store(&s->nblocks, c->blocks);
	store(&s->npages, c->pages);
	store(&s->head, 0);
	store(&s->size_class, cls);
	span_list(s) = 0;
	heap.page_class[page] = cls;
	for (i = 1; i < c->pages; i++) {
		store(&s[i].head, i);
		store(&s[i].size_class, cls);
		store_release(&s[i].state, MAFC_SPAN_TAIL);
		heap.page_class[page + i] = cls;
	}
	store_release(&s->state, state);
	return s;
}

bool span_change(struct mafc_span *s, uint32_t state, uint32_t to)
{
	uint32_t word = load(&s->state);

	/* Fails at once when the kernel is faster. */
	while ((word & ~MAFC_SPAN_ROOT) == state)
		if (__atomic_compare_exchange_n(&s->state, &word,
						to | (word & MAFC_SPAN_ROOT),
						false, __ATOMIC_SEQ_CST,
						__ATOMIC_SEQ_CST))
			return true;
	return false;
}

bool span_retire(struct mafc_span *s, uint32_t from)
{
	unsigned i, n = load(&s->npages);

	if (!__atomic_compare_exchange_n(&s->state, &from, MAFC_SPAN_NONE,
					 false, __ATOMIC_SEQ_CST,
					 __ATOMIC_RELAXED))
		return false;
	for (i = 1; i < n; i++)
		store(&s[i].state, MAFC_SPAN_NONE);
	pages_give(span_number(s), n);
	return true;
}

int span_block(const struct mafc_span *s, const void *p)
{
	const struct size_class *c = &classes[load(&s->size_class)];
	size_t off = (uintptr_t)p - heap.small -
		     ((size_t)span_number(s) << PAGE_SHIFT);
	uint32_t n = (off * c->reciprocal) >> 32;

	return (size_t)n * c->size == off && n < c->blocks ? (int)n : -1;
}

static uint64_t lowest_bits(uint64_t word, unsigned n)
{
	uint64_t rest = word;

	if (count_bits(word) <= n)
		return word;
	while (n--)
		rest &= rest - 1;
	return word & ~rest;
}

unsigned span_claim(struct mafc_span *s, void **blocks, unsigned want)
{
	const struct size_class *c = &classes[load(&s->size_class)];
	uintptr_t base = heap.small + ((uintptr_t)span_number(s) << PAGE_SHIFT);
	unsigned word, first, got = 0;
	uint64_t take;

	for (word = 0, first = 0; first < c->blocks && got < want;
	     word++, first += 64) {
		take = ~load(&s->bitmap[word]);
		if (c->blocks - first < 64)
			take &= (1ULL << (c->blocks - first)) - 1;
		take = lowest_bits(take, want - got);
		if (!take)
			continue;
		take &= ~__atomic_fetch_or(&s->bitmap[word], take,
					   __ATOMIC_SEQ_CST);
		for (; take; take &= take - 1)
			blocks[got++] = (void *)(base + (uintptr_t)c->size *
					(first + __builtin_ctzll(take)));
	}
	return got;
}

static struct mafc_span *span_root(struct mafc_span *s)
{
	uint32_t at = span_number(s), up;

	while ((up = load_acquire(&heap.spans[at].canonical)) != at)
		at = up;
	return &heap.spans[at];
}

/*
 * The kernel moves bits from one span to another in the order: canonical first,
 * then the bitmap taken with an exchange.  Whoever finds a bit clear therefore
 * finds the new root, unless there is none.
 */
uint64_t span_clear(struct mafc_span *s, unsigned word, uint64_t mask,
		    struct mafc_span **root)
{
	struct mafc_span *r = span_root(s), *now;

	for (;;) {
		mask &= ~__atomic_fetch_and(&r->bitmap[word], ~mask,
					    __ATOMIC_SEQ_CST);
		if (likely(!mask))
			break;
		now = span_root(s);
		if (now == r)
			break;
		r = now;
	}
	*root = r;
	return mask;
}
