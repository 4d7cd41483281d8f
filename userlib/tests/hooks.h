/* SPDX-License-Identifier: Apache-2.0 */
/* hooks.h - included before all of the library where mesh.c plays the kernel */
#ifndef HOOKS_H
#define HOOKS_H
#include <stdbool.h>

struct reserve;

#define TEST_COMPACTS	true
#define race_window()	mafc_test_race()

/* At the start of the heap: the small region, still to be made usable. */
bool mafc_test_map(const struct reserve *small);
/* Called by either side between two steps. */
void mafc_test_race(void);

#endif
