// SPDX-License-Identifier: GPL-2.0-only
/*
 * pool.c - physical memory of a heap: chunks from the page allocator
 *
 * A chunk is taken from the system in one piece and split, so that the pages
 * can be mapped, counted and given back singly; the buddy inside keeps those
 * of one batch together.  Frames are taken from the fullest chunk that has
 * one, which leaves the others a chance to become empty.
 *
 * Use of struct page while the module owns it:
 *   private	the chunk
 *   refcount	1, plus one per page-table entry, plus pins
 *   mapping	NULL
 * and the rest as the mm leaves it.
 */
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/page_ref.h>
#include <linux/slab.h>

#include "mafc.h"
#include "trace.h"

/* How many chunks of a list are asked for a block of several frames. */
#define POOL_PROBES	4

static unsigned int chunk_frames(const struct mafc_chunk *chunk)
{
	return 1U << chunk->order;
}

static unsigned int chunk_free(const struct mafc_chunk *chunk)
{
	return mafc_buddy_free_pages(chunk->buddy);
}

/* List 0 has no free frame, list 1 is nearly full, the last one nearly empty. */
static unsigned int chunk_list(const struct mafc_chunk *chunk)
{
	unsigned int frames = chunk_frames(chunk);
	unsigned int nfree = chunk_free(chunk);

	if (!nfree)
		return 0;
	return 1 + (nfree - 1) * (MAFC_POOL_LISTS - 1) / frames;
}

static void chunk_relist(struct mafc_chunk *chunk)
{
	lockdep_assert_held(&chunk->pool->lock);
	if (!chunk->victim)
		list_move(&chunk->node, &chunk->pool->lists[chunk_list(chunk)]);
}

static bool chunk_unused(const struct mafc_chunk *chunk)
{
	return chunk_free(chunk) + chunk->gone == chunk_frames(chunk);
}

/**
 * mafc_pool_put() - drop a reference
 * @pool: of this pool
 */
void mafc_pool_put(struct mafc_pool *pool)
{
	if (refcount_dec_and_test(&pool->refs))
		kfree(pool);
}

/**
 * mafc_pool_create() - an empty pool
 * @min_order: order of its first and smallest chunks
 *
 * Context: may sleep.
 * Return: the pool, or NULL without memory.
 */
struct mafc_pool *mafc_pool_create(unsigned int min_order)
{
	struct mafc_pool *pool = kzalloc(sizeof(*pool), GFP_KERNEL_ACCOUNT);
	unsigned int i;

	if (!pool)
		return NULL;
	spin_lock_init(&pool->lock);
	refcount_set(&pool->refs, 1);
	pool->min_order = min_order;
	for (i = 0; i < MAFC_POOL_LISTS; i++)
		INIT_LIST_HEAD(&pool->lists[i]);
	return pool;
}

/* Takes the chunk out of the pool; pool->lock is held. */
static void chunk_detach(struct mafc_chunk *chunk)
{
	struct mafc_pool *pool = chunk->pool;

	lockdep_assert_held(&pool->lock);
	list_del(&chunk->node);
	pool->frames -= chunk_free(chunk);
	pool->cached -= chunk_free(chunk);
	pool->low = min(pool->low, pool->cached);
	pool->returned++;
}

/* Gives what is left of a detached chunk back to the system. */
static void chunk_free_pages(struct mafc_chunk *chunk)
{
	unsigned int i;

	trace_mafc_chunk(chunk->order, chunk->gone, false);
	for (i = 0; i < chunk_frames(chunk); i++) {
		struct page *page = chunk->base + i;

		if (mafc_buddy_is_used(chunk->buddy, i))
			continue;	/* gone already */
		set_page_private(page, 0);
		__free_page(page);
	}
	mafc_pool_put(chunk->pool);
	kvfree(chunk);
	cond_resched();
}

static void chunk_setup(struct mafc_chunk *chunk, struct mafc_pool *pool,
			struct page *base, unsigned int order)
{
	unsigned int i;

	chunk->pool = pool;
	chunk->base = base;
	chunk->order = order;
	chunk->buddy = (struct mafc_buddy *)&chunk->frame[1U << order];
	mafc_buddy_init(chunk->buddy, order);
	for (i = 0; i < 1U << order; i++)
		set_page_private(base + i, (unsigned long)chunk);
}

static struct mafc_chunk *chunk_create(struct mafc_pool *pool,
				       unsigned int order, gfp_t gfp)
{
	struct mafc_chunk *chunk;
	struct page *base;

	chunk = kvzalloc(struct_size(chunk, frame, 1UL << order) +
			 mafc_buddy_size(order), gfp);
	if (!chunk)
		return NULL;
	base = alloc_pages(gfp | __GFP_NOWARN, order);
	if (!base) {
		kvfree(chunk);
		return NULL;
	}
	split_page(base, order);
	chunk_setup(chunk, pool, base, order);
	refcount_inc(&pool->refs);
	trace_mafc_chunk(order, 0, true);
	return chunk;
}

/*
 * Chunks grow with the heap, so that what is taken ahead stays a small part
 * of it.  Large ones are asked for without insisting: neither reclaim nor the
 * cgroup's OOM killer should act for what a smaller chunk would do as well.
 */
static int pool_grow(struct mafc_pool *pool, gfp_t gfp)
{
	unsigned long sixteenth = READ_ONCE(pool->frames) / 16;
	int order = clamp_t(int, ilog2(sixteenth + 1), pool->min_order,
			    MAFC_CHUNK_ORDER_MAX);
	struct mafc_chunk *chunk = NULL;

	for (; order >= 0 && !chunk; order = order ? order / 2 : -1)
		chunk = chunk_create(pool, order, order ?
				     gfp | __GFP_NORETRY | __GFP_NOMEMALLOC : gfp);
	if (!chunk)
		return -ENOMEM;

	spin_lock(&pool->lock);
	INIT_LIST_HEAD(&chunk->node);
	pool->frames += chunk_frames(chunk);
	pool->cached += chunk_frames(chunk);
	chunk_relist(chunk);
	spin_unlock(&pool->lock);
	return 0;
}

static void take_frames(struct mafc_chunk *chunk, int off, unsigned int n,
			enum mafc_fill fill, struct mafc_batch *batch)
{
	struct mafc_pool *pool = chunk->pool;
	unsigned int i;
	bool fresh;

	for (i = 0; i < n; i++) {
		atomic_set(&chunk->frame[off + i].owners, 0);
		/* Raw frames become dirty when they are filled. */
		fresh = fill != MAFC_FILL_RAW &&
			!__test_and_set_bit(off + i, chunk->dirty);
		if (fill == MAFC_FILL_ZERO || (fill == MAFC_FILL_OWN && fresh))
			batch->zero |= BIT(i);
		batch->page[i] = chunk->base + off + i;
	}
	batch->n = n;
	pool->cached -= n;
	pool->low = min(pool->low, pool->cached);
	chunk_relist(chunk);
}

static bool take_order(struct mafc_pool *pool, unsigned int order,
		       enum mafc_fill fill, struct mafc_batch *batch)
{
	struct mafc_chunk *chunk;
	unsigned int i;

	for (i = 1; i < MAFC_POOL_LISTS; i++) {
		int probes = POOL_PROBES, off;

		list_for_each_entry(chunk, &pool->lists[i], node) {
			off = mafc_buddy_alloc(chunk->buddy, order);
			if (off >= 0) {
				take_frames(chunk, off, 1U << order, fill, batch);
				return true;
			}
			if (!--probes)
				break;
		}
	}
	return false;
}

static bool pool_try_take(struct mafc_pool *pool, struct mafc_batch *batch,
			  unsigned int want, enum mafc_fill fill)
{
	int order = ilog2(want);
	bool ok = false;

	spin_lock(&pool->lock);
	mafc_hist_add(&pool->hist, order);
	for (; order >= 0 && !ok; order--)
		ok = take_order(pool, order, fill, batch);
	spin_unlock(&pool->lock);
	return ok;
}

/**
 * mafc_pool_take() - take frames, cleared where they must be
 * @pool: from here
 * @batch: out: the frames, contiguous, without owners
 * @want: how many would be welcome, 1 to MAFC_BATCH_MAX; at least one comes
 * @fill: what they may hold
 * @gfp: GFP_KERNEL_ACCOUNT and modifiers, for growing; 0: do not grow
 *
 * The chunk is charged to the current memory cgroup (or the active one, of a
 * kthread).
 * Context: may sleep unless @gfp is 0.
 * Return: 0, or -ENOMEM.
 */
int mafc_pool_take(struct mafc_pool *pool, struct mafc_batch *batch,
		   unsigned int want, enum mafc_fill fill, gfp_t gfp)
{
	unsigned int i;

	batch->n = 0;
	batch->zero = 0;
	while (!pool_try_take(pool, batch, want, fill)) {
		if (!gfp || pool_grow(pool, gfp))
			return -ENOMEM;
	}
	for (i = 0; i < batch->n; i++)
		if (batch->zero & BIT(i))
			clear_highpage(batch->page[i]);
	return 0;
}

/**
 * mafc_frame_dirty() - a frame taken with MAFC_FILL_RAW has been filled
 * @page: the frame
 */
void mafc_frame_dirty(struct page *page)
{
	struct mafc_chunk *chunk = (struct mafc_chunk *)page_private(page);

	spin_lock(&chunk->pool->lock);
	__set_bit(page_to_pfn(page) - page_to_pfn(chunk->base), chunk->dirty);
	spin_unlock(&chunk->pool->lock);
}

/*
 * Returns a frame without owners to its buddy, or to the system where the
 * buddy cannot have it: its pool is dead or another process's (whose next page
 * must not show this one's data), or somebody holds a pin and writes into it
 * whenever he likes.
 */
static void frame_free(struct mafc_pool *mine, struct page *page)
{
	struct mafc_chunk *chunk = (struct mafc_chunk *)page_private(page);
	struct mafc_pool *pool = chunk->pool;
	bool reuse = pool == mine && page_ref_freeze(page, 1);
	bool empty;

	if (reuse)
		page_ref_unfreeze(page, 1);

	spin_lock(&pool->lock);
	reuse = reuse && !pool->dead;
	if (reuse) {
		mafc_buddy_free(chunk->buddy, page_to_pfn(page) -
				page_to_pfn(chunk->base), 0);
		pool->cached++;
	} else {
		chunk->gone++;
		pool->frames--;
	}
	/* One empty chunk is kept: the next fault is likely to want it. */
	empty = chunk_unused(chunk) && !chunk->victim &&
		(pool->dead || chunk->gone ||
		 pool->cached > 2 * chunk_frames(chunk));
	if (empty)
		chunk_detach(chunk);
	else
		chunk_relist(chunk);
	spin_unlock(&pool->lock);

	if (!reuse) {
		set_page_private(page, 0);
		put_page(page);
	}
	if (empty)
		chunk_free_pages(chunk);
}

/**
 * mafc_pool_untake() - give frames back that found no use
 * @pool: where they came from
 * @batch: the frames; afterwards empty
 */
void mafc_pool_untake(struct mafc_pool *pool, struct mafc_batch *batch)
{
	while (batch->n)
		frame_free(pool, batch->page[--batch->n]);
}

/**
 * mafc_frame_put() - some entries no longer point at a frame
 * @mine: pool of the heap whose entries they were
 * @page: the frame
 * @owners: how many entries
 *
 * Context: may sleep.  The last owner's call frees the frame.
 */
void mafc_frame_put(struct mafc_pool *mine, struct page *page, int owners)
{
	if (atomic_sub_and_test(owners, &mafc_frame(page)->owners))
		frame_free(mine, page);
}

/**
 * mafc_pool_kill() - the heap is dead
 * @pool: its pool; frames that a forked process still uses live on, and the
 *	pool itself lives until the last reference is dropped
 *
 * Context: may sleep.
 */
void mafc_pool_kill(struct mafc_pool *pool)
{
	struct mafc_chunk *chunk, *next;
	LIST_HEAD(unused);
	unsigned int i;

	spin_lock(&pool->lock);
	pool->dead = true;
	for (i = 0; i < MAFC_POOL_LISTS; i++)
		list_for_each_entry_safe(chunk, next, &pool->lists[i], node)
			if (chunk_unused(chunk)) {
				chunk_detach(chunk);
				list_add(&chunk->node, &unused);
			}
	spin_unlock(&pool->lock);
	list_for_each_entry_safe(chunk, next, &unused, node)
		chunk_free_pages(chunk);
}

/*
 * Takes one free frame out for good: of the fullest chunks, as the emptiest are
 * likely to be evacuated and to go in one piece.
 */
static struct page *punch_one(struct mafc_pool *pool)
{
	struct mafc_chunk *chunk;
	int i, off;

	for (i = 1; i < MAFC_POOL_LISTS; i++) {
		chunk = list_first_entry_or_null(&pool->lists[i],
						 struct mafc_chunk, node);
		if (!chunk)
			continue;
		off = mafc_buddy_alloc(chunk->buddy, 0);
		if (WARN_ON_ONCE(off < 0))
			return NULL;
		chunk->gone++;
		pool->frames--;
		pool->cached--;
		pool->low = min(pool->low, pool->cached);
		chunk_relist(chunk);
		return chunk->base + off;
	}
	return NULL;
}

/**
 * mafc_pool_punch() - give free frames back one by one
 * @pool: of this pool
 * @max: at most so many
 *
 * Context: any that may take spinlocks; used by the shrinker.
 * Return: frames given back.
 */
unsigned long mafc_pool_punch(struct mafc_pool *pool, unsigned long max)
{
	unsigned long done = 0;
	struct page *page;

	while (done < max) {
		spin_lock(&pool->lock);
		page = punch_one(pool);
		spin_unlock(&pool->lock);
		if (!page)
			break;
		set_page_private(page, 0);
		__free_page(page);
		done++;
	}
	return done;
}

/* Empty chunks, beyond what @keep frames of cache allow. */
static unsigned long release_empty(struct mafc_pool *pool, unsigned long keep)
{
	struct list_head *list = &pool->lists[MAFC_POOL_LISTS - 1];
	struct mafc_chunk *chunk, *next;
	unsigned long frames = 0;
	LIST_HEAD(unused);

	spin_lock(&pool->lock);
	list_for_each_entry_safe(chunk, next, list, node) {
		if (!chunk_unused(chunk) || pool->low < keep + chunk_free(chunk))
			continue;
		frames += chunk_free(chunk);
		chunk_detach(chunk);
		list_add(&chunk->node, &unused);
	}
	spin_unlock(&pool->lock);
	list_for_each_entry_safe(chunk, next, &unused, node)
		chunk_free_pages(chunk);
	return frames;
}

/**
 * mafc_pool_trim() - give back what was not needed since the last trim
 * @pool: of this pool
 * @part: one in so many frames stays as a reserve
 *
 * Whole chunks first, then single frames.
 * Context: may sleep.
 * Return: frames given back.
 */
unsigned long mafc_pool_trim(struct mafc_pool *pool, unsigned int part)
{
	unsigned long keep = max(16UL, READ_ONCE(pool->frames) / part);
	unsigned long done = release_empty(pool, keep);
	unsigned long low = READ_ONCE(pool->low);

	if (low > keep)
		done += mafc_pool_punch(pool, low - keep);
	spin_lock(&pool->lock);
	pool->low = pool->cached;
	spin_unlock(&pool->lock);
	return done;
}

/**
 * mafc_pool_victim() - choose a chunk worth emptying
 * @pool: of this pool
 *
 * Its frames in use must be few, and fit into the free frames of the others.
 * Nothing is taken from it until mafc_pool_release_victim().
 * Return: the chunk, or NULL.
 */
struct mafc_chunk *mafc_pool_victim(struct mafc_pool *pool)
{
	struct mafc_chunk *chunk, *best = NULL;
	unsigned int i, used, least = MAFC_CHUNK_FRAMES_MAX / 4 + 1;

	spin_lock(&pool->lock);
	for (i = MAFC_POOL_LISTS - 1; i > MAFC_POOL_LISTS / 2; i--) {
		int probes = 8 * POOL_PROBES;

		list_for_each_entry(chunk, &pool->lists[i], node) {
			used = chunk_frames(chunk) - chunk->gone -
			       chunk_free(chunk);
			if (used < least &&
			    used + chunk_free(chunk) < pool->cached) {
				best = chunk;
				least = used;
			}
			if (!--probes)
				break;
		}
	}
	if (best) {
		best->victim = true;
		list_del_init(&best->node);
	}
	spin_unlock(&pool->lock);
	return best;
}

/**
 * mafc_pool_release_victim() - emptying is over
 * @chunk: from mafc_pool_victim(); must not be used afterwards
 *
 * Context: may sleep.
 * Return: true if it went back to the system, false if something stayed in it.
 */
bool mafc_pool_release_victim(struct mafc_chunk *chunk)
{
	struct mafc_pool *pool = chunk->pool;
	bool empty;

	spin_lock(&pool->lock);
	chunk->victim = false;
	empty = chunk_unused(chunk);
	if (empty)
		chunk_detach(chunk);
	else	/* last in line, so that another one is tried next time */
		list_add_tail(&chunk->node, &pool->lists[chunk_list(chunk)]);
	spin_unlock(&pool->lock);
	if (empty)
		chunk_free_pages(chunk);
	return empty;
}

/**
 * mafc_pool_stat() - add a pool's figures
 * @pool: of this pool
 * @st: held, cached, free_blocks, largest_free and chunks_returned are added to
 */
void mafc_pool_stat(struct mafc_pool *pool, struct mafc_stat *st)
{
	u32 counts[MAFC_BUDDY_ORDER_MAX + 1];
	struct mafc_chunk *chunk;
	int i, k, largest;

	spin_lock(&pool->lock);
	st->held += (u64)pool->frames << PAGE_SHIFT;
	st->cached += (u64)pool->cached << PAGE_SHIFT;
	st->chunks_returned += pool->returned;
	for (i = 1; i < MAFC_POOL_LISTS; i++)
		list_for_each_entry(chunk, &pool->lists[i], node) {
			mafc_buddy_counts(chunk->buddy, counts);
			for (k = 0; k <= chunk->order; k++)
				st->free_blocks[k] += counts[k];
			largest = mafc_buddy_largest(chunk->buddy);
			if (largest >= 0)
				st->largest_free = max_t(u64, st->largest_free,
							 PAGE_SIZE << largest);
		}
	spin_unlock(&pool->lock);
}
