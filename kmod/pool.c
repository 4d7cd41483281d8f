// SPDX-License-Identifier: GPL-2.0-only
/*
 * pool.c - physical memory of a heap: chunks from the page allocator, split into single pages
 * Frames come from the fullest chunk of a node that has one, so that others may become empty. In
 * struct page, private is the chunk, and the count 1 plus page-table entries and pins.
 */
#include <linux/highmem.h>
#include <linux/mempolicy.h>
#include "mafc.h"
#include "trace.h"

#define POOL_PROBES	4	/* chunks of a list that are asked for a block */

atomic_long_t mafc_node_frames[MAX_NUMNODES];

/* All chunks, by node and by the memory cgroup that pays for them. */
static struct list_lru chunk_lru;
static struct kmem_cache *chunk_cache;
static struct shrinker *shrinker;

static unsigned int chunk_frames(const struct mafc_chunk *chunk)
{
	return 1U << chunk->order;
}

static unsigned int chunk_free(const struct mafc_chunk *chunk)
{
	return chunk->buddy->free_pages;
}

/* List 0 has no free frame, list 1 is nearly full, the last one nearly empty. */
static unsigned int chunk_list(const struct mafc_chunk *chunk)
{
	unsigned int nfree = chunk_free(chunk);

	return nfree ? 1 + (nfree - 1) * (MAFC_POOL_LISTS - 1) / chunk_frames(chunk) : 0;
}

static struct mafc_pool_node *chunk_node(const struct mafc_chunk *chunk)
{
	return &chunk->pool->node[page_to_nid(chunk->base)];
}

static void chunk_relist(struct mafc_chunk *chunk)
{
	lockdep_assert_held(&chunk->pool->lock);
	if (!chunk->aside)
		list_move(&chunk->node, &chunk_node(chunk)->lists[chunk_list(chunk)]);
}

/* Counts @n frames as free, or as free no longer. */
static void chunk_cached(struct mafc_chunk *chunk, int n)
{
	struct mafc_pool *pool = chunk->pool;

	chunk_node(chunk)->cached += n;
	pool->cached += n;
	pool->low = min(pool->low, pool->cached);
}

/* List @i of all nodes' lists, by node and then by fullness. */
static struct list_head *pool_list(struct mafc_pool *pool, unsigned int i)
{
	return &pool->node[i / MAFC_POOL_LISTS].lists[i % MAFC_POOL_LISTS];
}

static bool chunk_unused(const struct mafc_chunk *chunk)
{
	return chunk_free(chunk) + chunk->gone == chunk_frames(chunk);
}

/* @pool may be NULL. */
void mafc_pool_put(struct mafc_pool *pool)
{
	if (pool && refcount_dec_and_test(&pool->refs))
		kfree(pool);
}

/* An empty pool, or NULL; @min_order is that of its first and smallest chunks. May sleep. */
struct mafc_pool *mafc_pool_create(unsigned int min_order)
{
	struct mafc_pool *pool = kzalloc(struct_size(pool, node, nr_node_ids), GFP_KERNEL_ACCOUNT);
	unsigned int i;

	if (!pool)
		return NULL;
	spin_lock_init(&pool->lock);
	refcount_set(&pool->refs, 1);
	pool->min_order = min_order;
	for (i = 0; i < nr_node_ids * MAFC_POOL_LISTS; i++)
		INIT_LIST_HEAD(pool_list(pool, i));
	return pool;
}

static void chunk_detach(struct mafc_chunk *chunk, struct list_head *unused)
{
	struct mafc_pool *pool = chunk->pool;

	lockdep_assert_held(&pool->lock);
	list_move(&chunk->node, unused);
	chunk->aside = true;
	pool->frames -= chunk_free(chunk);
	chunk_cached(chunk, -chunk_free(chunk));
	pool->returned++;
}

/* Gives a frame back to the system, or leaves it to those who pin it. */
static void frame_return(struct page *page)
{
	atomic_long_dec(&mafc_node_frames[page_to_nid(page)]);
	set_page_private(page, 0);
	put_page(page);
}

/* Gives detached chunks back to the system. */
static void chunks_free(struct list_head *unused)
{
	struct mafc_chunk *chunk, *next;
	unsigned int i;

	list_for_each_entry_safe(chunk, next, unused, node) {
		trace_mafc_chunk(chunk->order, chunk->gone, false);
		list_lru_del_obj(&chunk_lru, &chunk->lru);
		for (i = 0; i < chunk_frames(chunk); i++)
			if (!mafc_buddy_is_used(chunk->buddy, i))
				frame_return(chunk->base + i);
		mafc_pool_put(chunk->pool);
		kvfree(chunk->frame);
		kmem_cache_free(chunk_cache, chunk);
		cond_resched();
	}
}

/* Where page @slot should lie by the policy of @vma (or NULL) or task; interleaves by 64 KiB. */
void mafc_place_of(const struct vm_area_struct *vma, u32 slot, struct mafc_place *place)
{
#ifdef CONFIG_NUMA
	const struct mempolicy *pol = vma && vma->vm_policy ? vma->vm_policy : current->mempolicy;
	unsigned int i;

#endif
	*place = (struct mafc_place){ .nid = numa_mem_id() };
#ifdef CONFIG_NUMA
	if (!pol || nodes_empty(pol->nodes))
		return;
	place->only = pol->mode == MPOL_BIND;
	if (place->only || pol->mode == MPOL_PREFERRED || pol->mode == MPOL_PREFERRED_MANY) {
		place->nodes = &pol->nodes;
		if (!node_isset(place->nid, pol->nodes))
			place->nid = first_node(pol->nodes);
	} else if (pol->mode != MPOL_LOCAL) {
		i = slot / MAFC_BATCH_MAX % nodes_weight(pol->nodes);
		for (place->nid = first_node(pol->nodes); i--; )
			place->nid = next_node(place->nid, pol->nodes);
	}
#endif
}

static struct mafc_chunk *chunk_create(struct mafc_pool *pool, unsigned int order, gfp_t gfp,
				       const struct mafc_place *place)
{
	struct mafc_chunk *chunk = kmem_cache_alloc_lru(chunk_cache, &chunk_lru, gfp | __GFP_ZERO);
	nodemask_t *nodes = place->only ? (nodemask_t *)place->nodes : NULL;
	unsigned int i;

	if (!chunk)
		return NULL;
	chunk->frame = kvzalloc(sizeof(*chunk->frame) * (1UL << order) +
				mafc_buddy_size(order), gfp);
	if (place->only && !nodes)
		gfp |= __GFP_THISNODE;
	if (chunk->frame)
		chunk->base = __alloc_pages(gfp | __GFP_NOWARN, order, place->nid, nodes);
	if (!chunk->base) {
		kvfree(chunk->frame);
		kmem_cache_free(chunk_cache, chunk);
		return NULL;
	}
	split_page(chunk->base, order);
	refcount_inc(&pool->refs);
	chunk->pool = pool;
	chunk->order = order;
	chunk->aside = true;
	chunk->zeroed = want_init_on_alloc(gfp);
	chunk->buddy = (struct mafc_buddy *)&chunk->frame[1U << order];
	mafc_buddy_init(chunk->buddy, order);
	for (i = 0; i < 1U << order; i++)
		set_page_private(chunk->base + i, (unsigned long)chunk);
	INIT_LIST_HEAD(&chunk->node);
	INIT_LIST_HEAD(&chunk->lru);
	list_lru_add_obj(&chunk_lru, &chunk->lru);
	trace_mafc_chunk(order, 0, true);
	return chunk;
}

/* Large chunks without insisting: no reclaim, no OOM kill, as a smaller one would do as well. */
static int pool_grow(struct mafc_pool *pool, gfp_t gfp, const struct mafc_place *place)
{
	unsigned long sixteenth = READ_ONCE(pool->frames) / 16;
	int order = clamp_t(int, ilog2(sixteenth + 1), pool->min_order, MAFC_CHUNK_ORDER_MAX);
	struct mafc_chunk *chunk = NULL;

	for (; order >= 0 && !chunk; order = order ? order / 2 : -1)
		chunk = chunk_create(pool, order, order ?
				     gfp | __GFP_NORETRY | __GFP_NOMEMALLOC : gfp, place);
	if (!chunk)
		return -ENOMEM;
	atomic_long_add(chunk_frames(chunk), &mafc_node_frames[page_to_nid(chunk->base)]);
	guard(spinlock)(&pool->lock);
	chunk->aside = false;
	pool->frames += chunk_frames(chunk);
	chunk_cached(chunk, chunk_frames(chunk));
	chunk_relist(chunk);
	return 0;
}

static void take_frames(struct mafc_chunk *chunk, int off, unsigned int n,
			enum mafc_fill fill, struct mafc_batch *batch)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		atomic_set(&chunk->frame[off + i].owners, 0);
		/* Raw frames become dirty when they are filled. */
		if (fill != MAFC_FILL_RAW &&
		    (__test_and_set_bit(off + i, chunk->dirty) ? fill == MAFC_FILL_ZERO :
		     !chunk->zeroed))
			batch->zero |= BIT(i);
		batch->page[i] = chunk->base + off + i;
	}
	batch->n = n;
	chunk_cached(chunk, -n);
	chunk_relist(chunk);
}

static bool take_order(struct mafc_pool_node *node, unsigned int order,
		       enum mafc_fill fill, struct mafc_batch *batch)
{
	struct mafc_chunk *chunk;
	unsigned int i;

	for (i = 1; i < MAFC_POOL_LISTS; i++) {
		int probes = POOL_PROBES, off;

		list_for_each_entry(chunk, &node->lists[i], node) {
			if (!probes--)
				break;
			off = mafc_buddy_alloc(chunk->buddy, order);
			if (off >= 0) {
				take_frames(chunk, off, 1U << order, fill, batch);
				return true;
			}
		}
	}
	return false;
}

static bool take_node(struct mafc_pool *pool, int nid, int order,
		      enum mafc_fill fill, struct mafc_batch *batch)
{
	if (!pool->node[nid].cached)
		return false;
	while (!take_order(&pool->node[nid], order, fill, batch))
		if (!order--)
			return false;
	return true;
}

/* From the right node, or (@any) from one that is not forbidden. */
static bool pool_try_take(struct mafc_pool *pool, struct mafc_batch *batch, unsigned int want,
			  enum mafc_fill fill, const struct mafc_place *place, bool any)
{
	int order = ilog2(want), nid;
	bool ok;

	guard(spinlock)(&pool->lock);
	mafc_hist_add(&pool->hist, order);
	ok = take_node(pool, place->nid, order, fill, batch);
	for (nid = 0; nid < nr_node_ids && !ok; nid++)
		if ((place->nodes && node_isset(nid, *place->nodes)) || (any && !place->only))
			ok = take_node(pool, nid, order, fill, batch);
	return ok;
}

/*
 * Takes 1 to @want (at most MAFC_BATCH_MAX) contiguous frames without owners, cleared if @fill and
 * what they held require it: 0 or -ENOMEM. @gfp, for growing: GFP_KERNEL_ACCOUNT and modifiers; 0:
 * do not grow, do not sleep. Charges the current (a kthread: active) memory cgroup.
 */
int mafc_pool_take(struct mafc_pool *pool, struct mafc_batch *batch, unsigned int want,
		   enum mafc_fill fill, gfp_t gfp, const struct mafc_place *place)
{
	unsigned int i;
	bool grown;

	batch->n = 0;
	batch->zero = 0;
	while (!pool_try_take(pool, batch, want, fill, place, false)) {
		grown = gfp && !pool_grow(pool, gfp, place);
		if (pool_try_take(pool, batch, want, fill, place, true))
			break;
		if (!grown)
			return -ENOMEM;
	}
	for (i = 0; i < batch->n; i++)
		if (batch->zero & BIT(i))
			clear_highpage(batch->page[i]);
	return 0;
}

/* A frame taken with MAFC_FILL_RAW has been filled. */
void mafc_frame_dirty(struct page *page)
{
	struct mafc_chunk *chunk = (struct mafc_chunk *)page_private(page);

	guard(spinlock)(&chunk->pool->lock);
	__set_bit(page_to_pfn(page) - page_to_pfn(chunk->base), chunk->dirty);
}

/* Puts merges off as the requests of late suggest; anew when these were halved. */
static void chunk_adapt(struct mafc_chunk *chunk)
{
	const struct mafc_hist *hist = &chunk->pool->hist;
	u16 target[MAFC_CHUNK_ORDER_MAX + 1];

	if (chunk->age == hist->age)
		return;
	chunk->age = hist->age;
	mafc_hist_targets(hist, chunk->order, target);
	mafc_buddy_set_lazy(chunk->buddy, target);
}

/* To the system if the pool is dead or another's, or the frame is pinned: see invariant 6. */
static void frame_free(struct mafc_pool *mine, struct page *page)
{
	struct mafc_chunk *chunk = (struct mafc_chunk *)page_private(page);
	struct mafc_pool *pool = chunk->pool;
	bool reuse = pool == mine && page_ref_freeze(page, 1);
	LIST_HEAD(unused);

	if (reuse)
		page_ref_unfreeze(page, 1);
	spin_lock(&pool->lock);
	reuse = reuse && !pool->dead;
	if (reuse) {
		chunk_adapt(chunk);
		mafc_buddy_free(chunk->buddy, page_to_pfn(page) - page_to_pfn(chunk->base), 0);
		chunk_cached(chunk, 1);
	} else {
		chunk->gone++;
		pool->frames--;
	}
	/* One empty chunk is kept: the next fault is likely to want it. */
	if (chunk_unused(chunk) && !chunk->aside &&
	    (pool->dead || chunk->gone || pool->cached > 2 * chunk_frames(chunk)))
		chunk_detach(chunk, &unused);
	else
		chunk_relist(chunk);
	spin_unlock(&pool->lock);
	if (!reuse)
		frame_return(page);
	chunks_free(&unused);
}

/* Gives frames back that found no use; @batch is empty afterwards. */
void mafc_pool_untake(struct mafc_pool *pool, struct mafc_batch *batch)
{
	while (batch->n)
		frame_free(pool, batch->page[--batch->n]);
}

/* @owners entries of the heap with pool @mine are gone; the last frees the frame. May sleep. */
void mafc_frame_put(struct mafc_pool *mine, struct page *page, int owners)
{
	if (atomic_sub_and_test(owners, &mafc_frame(page)->owners))
		frame_free(mine, page);
}

/* Gives unused chunks back, of a living pool beyond what @keep free frames allow. */
static void release_unused(struct mafc_pool *pool, unsigned long keep)
{
	struct mafc_chunk *chunk, *next;
	LIST_HEAD(unused);
	unsigned int i;

	spin_lock(&pool->lock);
	for (i = 0; i < nr_node_ids * MAFC_POOL_LISTS; i++) {
		if (!pool->dead && i % MAFC_POOL_LISTS != MAFC_POOL_LISTS - 1)
			continue;
		list_for_each_entry_safe(chunk, next, pool_list(pool, i), node) {
			mafc_buddy_flush(chunk->buddy);
			if (chunk_unused(chunk) &&
			    (pool->dead || pool->low >= keep + chunk_free(chunk)))
				chunk_detach(chunk, &unused);
		}
	}
	spin_unlock(&pool->lock);
	chunks_free(&unused);
}

/* The heap is dead: only frames that a forked process uses live on, with the pool. May sleep. */
void mafc_pool_kill(struct mafc_pool *pool)
{
	scoped_guard(spinlock, &pool->lock)
		pool->dead = true;
	release_unused(pool, 0);
}

/* What is on its way back to the system: @frames, and whole chunks. */
struct punched {
	unsigned long n;
	struct list_head frames, chunks;
};

#define PUNCHED(p) { .frames = LIST_HEAD_INIT((p).frames), .chunks = LIST_HEAD_INIT((p).chunks) }

/* Takes at most @max free frames out for good, an empty chunk in one piece. */
static void chunk_punch(struct mafc_chunk *chunk, unsigned long max, struct punched *p)
{
	unsigned long n = min_t(unsigned long, chunk_free(chunk), max), i;

	p->n += n;
	if (chunk_unused(chunk) && n == chunk_free(chunk)) {
		chunk_detach(chunk, &p->chunks);
		return;
	}
	for (i = 0; i < n; i++)
		list_add(&chunk->base[mafc_buddy_alloc(chunk->buddy, 0)].lru, &p->frames);
	chunk->gone += n;
	chunk->pool->frames -= n;
	chunk_cached(chunk, -n);
	chunk_relist(chunk);
}

static unsigned long punched_free(struct punched *p)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &p->frames, lru)
		frame_return(page);
	chunks_free(&p->chunks);
	return p->n;
}

/* From the fullest chunks, see Giving back in design.rst. At most 64: faults wait for the lock. */
static unsigned long punch_some(struct mafc_pool *pool, unsigned long max)
{
	struct punched p = PUNCHED(p);
	struct mafc_chunk *chunk;
	unsigned int i;

	max = min(max, 64UL);
	spin_lock(&pool->lock);
	for (i = 0; i < nr_node_ids * MAFC_POOL_LISTS; i++)
		while (i % MAFC_POOL_LISTS && p.n < max &&
		       (chunk = list_first_entry_or_null(pool_list(pool, i),
							 struct mafc_chunk, node)))
			chunk_punch(chunk, max - p.n, &p);
	spin_unlock(&pool->lock);
	return punched_free(&p);
}

/* Gives back what was free since the last trim, but for one in @part frames. May sleep. */
void mafc_pool_trim(struct mafc_pool *pool, unsigned int part)
{
	unsigned long keep = max(16UL, READ_ONCE(pool->frames) / part), n = 1;
	long excess;

	release_unused(pool, keep);
	for (excess = READ_ONCE(pool->low) - keep; excess > 0 && n; excess -= n)
		n = punch_some(pool, excess);
	guard(spinlock)(&pool->lock);
	pool->low = pool->cached;
}

/* A chunk to empty into its node's others, or NULL; aside until mafc_pool_release_victim(). */
struct mafc_chunk *mafc_pool_victim(struct mafc_pool *pool)
{
	struct mafc_chunk *chunk, *best = NULL;
	unsigned int i, used, least = MAFC_CHUNK_FRAMES_MAX / 4 + 1;

	guard(spinlock)(&pool->lock);
	for (i = nr_node_ids * MAFC_POOL_LISTS; i--; ) {
		int probes = i % MAFC_POOL_LISTS > MAFC_POOL_LISTS / 2 ? 8 * POOL_PROBES : 0;

		list_for_each_entry(chunk, pool_list(pool, i), node) {
			if (!probes--)
				break;
			used = chunk_frames(chunk) - chunk->gone - chunk_free(chunk);
			if (used < least && used + chunk_free(chunk) < chunk_node(chunk)->cached) {
				best = chunk;
				least = used;
			}
		}
	}
	if (!best)
		return NULL;
	best->aside = true;
	list_del_init(&best->node);
	mafc_buddy_flush(best->buddy);
	return best;
}

/* Emptying is over: @chunk must not be used any more. May sleep. Return: true if it went back. */
bool mafc_pool_release_victim(struct mafc_chunk *chunk)
{
	struct mafc_pool *pool = chunk->pool;
	LIST_HEAD(unused);
	bool empty;

	spin_lock(&pool->lock);
	chunk->aside = false;
	empty = chunk_unused(chunk);
	if (empty)
		chunk_detach(chunk, &unused);
	else	/* last in line, so that another one is tried next time */
		list_add_tail(&chunk->node, &chunk_node(chunk)->lists[chunk_list(chunk)]);
	spin_unlock(&pool->lock);
	chunks_free(&unused);
	return empty;
}

/* Adds a pool's figures to held, cached, free_blocks, largest_free and chunks_returned. */
void mafc_pool_stat(struct mafc_pool *pool, struct mafc_stat *st)
{
	u32 counts[MAFC_BUDDY_ORDER_MAX + 1];
	struct mafc_chunk *chunk;
	int i, k, largest;

	guard(spinlock)(&pool->lock);
	st->held += (u64)pool->frames << PAGE_SHIFT;
	st->cached += (u64)pool->cached << PAGE_SHIFT;
	st->chunks_returned += pool->returned;
	for (i = 0; i < nr_node_ids * MAFC_POOL_LISTS; i++)
		list_for_each_entry(chunk, pool_list(pool, i), node) {
			mafc_buddy_flush(chunk->buddy);
			mafc_buddy_counts(chunk->buddy, counts);
			for (k = 0; k <= chunk->order; k++)
				st->free_blocks[k] += counts[k];
			largest = mafc_buddy_largest(chunk->buddy);
			if (largest >= 0)
				st->largest_free = max_t(u64, st->largest_free,
							 PAGE_SIZE << largest);
		}
}

/* The shrinker's objects are chunks; what it frees of them are free frames. */
static enum lru_status shrink_chunk(struct list_head *item, struct list_lru_one *list,
				    spinlock_t *lock, void *arg)
{
	struct mafc_chunk *chunk = container_of(item, struct mafc_chunk, lru);
	struct mafc_pool *pool = chunk->pool;
	enum lru_status status = LRU_ROTATE;

	if (!spin_trylock(&pool->lock))
		return LRU_ROTATE;
	if (!chunk->aside) {
		chunk_punch(chunk, ULONG_MAX, arg);
		if (chunk->aside) {	/* it goes as a whole */
			list_lru_isolate(list, item);
			status = LRU_REMOVED;
		}
	}
	spin_unlock(&pool->lock);
	return status;
}

/* Pressure: the compactor is asked to free more than what is free already. */
static unsigned long shrink_count(struct shrinker *shrinker, struct shrink_control *sc)
{
	unsigned long n = list_lru_shrink_count(&chunk_lru, sc);

	if (n)
		mafc_compactor_kick();
	return n;
}

static unsigned long shrink_scan(struct shrinker *shrinker, struct shrink_control *sc)
{
	struct punched p = PUNCHED(p);

	list_lru_shrink_walk(&chunk_lru, sc, shrink_chunk, &p);
	mm_account_reclaimed_pages(p.n);
	return punched_free(&p);
}

/* Prepares for pools, and registers with memory reclaim. Return: 0 or -ENOMEM. */
int mafc_pools_init(void)
{
	int err;

	chunk_cache = KMEM_CACHE(mafc_chunk, 0);
	if (chunk_cache)
		shrinker = shrinker_alloc(SHRINKER_MEMCG_AWARE | SHRINKER_NUMA_AWARE, "mafc");
	if (!shrinker) {
		kmem_cache_destroy(chunk_cache);	/* or NULL */
		return -ENOMEM;
	}
	shrinker->count_objects = shrink_count;
	shrinker->scan_objects = shrink_scan;
	shrinker->seeks = 0;	/* no I/O brings them back */
	shrinker->batch = 1;
	err = list_lru_init_memcg(&chunk_lru, shrinker);
	if (!err)
		err = mafc_shrinker_register(shrinker, &chunk_lru);
	if (err)
		mafc_pools_exit();
	return err;
}

void mafc_pools_exit(void)
{
	shrinker_free(shrinker);
	list_lru_destroy(&chunk_lru);
	kmem_cache_destroy(chunk_cache);
}
