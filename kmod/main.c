// SPDX-License-Identifier: GPL-2.0-only
/* main.c - the device: open, mmap, ioctl.  Why an inode for each open: Lifetimes in design.rst */
#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pseudo_fs.h>
#include <linux/uaccess.h>
#include "mafc.h"
#define CREATE_TRACE_POINTS
#include "trace.h"

#define MAFC_FS_MAGIC	0x4d414643

static struct vfsmount *mafc_mnt;

static int mafc_fs_init(struct fs_context *fc)
{
	return init_pseudo(fc, MAFC_FS_MAGIC) ? 0 : -ENOMEM;
}

/* Without an owner: the mount lasts as long as the module, and must not keep it. */
static struct file_system_type mafc_fs_type = {
	.name = "mafc",
	.init_fs_context = mafc_fs_init,
	.kill_sb = kill_anon_super,
};

static int mafc_open(struct inode *node, struct file *file)
{
	struct inode *inode = alloc_anon_inode(mafc_mnt->mnt_sb);

	if (IS_ERR(inode))
		return PTR_ERR(inode);
	file->f_mapping = inode->i_mapping;
	file->private_data = inode;
	return 0;
}

/* A heap that was set up but never mapped dies with its file. */
static int mafc_release(struct inode *node, struct file *file)
{
	struct inode *inode = file->private_data;
	struct mafc_heap *heap = inode->i_private;

	if (heap) {
		mafc_heap_kill(heap);
		mafc_heap_put(heap);
	}
	iput(inode);
	return 0;
}

static int mafc_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct inode *inode = file->private_data;
	enum mafc_region region = vma->vm_pgoff >> 32;
	struct mafc_heap *heap __free(mafc_heap) = mafc_heap_find(vma->vm_mm);
	u64 index = (u32)vma->vm_pgoff;

	if (!heap)
		return -ENODEV;
	if (heap->inode != inode || !(vma->vm_flags & VM_SHARED) ||
	    vma->vm_pgoff >> 32 >= MAFC_REGIONS || index + vma_pages(vma) > heap->pages[region])
		return -EINVAL;
	/* The first takes over from the file, which counted as one; a dead heap gets no other. */
	if (cmpxchg(&inode->i_private, heap, NULL) == heap)
		mafc_heap_put(heap);
	else if (!atomic_inc_not_zero(&heap->vmas))
		return -ENODEV;
	vm_flags_set(vma, VM_MIXEDMAP | VM_DONTEXPAND);
	vma->vm_private_data = heap;
	mafc_vma_mode(vma, READ_ONCE(heap->cow));
	return 0;
}

/* The structure of an ioctl, whichever it is. */
union mafc_arg {
	struct mafc_info info;
	struct mafc_setup setup;
	struct mafc_stat stat;
	struct mafc_compact compact;
	struct mafc_release release;
	struct mafc_remap remap;
	struct mafc_policy policy;
};

static int ioctl_info(struct file *file, struct mafc_heap *heap, union mafc_arg *arg)
{
	struct mafc_info *info = &arg->info;

	info->abi_version = MAFC_ABI_VERSION;
	info->page_size = PAGE_SIZE;
	info->features = MAFC_FEATURE_MESH | MAFC_FEATURE_MOVE |
			 MAFC_FEATURE_DROP | MAFC_FEATURE_FORK_COW | MAFC_FEATURE_REMAP;
	info->region_align = MAFC_REGION_ALIGN;
	info->region_max = MAFC_REGION_MAX;
	return 0;
}

static bool region_ok(u32 pages)
{
	return pages && pages % MAFC_REGION_ALIGN == 0 && pages <= MAFC_REGION_MAX;
}

static int ioctl_setup(struct file *file, struct mafc_heap *heap, union mafc_arg *arg)
{
	struct mafc_setup *s = &arg->setup;
	struct inode *inode = file->private_data;

	if (!region_ok(s->small_pages) || !region_ok(s->large_pages))
		return -EINVAL;
	heap = mafc_heap_create(current->mm, inode, s->small_pages, s->large_pages);
	if (IS_ERR(heap))
		return PTR_ERR(heap);
	/* The file counts as a mapping until there is one. */
	atomic_set(&heap->vmas, 1);
	if (cmpxchg(&inode->i_private, NULL, heap)) {
		/* The file has another process's; a mapping may be quicker. */
		if (atomic_dec_and_test(&heap->vmas))
			mafc_heap_kill(heap);
		mafc_heap_put(heap);
		return -EEXIST;
	}
	s->meta_bytes = (u64)heap->pages[MAFC_META] << PAGE_SHIFT;
	s->small_map = (u64)heap->map[MAFC_SMALL] << PAGE_SHIFT;
	s->large_map = (u64)heap->map[MAFC_LARGE] << PAGE_SHIFT;
	s->spans = (u64)heap->spans << PAGE_SHIFT;
	return 0;
}

static int ioctl_stat(struct file *file, struct mafc_heap *heap, union mafc_arg *arg)
{
	struct mafc_stat *st = &arg->stat;

	if (st->pad || st->pid < 0)
		return -EINVAL;
	heap = st->pid ? mafc_heap_find_pid(st->pid) : mafc_heap_find(current->mm);
	if (IS_ERR_OR_NULL(heap))
		return heap ? PTR_ERR(heap) : -ENODEV;
	*st = (struct mafc_stat){ .size = st->size, .pid = st->pid };
	mafc_heap_stat(heap, st);
	mafc_heap_put(heap);
	return 0;
}

static int ioctl_compact(struct file *file, struct mafc_heap *heap, union mafc_arg *arg)
{
	return mafc_compact_now(heap, &arg->compact);
}

static bool range_ok(const struct mafc_heap *heap, u64 offset, u64 length)
{
	u64 end = (u64)heap->pages[MAFC_LARGE] << PAGE_SHIFT;

	return PAGE_ALIGNED(offset) && PAGE_ALIGNED(length) && length &&
	       offset < end && length <= end - offset;
}

static int ioctl_release(struct file *file, struct mafc_heap *heap, union mafc_arg *arg)
{
	struct mafc_release *r = &arg->release;
	int err;

	if (!range_ok(heap, r->offset, r->length))
		return -EINVAL;
	err = mafc_release_range(heap, mafc_slot(MAFC_LARGE, r->offset >> PAGE_SHIFT),
				 r->length >> PAGE_SHIFT, &r->released);
	r->released <<= PAGE_SHIFT;
	return err;
}

static int ioctl_remap(struct file *file, struct mafc_heap *heap, union mafc_arg *arg)
{
	struct mafc_remap *r = &arg->remap;

	if (!range_ok(heap, r->from, r->length) || !range_ok(heap, r->to, r->length) ||
	    (r->from < r->to + r->length && r->to < r->from + r->length))
		return -EINVAL;
	return mafc_remap_range(heap, mafc_slot(MAFC_LARGE, r->from >> PAGE_SHIFT),
				mafc_slot(MAFC_LARGE, r->to >> PAGE_SHIFT),
				r->length >> PAGE_SHIFT);
}

static int ioctl_policy(struct file *file, struct mafc_heap *heap, union mafc_arg *arg)
{
	struct mafc_policy *p = &arg->policy;

	if (p->compact > 1 || p->set & ~MAFC_POLICY_COMPACT)
		return -EINVAL;
	if (p->set & MAFC_POLICY_COMPACT)
		WRITE_ONCE(heap->compact, p->compact);
	p->compact = READ_ONCE(heap->compact);
	return 0;
}

/* An ioctl; @fn gets the structure checked for size and flags, and writes results to it. */
struct mafc_ioctl {
	int (*fn)(struct file *file, struct mafc_heap *heap, union mafc_arg *arg);
	bool heap;	/* it gets the caller's heap, without which there is -ENODEV; else NULL */
	u32 flags;	/* that it knows */
	size_t size;	/* of the structure now */
	size_t min;	/* of its first version */
};

#define MAFC_IOCTL(CMD, name, last, _heap, _flags)			\
	[_IOC_NR(MAFC_IOC_##CMD)] = {					\
		.fn = ioctl_##name, .heap = (_heap), .flags = (_flags),	\
		.size = sizeof(struct mafc_##name),			\
		.min = offsetofend(struct mafc_##name, last),		\
	}

static const struct mafc_ioctl mafc_ioctls[] = {
	MAFC_IOCTL(INFO, info, region_max, false, 0),
	MAFC_IOCTL(SETUP, setup, spans, false, 0),
	MAFC_IOCTL(STAT, stat, pad, false, 0),
	MAFC_IOCTL(COMPACT, compact, released, true, MAFC_COMPACT_SHUFFLE),
	MAFC_IOCTL(RELEASE, release, released, true, 0),
	MAFC_IOCTL(REMAP, remap, length, true, 0),
	MAFC_IOCTL(POLICY, policy, compact, true, 0),
};

static long mafc_ioctl(struct file *file, unsigned int cmd, unsigned long ptr)
{
	void __user *user = (void __user *)ptr;
	struct mafc_heap *heap __free(mafc_heap) = NULL;
	const struct mafc_ioctl *op;
	union mafc_arg arg = { 0 };
	u32 size;
	int err;

	if (_IOC_TYPE(cmd) != MAFC_IOC_MAGIC || _IOC_DIR(cmd) != _IOC_NONE ||
	    _IOC_SIZE(cmd) || _IOC_NR(cmd) >= ARRAY_SIZE(mafc_ioctls))
		return -ENOTTY;
	op = &mafc_ioctls[_IOC_NR(cmd)];
	if (get_user(size, (u32 __user *)user))
		return -EFAULT;
	if (size < op->min)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	err = copy_struct_from_user(&arg, op->size, user, size);
	if (err)
		return err;
	if (arg.info.flags & ~op->flags)	/* all of them have it there */
		return -EINVAL;
	/* Where the answer cannot be written, nothing shall be done. */
	if (copy_to_user(user, &arg, min_t(size_t, size, op->size)))
		return -EFAULT;
	heap = op->heap ? mafc_heap_find(current->mm) : NULL;
	if (op->heap && !heap)
		return -ENODEV;
	err = op->fn(file, heap, &arg);
	if ((!err || err == -EINTR) && copy_to_user(user, &arg, min_t(size_t, size, op->size)))
		return -EFAULT;
	return err;
}

static const struct file_operations mafc_fops = {
	.owner = THIS_MODULE,
	.open = mafc_open, .release = mafc_release, .mmap = mafc_mmap,
	.unlocked_ioctl = mafc_ioctl, .compat_ioctl = compat_ptr_ioctl, .llseek = noop_llseek,
};

static struct miscdevice mafc_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "mafc",
	.fops = &mafc_fops,
	.groups = mafc_sysfs_groups,
};

static int __init mafc_init(void)
{
	int err;

	BUILD_BUG_ON(sizeof(struct mafc_span) != 64);
	BUILD_BUG_ON(MAFC_OFF_SMALL >> PAGE_SHIFT != mafc_slot_pgoff(mafc_slot(MAFC_SMALL, 0)));
	BUILD_BUG_ON(MAFC_OFF_LARGE >> PAGE_SHIFT != mafc_slot_pgoff(mafc_slot(MAFC_LARGE, 0)));
	mafc_mnt = kern_mount(&mafc_fs_type);
	if (IS_ERR(mafc_mnt))
		return PTR_ERR(mafc_mnt);
	err = mafc_pools_init();
	if (err)
		goto mount;
	err = mafc_compactor_start();
	if (err)
		goto pools;
	err = misc_register(&mafc_device);
	if (!err)
		return 0;
	mafc_compactor_stop();
pools:
	mafc_pools_exit();
mount:
	kern_unmount(mafc_mnt);
	return err;
}

static void __exit mafc_exit(void)
{
	misc_deregister(&mafc_device);
	mafc_compactor_stop();
	mafc_pools_exit();
	kern_unmount(mafc_mnt);
	rcu_barrier();	/* leaves still on their way */
}

module_init(mafc_init);
module_exit(mafc_exit);
MODULE_DESCRIPTION("Memory allocator with fragmentation control");
MODULE_LICENSE("GPL");
