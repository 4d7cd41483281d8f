// SPDX-License-Identifier: Apache-2.0
/*
 * pages.c - which pages of the small region are in use
 * First fit on the page map, so that descriptors and page tables stay dense.  We alone set bits;
 * the kernel clears those of spans that it dissolved, at any time: the scan before growth finds it.
 * A run, a power of two, lies within one word of the map.
 */
#include "os.h"
#include "small.h"

#define WORD		64U
#define HINTS		6	/* log2 of MAFC_SPAN_PAGES_MAX, and one more */
#define PURGE_WORDS	64U	/* at one go: bounds how long pages_lock is held */

/* Guards all below, setting bits in the page map, and RES_SMALL and followers. */
struct lock pages_lock;
static uint32_t top = 1;	/* page 0 stays unused: 0 ends lists */
static uint32_t scanned;	/* top, as of the last full scan */
static uint32_t hints[HINTS];	/* no run of 2^i pages below this word */
static uint32_t used;		/* pages taken, less those given back by us */
static uint32_t dirty;		/* free pages that hold memory */
static uint32_t excess;		/* of them, those still to be purged */
static struct surplus surplus;

static uint64_t run_mask(unsigned n, unsigned bit)
{
	return ((1ULL << n) - 1) << bit;
}

/* Bits at which a run of @n ones starts in @word. */
static uint64_t run_starts(uint64_t word, unsigned n)
{
	unsigned have;

	for (have = 1; have < n; have *= 2)
		word &= word >> have;
	return word;
}

static void mark_used(uint32_t word, uint64_t mask)
{
	uint64_t *d = &heap.small_dirty[word];

	bits_set(&heap.small_map[word], mask);
	store(&used, used + count_bits(mask));
	if (!heap.os->compacts) {
		store(&dirty, dirty - count_bits(*d & mask));
		*d |= mask;
		surplus.low = MIN(surplus.low, dirty);
	}
}

static unsigned take_in_word(uint32_t word, unsigned n, unsigned want, uint32_t *runs)
{
	uint64_t free = ~load(&heap.small_map[word]), starts, taken = 0;
	unsigned bit, got = 0;

	if (word == 0)
		free &= ~1ULL;
	while (got < want && (starts = run_starts(free, n))) {
		bit = __builtin_ctzll(starts);
		taken |= run_mask(n, bit);
		free &= ~run_mask(n, bit);
		runs[got++] = word * WORD + bit;
	}
	if (got)
		mark_used(word, taken);
	return got;
}

static unsigned take_below_top(unsigned n, unsigned want, uint32_t *runs)
{
	uint32_t *hint = &hints[__builtin_ctz(n)], word;
	unsigned got = 0;

	/* The last word is the business of take_at_top(). */
	for (word = *hint; word < top / WORD && !got; word++)
		got = take_in_word(word, n, want, runs);
	*hint = got ? word - 1 : word;
	return got;
}

static unsigned take_at_top(unsigned n, unsigned want, uint32_t *runs)
{
	uint32_t at = top % WORD + n > WORD ? round_up(top, WORD) : top;
	unsigned got;

	want = MIN(want, (WORD - at % WORD) / n);
	if (!region_upto(false, at + n * want))
		want = region_upto(false, at + n) ? 1 : 0;
	for (got = 0; got < want; got++, at += n) {
		runs[got] = at;
		mark_used(at / WORD, run_mask(n, at % WORD));
	}
	if (got)
		store(&top, at);
	return got;
}

/* Growing by an eighth costs more than to look whether the kernel freed some. */
static bool scan_is_due(void)
{
	if (!heap.os->compacts || top - scanned < MAX(top / 8, WORD))
		return false;
	memset(hints, 0, sizeof(hints));
	scanned = top;
	return true;
}

unsigned pages_take(unsigned n, unsigned want, uint32_t *runs)
{
	unsigned got;

	want = MIN(want, (unsigned)PAGES_RUNS_MAX);
	lock_take(&pages_lock);
	got = take_below_top(n, want, runs);
	if (!got && scan_is_due())
		got = take_below_top(n, want, runs);
	if (!got)
		got = take_at_top(n, want, runs);
	lock_drop(&pages_lock);
	return got;
}

/* Give the free pages of a word back, run by run. */
static void purge_word(uint32_t word)
{
	uint64_t *d = &heap.small_dirty[word], mask, rest;
	uint64_t todo = *d & ~load(&heap.small_map[word]);
	unsigned bit, n;

	for (; todo; todo &= ~mask) {
		bit = __builtin_ctzll(todo);
		rest = ~(todo >> bit);
		n = rest ? (unsigned)__builtin_ctzll(rest) : WORD;
		mask = n == WORD ? ~0ULL : run_mask(n, bit);
		heap.os->release((char *)heap.small + ((word * (size_t)WORD + bit) << PAGE_SHIFT),
				 (size_t)n << PAGE_SHIFT);
		store(&dirty, dirty - n);
		*d &= ~mask;
	}
}

/* High addresses first: the low ones are the next to be used again. */
static void purge_some(void)
{
	static uint32_t hand;
	uint32_t i, before;

	for (i = 0; i < PURGE_WORDS && excess; i++) {
		if (hand == 0)
			hand = top / WORD + 1;
		before = dirty;
		purge_word(--hand);
		excess -= MIN(excess, before - dirty);
	}
	excess = MIN(excess, dirty);
}

void pages_give(uint32_t first, unsigned n)
{
	uint32_t word = first / WORD;
	unsigned i;

	lock_take(&pages_lock);
	bits_clear(&heap.small_map[word], run_mask(n, first % WORD));
	for (i = 0; i < HINTS; i++)
		hints[i] = MIN(hints[i], word);
	store(&used, used - n);
	if (!heap.os->compacts) {
		store(&dirty, dirty + n);
		excess += surplus_freed(&surplus, dirty);
		if (excess)
			purge_some();
	}
	lock_drop(&pages_lock);
}

uint32_t pages_top(void)
{
	return load(&top);
}

uint32_t pages_held(void)
{
	return load(&used) + load(&dirty);
}

size_t pages_trim(void)
{
	uint32_t word, given;

	lock_take(&pages_lock);
	given = dirty;
	if (!heap.os->compacts)
		for (word = 0; word < (top + WORD - 1) / WORD; word++)
			purge_word(word);
	given -= dirty;
	lock_drop(&pages_lock);
	return (size_t)given << PAGE_SHIFT;
}
