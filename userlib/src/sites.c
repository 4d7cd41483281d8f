// SPDX-License-Identifier: Apache-2.0
/*
 * sites.c - who has what is live: call stacks of chosen blocks
 * Blocks are chosen, not calls: each byte that comes from the central lists is as likely as any
 * other, and a block stays chosen while it goes from bin to program and back, whoever has it.  The
 * common malloc and free know nothing of that: in a bin, NULL stands for a chosen block, and a page
 * that has one has class 0 in the page-class map, so that both go the slow way.
 */
#include "cache_idle.h"
#include "program.h"
#include "small.h"
#include <execinfo.h>
#include <stdlib.h>
#include <sys/mman.h>

#define HOT	1024	/* times that a block is taken, about, until it costs too much */

struct sites *sites;
struct lock sites_lock;	/* a leaf; guards the table, lists in it, and class 0 of pages */

static __thread struct {
	int64_t left;		/* bytes to the next that is chosen */
	uint64_t random;	/* state of random_next(), 0 at first */
	bool busy;		/* what backtrace() allocates has no stack */
} mine;

static uint64_t chance(uint64_t n)
{
	static uint64_t seed;

	if (unlikely(!mine.random)) {
		mine.random = count_add(&seed, 0x9e3779b97f4a7c15ULL) | 1;
		mine.left = chance(sites->interval);
	}
	return random_next(&mine.random) % n;
}

/* How many bytes a block shall stand for; 0: it is not chosen. */
static uint64_t weigh(uint64_t size)
{
	/* Gaps of random length have no rhythm in common with the program. */
	uint64_t mean = sites->interval, gap = mean / 2 + chance(mean), weight;

	mine.left -= size;
	if (mine.left >= 0)
		return 0;
	weight = -(uint64_t)mine.left / mean * mean + mean;
	mine.left += weight - mean + gap;
	return weight;
}

/* The link to the first record with address @p after @shift, or to the end of the chain. */
static uint32_t *find(const void *p, unsigned shift)
{
	uint32_t *at = &sites->chains[((uintptr_t)p >> PAGE_SHIFT) % SITES_CHAINS];

	while (*at && (sites->records[*at].addr ^ (uintptr_t)p) >> shift)
		at = &sites->records[*at].next;
	return at;
}

static void park(struct cache *c, uint32_t n)
{
	store(&sites->records[n].nframes, 0);
	sites->records[n].parked = c->parked;
	c->parked = n;
}

static uint32_t create(const void *p, size_t size, uint64_t weight)
{
	uint32_t n = sites->free, *at = find(p, 0);
	struct site *s = &sites->records[n];

	if (unlikely(*at))
		return 0;	/* left over from a misuse */
	if (n)
		sites->free = s->next;
	else if (sites->used < SITES_MAX)
		s = &sites->records[n = sites->used++];
	else
		return sites->lost++, 0;
	*s = (struct site){ s->seq, .addr = (uintptr_t)p, .size = size, .weight = weight };
	*at = n;
	if (in_small(p))
		store(&heap.page_class[small_page(p)], 0);
	return n;
}

static void drop(uint32_t *at)
{
	uint32_t n = *at;
	struct site *s = &sites->records[n];
	void *p = (void *)s->addr;

	*at = s->next;
	store(&s->nframes, 0);
	s->addr = 0;
	s->next = sites->free;
	sites->free = n;
	if (in_small(p) && !*find(p, PAGE_SHIFT))
		store(&heap.page_class[small_page(p)], class_at(p));
}

bool sites_choose(struct cache *c, void **blocks, unsigned n, size_t size)
{
	uint64_t weight;
	uint32_t r = 0;

	for (; n--; blocks++) {
		weight = weigh(size);
		if (likely(!weight))
			continue;
		lock_take(&sites_lock);
		r = create(*blocks, size, weight);
		if (r && c) {
			park(c, r);
			*blocks = NULL;
		}
		lock_drop(&sites_lock);
	}
	return r;
}

void *sites_unpark(struct cache *c, unsigned cls, bool keep)
{
	uint32_t *link = &c->parked, n;
	void *p = NULL;

	lock_take(&sites_lock);
	while (*link && sites->records[*link].size != classes[cls].size)
		link = &sites->records[*link].parked;
	n = *link;
	if (likely(n)) {
		p = (void *)sites->records[n].addr;
		*link = sites->records[n].parked;
		if (!keep)
			drop(find(p, 0));
	}
	lock_drop(&sites_lock);
	return p;
}

void sites_stack(void *p)
{
	void *frames[SITES_FRAMES];
	int n = 0, saved = errno;
	struct site *s;
	uint32_t *at;

	if (!mine.busy) {
		mine.busy = true;
		n = backtrace(frames, SITES_FRAMES);
		mine.busy = false;
	}
	lock_take(&sites_lock);
	at = find(p, 0);
	s = &sites->records[*at];
	if (*at && n > 0) {
		__atomic_fetch_add(&s->seq, 1, __ATOMIC_SEQ_CST);
		memcpy(s->frames, frames, n * sizeof(*frames));
		store(&s->nframes, n);
		__atomic_fetch_add(&s->seq, 1, __ATOMIC_SEQ_CST);
	} else if (*at) {
		drop(at);
	}
	lock_drop(&sites_lock);
	errno = saved;
}

int sites_free(struct cache *c, const void *p)
{
	uint32_t *at;
	int stays;

	lock_take(&sites_lock);
	at = find(p, 0);
	stays = !*at ? 0 : !sites->records[*at].nframes ? -1 : c && chance(HOT);
	if (stays > 0)
		park(c, *at);
	else if (*at && !stays)
		drop(at);
	lock_drop(&sites_lock);
	return stays;
}

/* Not earlier: the first backtrace() loads a library. */
__attribute__((constructor)) static void sites_init(void)
{
	struct sites *t;
	void *frame;

	if (!secure_getenv("MAFC_SITES") || !heap_start() || !options.sites || options.debug)
		return;
	t = mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (t == MAP_FAILED)
		return;
	madvise(t, sizeof(*t), MADV_NOHUGEPAGE);
	backtrace(&frame, 1);
	t->magic = SITES_MAGIC;
	t->used = 1;
	t->interval = MIN(options.sites, 1UL << 20) << 10;
	store(&heap.meta->sites, (uintptr_t)t);
	store_release(&sites, t);
}
