// SPDX-License-Identifier: Apache-2.0
/* wrap.c - a malloc in front of ours that asks dlsym for it at the first call */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>

unsigned long wrapped_calls;

void *malloc(size_t size)
{
	static void *(*next)(size_t size);

	if (!next)
		next = dlsym(RTLD_NEXT, "malloc");
	wrapped_calls++;
	return next(size);
}

void free(void *p)
{
	static void (*next)(void *p);

	if (!next)
		next = dlsym(RTLD_NEXT, "free");
	wrapped_calls++;
	next(p);
}
