/* SPDX-License-Identifier: Apache-2.0 */
/* classes.h - block sizes */
#ifndef MAFC_CLASSES_H
#define MAFC_CLASSES_H

#include "types.h"

extern unsigned nclasses;

void classes_init(void);
/* Class of blocks of at least @size bytes, aligned to @align; 0: none. */
unsigned class_aligned(size_t size, size_t align);

#endif
