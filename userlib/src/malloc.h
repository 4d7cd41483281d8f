/* SPDX-License-Identifier: Apache-2.0 */
/* malloc.h - the exported functions that other files of the library call */
#ifndef MAFC_MALLOC_H
#define MAFC_MALLOC_H

#include <stdio.h>

#include "types.h"

MAFC_EXPORT void *API(malloc)(size_t size);
MAFC_EXPORT void *API(calloc)(size_t n, size_t size);
MAFC_EXPORT void *API(realloc)(void *p, size_t size);
MAFC_EXPORT void *API(reallocarray)(void *p, size_t n, size_t size);
MAFC_EXPORT void API(free)(void *p);
MAFC_EXPORT void API(cfree)(void *p);
MAFC_EXPORT void API(free_sized)(void *p, size_t size);
MAFC_EXPORT void API(free_aligned_sized)(void *p, size_t align, size_t size);
MAFC_EXPORT void *API(aligned_alloc)(size_t align, size_t size);
MAFC_EXPORT void *API(memalign)(size_t align, size_t size);
MAFC_EXPORT int API(posix_memalign)(void **p, size_t align, size_t size);
MAFC_EXPORT void *API(valloc)(size_t size);
MAFC_EXPORT void *API(pvalloc)(size_t size);
MAFC_EXPORT size_t API(malloc_usable_size)(void *p);

/* Other names, under which programs and libraries reach past their own malloc. */
#if __has_attribute(copy)
#define COPY(of) , copy(of)
#else
#define COPY(of)
#endif
#define ALIAS(of) \
	__attribute__((alias(#of), visibility("default") COPY(of)))

/* @align is a power of two. */
void *alloc_aligned(size_t align, size_t size);

#endif
