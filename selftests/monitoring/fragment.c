// SPDX-License-Identifier: GPL-2.0-only
/*
 * fragment MIB [PROCESSES [PAUSE]] - a program whose heap is full of holes
 *
 * Fills MIB with blocks of 256 bytes, frees three of four at random, forks PROCESSES - 1 children,
 * says "ready" and lives on: with PAUSE microseconds (100000) in between, the first one replaces a
 * hundred blocks and checks what was in them. Each child writes a little, so that its heap is its own.
 * Status 1: a block had changed.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define SIZE	256U

static uint64_t seed = 42;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	return seed ^= seed << 17;
}

static uint64_t *fill(uint64_t key)
{
	uint64_t *b = malloc(SIZE);
	unsigned int i;

	for (i = 0; b && i < SIZE / 8; i++)
		b[i] = key + i;
	return b;
}

static int intact(const uint64_t *b, uint64_t key)
{
	unsigned int i;

	for (i = 0; i < SIZE / 8; i++)
		if (b[i] != key + i)
			return 0;
	return 1;
}

int main(int argc, char **argv)
{
	size_t n = (argc > 1 ? atoi(argv[1]) : 16) * 1048576ULL / SIZE, i, k;
	int processes = argc > 2 ? atoi(argv[2]) : 1, p;
	unsigned int rest = argc > 3 ? atoi(argv[3]) : 100000;
	uint64_t **block = calloc(n, sizeof(*block));

	for (i = 0; i < n; i++)
		block[i] = fill(i);
	for (i = 0; i < n; i++)
		if (rnd() % 4) {
			free(block[i]);
			block[i] = NULL;
		}
	for (p = 1; p < processes; p++)
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			memset(malloc(10000), p, 10000);
			pause();
			_exit(0);
		}
	puts("ready");
	fflush(stdout);
	for (;;) {
		usleep(rest);
		for (i = 0; i < 100; i++) {
			k = rnd() % n;
			if (!block[k])
				continue;
			if (!intact(block[k], k)) {
				fprintf(stderr, "fragment: block %zu has changed\n", k);
				return 1;
			}
			free(block[k]);
			block[k] = fill(k);
		}
	}
}
