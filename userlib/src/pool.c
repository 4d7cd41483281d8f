// SPDX-License-Identifier: Apache-2.0
/* pool.c - memory for the library's own, growing structures */
#include "pool.h"
#include "region.h"

#define SIZES 13	/* log2 of the largest piece, and one more */

/* A free piece; here, unlike in blocks, nobody else writes. */
struct piece {
	struct piece *next;
};

/* Guards what follows, and RES_POOL. */
struct lock pool_lock;
static struct piece *pieces[SIZES];
static size_t used;

void *pool_alloc(size_t bytes)
{
	unsigned i = __builtin_ctzl(bytes);
	struct piece *p;

	lock_take(&pool_lock);
	p = pieces[i];
	if (p) {
		pieces[i] = p->next;
	} else {
		used = round_up(used, MIN(bytes, 64UL));
		if (reserve_grow(RES_POOL, used + bytes)) {
			p = (struct piece *)(reserves[RES_POOL].base + used);
			used += bytes;
		}
	}
	lock_drop(&pool_lock);
	return p;
}

void pool_free(void *p, size_t bytes)
{
	unsigned i = __builtin_ctzl(bytes);
	struct piece *piece = p;

	lock_take(&pool_lock);
	piece->next = pieces[i];
	pieces[i] = piece;
	lock_drop(&pool_lock);
}
