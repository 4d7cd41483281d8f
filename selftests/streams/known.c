// SPDX-License-Identifier: GPL-2.0-only
/*
 * known.c - a program whose stream is known, for the test of recorder and simulator
 *
 *   known sizes    ROUNDS blocks of 2,100 bytes, for which the table has 2,176
 *   known places   bursts of blocks of two callers, one of them keeps every eighth; then idleness
 *   known mixed    the same, but one caller for both
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZE		2100
#define BLOCKS		10000
#define BURST		12000
#define BURST_SIZE	250
#define IDLE		100000

static void *blocks[BURST];

static __attribute__((noinline)) void *passing(void)
{
	void *p = malloc(BURST_SIZE);

	__asm__ volatile("" : : "r"(p) : "memory");
	return p;
}

static __attribute__((noinline)) void *lasting(void)
{
	void *p = malloc(BURST_SIZE);

	__asm__ volatile("" : : "r"(p) : "memory");
	return p;
}

static void sizes(void)
{
	int i, round;

	for (i = 0; i < BLOCKS; i++)
		blocks[i] = malloc(SIZE);
	for (round = 0; round < 4; round++)
		for (i = 0; i < BLOCKS; i++) {
			free(blocks[i]);
			blocks[i] = malloc(SIZE);
		}
}

static void places(void *(*keep)(void))
{
	unsigned int seed = 1;
	int i, burst;

	for (burst = 0; burst < 3; burst++) {
		for (i = 0; i < BURST; i++) {
			seed = seed * 1103515245 + 12345;
			if (burst == 2 && seed >> 16 & 1 && seed >> 17 & 1 && seed >> 18 & 1) {
				keep();
				blocks[i] = NULL;
			} else {
				blocks[i] = passing();
			}
		}
		for (i = 0; i < BURST; i++)
			free(blocks[i]);
	}
	for (i = 0; i < IDLE; i++) {
		void *p = malloc(1000);

		__asm__ volatile("" : : "r"(p) : "memory");
		free(p);
	}
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "sizes"))
		sizes();
	else if (argc == 2 && !strcmp(argv[1], "places"))
		places(lasting);
	else if (argc == 2 && !strcmp(argv[1], "mixed"))
		places(passing);
	else
		return 2;
	return 0;
}
