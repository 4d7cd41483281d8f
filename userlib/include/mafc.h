/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mafc.h - what libmafc.so offers beside the malloc interface of glibc
 * Preloading the library is enough; a program need not include this. Declared weak (#pragma weak
 * mafc_get_fragmentation), the symbols are NULL where the library is not there.
 */
#ifndef MAFC_H
#define MAFC_H

#ifdef __cplusplus
extern "C" {
#endif

/*
 * External fragmentation of the heap in per cent (0..100): memory that is held from the system and
 * in no live block. Never fails; 0 while nothing is held.
 */
int mafc_get_fragmentation(void);

/* 1 when the heap is served by /dev/mafc, 0 when by anonymous memory. */
int mafc_on_device(void);

#ifdef __cplusplus
}
#endif

#endif
