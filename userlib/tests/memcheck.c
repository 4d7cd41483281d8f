// SPDX-License-Identifier: Apache-2.0
/* memcheck.c - run under Valgrind by tools.sh: N, a clean run, or an error */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *volatile p;

/* Each way to get a block, and each way to give it back. */
static void clean(void)
{
	void (*sized)(void *p, size_t n) = dlsym(RTLD_DEFAULT, "free_sized");
	void (*aligned_sized)(void *p, size_t align, size_t n) =
		dlsym(RTLD_DEFAULT, "free_aligned_sized");
	void *(*libc_malloc)(size_t n) = dlsym(RTLD_DEFAULT, "__libc_malloc");
	void *q;

	if (!sized || !aligned_sized || !libc_malloc)
		exit(3);
	sized(strcpy(malloc(10), "some text"), 10);
	aligned_sized(memset(aligned_alloc(64, 128), 1, 128), 64, 128);
	free(reallocarray(calloc(3, 7), 10, 20));
	free(memset(memalign(256, 1000), 1, 1000));
	free(memset(valloc(100), 1, 100));
	free(memset(pvalloc(5000), 1, 5000));
	if (posix_memalign(&q, 64, 100))
		exit(3);
	free(memset(q, 1, malloc_usable_size(q)));
	free(libc_malloc(10));
	if (realloc(malloc(100000), 0))
		exit(3);
	malloc_trim(0);
}

int main(int argc, char **argv)
{
	switch (argc > 1 ? argv[1][0] : '0') {
	case '0':
		clean();
		break;
	case '1':
		p = malloc(100);
		free(p);
		return p[5];
	case '2':
		p = malloc(100);
		p[100] = 1;
		free(p);
		break;
	case '3':
		p = malloc(100);
		p = NULL;
		break;
	case '4':
		p = malloc(100);
		free(p);
		free(p);
		break;
	case '5':
		p = malloc(100);
		if (p[3])
			puts("yes");
		free(p);
		break;
	}
	return 0;
}
