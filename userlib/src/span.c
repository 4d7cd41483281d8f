// SPDX-License-Identifier: Apache-2.0
/* span.c - one span: its blocks, its state, its root */
#include "small.h"

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
	store(&heap.page_class[page], cls);
	for (i = 1; i < c->pages; i++) {
		store(&s[i].head, i);
		store(&s[i].size_class, cls);
		store_release(&s[i].state, MAFC_SPAN_TAIL);
		store(&heap.page_class[page + i], cls);
	}
	store_release(&s->state, state);
	return s;
}

bool span_change(struct mafc_span *s, uint32_t state, uint32_t to)
{
	uint32_t word = load(&s->state);

	/* Fails at once when the kernel is faster. */
	while ((word & ~MAFC_SPAN_ROOT) == state)
		if (exchange_if(&s->state, &word, to | (word & MAFC_SPAN_ROOT)))
			return true;
	return false;
}

bool span_retire(struct mafc_span *s, uint32_t from)
{
	unsigned i, n = load(&s->npages);

	if (!exchange_if(&s->state, &from, MAFC_SPAN_NONE))
		return false;
	for (i = 1; i < n; i++)
		store(&s[i].state, MAFC_SPAN_NONE);
	pages_give(span_number(s), n);
	return true;
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

/* Claim bits of one word, at most @want; those that are ours now. */
static uint64_t claim_word(struct mafc_span *s, unsigned word, unsigned blocks, unsigned want)
{
	uint64_t take = ~load(&s->bitmap[word]);

	if (blocks - word * 64 < 64)
		take &= (1ULL << (blocks - word * 64)) - 1;
	take = lowest_bits(take, want);
	race_window();
	return take ? take & ~bits_set(&s->bitmap[word], take) : 0;
}

/* By address, the last first, but from a random place on, as equal bitmaps do not mesh. */
unsigned span_claim(struct mafc_span *s, void **blocks, unsigned want, uint64_t random)
{
	const struct size_class *c = &classes[load(&s->size_class)];
	unsigned word, words = (c->blocks + 63) / 64, n = 0, to;
	uint64_t taken[MAFC_SPAN_BLOCKS_MAX / 64];
	uintptr_t base = span_address(s);

	for (word = 0; word < words; word++) {
		taken[word] = claim_word(s, word, c->blocks, want - n);
		n += count_bits(taken[word]);
	}
	if (!n)
		return 0;
	to = (random >> 32) * n >> 32;
	for (word = 0; word < words; word++, base += 64 * (uintptr_t)c->size)
		for (; taken[word]; taken[word] &= taken[word] - 1) {
			blocks[to] = (void *)(base + (uintptr_t)c->size *
					      __builtin_ctzll(taken[word]));
			to = to ? to - 1 : n - 1;
		}
	return n;
}

/*
 * The kernel moves bits from one span to another in the order: canonical first, then the bitmap
 * taken with an exchange.  Who finds a bit clear finds the new root, unless there is none.
 */
uint64_t span_clear(struct mafc_span *s, unsigned word, uint64_t mask, struct mafc_span **root)
{
	struct mafc_span *now;

	for (;; *root = now) {
		race_window();
		mask &= ~bits_clear(&(*root)->bitmap[word], mask);
		if (likely(!mask))
			return 0;
		now = span_root(s);
		if (now == *root)
			return mask;
	}
}

bool span_holds(const void *p)
{
	const struct size_class *c = &classes[class_at(p)];
	struct mafc_span *s = span_of(p, c->pages);
	uint32_t off, n;

	if (!c->size)
		return false;
	off = (uintptr_t)p - span_address(s);
	n = off / c->size;
	return off % c->size == 0 && n < c->blocks &&
	       load(&span_root(s)->bitmap[n / 64]) >> n % 64 & 1;
}
