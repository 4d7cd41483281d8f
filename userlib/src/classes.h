/* SPDX-License-Identifier: Apache-2.0 */
/* classes.h - block sizes */
#ifndef MAFC_CLASSES_H
#define MAFC_CLASSES_H

#include "types.h"

/*
 * The first APART classes have so many blocks in a span that meshing cannot help
 * them.  They have a second number each, from apart on: malloc pops from the bin
 * of that one, free pushes to the bin of the first, and cache.c decides between.
 *
 * Classes from nclasses to apart - 1 have blocks of whole pages, from the
 * large region: they exist for the sake of the caches only.
 */
#define MEDIUM_MAX	((size_t)256 << 10)

#define APART 3

extern INTERNAL unsigned nclasses;
extern INTERNAL unsigned apart;
extern INTERNAL unsigned all_classes;
extern INTERNAL uint8_t class_of_pages[(MEDIUM_MAX >> PAGE_SHIFT) + 1];

/* The class in whose spans the blocks of class @cls lie. */
static inline unsigned class_own(unsigned cls)
{
	return cls < apart ? cls : cls - apart + 1;
}

void classes_init(void);
/* Class of blocks of at least @size bytes, aligned to @align; 0: none. */
unsigned class_aligned(size_t size, size_t align);

#endif
