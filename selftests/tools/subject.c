// SPDX-License-Identifier: GPL-2.0-only
/*
 * subject MIB KEEP SECONDS - a program whose heap is known
 *
 * Fills MIB of heap with blocks of 256 bytes, frees all but every KEEPth of the second half, in a
 * random order, touches those that stay, and prints one line:
 *
 *   live BYTES pages N	 the sum of its blocks, and the frames of /dev/mafc that the kernel's own
 *			page tables show here, each counted once (/proc/self/pagemap, /proc/kpagecount)
 *
 * Then it waits for so many seconds, or until its input ends if they are 0, checks what is in the
 * blocks, and ends with status 0, or 1 if a byte had changed.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK	256

static int number_file(const char *path)
{
	int fd = open(path, O_RDONLY);

	if (fd < 0) {
		perror(path);
		exit(2);
	}
	return fd;
}

/* A frame that is mapped n times counts 1/n each time. */
static double pages_of(FILE *maps)
{
	static uint64_t entry[4096];
	int pagemap = number_file("/proc/self/pagemap"), count = number_file("/proc/kpagecount");
	uint64_t from, to, mapped, at;
	char line[512];
	double sum = 0;
	ssize_t n, i;

	while (fgets(line, sizeof(line), maps)) {
		if (!strstr(line, "/dev/mafc") || sscanf(line, "%" SCNx64 "-%" SCNx64, &from, &to) != 2)
			continue;
		for (at = from / 4096; at < to / 4096; at += n / 8) {
			size_t want = (to / 4096 - at) * 8;

			n = pread(pagemap, entry, want < sizeof(entry) ? want : sizeof(entry), at * 8);
			if (n <= 0)
				exit(2);
			for (i = 0; i < n / 8; i++) {
				if (!(entry[i] >> 63))
					continue;
				if (pread(count, &mapped, 8, (entry[i] & ((1ULL << 55) - 1)) * 8) != 8 || !mapped)
					exit(2);
				sum += 1.0 / mapped;
			}
		}
	}
	return sum;
}

int main(int argc, char **argv)
{
	size_t blocks, keep, i, j, live = 0;
	unsigned char **block, *t;
	unsigned int seconds;
	FILE *maps;

	if (argc != 4)
		return 2;
	blocks = strtoul(argv[1], NULL, 10) * (1048576 / BLOCK);
	keep = strtoul(argv[2], NULL, 10);
	seconds = strtoul(argv[3], NULL, 10);
	block = calloc(blocks, sizeof(*block));
	for (i = 0; i < blocks; i++) {
		block[i] = malloc(BLOCK);
		memset(block[i], i % 251, BLOCK);
	}
	srand(1);
	/* The order of the frees, and of what stays: neither may follow the addresses. */
	for (i = blocks - 1; i > blocks / 2; i--) {
		j = blocks / 2 + (size_t)rand() % (i + 1 - blocks / 2);
		t = block[i], block[i] = block[j], block[j] = t;
	}
	for (i = 0; i < blocks; i++) {
		if (i > blocks / 2 && i % keep) {
			free(block[i]);
			block[i] = NULL;
			continue;
		}
		memset(block[i], i % 251, BLOCK);
		live += malloc_usable_size(block[i]);
	}
	live += malloc_usable_size(block);
	/* What is free in the thread's cache would count as live. */
	malloc_trim(0);
	maps = fopen("/proc/self/maps", "r");
	printf("live %zu pages %.0f\n", live, pages_of(maps));
	fflush(stdout);
	if (seconds)
		sleep(seconds);
	else
		while (read(0, &i, 1) == 1)
			;
	for (i = 0; i < blocks; i++)
		for (j = 0; block[i] && j < BLOCK; j++)
			if (block[i][j] != i % 251)
				return 1;
	return 0;
}
