/* SPDX-License-Identifier: Apache-2.0 */
/* classes.h - block sizes */
#ifndef MAFC_CLASSES_H
#define MAFC_CLASSES_H

#include "types.h"

/*
 * Classes from nclasses to all_classes - 1 have blocks of whole pages, from the
 * large region: they exist for the sake of the caches only.
 */
#define MEDIUM_MAX	((size_t)256 << 10)

extern INTERNAL unsigned nclasses;
extern INTERNAL unsigned all_classes;
extern INTERNAL uint8_t class_of_pages[(MEDIUM_MAX >> PAGE_SHIFT) + 1];

void classes_init(void);
/* Class of blocks of at least @size bytes, aligned to @align; 0: none. */
unsigned class_aligned(size_t size, size_t align);

#endif
