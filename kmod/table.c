// SPDX-License-Identifier: GPL-2.0-only
/* table.c - the heap table: an xarray of leaves, looked up under RCU, and their entries */
#include "mafc.h"

static void leaf_free_rcu(struct rcu_head *rcu)
{
	struct mafc_leaf *leaf = container_of(rcu, struct mafc_leaf, rcu);

	free_page((unsigned long)leaf->entry);
	kfree(leaf->ring);
	kfree(leaf);
}

static struct mafc_leaf *leaf_alloc(bool ring)
{
	struct mafc_leaf *leaf = kzalloc(sizeof(*leaf), GFP_KERNEL_ACCOUNT);

	if (!leaf)
		return NULL;
	leaf->entry = (unsigned long *)get_zeroed_page(GFP_KERNEL_ACCOUNT);
	if (leaf->entry && ring)
		leaf->ring = kmalloc_array(MAFC_LEAF_SLOTS, sizeof(u32), GFP_KERNEL_ACCOUNT);
	if (!leaf->entry || (ring && !leaf->ring)) {
		leaf_free_rcu(&leaf->rcu);
		return NULL;
	}
	refcount_set(&leaf->refs, 1);
	atomic_set(&leaf->users, 1);
	init_rwsem(&leaf->sem);
	return leaf;
}

void mafc_leaf_put(struct mafc_leaf *leaf)
{
	if (refcount_dec_and_test(&leaf->refs))
		call_rcu(&leaf->rcu, leaf_free_rcu);
}

/* Finds the leaf of a slot, with a reference; or NULL. */
struct mafc_leaf *mafc_leaf_get(struct mafc_heap *heap, u32 slot)
{
	struct mafc_leaf *leaf;

	guard(rcu)();
	do {
		leaf = xa_load(&heap->leaves, slot >> MAFC_LEAF_SHIFT);
	} while (leaf && !refcount_inc_not_zero(&leaf->refs));
	return leaf;
}

/* The same, making it where there is none; NULL: no memory. May sleep; charges the cgroup. */
struct mafc_leaf *mafc_leaf_make(struct mafc_heap *heap, u32 slot)
{
	struct mafc_leaf *leaf = mafc_leaf_get(heap, slot), *old;

	while (!leaf) {
		leaf = leaf_alloc(false);
		if (!leaf)
			return NULL;
		refcount_inc(&leaf->refs);
		old = xa_cmpxchg(&heap->leaves, slot >> MAFC_LEAF_SHIFT, NULL,
				 leaf, GFP_KERNEL_ACCOUNT);
		if (!old)
			break;
		leaf_free_rcu(&leaf->rcu);
		if (xa_is_err(old))
			return NULL;
		leaf = mafc_leaf_get(heap, slot);
	}
	return leaf;
}

/* A leaf that no other heap uses, or NULL. heap->motion is held; the leaf stays for as long. */
struct mafc_leaf *mafc_leaf_exclusive(struct mafc_heap *heap, u32 slot)
{
	u32 key = slot >> MAFC_LEAF_SHIFT;
	struct mafc_leaf_cache *c = &heap->leaf_cache[key % MAFC_LEAF_CACHE];
	struct mafc_leaf *leaf;

	lockdep_assert_held(&heap->motion);
	if (c->leaf && c->key == key)
		return c->leaf;
	guard(rcu)();
	leaf = xa_load(&heap->leaves, key);
	/* A fault stores its copy before it leaves a leaf: one user and still ours is exclusive. */
	if (!leaf || atomic_read_acquire(&leaf->users) != 1 || !mafc_leaf_current(heap, slot, leaf))
		return NULL;
	c->key = key;
	c->leaf = leaf;
	return leaf;
}

/* mafc_entry() for who holds heap->motion. */
unsigned long mafc_entry_held(struct mafc_heap *heap, u32 slot)
{
	struct mafc_leaf *leaf = mafc_leaf_exclusive(heap, slot);

	return leaf ? READ_ONCE(leaf->entry[mafc_leaf_index(slot)]) : mafc_entry(heap, slot);
}

/* Is it still the heap's leaf?  With @leaf->sem held the answer stays true. */
bool mafc_leaf_current(struct mafc_heap *heap, u32 slot, struct mafc_leaf *leaf)
{
	return xa_load(&heap->leaves, slot >> MAFC_LEAF_SHIFT) == leaf;
}

/* Fills @new with what @old holds: every frame has one more owner per entry. */
static void leaf_copy(struct mafc_leaf *new, const struct mafc_leaf *old)
{
	unsigned int i;

	memcpy(new->entry, old->entry, PAGE_SIZE);
	if (new->ring)
		memcpy(new->ring, old->ring, MAFC_LEAF_SLOTS * sizeof(u32));
	for (i = 0; i < MAFC_LEAF_SLOTS; i++)
		if (new->entry[i])
			atomic_inc(&mafc_frame(mafc_entry_page(new->entry[i]))->owners);
}

/* Gives the heap a copy; a leaf with several users is not in motion and gets no new entries. */
static int leaf_unshare(struct mafc_heap *heap, u32 slot, struct mafc_leaf *old)
{
	struct mafc_leaf *new = leaf_alloc(old->ring), *unused = new;

	if (!new)
		return -ENOMEM;
	down_write(&old->sem);
	/* A second thread may have done it, or the other users have gone. */
	if (mafc_leaf_current(heap, slot, old) && atomic_read(&old->users) > 1) {
		leaf_copy(new, old);
		/* Replaces an entry that is there: needs no memory. */
		xa_store(&heap->leaves, slot >> MAFC_LEAF_SHIFT, new, GFP_NOWAIT);
		atomic_dec_return_release(&old->users);
		unused = old;	/* the table's reference */
	}
	up_write(&old->sem);
	mafc_leaf_put(unused);
	return 0;
}

/* Makes sure that no other heap uses a leaf: 0 or -ENOMEM. May sleep; write-locks leaf->sem. */
int mafc_leaf_own(struct mafc_heap *heap, u32 slot)
{
	struct mafc_leaf *leaf __free(mafc_leaf) = mafc_leaf_get(heap, slot);

	return leaf && atomic_read(&leaf->users) != 1 ? leaf_unshare(heap, slot, leaf) : 0;
}

/* What a slot points at, or 0; what is not empty stays as it is while heap->motion is held. */
unsigned long mafc_entry(struct mafc_heap *heap, u32 slot)
{
	struct mafc_leaf *leaf;

	guard(rcu)();
	leaf = xa_load(&heap->leaves, slot >> MAFC_LEAF_SHIFT);
	return leaf ? READ_ONCE(leaf->entry[mafc_leaf_index(slot)]) : 0;
}

/* The next slot that shares a frame, or @slot. Rings: under heap->motion, in exclusive leaves. */
u32 mafc_ring_next(struct mafc_heap *heap, u32 slot)
{
	struct mafc_leaf *leaf = mafc_leaf_exclusive(heap, slot);

	if (!leaf || !leaf->ring || !(leaf->entry[mafc_leaf_index(slot)] & MAFC_E_MESHED))
		return slot;
	return leaf->ring[mafc_leaf_index(slot)];
}

/* Makes room for the ring of @slot: 0 or -ENOMEM. May sleep. */
int mafc_ring_prepare(struct mafc_heap *heap, u32 slot)
{
	struct mafc_leaf *leaf = mafc_leaf_exclusive(heap, slot);

	if (!leaf->ring)
		leaf->ring = kmalloc_array(MAFC_LEAF_SLOTS, sizeof(u32),
					   GFP_KERNEL_ACCOUNT | __GFP_NORETRY);
	return leaf->ring ? 0 : -ENOMEM;
}

/* Makes one ring of those of two prepared slots; the caller sets MAFC_E_MESHED. */
void mafc_ring_splice(struct mafc_heap *heap, u32 a, u32 b)
{
	struct mafc_leaf *la = mafc_leaf_exclusive(heap, a);
	struct mafc_leaf *lb = mafc_leaf_exclusive(heap, b);
	u32 next_a = mafc_ring_next(heap, a), next_b = mafc_ring_next(heap, b);

	la->ring[mafc_leaf_index(a)] = next_b;
	lb->ring[mafc_leaf_index(b)] = next_a;
}

/* Shares all leaves; parent->motion is held, no fault runs. 0; -ENOMEM, with part done. Sleeps. */
int mafc_table_fork(struct mafc_heap *parent, struct mafc_heap *child)
{
	struct mafc_leaf *leaf;
	unsigned long index;
	int err;

	lockdep_assert_held(&parent->motion);
	memset(parent->leaf_cache, 0, sizeof(parent->leaf_cache));
	xa_for_each(&parent->leaves, index, leaf) {
		/* Counted before it can be seen in the child's table. */
		refcount_inc(&leaf->refs);
		down_write(&leaf->sem);
		atomic_inc(&leaf->users);
		up_write(&leaf->sem);
		err = xa_err(xa_store(&child->leaves, index, leaf, GFP_KERNEL_ACCOUNT));
		if (err) {
			down_write(&leaf->sem);
			atomic_dec(&leaf->users);
			up_write(&leaf->sem);
			mafc_leaf_put(leaf);
			return err;
		}
	}
	return 0;
}

/* The entries stay: a fault that looked the leaf up before must not take its slot for empty. */
static void leaf_drop_entries(struct mafc_heap *heap, unsigned long index,
			      const struct mafc_leaf *leaf)
{
	struct mafc_pool *pool = mafc_pool_of(heap, index << MAFC_LEAF_SHIFT);
	unsigned int i;

	for (i = 0; i < MAFC_LEAF_SLOTS; i++)
		if (leaf->entry[i])
			mafc_frame_put(pool, mafc_entry_page(leaf->entry[i]), 1);
}

/* Empties the table of a dead, unmapped heap. May sleep; takes leaf->sem for writing. */
void mafc_table_destroy(struct mafc_heap *heap)
{
	struct mafc_leaf *leaf;
	unsigned long index;
	bool last;

	xa_for_each(&heap->leaves, index, leaf) {
		xa_erase(&heap->leaves, index);
		/* A forked heap may be copying it this moment. */
		down_write(&leaf->sem);
		last = atomic_dec_and_test(&leaf->users);
		up_write(&leaf->sem);
		if (last)
			leaf_drop_entries(heap, index, leaf);
		mafc_leaf_put(leaf);
		cond_resched();
	}
	xa_destroy(&heap->leaves);
}

/* A page of the meta region while heap->motion is held; or NULL. @write: if it is nobody else's. */
void *mafc_meta(struct mafc_heap *heap, u32 index, bool write)
{
	u32 slot = mafc_slot(MAFC_META, index);
	struct page *page;

	if (index >= heap->pages[MAFC_META])
		return NULL;
	page = mafc_entry_page(mafc_entry_held(heap, slot));
	if (!page || (write && (!mafc_leaf_exclusive(heap, slot) ||
				atomic_read(&mafc_frame(page)->owners) != 1)))
		return NULL;
	return page_address(page);
}

/* A descriptor, by index in the small region, or NULL; otherwise as mafc_meta(). */
struct mafc_span *mafc_span(struct mafc_heap *heap, u32 index, bool write)
{
	struct mafc_span *page;

	if (index >= heap->pages[MAFC_SMALL])
		return NULL;
	page = mafc_meta(heap, heap->spans + index / MAFC_SPANS_PER_PAGE, write);
	return page ? page + index % MAFC_SPANS_PER_PAGE : NULL;
}

/* May the process touch pages? Bit i: @slot + i, for 57 or to the leaf's end. Without a lock. */
u64 mafc_handed_out(struct mafc_heap *heap, u32 slot)
{
	enum mafc_region region = mafc_slot_region(slot);
	u32 map = mafc_slot_index(slot) / (8 * PAGE_SIZE), bit = slot % (8 * PAGE_SIZE);
	u32 byte = min_t(u32, bit / 8, PAGE_SIZE - sizeof(u64));
	unsigned long e, seen;
	struct page *page;
	u64 bits = 0;
	bool cow;

	if (region == MAFC_META)
		return ~0ULL;
	map = mafc_slot(MAFC_META, heap->map[region] + map);
	e = mafc_entry(heap, map);
	do {
		seen = e;
		page = mafc_entry_page(seen);
		if (!page)
			return 0;
		/* After fork it may be replaced by a copy, and freed. */
		cow = READ_ONCE(heap->cow);
		if (!cow || get_page_unless_zero(page)) {
			memcpy(&bits, page_address(page) + byte, sizeof(bits));
			if (cow)
				put_page(page);
		}
		smp_rmb();	/* the bits before the second look */
		e = mafc_entry(heap, map);
	} while (e != seen);
	return bits >> (bit - 8 * byte);
}
