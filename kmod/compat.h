/* SPDX-License-Identifier: GPL-2.0-only */
/* compat.h - the only place that asks for the kernel version: 6.1.82 (Debian 12) to 6.12 */
#ifndef MAFC_COMPAT_H
#define MAFC_COMPAT_H
#include <linux/cleanup.h>
#include <linux/list_lru.h>
#include <linux/mm.h>
#include <linux/shrinker.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_set(struct vm_area_struct *vma, unsigned long flags)
{
	vma->vm_flags |= flags;
}
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
static inline void mm_account_reclaimed_pages(unsigned long pages)
{
	if (current->reclaim_state)
		current->reclaim_state->reclaimed_slab += pages;
}

/* Before per-VMA locks a fault holds mmap_lock, which fork holds for writing. */
static inline void vma_start_write(struct vm_area_struct *vma)
{
	mmap_assert_write_locked(vma->vm_mm);
}
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
static inline struct shrinker *shrinker_alloc(unsigned int flags, const char *name)
{
	struct shrinker *shrinker = kzalloc(sizeof(*shrinker), GFP_KERNEL);

	if (shrinker)
		shrinker->flags = flags;
	return shrinker;
}

static inline int mafc_shrinker_register(struct shrinker *shrinker, struct list_lru *lru)
{
	int err = register_shrinker(shrinker, "mafc");

#ifdef CONFIG_MEMCG_KMEM
	lru->shrinker_id = shrinker->id;	/* it has none before */
#endif
	return err;
}

static inline void shrinker_free(struct shrinker *shrinker)
{
	unregister_shrinker(shrinker);
	kfree(shrinker);
}
#else
#define mafc_shrinker_register(shrinker, lru) (shrinker_register(shrinker), 0)
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 8, 0)
#define list_lru_add_obj list_lru_add
#define list_lru_del_obj list_lru_del
#endif

#ifdef CONFIG_PREEMPT_RT
#error "mafc: spinlocks are taken with preemption off: not for PREEMPT_RT"
#endif

#ifdef CONFIG_SMP
#define mafc_task_runs(task) owner_on_cpu(task)
#else
#define mafc_task_runs(task) ((void)(task), false)
#endif
#endif /* MAFC_COMPAT_H */
