// SPDX-License-Identifier: GPL-2.0-only
/* motion.c - taking frames away from under their slots, with heap->motion held: see design.rst */
#include <linux/pagemap.h>
#include <linux/sched/clock.h>
#include "mafc.h"
#include "trace.h"

/* A page is away for microseconds: so long it is watched, while who moves it runs. */
#define SPIN_NS		(100 * NSEC_PER_USEC)
/* Leaves of one motion that faults may be using, one after the other, before it is called off. */
#define MARK_TRIES	8

/*
 * Notes one slot that is to be put in motion. Return: 0; -ENOENT if it is empty; -EBUSY if its leaf
 * is shared or it is noted already (descriptors may name a page twice); -E2BIG if too many are.
 */
int mafc_motion_add(struct mafc_heap *heap, u32 slot)
{
	struct mafc_motion *mo = &heap->mo;
	unsigned long e = mafc_entry_held(heap, slot);
	struct mafc_leaf *leaf;
	unsigned int i;

	if (!e)
		return -ENOENT;
	leaf = mafc_leaf_exclusive(heap, slot);
	if (!leaf || e & MAFC_E_MOVING)
		return -EBUSY;
	for (i = 0; i < mo->n; i++)
		if (mo->s[i].slot == slot)
			return -EBUSY;
	if (mo->n == MAFC_MOTION_MAX)
		return -E2BIG;
	mo->s[mo->n].slot = slot;
	mo->s[mo->n].leaf = leaf;
	mo->s[mo->n].entry = e;
	mo->n++;
	WRITE_ONCE(heap->mover, current);
	return 0;
}

/*
 * All slots of a frame, or none; if @cow, also of a shared one, which may sleep. Return: 0;
 * -EBUSY if it is shared; -ENOMEM; else as mafc_motion_add().
 */
int mafc_motion_ring(struct mafc_heap *heap, u32 slot, bool cow)
{
	unsigned int first = heap->mo.n;
	struct page *page;
	u32 s = slot;
	int err;

	if (cow) {
		do {
			err = mafc_leaf_own(heap, s);
			if (err)
				return err;
			s = mafc_ring_next(heap, s);
		} while (s != slot);
	}
	do {
		err = mafc_motion_add(heap, s);
		if (err)
			goto undo;
		s = mafc_ring_next(heap, s);
	} while (s != slot);

	page = mafc_entry_page(heap->mo.s[first].entry);
	if (cow || atomic_read(&mafc_frame(page)->owners) == heap->mo.n - first)
		return 0;
	err = -EBUSY;
undo:
	heap->mo.n = first;
	return err;
}

static unsigned long *motion_entry(struct mafc_motion *mo, unsigned int i)
{
	return &mo->s[i].leaf->entry[mafc_leaf_index(mo->s[i].slot)];
}

/* Publishes the new entry of slot @i of those in motion; 0 leaves it empty. */
void mafc_motion_set(struct mafc_heap *heap, unsigned int i, unsigned long e)
{
	smp_store_release(motion_entry(&heap->mo, i), e);
}

static void away_max(struct mafc_heap *heap, u64 ns)
{
	s64 old = atomic64_read(&mafc_away_max);

	heap->away_max = max(heap->away_max, ns);
	while (ns > old && !atomic64_try_cmpxchg(&mafc_away_max, &old, ns))
		;
}

static bool motion_marked(struct mafc_motion *mo, unsigned int i)
{
	return READ_ONCE(*motion_entry(mo, i)) & MAFC_E_MOVING;
}

/* Slots whose entry was not set get back what they had; waiters go on. */
static void motion_unmark(struct mafc_heap *heap)
{
	struct mafc_motion *mo = &heap->mo;
	unsigned int i;

	for (i = 0; i < mo->n; i++)
		if (motion_marked(mo, i))
			mafc_motion_set(heap, i, mo->s[i].entry);
	if (mo->start)
		away_max(heap, ktime_to_ns(ktime_sub(ktime_get(), mo->start)));
	mo->start = 0;
	if (wq_has_sleeper(&heap->moving))
		wake_up_all(&heap->moving);
	if (mo->atomic) {
		mo->atomic = false;
		preempt_enable();
	}
}

/* Lets the slots of one leaf, from the @i-th on, say MOVING; its sem is held for writing. */
static void mark_leaf(struct mafc_motion *mo, unsigned int i)
{
	struct mafc_leaf *leaf = mo->s[i].leaf;

	if (!mo->start)
		mo->start = ktime_get();
	for (; i < mo->n; i++)
		if (mo->s[i].leaf == leaf)
			smp_store_release(motion_entry(mo, i), mo->s[i].entry | MAFC_E_MOVING);
	up_write(&leaf->sem);
}

/* Once faults wait: copy-on-write faults that carry a page to the page table hold its lock. */
static void wait_for_writers(struct mafc_motion *mo)
{
	unsigned int i;

	for (i = 0; i < mo->n; i++) {
		struct page *page = mafc_entry_page(mo->s[i].entry);

		lock_page(page);
		unlock_page(page);
	}
}

static void motion_unmap(struct mafc_heap *heap)
{
	struct mafc_motion *mo = &heap->mo;
	unsigned int i, run;

	for (i = 0; i < mo->n; i += run) {
		run = 1;
		while (i + run < mo->n && mo->s[i + run].slot == mo->s[i].slot + run)
			run++;
		unmap_mapping_range(heap->inode->i_mapping,
				    (loff_t)mafc_slot_pgoff(mo->s[i].slot) << PAGE_SHIFT,
				    (loff_t)run << PAGE_SHIFT, 1);
	}
}

/*
 * Puts the slots noted in motion, unmapped first, for frames that are going to be frozen; sleeps.
 * Return: 0: mafc_motion_end() must follow without sleeping; or -EBUSY: nothing is noted any more.
 */
int mafc_motion_start(struct mafc_heap *heap)
{
	struct mafc_motion *mo = &heap->mo;
	unsigned int tries, i = 0;

	motion_unmap(heap);
	for (tries = 0; tries < MARK_TRIES; tries++) {
		/* Step 2 in design.rst: one leaf is waited for, the others are only tried. */
		down_write(&mo->s[i].leaf->sem);
		preempt_disable();
		mo->atomic = true;
		mark_leaf(mo, i);
		for (i = 0; i < mo->n; i++) {
			if (motion_marked(mo, i))
				continue;	/* with an earlier one of its leaf */
			if (!down_write_trylock(&mo->s[i].leaf->sem))
				break;
			mark_leaf(mo, i);
		}
		if (i == mo->n)
			return 0;
		motion_unmark(heap);
	}
	mo->n = 0;
	mafc_count(heap, MAFC_N_PINNED, 1);
	return -EBUSY;
}

/* The same for frames that stay in use, and are unmapped once faults wait; cannot fail. */
static void motion_start_mapped(struct mafc_heap *heap)
{
	struct mafc_motion *mo = &heap->mo;
	unsigned int i;

	for (i = 0; i < mo->n; i++)
		if (!motion_marked(mo, i)) {
			down_write(&mo->s[i].leaf->sem);
			mark_leaf(mo, i);
		}
	wait_for_writers(mo);
	motion_unmap(heap);
}

/* Ends the motion, if there is one; slots whose entry was not set get back what they had. */
void mafc_motion_end(struct mafc_heap *heap)
{
	motion_unmark(heap);
	heap->mo.n = 0;
}

/*
 * Makes sure, once it is in motion, that nobody else uses a frame. A locked page counts as pinned:
 * step 3 in design.rst. If true, no reference can be taken until page_ref_unfreeze(page, 1).
 */
bool mafc_motion_freeze(struct mafc_heap *heap, struct page *page)
{
	if (page_ref_freeze(page, 1)) {
		if (!PageLocked(page))
			return true;
		page_ref_unfreeze(page, 1);
	}
	mafc_count(heap, MAFC_N_PINNED, 1);
	return false;
}

/*
 * Puts @n slots and their rings in motion and freezes the frames: 0, mafc_frames_free() must follow
 * without sleeping; or as mafc_motion_ring(). @first: where the ring of each begins; and the end.
 */
int mafc_frames_take(struct mafc_heap *heap, u32 slot, unsigned int n, u16 first[],
		     struct page *page[])
{
	unsigned int j;
	int err = 0;

	for (j = 0; j < n; j++) {
		first[j] = heap->mo.n;
		err = mafc_motion_ring(heap, slot + j, false);
		if (err)
			goto undo;
		page[j] = mafc_entry_page(heap->mo.s[first[j]].entry);
	}
	first[n] = heap->mo.n;
	err = mafc_motion_start(heap);
	if (err)
		return err;
	for (j = 0; j < n; j++) {
		if (mafc_motion_freeze(heap, page[j]))
			continue;
		while (j--)
			page_ref_unfreeze(page[j], 1);
		err = -EBUSY;
		goto undo;
	}
	return 0;
undo:
	mafc_motion_end(heap);
	return err;
}

/* Ends the motion, and frees what mafc_frames_take() took. */
void mafc_frames_free(struct mafc_heap *heap, unsigned int n, const u16 first[],
		      struct page *page[])
{
	unsigned int j;

	mafc_motion_end(heap);
	for (j = 0; j < n; j++) {
		page_ref_unfreeze(page[j], 1);
		mafc_frame_put(heap->pool, page[j], first[j + 1] - first[j]);
	}
}

static bool still_moving(struct mafc_leaf *leaf, unsigned int i)
{
	return smp_load_acquire(&leaf->entry[i]) & MAFC_E_MOVING;
}

/* Waits for a page in motion, with a reference to the leaf and mmap_lock or a VMA lock at most. */
void mafc_motion_wait(struct mafc_heap *heap, struct mafc_leaf *leaf, unsigned int i)
{
	u64 start = local_clock(), ns;

	/* To sleep costs more than the rest of the motion, unless its thread sleeps as well. */
	scoped_guard(rcu)	/* for the task */
		while (still_moving(leaf, i) && mafc_task_runs(READ_ONCE(heap->mover)) &&
		       local_clock() - start < SPIN_NS)
			cpu_relax();
	wait_event(heap->moving, !still_moving(leaf, i));

	ns = local_clock() - start;
	trace_mafc_wait(ns);
	mafc_count(heap, MAFC_N_WAITS, 1);
	atomic_long_inc(&heap->stall[min(fls64(ns), MAFC_STALL_BUCKETS - 1)]);
}

/* Lets all slots in motion, which share a frame, point at @new from now on. */
static void motion_retarget(struct mafc_heap *heap, struct page *new)
{
	struct mafc_motion *mo = &heap->mo;
	struct mafc_frame *frame = mafc_frame(new);
	unsigned int i;

	frame->slot = mo->s[0].slot;
	atomic_set(&frame->owners, mo->n);
	for (i = 0; i < mo->n; i++)
		mafc_motion_set(heap, i, (unsigned long)new | (mo->s[i].entry & MAFC_E_MESHED));
}

/*
 * Moves a frame, not of the meta region, to another of its node, taken with @gfp, see
 * mafc_pool_take(). Return: 0; -EBUSY if it is pinned or shared; -ENOENT; -ENOMEM; -E2BIG.
 */
int mafc_relocate(struct mafc_heap *heap, u32 slot, gfp_t gfp)
{
	struct page *page = mafc_entry_page(mafc_entry_held(heap, slot));
	struct mafc_place place = { .only = true };
	struct mafc_batch batch;
	u16 ends[2] = { 0 };
	int err;

	if (!page)
		return -ENOENT;
	place.nid = page_to_nid(page);
	err = mafc_pool_take(heap->pool, &batch, 1, MAFC_FILL_RAW, gfp, &place);
	if (err)
		return err;
	err = mafc_frames_take(heap, slot, 1, ends, &page);
	if (!err) {
		copy_highpage(batch.page[0], page);
		motion_retarget(heap, batch.page[0]);
		mafc_frames_free(heap, 1, ends, &page);
		mafc_frame_dirty(batch.page[0]);
		batch.n = 0;
		mafc_count(heap, MAFC_N_MOVED, 1);
	}
	mafc_pool_untake(heap->pool, &batch);
	trace_mafc_move(slot, ends[1], err);
	return err;
}

static int cow_copy(struct mafc_heap *heap, u32 slot, struct mafc_batch *batch, struct page **owned)
{
	unsigned int n;
	struct page *page;
	int err;

	if (heap->dead || !mafc_entry_held(heap, slot))
		return 0;	/* the fault will see */
	err = mafc_motion_ring(heap, slot, true);
	if (err)
		return err;
	n = heap->mo.n;
	page = mafc_entry_page(heap->mo.s[0].entry);
	if (atomic_read(&mafc_frame(page)->owners) == n) {
		mafc_motion_end(heap);
		*owned = page;
		return 0;	/* the others have gone */
	}
	/* Mapped read-only everywhere: it may be copied while it is mapped. */
	motion_start_mapped(heap);
	copy_highpage(batch->page[0], page);
	motion_retarget(heap, batch->page[0]);
	mafc_motion_end(heap);
	mafc_frame_dirty(batch->page[0]);
	*owned = batch->page[0];
	mafc_frame_put(mafc_pool_of(heap, slot), page, n);
	batch->n = 0;
	mafc_count(heap, MAFC_N_COW, 1);
	return 0;
}

/*
 * Gives a heap a frame of its own: 0 or -ENOMEM. Takes heap->motion; may sleep. @owned: the
 * frame, exclusive until the next fork or until the slot points at another; or NULL.
 */
int mafc_cow_break(struct mafc_heap *heap, u32 slot,
		   const struct vm_area_struct *vma, struct page **owned)
{
	struct mafc_pool *pool = mafc_pool_of(heap, slot);
	struct mafc_batch batch;
	struct mafc_place place;
	int err;

	*owned = NULL;
	mafc_place_of(vma, slot, &place);
	err = mafc_pool_take(pool, &batch, 1, MAFC_FILL_RAW, GFP_KERNEL_ACCOUNT, &place);
	if (err)
		return err;
	scoped_guard(mutex, &heap->motion)
		err = cow_copy(heap, slot, &batch, owned);
	mafc_pool_untake(pool, &batch);
	return err;
}

/* Puts up to @max present slots of one leaf, to @end, in motion; @slot: where to go on. */
static int gather(struct mafc_heap *heap, u32 *slot, u32 end, unsigned int max)
{
	int err;

	end = min_t(u64, end, ALIGN((u64)*slot + 1, MAFC_LEAF_SLOTS));
	if (!xa_load(&heap->leaves, *slot >> MAFC_LEAF_SHIFT)) {
		*slot = end;
		return 0;
	}
	err = mafc_leaf_own(heap, *slot);
	if (err)
		return err;
	while (*slot < end && heap->mo.n < max) {
		err = mafc_motion_add(heap, *slot);
		if (err && err != -ENOENT)
			return err;
		(*slot)++;
	}
	return 0;
}

static int release_some(struct mafc_heap *heap, u32 *slot, u32 end, u64 *pages)
{
	struct mafc_motion *mo = &heap->mo;
	struct page *page[MAFC_MOTION_MAX];
	int err = gather(heap, slot, end, MAFC_MOTION_MAX);
	unsigned int i, n = mo->n;

	if (err || !n) {
		mafc_motion_end(heap);
		return err;
	}
	motion_start_mapped(heap);
	for (i = 0; i < n; i++) {
		page[i] = mafc_entry_page(mo->s[i].entry);
		mafc_motion_set(heap, i, 0);
	}
	mafc_motion_end(heap);
	for (i = 0; i < n; i++)
		mafc_frame_put(heap->pool, page[i], 1);
	*pages += n;
	mafc_count(heap, MAFC_N_DROPPED, n);
	return 0;
}

/*
 * Drops @n pages of the large region, pinned or not; @pages: how many there were. Takes
 * heap->motion again and again. Return: 0; -ENOMEM; -ENODEV; -EINTR on a fatal signal.
 */
int mafc_release_range(struct mafc_heap *heap, u32 slot, u32 n, u64 *pages)
{
	u32 end = slot + n;
	int err = 0;

	*pages = 0;
	while (slot < end && !err) {
		scoped_guard(mutex, &heap->motion)
			err = heap->dead ? -ENODEV : release_some(heap, &slot, end, pages);
		cond_resched();
		if (fatal_signal_pending(current))
			err = -EINTR;
	}
	return err;
}

/* Gives the heap leaves of its own for a range: nothing can fail after that. */
static int own_range(struct mafc_heap *heap, u32 slot, u32 end, bool make)
{
	struct mafc_leaf *leaf;
	int err;

	for (; slot < end; slot = (slot | (MAFC_LEAF_SLOTS - 1)) + 1) {
		if (make) {
			leaf = mafc_leaf_make(heap, slot);
			if (!leaf)
				return -ENOMEM;
			mafc_leaf_put(leaf);
		}
		err = mafc_leaf_own(heap, slot);
		if (err)
			return err;
		cond_resched();
	}
	return 0;
}

static int own_both(struct mafc_heap *heap, u32 from, u32 end, u32 delta)
{
	int err = heap->dead ? -ENODEV : own_range(heap, from, end, false);

	return err ? err : own_range(heap, from + delta, end + delta, true);
}

/*
 * Moves at most half of MAFC_MOTION_MAX slots, of one leaf on either side. What a fault filled
 * ahead goes; empty slots are kept empty by an entry that says MOVING and nothing else.
 */
static void remap_some(struct mafc_heap *heap, u32 *slot, u32 end, u32 delta)
{
	struct page *ahead[MAFC_MOTION_MAX / 2];
	struct mafc_motion *mo = &heap->mo;
	struct mafc_leaf *leaf;
	unsigned int i, n, k;
	u32 to = *slot + delta;

	end = min_t(u32, end, *slot + MAFC_LEAF_SLOTS - mafc_leaf_index(to));
	gather(heap, slot, end, MAFC_MOTION_MAX / 2);
	n = mo->n;
	leaf = mafc_leaf_exclusive(heap, to);
	for (i = 0; i < n; i++) {
		to = mo->s[i].slot + delta;
		if (cmpxchg(&leaf->entry[mafc_leaf_index(to)], 0, MAFC_E_MOVING))
			mafc_motion_add(heap, to);
	}
	if (n)
		motion_start_mapped(heap);
	for (i = n, k = 0; i < mo->n; i++)
		ahead[k++] = mafc_entry_page(mo->s[i].entry);
	for (i = 0; i < n; i++) {
		to = mo->s[i].slot + delta;
		mafc_frame(mafc_entry_page(mo->s[i].entry))->slot = to;
		mafc_motion_set(heap, i, 0);
		smp_store_release(&leaf->entry[mafc_leaf_index(to)], mo->s[i].entry);
	}
	mafc_motion_end(heap);
	while (k)
		mafc_frame_put(heap->pool, ahead[--k], 1);
}

/*
 * Moves @n pages of the large region to @to, dropping what is there; takes heap->motion again
 * and again. Return: 0; -ENOMEM or -ENODEV, with nothing moved; -EINTR on a fatal signal.
 */
int mafc_remap_range(struct mafc_heap *heap, u32 from, u32 to, u32 n)
{
	u32 end = from + n, delta = to - from;
	u64 dropped;
	int err = 0;

	scoped_guard(mutex, &heap->motion)
		err = own_both(heap, from, end, delta);
	if (err)
		return err;
	mafc_release_range(heap, to, n, &dropped);
	while (from < end && !heap->dead) {
		scoped_guard(mutex, &heap->motion)
			/* Only after a fork meanwhile is there anything to be done. */
			if (!own_both(heap, from, min(end, from + MAFC_LEAF_SLOTS), delta))
				remap_some(heap, &from, end, delta);
		cond_resched();
		if (fatal_signal_pending(current))
			return -EINTR;
	}
	return 0;
}
