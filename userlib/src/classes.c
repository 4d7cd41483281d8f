// SPDX-License-Identifier: Apache-2.0
/*
 * classes.c - block sizes
 *
 * A span without a live block in it is dropped, and two spans whose live blocks
 * do not overlap are meshed: both are the likelier the fewer blocks a span has.
 * So a span is one page wherever 8 blocks fit into it, and only sizes that
 * change the number of blocks per page are classes.  Above, spans of 2, 4, 8, 16
 * and 32 pages hold 15 down to 8 blocks: eight classes per doubling, 6 per cent
 * of a block unused at most, 3 on average.
 */
#include "classes.h"

#define ONE_PAGE_MAX	512
#define BLOCKS_MIN	8
#define BIN_BYTES	65536U
#define BIN_MIN		3
/* Medium blocks that a bin may hold. */
#define MEDIUM_BIN	7

struct size_class classes[NCLASSES];
uint8_t class_of_grains[SMALL_MAX / GRAIN + 1];
unsigned nclasses = 1;
unsigned all_classes;
unsigned apart;
uint8_t class_of_pages[(MEDIUM_MAX >> PAGE_SHIFT) + 1];

/* Bins hold 2^n - 1 blocks: with the sentinel below, 2^n words. */
static uint16_t bin_limit(uint32_t size)
{
	uint32_t max = MIN(MAX(BIN_BYTES / size, (uint32_t)BIN_MIN),
			   (uint32_t)BIN_MAX);
	uint32_t n = BIN_MIN;

	while (n * 2 + 1 <= max)
		n = n * 2 + 1;
	return n;
}

static void class_add(uint32_t size, uint32_t pages)
{
	struct size_class *c = &classes[nclasses];
	size_t g = nclasses == 1 ? 0 : classes[nclasses - 1].size / GRAIN + 1;

	c->size = size;
	c->pages = pages;
	c->blocks = (pages << PAGE_SHIFT) / size;
	c->reciprocal = ((1ULL << 32) + size - 1) / size;
	c->bin_max = bin_limit(size);
	for (; g <= size / GRAIN; g++)
		class_of_grains[g] = nclasses;
	nclasses++;
}

static void medium_init(void)
{
	uint32_t pages, p = 1;

	all_classes = nclasses;
	for (pages = SMALL_MAX / PAGE_SIZE + 1; pages <= MEDIUM_MAX / PAGE_SIZE;
	     pages += pages < 16 ? 1 : pages < 32 ? 2 : 4) {
		classes[all_classes] = (struct size_class){
			.size = pages << PAGE_SHIFT, .pages = pages,
			.blocks = 1, .bin_max = MEDIUM_BIN,
		};
		while (p <= pages)
			class_of_pages[p++] = all_classes;
		all_classes++;
	}
	apart = all_classes;
}

static void apart_init(void)
{
	unsigned cls, g;

	for (cls = 1; cls <= APART; cls++)
		classes[all_classes++] = classes[cls];
	for (g = 0; class_of_grains[g] <= APART; g++)
		class_of_grains[g] += apart - 1;
}

void classes_init(void)
{
	uint32_t size, pages, blocks;

	for (size = GRAIN; size <= ONE_PAGE_MAX; size += GRAIN)
		if (PAGE_SIZE / size != PAGE_SIZE / (size + GRAIN))
			class_add(size, 1);
	for (pages = 2; pages <= MAFC_SPAN_PAGES_MAX; pages *= 2)
		for (blocks = 2 * BLOCKS_MIN - 1; blocks >= BLOCKS_MIN; blocks--)
			class_add((pages << PAGE_SHIFT) / blocks & ~(GRAIN - 1),
				  pages);
	medium_init();
	apart_init();
}

unsigned class_aligned(size_t size, size_t align)
{
	unsigned c;

	if (size > SMALL_MAX || align > PAGE_SIZE)
		return 0;
	for (c = class_own(class_of(MAX(size, align))); c < nclasses; c++)
		if (classes[c].size % align == 0)
			return c;
	return 0;
}
