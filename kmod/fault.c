// SPDX-License-Identifier: GPL-2.0-only
/* fault.c - page faults, copy on write after fork: see The heap table and Fork in design.rst */
#include <linux/mmu_notifier.h>
#include <linux/pagemap.h>
#include "mafc.h"
#include "trace.h"

struct fault {
	struct vm_fault *vmf;
	struct mafc_heap *heap;
	struct mafc_leaf *leaf;
	u32 slot;
	unsigned int i;
	bool write;
	u64 handed_out;		/* bit i: @slot + i was, when the fault began */
	struct page *owned;	/* the frame that the slot was found, or made, exclusive with */
	struct mafc_batch batch;
};

static const struct vm_operations_struct mafc_vm_ops, mafc_cow_vm_ops;

/* What a step of the fault says: a result for the mm, or to start over. */
#define FAULT_AGAIN	((vm_fault_t)0)

/* Slots from this one on that the leaf and the mapping have. */
static unsigned int fault_room(const struct fault *f)
{
	unsigned long pages = (f->vmf->vma->vm_end - f->vmf->address) >> PAGE_SHIFT;

	return min3(pages, (unsigned long)MAFC_BATCH_MAX, (unsigned long)MAFC_LEAF_SLOTS - f->i);
}

/* Is slot @k behind this one empty, and in use? */
static bool fault_wants(const struct fault *f, unsigned int k)
{
	return f->handed_out >> k & 1 && !READ_ONCE(f->leaf->entry[f->i + k]);
}

static int fault_take(struct fault *f)
{
	enum mafc_region region = mafc_slot_region(f->slot);
	enum mafc_fill fill = region == MAFC_SMALL ? MAFC_FILL_OWN : MAFC_FILL_ZERO;
	struct mafc_pool *pool = mafc_pool_of(f->heap, f->slot);
	/* What is taken and never touched is waste: so many pages, a small part of the heap. */
	unsigned long most = READ_ONCE(pool->frames) / 64;
	unsigned int room = region == MAFC_META ? 1 : fault_room(f), want = 1, k;
	struct mafc_place place;

	for (k = 1; k < room && want < most; k++)
		want += fault_wants(f, k);
	mafc_place_of(f->vmf->vma, f->slot, &place);
	return mafc_pool_take(pool, &f->batch, want, fill, GFP_KERNEL_ACCOUNT, &place);
}

/* Puts the frames of the batch into empty slots, this one first. */
static void fault_fill(struct fault *f)
{
	unsigned int room = fault_room(f), k = 0, n;
	struct mafc_batch *batch = &f->batch;
	struct mafc_batch left = { 0 };

	for (n = 0; n < batch->n; n++) {
		struct page *page = batch->page[n];
		struct mafc_frame *frame = mafc_frame(page);

		while (k < room && !fault_wants(f, k))
			k++;
		frame->slot = f->slot + k;
		atomic_set(&frame->owners, 1);
		if (k == room || cmpxchg(&f->leaf->entry[f->i + k], 0, (unsigned long)page)) {
			atomic_set(&frame->owners, 0);
			left.page[left.n++] = page;
		}
	}
	*batch = left;
}

/* Maps this slot and what follows, as far as it is there. */
static vm_fault_t fault_map(struct fault *f)
{
	struct page *page[MAFC_BATCH_MAX];
	unsigned int room = fault_room(f), n;
	unsigned long left, e;
	int err;

	for (n = 0; n < room; n++) {
		e = smp_load_acquire(&f->leaf->entry[f->i + n]);
		if (!e || e & MAFC_E_MOVING)
			break;
		page[n] = mafc_entry_page(e);
	}
	left = n;
	err = vm_insert_pages(f->vmf->vma, f->vmf->address, page, &left);
	trace_mafc_fault(f->slot, f->write, n - left);
	/* Somebody else's fault may have mapped this page, or a later one. */
	if (err && err != -EBUSY && left == n)
		return err == -ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
	return VM_FAULT_NOPAGE;
}

/* A first write after fork: the mm, given a reference, makes the entry, which is writable then. */
static vm_fault_t fault_map_write(struct fault *f, unsigned long e)
{
	struct page *page = mafc_entry_page(e);

	get_page(page);
	if (trylock_page(page)) {
		f->vmf->page = page;
		trace_mafc_fault(f->slot, true, 1);
		return VM_FAULT_LOCKED;
	}
	up_read(&f->leaf->sem);
	lock_page(page);
	unlock_page(page);
	put_page(page);
	down_read(&f->leaf->sem);
	return FAULT_AGAIN;
}

static bool fault_exclusive(const struct fault *f, unsigned long e)
{
	return f->owned == mafc_entry_page(e) ||
	       (!(e & MAFC_E_MESHED) && atomic_read(&f->leaf->users) == 1 &&
		atomic_read(&mafc_frame(mafc_entry_page(e))->owners) == 1);
}

enum fault_need {
	NEED_NOTHING,
	NEED_WAIT,		/* the page is in motion */
	NEED_LEAF,		/* the leaf is shared with a forked process */
	NEED_FRAME,		/* the slot is empty */
	NEED_COPY,		/* the frame may be shared with one */
};

/* One try with leaf->sem held for reading. */
static vm_fault_t fault_try(struct fault *f, enum fault_need *need)
{
	unsigned long e = smp_load_acquire(&f->leaf->entry[f->i]);

	*need = NEED_NOTHING;
	if (!mafc_leaf_current(f->heap, f->slot, f->leaf))
		;
	else if (!e && atomic_read(&f->leaf->users) != 1)
		*need = NEED_LEAF;
	else if (!e && !f->batch.n)
		*need = NEED_FRAME;
	else if (!e)
		fault_fill(f);
	else if (e & MAFC_E_MOVING)
		*need = NEED_WAIT;
	else if (!f->heap->cow || !f->write)
		return fault_map(f);
	else if (!fault_exclusive(f, e))
		*need = NEED_COPY;
	else
		return fault_map_write(f, e);
	return FAULT_AGAIN;
}

/* What cannot be done with leaf->sem held. */
static vm_fault_t fault_prepare(struct fault *f, enum fault_need need)
{
	int err = 0;

	if (need == NEED_WAIT)
		mafc_motion_wait(f->heap, f->leaf, f->i);
	else if (need == NEED_LEAF)
		err = mafc_leaf_own(f->heap, f->slot);
	else if (need == NEED_FRAME)
		err = fault_take(f);
	else if (need == NEED_COPY)
		err = mafc_cow_break(f->heap, f->slot, f->vmf->vma, &f->owned);
	return err ? VM_FAULT_OOM : FAULT_AGAIN;
}

static vm_fault_t fault_serve(struct fault *f)
{
	enum fault_need need;
	vm_fault_t ret;

	do {
		f->leaf = mafc_leaf_make(f->heap, f->slot);
		if (!f->leaf)
			return VM_FAULT_OOM;
		down_read(&f->leaf->sem);
		ret = fault_try(f, &need);
		up_read(&f->leaf->sem);
		if (ret == FAULT_AGAIN)
			ret = fault_prepare(f, need);
		mafc_leaf_put(f->leaf);
	} while (ret == FAULT_AGAIN);
	return ret;
}

static vm_fault_t mafc_vm_fault(struct vm_fault *vmf)
{
	struct mafc_heap *heap = vmf->vma->vm_private_data;
	struct fault f = {
		.vmf = vmf, .heap = heap, .slot = mafc_pgoff_slot(vmf->pgoff),
		.write = vmf->flags & FAULT_FLAG_WRITE,
	};
	vm_fault_t ret;

	f.handed_out = heap && !heap->dead ? mafc_handed_out(heap, f.slot) : 0;
	if (!(f.handed_out & 1))
		return VM_FAULT_SIGBUS;
	f.i = mafc_leaf_index(f.slot);
	mafc_count(heap, MAFC_N_FAULTS, 1);
	ret = fault_serve(&f);
	mafc_pool_untake(mafc_pool_of(heap, f.slot), &f.batch);
	return ret;
}

/* Its mere presence lets faults run under the VMA lock. */
static vm_fault_t mafc_vm_map_pages(struct vm_fault *vmf, pgoff_t first, pgoff_t last)
{
	return 0;
}

/* The mm holds a reference, and makes the entry writable only if it is unchanged after this. */
static vm_fault_t mafc_vm_mkwrite(struct vm_fault *vmf)
{
	struct mafc_heap *heap = vmf->vma->vm_private_data;
	struct fault f = { .vmf = vmf, .heap = heap, .slot = mafc_pgoff_slot(vmf->pgoff) };
	unsigned long e;
	bool ok, same;

	if (!heap || heap->dead)
		return VM_FAULT_SIGBUS;
	f.i = mafc_leaf_index(f.slot);
	for (;;) {
		lock_page(vmf->page);
		f.leaf = mafc_leaf_make(heap, f.slot);
		if (!f.leaf) {
			unlock_page(vmf->page);
			return VM_FAULT_OOM;
		}
		down_read(&f.leaf->sem);
		e = READ_ONCE(f.leaf->entry[f.i]);
		same = mafc_leaf_current(heap, f.slot, f.leaf) &&
		       !(e & MAFC_E_MOVING) && mafc_entry_page(e) == vmf->page;
		ok = same && fault_exclusive(&f, e);
		up_read(&f.leaf->sem);
		mafc_leaf_put(f.leaf);
		if (ok)
			return VM_FAULT_LOCKED;
		unlock_page(vmf->page);
		if (!same) {
			/* In motion, or an entry that came too late for it. */
			unmap_mapping_range(heap->inode->i_mapping,
					    (loff_t)vmf->pgoff << PAGE_SHIFT, PAGE_SIZE, 1);
			return VM_FAULT_NOPAGE;
		}
		if (mafc_cow_break(heap, f.slot, vmf->vma, &f.owned))
			return VM_FAULT_OOM;
	}
}

/* Sets copy-on-write mode in a mapping that is new or write-locked. */
void mafc_vma_mode(struct vm_area_struct *vma, bool cow)
{
	unsigned long flags = vma->vm_flags;

	vma->vm_ops = cow ? &mafc_cow_vm_ops : &mafc_vm_ops;
	vma->vm_page_prot = vm_get_page_prot(cow ? flags & ~VM_SHARED : flags);
}

static bool vma_is_heap(const struct vm_area_struct *vma, const struct mafc_heap *heap)
{
	return (vma->vm_ops == &mafc_vm_ops || vma->vm_ops == &mafc_cow_vm_ops) &&
	       vma->vm_private_data == heap;
}

/* Clean: mprotect() takes dirty for a sign that the page may be made writable without asking. */
static int pte_wrprotect_one(pte_t *pte, unsigned long addr, void *mm)
{
	pte_t old;

	if (!pte_present(ptep_get(pte)))
		return 0;
	old = ptep_get_and_clear(mm, addr, pte);
	set_pte_at(mm, addr, pte, pte_mkclean(pte_wrprotect(old)));
	return 0;
}

/* Keeps faults out until fork is through; before heap->motion, see Departures in design.rst. */
static void heap_lock_vmas(struct mafc_heap *heap)
{
	struct vm_area_struct *vma;
	VMA_ITERATOR(vmi, heap->mm, 0);

	mmap_assert_write_locked(heap->mm);
	for_each_vma(vmi, vma)
		if (vma_is_heap(vma, heap))
			vma_start_write(vma);
}

/* Makes all mappings read-only; fork flushes the TLBs later, MMU notifiers are told by the zap. */
static void heap_set_cow(struct mafc_heap *heap)
{
	struct mm_struct *mm = heap->mm;
	struct vm_area_struct *vma;
	VMA_ITERATOR(vmi, mm, 0);

	for_each_vma(vmi, vma) {
		if (!vma_is_heap(vma, heap))
			continue;
		mafc_vma_mode(vma, true);
		if (!mm_has_notifiers(mm))
			apply_to_existing_page_range(mm, vma->vm_start, vma->vm_end - vma->vm_start,
						     pte_wrprotect_one, mm);
	}
	if (mm_has_notifiers(mm))
		unmap_mapping_range(heap->inode->i_mapping, 0, 0, 1);
	WRITE_ONCE(heap->cow, true);
	heap->forks++;
}

/* A pinned page belongs to the parent, whose I/O goes on: the child gets a copy at once. */
static int copy_pinned(struct mafc_heap *parent, struct mafc_heap *child)
{
	struct mafc_leaf *leaf;
	unsigned long index, e;
	struct page *page;
	unsigned int i;
	int err = 0;

	xa_for_each(&parent->leaves, index, leaf) {
		leaf = mafc_leaf_get(parent, index << MAFC_LEAF_SHIFT);
		for (i = 0; leaf && i < MAFC_LEAF_SLOTS && !err; i++) {
			e = READ_ONCE(leaf->entry[i]) & ~MAFC_E_FLAGS;
			if (e && folio_maybe_dma_pinned(page_folio(mafc_entry_page(e))))
				err = mafc_cow_break(child, (index << MAFC_LEAF_SHIFT) + i,
						     NULL, &page);
		}
		if (leaf)
			mafc_leaf_put(leaf);
		if (err)
			break;
	}
	return err;
}

/* Makes the child's heap. mmap_lock and VMA locks keep out faults, motion the compactor. */
static struct mafc_heap *fork_heap(struct mafc_heap *parent, struct mm_struct *mm)
{
	struct mafc_heap *child = mafc_heap_fork(parent, mm);
	int err;

	if (!child)
		return NULL;
	heap_lock_vmas(parent);
	scoped_guard(mutex, &parent->motion) {
		heap_set_cow(parent);
		err = mafc_table_fork(parent, child);
	}
	if (!err && test_bit(MMF_HAS_PINNED, &parent->mm->flags))
		err = copy_pinned(parent, child);
	/* The compactor may have found it empty, and so exclusive. */
	scoped_guard(mutex, &child->motion) {
		child->forks++;
		child->dead = err;
	}
	return child;
}

static void mafc_vm_open(struct vm_area_struct *vma)
{
	struct mafc_heap *heap = vma->vm_private_data, *child;

	if (!heap)
		return;
	if (heap->mm == vma->vm_mm) {	/* a mapping was split */
		atomic_inc(&heap->vmas);
		return;
	}
	child = mafc_heap_find(vma->vm_mm);
	if (!child)
		child = fork_heap(heap, vma->vm_mm);
	vma->vm_private_data = child;
	/* Nothing must be there then: this prevents that fork copies the page-table entries. */
	if (!child || child->dead)
		vm_flags_set(vma, VM_WIPEONFORK);
	if (!child)
		return;
	atomic_inc(&child->vmas);
	mafc_vma_mode(vma, true);
	mafc_heap_put(child);
}

static void mafc_vm_close(struct vm_area_struct *vma)
{
	struct mafc_heap *heap = vma->vm_private_data;

	if (heap && atomic_dec_and_test(&heap->vmas))
		mafc_heap_kill(heap);
}

/* True if no frame of the heap is shared with a forked process. */
static bool heap_exclusive(struct mafc_heap *heap)
{
	struct mafc_leaf *leaf;
	unsigned long index;
	unsigned int i;

	xa_for_each(&heap->leaves, index, leaf) {
		leaf = mafc_leaf_exclusive(heap, index << MAFC_LEAF_SHIFT);
		if (!leaf)
			return false;
		for (i = 0; i < MAFC_LEAF_SLOTS; i++)
			if (READ_ONCE(leaf->entry[i]) &&
			    !mafc_ring_exclusive(heap, (index << MAFC_LEAF_SHIFT) + i))
				return false;
		cond_resched();
	}
	return true;
}

static void heap_clear_cow(struct mafc_heap *heap)
{
	struct vm_area_struct *vma;
	VMA_ITERATOR(vmi, heap->mm, 0);

	for_each_vma(vmi, vma) {
		if (!vma_is_heap(vma, heap))
			continue;
		vma_start_write(vma);
		mafc_vma_mode(vma, false);
	}
	WRITE_ONCE(heap->cow, false);
}

/* Leaves copy-on-write mode if nothing is shared any more, and mmap_lock is free. */
void mafc_try_uncow(struct mafc_heap *heap)
{
	struct mm_struct *mm = heap->mm;
	unsigned int forks;
	bool exclusive;

	scoped_guard(mutex, &heap->motion) {
		forks = heap->forks;
		exclusive = !heap->dead && heap_exclusive(heap);
	}
	if (!exclusive || !mmget_not_zero(mm))
		return;
	/* There is no trylock for modules; do not queue up behind anybody. */
	if (!rwsem_is_locked(&mm->mmap_lock)) {
		mmap_write_lock(mm);
		/* Without a fork since, what was exclusive still is. */
		if (forks == heap->forks)
			heap_clear_cow(heap);
		mmap_write_unlock(mm);
	}
	mmput_async(mm);
}

static const struct vm_operations_struct mafc_vm_ops = {
	.open = mafc_vm_open, .close = mafc_vm_close,
	.fault = mafc_vm_fault, .map_pages = mafc_vm_map_pages,
};

static const struct vm_operations_struct mafc_cow_vm_ops = {
	.open = mafc_vm_open, .close = mafc_vm_close,
	.fault = mafc_vm_fault, .map_pages = mafc_vm_map_pages,
	.page_mkwrite = mafc_vm_mkwrite,
};
