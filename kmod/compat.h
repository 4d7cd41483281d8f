/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * compat.h - the only place that asks for the kernel version
 *
 * Supported: 6.1 (Debian 12) to 6.12 (Debian's newer kernels).
 */
#ifndef MAFC_COMPAT_H
#define MAFC_COMPAT_H

#include <linux/mm.h>
#include <linux/shrinker.h>
#include <linux/slab.h>
#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
static inline void vm_flags_set(struct vm_area_struct *vma, unsigned long flags)
{
	vma->vm_flags |= flags;
}
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
/* Before per-VMA locks a fault holds mmap_lock, which fork holds for writing. */
static inline void vma_start_write(struct vm_area_struct *vma)
{
	mmap_assert_write_locked(vma->vm_mm);
}
#endif

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 7, 0)
static inline struct shrinker *mafc_shrinker_alloc(const char *name)
{
	return kzalloc(sizeof(struct shrinker), GFP_KERNEL);
}

static inline int mafc_shrinker_register(struct shrinker *shrinker,
					 const char *name)
{
	return register_shrinker(shrinker, "%s", name);
}

static inline void mafc_shrinker_free(struct shrinker *shrinker)
{
	unregister_shrinker(shrinker);
	kfree(shrinker);
}
#else
static inline struct shrinker *mafc_shrinker_alloc(const char *name)
{
	return shrinker_alloc(0, "%s", name);
}

static inline int mafc_shrinker_register(struct shrinker *shrinker,
					 const char *name)
{
	shrinker_register(shrinker);
	return 0;
}

#define mafc_shrinker_free(shrinker) shrinker_free(shrinker)
#endif

#endif /* MAFC_COMPAT_H */
