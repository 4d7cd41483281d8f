// SPDX-License-Identifier: GPL-2.0-only
/*
 * places - a program whose two functions with live blocks are known
 *
 * keeps_one_per_page() fills PINNED pages with blocks of 256 bytes, and keeps one in each;
 * keeps_all() keeps DENSE bytes in blocks of 128.  borrows() frees all that it allocates.  Prints a
 * line with the bytes and the pages, and waits until its input ends.
 */
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PINNED	4096
#define DENSE	(8 << 20)

static void *all[PINNED * 16], *dense[DENSE / 128];

__attribute__((noinline)) static void borrows(size_t size)
{
	void *p = malloc(size);

	memset(p, 1, size);
	free(p);
}

static int by_address(const void *a, const void *b)
{
	uintptr_t p = *(const uintptr_t *)a, q = *(const uintptr_t *)b;

	return p < q ? -1 : p > q;
}

__attribute__((noinline)) static size_t keeps_one_per_page(void)
{
	size_t i, from, keep, pages = 0;

	for (i = 0; i < PINNED * 16; i++) {
		borrows(256);
		all[i] = malloc(256);
		memset(all[i], 2, 256);
	}
	qsort(all, PINNED * 16, sizeof(*all), by_address);
	/* Not the same one of each page: those pages could not be meshed. */
	for (i = from = 0; i < PINNED * 16; i++) {
		if (i + 1 < PINNED * 16 && (uintptr_t)all[i] >> 12 == (uintptr_t)all[i + 1] >> 12)
			continue;
		keep = from + pages++ % (i + 1 - from);
		for (; from <= i; from++)
			if (from != keep)
				free(all[from]);
	}
	return pages;
}

__attribute__((noinline)) static size_t keeps_all(void)
{
	size_t i;

	for (i = 0; i < DENSE / 128; i++) {
		borrows(128);
		dense[i] = malloc(128);
		memset(dense[i], 3, 128);
	}
	return i * 128;
}

int main(void)
{
	size_t pages = keeps_one_per_page(), bytes = keeps_all();
	char c;

	/* What is in the thread's cache would count as live. */
	malloc_trim(0);
	printf("pages %zu dense %zu\n", pages, bytes);
	fflush(stdout);
	while (read(0, &c, 1) == 1)
		;
	return 0;
}
