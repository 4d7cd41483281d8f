// SPDX-License-Identifier: GPL-2.0-only
/* heap.c - the heaps: one for each process that asked for one; see Lifetimes in design.rst */
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/pid.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>
#include "mafc.h"

atomic64_t mafc_total[MAFC_N_COUNTERS];
atomic64_t mafc_away_max;

/* The heaps that are not dead, in the order of their creation, and by mm (with RCU). */
static DEFINE_MUTEX(heaps_lock);	/* of list and count */
static LIST_HEAD(heaps_list);
unsigned int mafc_heaps_count;
static DEFINE_XARRAY(heaps_by_mm);

static unsigned long mm_key(const struct mm_struct *mm)
{
	return (unsigned long)mm / L1_CACHE_BYTES;
}

/* The heap of a process with a reference, or NULL. */
struct mafc_heap *mafc_heap_find(struct mm_struct *mm)
{
	struct mafc_heap *heap;

	guard(rcu)();
	heap = xa_load(&heaps_by_mm, mm_key(mm));
	return heap && refcount_inc_not_zero(&heap->refs) ? heap : NULL;
}

/* The owner of a process, and who may trace anybody's, may look at its heap. */
static bool may_inspect(struct task_struct *task)
{
	const struct cred *mine = current_cred(), *his;

	guard(rcu)();
	his = __task_cred(task);
	return (uid_eq(mine->euid, his->euid) && uid_eq(mine->euid, his->suid) &&
		uid_eq(mine->euid, his->uid)) || ns_capable(his->user_ns, CAP_SYS_PTRACE);
}

/* By a pid of the caller's namespace; or an ERR_PTR: -ESRCH, -EPERM, -ENODEV (no heap). */
struct mafc_heap *mafc_heap_find_pid(pid_t pid)
{
	struct pid *p = find_get_pid(pid);
	struct task_struct *task __free(put_task) = get_pid_task(p, PIDTYPE_PID);
	struct mafc_heap *heap = NULL;
	struct mm_struct *mm;

	put_pid(p);
	if (!task)
		return ERR_PTR(-ESRCH);
	if (!may_inspect(task))
		return ERR_PTR(-EPERM);
	mm = get_task_mm(task);
	if (mm) {
		heap = mafc_heap_find(mm);
		mmput(mm);
	}
	return heap ? heap : ERR_PTR(-ENODEV);
}

static void heap_free(struct mafc_heap *heap)
{
	mafc_pool_put(heap->pool);
	mafc_pool_put(heap->meta_pool);
	mmdrop(heap->mm);
	iput(heap->inode);
	kvfree_rcu(heap, rcu);
}

void mafc_heap_put(struct mafc_heap *heap)
{
	if (refcount_dec_and_test(&heap->refs))
		heap_free(heap);
}

static struct mafc_heap *heap_alloc(struct mm_struct *mm, struct inode *inode, u32 small, u32 large)
{
	struct mafc_heap *heap = kvzalloc(sizeof(*heap), GFP_KERNEL_ACCOUNT);

	if (!heap)
		return NULL;
	heap->pages[MAFC_SMALL] = small;
	heap->pages[MAFC_LARGE] = large;
	heap->map[MAFC_SMALL] = DIV_ROUND_UP(sizeof(struct mafc_meta), PAGE_SIZE);
	heap->map[MAFC_LARGE] = heap->map[MAFC_SMALL] + small / (8 * PAGE_SIZE);
	heap->spans = heap->map[MAFC_LARGE] + large / (8 * PAGE_SIZE);
	heap->pages[MAFC_META] = heap->spans + small / MAFC_SPANS_PER_PAGE;
	refcount_set(&heap->refs, 2);	/* the caller's, and that of heaps_by_mm */
	mmgrab(mm);
	heap->mm = mm;
	ihold(inode);
	heap->inode = inode;
	mutex_init(&heap->motion);
	init_waitqueue_head(&heap->moving);
	INIT_LIST_HEAD(&heap->node);
	xa_init(&heap->leaves);
	heap->compact = true;
	heap->next_pass = jiffies;
	mafc_pfm_init(&heap->pfm, 100 * mafc_medium_percent, 100 * mafc_high_percent);
	heap->pool = mafc_pool_create(4);
	heap->meta_pool = mafc_pool_create(2);
	if (!heap->pool || !heap->meta_pool) {
		heap_free(heap);
		return NULL;
	}
	return heap;
}

/* A heap for @mm, which will map @inode, with a reference; or an ERR_PTR: -EEXIST, -ENOMEM. */
struct mafc_heap *mafc_heap_create(struct mm_struct *mm, struct inode *inode, u32 small, u32 large)
{
	struct mafc_heap *heap = heap_alloc(mm, inode, small, large);
	int err;

	if (!heap)
		return ERR_PTR(-ENOMEM);
	/* From here on others may find it. */
	err = xa_insert(&heaps_by_mm, mm_key(mm), heap, GFP_KERNEL_ACCOUNT);
	if (err) {
		heap_free(heap);
		return ERR_PTR(err == -EBUSY ? -EEXIST : err);
	}
	guard(mutex)(&heaps_lock);
	list_add_tail(&heap->node, &heaps_list);
	mafc_heaps_count++;
	return heap;
}

/* An empty heap for a forked process, with a reference for the caller; or NULL. */
struct mafc_heap *mafc_heap_fork(struct mafc_heap *parent, struct mm_struct *mm)
{
	struct mafc_heap *child = mafc_heap_create(mm, parent->inode, parent->pages[MAFC_SMALL],
						   parent->pages[MAFC_LARGE]);

	if (IS_ERR(child))
		return NULL;
	child->cow = true;
	child->compact = parent->compact;
	return child;
}

/* The last mapping is gone: frees the pages and drops the table's reference. May sleep. */
void mafc_heap_kill(struct mafc_heap *heap)
{
	xa_erase(&heaps_by_mm, mm_key(heap->mm));
	scoped_guard(mutex, &heaps_lock) {
		list_del_init(&heap->node);
		mafc_heaps_count--;
	}
	/* Whoever is at work finishes; whoever comes later sees it is dead. */
	scoped_guard(mutex, &heap->motion) {
		heap->dead = true;
		memset(heap->leaf_cache, 0, sizeof(heap->leaf_cache));
	}
	mafc_table_destroy(heap);
	mafc_pool_kill(heap->pool);
	mafc_pool_kill(heap->meta_pool);
	mafc_heap_put(heap);
}

/* The heap after @prev, which is put; NULL: the first. NULL at the end, or when @prev has died. */
struct mafc_heap *mafc_heap_next(struct mafc_heap *prev)
{
	struct list_head *last = prev ? &prev->node : &heaps_list;
	struct mafc_heap *heap = NULL;

	scoped_guard(mutex, &heaps_lock)
		/* The node of a dead heap points at itself. */
		if (last->next != &heaps_list && last->next != last) {
			heap = list_entry(last->next, struct mafc_heap, node);
			refcount_inc(&heap->refs);
		}
	if (prev)
		mafc_heap_put(prev);
	return heap;
}

/* Physical memory of a heap, bytes, meta region and free frames included. */
u64 mafc_heap_held(const struct mafc_heap *heap)
{
	return (u64)(READ_ONCE(heap->pool->frames) +
		     READ_ONCE(heap->meta_pool->frames)) << PAGE_SHIFT;
}

/* (held - live) / held as of the last scan, in 1/100 of a per cent. */
unsigned int mafc_heap_fragmentation(struct mafc_heap *heap)
{
	u64 held = mafc_heap_held(heap), live = min(held, heap->scan.live);

	return held ? div64_u64((held - live) * 10000, held) : 0;
}

/* Fills in what MAFC_IOC_STAT tells, but size, flags and pid. Takes heap->motion; may sleep. */
void mafc_heap_stat(struct mafc_heap *heap, struct mafc_stat *st)
{
	struct mafc_pfm_forecast forecast;
	unsigned int i;

	mafc_scan_fresh(heap);
	mafc_pool_stat(heap->pool, st);
	mafc_pool_stat(heap->meta_pool, st);
	mutex_lock(&heap->motion);
	mafc_pfm_forecast(&heap->pfm, &forecast);
	st->state = forecast.state;
	st->high_ppm = forecast.high_ppm;
	st->live = heap->scan.live;
	st->mapped = heap->scan.mapped << PAGE_SHIFT;
	st->fragmentation = mafc_heap_fragmentation(heap);
	st->away_max_ns = heap->away_max;
	mutex_unlock(&heap->motion);
	st->meshed = atomic64_read(&heap->count[MAFC_N_MESHED]);
	st->moved = atomic64_read(&heap->count[MAFC_N_MOVED]);
	st->dropped = atomic64_read(&heap->count[MAFC_N_DROPPED]);
	st->pinned = atomic64_read(&heap->count[MAFC_N_PINNED]);
	st->faults = atomic64_read(&heap->count[MAFC_N_FAULTS]);
	st->cow_copies = atomic64_read(&heap->count[MAFC_N_COW]);
	st->compactions = atomic64_read(&heap->count[MAFC_N_COMPACTIONS]);
	for (i = 0; i < MAFC_STALL_BUCKETS; i++)
		st->stall[i] = atomic_long_read(&heap->stall[i]);
}
