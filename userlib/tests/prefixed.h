/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prefixed.h - for programs under a sanitizer, which brings its own malloc: the
 * tests call the library, which is linked with MAFC_PREFIX, by its other names
 */
#ifndef MAFC_PREFIXED_H
#define MAFC_PREFIXED_H

#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

void *mafc_malloc(size_t n);
void *mafc_calloc(size_t m, size_t n);
void *mafc_realloc(void *p, size_t n);
void *mafc_reallocarray(void *p, size_t m, size_t n);
void *mafc_aligned_alloc(size_t a, size_t n);
void *mafc_memalign(size_t a, size_t n);
int mafc_posix_memalign(void **p, size_t a, size_t n);
void *mafc_valloc(size_t n);
void *mafc_pvalloc(size_t n);
void mafc_free(void *p);
size_t mafc_malloc_usable_size(void *p);
int mafc_malloc_trim(size_t pad);
struct mallinfo2 mafc_mallinfo2(void);
int mafc_malloc_info(int options, FILE *f);
void mafc_malloc_stats(void);
int mafc_mallopt(int param, int value);

static inline void *prefixed_dlsym(const char *name)
{
	char own[64];
	void *p;

	snprintf(own, sizeof(own), "mafc_%s", name);
	p = dlsym(RTLD_DEFAULT, own);
	return p ? p : dlsym(RTLD_DEFAULT, name);
}

#define malloc(n) mafc_malloc(n)
#define calloc(m, n) mafc_calloc(m, n)
#define realloc(p, n) mafc_realloc(p, n)
#define reallocarray(p, m, n) mafc_reallocarray(p, m, n)
#define aligned_alloc(a, n) mafc_aligned_alloc(a, n)
#define memalign(a, n) mafc_memalign(a, n)
#define posix_memalign(p, a, n) mafc_posix_memalign(p, a, n)
#define valloc(n) mafc_valloc(n)
#define pvalloc(n) mafc_pvalloc(n)
#define free(p) mafc_free(p)
#define malloc_usable_size(p) mafc_malloc_usable_size(p)
#define malloc_trim(pad) mafc_malloc_trim(pad)
#define mallinfo2() mafc_mallinfo2()
#define malloc_info(options, f) mafc_malloc_info(options, f)
#define malloc_stats() mafc_malloc_stats()
#define mallopt(param, value) mafc_mallopt(param, value)
#define dlsym(handle, name) prefixed_dlsym(name)

#endif
