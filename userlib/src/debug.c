// SPDX-License-Identifier: Apache-2.0
/*
 * debug.c - MAFC_DEBUG=1: writes after free, reads of what was never written
 *
 * A free block belongs to the kernel, which may drop it or put another in its
 * place; so blocks that are to be checked must not be free yet.  They wait here,
 * filled with a pattern, in the order in which they came.  Threads go without a
 * cache meanwhile, so that every call comes by.
 */
#include <string.h>

#include "debug.h"
#include "lock.h"
#include "report.h"

#define KEPT		4096
#define FILL_MAX	4096	/* of each block, from its start */
#define NEW_BYTE	0xa5
#define FREE_BYTE	0xdf

struct kept {
	unsigned char *p;
	size_t size;
};

/* A leaf; guards the two below. */
static struct lock debug_lock;
static struct kept ring[KEPT];
static unsigned at;

void debug_new(void *p, size_t size)
{
	memset(p, NEW_BYTE, MIN(size, (size_t)FILL_MAX));
}

static bool is_kept(const void *p)
{
	unsigned i;

	for (i = 0; i < KEPT; i++)
		if (ring[i].p == p)
			return true;
	return false;
}

static void check(const struct kept *k)
{
	size_t i;

	for (i = 0; i < MIN(k->size, (size_t)FILL_MAX); i++)
		if (k->p[i] != FREE_BYTE) {
			report_misuse("write after free", k->p + i);
			return;
		}
}

void *debug_keep(void *p, size_t size)
{
	struct kept old;
	bool twice;

	lock_take(&debug_lock);
	twice = is_kept(p);
	old = ring[at];
	if (!twice) {
		memset(p, FREE_BYTE, MIN(size, (size_t)FILL_MAX));
		ring[at] = (struct kept){ p, size };
		at = (at + 1) % KEPT;
	}
	lock_drop(&debug_lock);
	if (twice) {
		report_misuse("double free", p);
		return NULL;
	}
	if (old.p)
		check(&old);
	return old.p;
}

/* At worst, one block that was being filled is lost. */
void debug_forked(void)
{
	lock_reset(&debug_lock);
}
