// SPDX-License-Identifier: Apache-2.0
/*
 * classes.c - block sizes
 * The fewer blocks a span has, the likelier it can be dropped or meshed: so it is one page where 8
 * blocks fit.  Above, spans of 2 to 32 pages hold 15 down to 8: at most 6 % of a block are unused.
 */
#include "types.h"

#define ONE_PAGE_MAX	512
#define BLOCKS_MIN	8
#define BIN_BYTES	65536U
#define BIN_MIN		3U
#define MEDIUM_BIN	7	/* medium blocks that a bin may hold */

struct size_class classes[NCLASSES];
uint8_t class_of_grains[SMALL_MAX / GRAIN + 1];
uint8_t class_of_pages[(MEDIUM_MAX >> PAGE_SHIFT) + 1];
unsigned nclasses = 1, apart, all_classes;

/* Bins hold 2^n - 1 blocks: with the sentinel below, 2^n words. */
static uint16_t bin_limit(uint32_t size)
{
	uint32_t max = MIN(MAX(BIN_BYTES / size, BIN_MIN), (uint32_t)BIN_MAX), n = BIN_MIN;

	while (n * 2 + 1 <= max)
		n = n * 2 + 1;
	return n;
}

static void class_add(uint32_t size, uint32_t pages)
{
	size_t g = nclasses == 1 ? 0 : classes[nclasses - 1].size / GRAIN + 1;

	classes[nclasses] = (struct size_class){
		.size = size,
		.pages = pages,
		.blocks = (pages << PAGE_SHIFT) / size,
		.reciprocal = ((1ULL << 32) + size - 1) / size,
		.bin_max = bin_limit(size), .cost = size,
	};
	for (; g <= size / GRAIN; g++)
		class_of_grains[g] = nclasses;
	nclasses++;
}

static void medium_init(size_t most)
{
	uint32_t pages, p = 1, part = most == MEDIUM_MAX ? 64 : 8;

	all_classes = nclasses;
	for (pages = SMALL_MAX / PAGE_SIZE + 1;
	     pages <= most / PAGE_SIZE && all_classes < NCLASSES - APART;
	     pages += MAX(1U, (1U << (31 - __builtin_clz(pages))) / 8)) {
		classes[all_classes] = (struct size_class){
			.size = pages << PAGE_SHIFT, .pages = pages,
			.blocks = 1, .bin_max = MEDIUM_BIN, .cost = (pages << PAGE_SHIFT) / part,
		};
		while (p <= pages)
			class_of_pages[p++] = all_classes;
		all_classes++;
	}
	apart = all_classes;
}

void classes_init(size_t medium_max)
{
	uint32_t size, pages, blocks, i;

	for (size = GRAIN; size <= ONE_PAGE_MAX; size += GRAIN)
		if (PAGE_SIZE / size != PAGE_SIZE / (size + GRAIN))
			class_add(size, 1);
	for (pages = 2; pages <= MAFC_SPAN_PAGES_MAX; pages *= 2)
		for (blocks = 2 * BLOCKS_MIN - 1; blocks >= BLOCKS_MIN; blocks--)
			class_add((pages << PAGE_SHIFT) / blocks & ~(GRAIN - 1), pages);
	medium_init(medium_max);
	for (i = 1; i <= APART; i++)
		classes[all_classes++] = classes[i];
	for (i = 0; class_of_grains[i] <= APART; i++)
		class_of_grains[i] += apart - 1;
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
