// SPDX-License-Identifier: GPL-2.0-only
/*
 * tenant - a program with a heap, told on stdin what to do with it
 *
 *	fill MIB	allocate blocks of 32 to 512 bytes, each with a pattern of its own
 *	holes N		free all of them but one in N, by chance
 *	check		compare the patterns
 *	grow		allocate until something happens
 *
 * Each is answered with a line: the bytes of its blocks, or "bad". "tenant stat PID"
 * prints what the device says of another process's heap: held live fragmentation meshed.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "../../uapi/mafc.h"

#define MAX	(1U << 22)

struct block {
	unsigned char *at;
	uint32_t size;
};

static struct block *blocks;
static unsigned int count;
static uint64_t bytes, seed = 1;

static uint32_t chance(uint32_t n)
{
	seed = seed * 6364136223846793005 + 1442695040888963407;
	return (seed >> 33) % n;
}

static unsigned char pattern(const struct block *b)
{
	return ((uintptr_t)b->at >> 4) * 31 + b->size;
}

static int fill(uint64_t want)
{
	for (want += bytes; bytes < want; count++) {
		struct block *b = blocks + count;

		b->size = 32 + 16 * chance(31);
		b->at = count < MAX ? malloc(b->size) : NULL;
		if (!b->at)
			return -1;
		memset(b->at, pattern(b), b->size);
		bytes += b->size;
	}
	return 0;
}

static void holes(unsigned int n)
{
	unsigned int i, kept = 0;

	for (i = 0; i < count; i++) {
		if (chance(n)) {
			bytes -= blocks[i].size;
			free(blocks[i].at);
		} else {
			blocks[kept++] = blocks[i];
		}
	}
	count = kept;
}

static int check(void)
{
	unsigned int i, j;

	for (i = 0; i < count; i++)
		for (j = 0; j < blocks[i].size; j++)
			if (blocks[i].at[j] != pattern(blocks + i))
				return -1;
	return 0;
}

static int look(int pid)
{
	struct mafc_stat st = { .size = sizeof(st), .pid = pid };
	int fd = open("/dev/mafc", O_RDWR | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, MAFC_IOC_STAT, &st)) {
		perror("tenant");
		return 1;
	}
	printf("%llu %llu %llu %llu\n", (unsigned long long)st.held, (unsigned long long)st.live,
	       (unsigned long long)st.fragmentation, (unsigned long long)st.meshed);
	return 0;
}

int main(int argc, char **argv)
{
	char line[64];

	if (argc == 3 && !strcmp(argv[1], "stat"))
		return look(atoi(argv[2]));
	/* Not from malloc: the table is none of the heap's business. */
	blocks = mmap(NULL, MAX * sizeof(*blocks), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (blocks == MAP_FAILED)
		return 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof(line), stdin)) {
		unsigned int n = 0;
		int bad = 0;

		if (sscanf(line, "fill %u", &n) == 1)
			bad = fill((uint64_t)n << 20);
		else if (sscanf(line, "holes %u", &n) == 1)
			holes(n);
		else if (!strncmp(line, "check", 5))
			bad = check();
		else if (!strncmp(line, "grow", 4))
			bad = fill(UINT64_MAX / 2);
		else
			return 2;
		if (bad)
			puts("bad");
		else
			printf("%llu\n", (unsigned long long)bytes);
	}
	return 0;
}
