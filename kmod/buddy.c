// SPDX-License-Identifier: GPL-2.0-only
/* buddy.c - see buddy.h; a page is in one free block, or none and its used bit is set */
#include "buddy.h"

/* Runs of bits are powers of two in length and aligned: a part of one word or whole words. */
static unsigned int run_words(unsigned int len)
{
	return len >= 64 ? len / 64 : 1;
}

static u64 run_mask(unsigned int first, unsigned int len)
{
	return len >= 64 ? ~0ULL : ((1ULL << len) - 1) << (first % 64);
}

static struct mafc_buddy_level *level(const struct mafc_buddy *b, unsigned int order)
{
	return (struct mafc_buddy_level *)b->mem + order;
}

static u64 *tree(const struct mafc_buddy *b)
{
	return (u64 *)b->mem + b->order + 1;
}

static u64 *used(const struct mafc_buddy *b)
{
	return tree(b) + run_words(2u << b->order);
}

static unsigned int node_at(const struct mafc_buddy *b, unsigned int off, unsigned int order)
{
	return (1u << (b->order - order)) + (off >> order);
}

static unsigned int node_order(const struct mafc_buddy *b, unsigned int node)
{
	return b->order + 1 - fls(node);
}

static bool node_free(const struct mafc_buddy *b, unsigned int node)
{
	return tree(b)[node / 64] >> (node % 64) & 1;
}

/* Those bits of even index whose upper neighbour is set as well. */
static u64 pairs_in(u64 bits)
{
	return bits & (bits >> 1) & 0x5555555555555555ULL;
}

static void node_insert(struct mafc_buddy *b, unsigned int node)
{
	unsigned int order = node_order(b, node), start = 1u << (b->order - order);
	struct mafc_buddy_level *lv = level(b, order);

	tree(b)[node / 64] |= 1ULL << (node % 64);
	lv->nfree++;
	lv->hint = min_t(u16, lv->hint, node / 64 - start / 64);
	if (node > 1 && node_free(b, node ^ 1))
		b->pairs++;
}

static void node_remove(struct mafc_buddy *b, unsigned int node)
{
	tree(b)[node / 64] &= ~(1ULL << (node % 64));
	level(b, node_order(b, node))->nfree--;
	if (node > 1 && node_free(b, node ^ 1))
		b->pairs--;
}

/* Lowest free node of an order that has one. */
static unsigned int node_first(struct mafc_buddy *b, unsigned int order)
{
	struct mafc_buddy_level *lv = level(b, order);
	unsigned int start = 1u << (b->order - order), word = start / 64 + lv->hint;
	u64 bits;

	while (!(bits = tree(b)[word] & run_mask(start, start)))
		word++;
	lv->hint = word - start / 64;
	return word * 64 + __ffs64(bits);
}

/* Takes all free blocks within @node, itself excluded; how many they were. */
static unsigned int node_gather(struct mafc_buddy *b, unsigned int node)
{
	unsigned int order = node_order(b, node), len = 1, found = 0, i;

	while (order--) {
		struct mafc_buddy_level *lv = level(b, order);

		node *= 2;
		len *= 2;
		for (i = 0; i < run_words(len); i++) {
			u64 *word = tree(b) + node / 64 + i, bits = *word & run_mask(node, len);

			*word &= ~bits;
			lv->nfree -= hweight64(bits);
			found += hweight64(bits);
			b->pairs -= hweight64(pairs_in(bits));
		}
	}
	return found;
}

static void used_change(struct mafc_buddy *b, unsigned int off, unsigned int order, bool set)
{
	u64 *word = used(b) + off / 64;
	u64 mask = run_mask(off, 1u << order);
	unsigned int i;

	for (i = 0; i < run_words(1u << order); i++)
		word[i] = set ? word[i] | mask : word[i] & ~mask;
	b->free_pages += set ? -(1u << order) : 1u << order;
}

/* Are all pages of the block used (@set) or free (!@set)? */
static bool used_is(const struct mafc_buddy *b, unsigned int off, unsigned int order, bool set)
{
	const u64 *word = used(b) + off / 64;
	u64 mask = run_mask(off, 1u << order);
	unsigned int i;

	for (i = 0; i < run_words(1u << order); i++)
		if ((word[i] & mask) != (set ? mask : 0))
			return false;
	return true;
}

/* Lowest aligned run of 2^order free pages, coalesced or not; or -ENOSPC. */
static int find_run(const struct mafc_buddy *b, unsigned int order)
{
	unsigned int step = run_words(1u << order), i, k;

	for (i = 0; i < run_words(1u << b->order); i += step) {
		u64 bits = used(b)[i], starts = ~0ULL;

		if (order >= 6) {
			if (used_is(b, i * 64, order, false))
				return i * 64;
			continue;
		}
		for (k = 0; k < order; k++)
			bits |= bits >> (1u << k);
		if (order)
			starts /= (1ULL << (1u << order)) - 1;
		if (~bits & starts)
			return i * 64 + __ffs64(~bits & starts);
	}
	return -ENOSPC;
}

/* Allocates a block all of whose pages are free. */
static int claim(struct mafc_buddy *b, unsigned int node)
{
	unsigned int order = node_order(b, node), top = node;
	unsigned int off = (node << order) - (1u << b->order);

	while (top && !node_free(b, top))
		top >>= 1;
	if (top) {
		node_remove(b, top);
		while (top != node) {
			top = node >> (fls(node) - fls(top) - 1);
			node_insert(b, top ^ 1);
			b->splits++;
		}
	} else {
		b->merges += node_gather(b, node) - 1;
	}
	used_change(b, off, order, true);
	return off;
}

static bool bad_block(const struct mafc_buddy *b, unsigned int off, unsigned int order)
{
	return order > b->order || off >> b->order || (off & ((1u << order) - 1));
}

/* Bytes that a buddy of order 0 to MAFC_BUDDY_ORDER_MAX needs: 80 for 16 pages, 296 for 512. */
size_t mafc_buddy_size(unsigned int order)
{
	return sizeof(struct mafc_buddy) +
	       sizeof(u64) * (order + 1 + run_words(2u << order) + run_words(1u << order));
}

/* Makes a buddy all of whose pages are free, in memory aligned to 8. */
void mafc_buddy_init(struct mafc_buddy *b, unsigned int order)
{
	memset(b, 0, mafc_buddy_size(order));
	b->order = order;
	b->free_pages = 1u << order;
	if (order < 6)
		used(b)[0] = ~run_mask(0, 1u << order);
	node_insert(b, 1);
}

/* The lowest of the smallest blocks that do; else merges just what does.  Offset, or -ENOSPC. */
int mafc_buddy_alloc(struct mafc_buddy *b, unsigned int order)
{
	unsigned int o;
	int off;

	for (o = order; o <= b->order; o++)
		if (level(b, o)->nfree)
			return claim(b, node_first(b, o) << (o - order));
	if (!b->pairs || order > b->order || b->free_pages >> order == 0)
		return -ENOSPC;
	off = find_run(b, order);
	return off < 0 ? off : claim(b, node_at(b, off, order));
}

/* Any aligned run of used pages; merges unless too few are free. 0; -EINVAL: nothing changed. */
int mafc_buddy_free(struct mafc_buddy *b, unsigned int off, unsigned int order)
{
	unsigned int node;

	if (bad_block(b, off, order) || !used_is(b, off, order, true))
		return -EINVAL;
	used_change(b, off, order, false);
	node = node_at(b, off, order);
	for (; node > 1 && node_free(b, node ^ 1); node >>= 1, order++) {
		if (level(b, order)->nfree < level(b, order)->lazy)
			break;
		node_remove(b, node ^ 1);
		b->merges++;
	}
	node_insert(b, node);
	return 0;
}

/* True also if there is no such page. */
bool mafc_buddy_is_used(const struct mafc_buddy *b, unsigned int off)
{
	return bad_block(b, off, 0) || used_is(b, off, 0, true);
}

/* From the next free on, no merging while fewer than @target[order] blocks are free. */
void mafc_buddy_set_lazy(struct mafc_buddy *b, const u16 target[])
{
	unsigned int o;

	for (o = 0; o <= b->order; o++)
		level(b, o)->lazy = target[o];
}

/* Coalesces everything: O(pages / 32) where merges had been put off, else O(1). */
void mafc_buddy_flush(struct mafc_buddy *b)
{
	unsigned int o, i;

	for (o = 0; o < b->order && b->pairs; o++) {
		unsigned int start = 1u << (b->order - o);

		for (i = 0; i < run_words(start); i++) {
			unsigned int base = start / 64 + i;
			u64 bits = tree(b)[base] & run_mask(start, start);

			for (bits = pairs_in(bits); bits; bits &= bits - 1) {
				unsigned int node = base * 64 + __ffs64(bits);

				node_remove(b, node);
				node_remove(b, node + 1);
				node_insert(b, node / 2);
				b->merges++;
			}
		}
	}
}

/* Order of the largest block, as if everything were coalesced; -1 when no page is free. */
int mafc_buddy_largest(const struct mafc_buddy *b)
{
	int o;

	for (o = b->order; o >= 0; o--)
		if (level(b, o)->nfree || (b->pairs && find_run(b, o) >= 0))
			break;
	return o;
}

/* Number of free blocks by order, as they lie. */
void mafc_buddy_counts(const struct mafc_buddy *b, u32 counts[])
{
	unsigned int o;

	for (o = 0; o <= b->order; o++)
		counts[o] = level(b, o)->nfree;
}

/* Counts a request; an order over MAFC_BUDDY_ORDER_MAX counts as that. O(1) on average. */
void mafc_hist_add(struct mafc_hist *h, unsigned int order)
{
	unsigned int o;

	h->count[min_t(unsigned int, order, MAFC_BUDDY_ORDER_MAX)]++;
	if (++h->total < 2 * MAFC_HIST_HALF_LIFE)
		return;
	h->total = 0;
	h->age++;
	for (o = 0; o <= MAFC_BUDDY_ORDER_MAX; o++) {
		h->count[o] /= 2;
		h->total += h->count[o];
	}
}

/* For mafc_buddy_set_lazy(): an order with 1/16 of the requests gets its share of half of all. */
void mafc_hist_targets(const struct mafc_hist *h, unsigned int order, u16 target[])
{
	u32 pages = 1u << order;
	unsigned int o;

	for (o = 0; o <= order; o++)
		target[o] = h->count[o] && h->count[o] >= h->total / 16 ?
			    pages / 2 * h->count[o] / h->total >> o : 0;
}
