/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * mafc.h - the interface between the M-AFC kernel module and user space
 *
 * Documentation/uapi.rst explains it: heaps, regions, page maps, the span protocol.
 *
 * DOC: errors
 *
 * Every structure starts with its own size and with flags, 0 unless said; padding is 0.  The
 * kernel takes older (shorter) and newer (longer) ones whose unknown part is zero.
 *
 *   ENOTTY   no such ioctl
 *   EINVAL   an unknown flag, non-zero padding, a value out of range, a structure shorter than
 *            its first version
 *   E2BIG    a structure longer than a page, or whose unknown part is not zero
 *   EFAULT   the structure cannot be read or written
 *   ENODEV   the caller has no heap (of MAFC_IOC_SETUP: not before mmap)
 *   EEXIST   MAFC_IOC_SETUP: the caller has a heap already
 *   ESRCH    no process with that pid
 *   EPERM    that process may not be inspected by the caller
 *   ENOMEM   no memory, or over the limit of the memory cgroup
 *   EINTR    a signal arrived; what had been done stays done
 *
 * What fails has changed nothing, but with EINTR; RELEASE with ENOMEM may have dropped a part.
 */
#ifndef _UAPI_MAFC_H
#define _UAPI_MAFC_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define MAFC_ABI_VERSION	1
/* Offsets of the three mappings. */
#define MAFC_OFF_META		0x000000000000ULL
#define MAFC_OFF_SMALL		0x100000000000ULL
#define MAFC_OFF_LARGE		0x200000000000ULL

/* The number of pages of a region is a multiple of this and at most MAX. */
#define MAFC_REGION_ALIGN	32768U
#define MAFC_REGION_MAX		0x40000000U

#define MAFC_SPAN_BLOCKS_MAX	256
#define MAFC_SPAN_PAGES_MAX	32

/* Span states: the low byte of &struct mafc_span.state. */
#define MAFC_SPAN_NONE		0	/* no span here */
#define MAFC_SPAN_ATTACHED	1	/* the library hands out its blocks */
#define MAFC_SPAN_IDLE		2	/* free for either side to take */
#define MAFC_SPAN_BUSY		3	/* the kernel works on it */
#define MAFC_SPAN_MESHED	4	/* its blocks live in another span */
#define MAFC_SPAN_DEAD		5	/* given up by the kernel, yet listed */
#define MAFC_SPAN_TAIL		6	/* a later page of a span */
#define MAFC_SPAN_STATE(word)	((word) & 0xffU)

/* Flags beside the state. */
#define MAFC_SPAN_LISTED	0x100U	/* library: it is in one of my lists */
#define MAFC_SPAN_ROOT		0x200U	/* kernel: others are meshed into it */

/* Descriptor of a span, one per page of the small region; spans are named by page index there. */
struct mafc_span {
	__u64 bitmap[4];		/* one bit per block; bits at and over @nblocks are zero */
	__u32 state;			/* MAFC_SPAN_* and flags; atomic */
	__u32 canonical;		/* the span that holds the blocks; atomic */
	__u32 block_size;		/* bytes per block, a multiple of 16 */
	__u16 nblocks;			/* blocks in the span, at most MAFC_SPAN_BLOCKS_MAX */
	__u16 npages;			/* pages of the span, at most MAFC_SPAN_PAGES_MAX */
	__u16 head;			/* TAIL only: distance to the span's first page, in pages */
	__u16 size_class;		/* the library's own; the kernel does not look at it */
	__u32 lib[3];			/* the library's own (list links and the like) */
};

#define MAFC_CLASSES_MAX	96

/* What was asked of one size class, since the start. */
struct mafc_class_count {
	__u64 block_size;		/* bytes, of new spans; 0: the class is not in use */
	__u64 allocs;			/* blocks handed out */
	__u64 frees;			/* blocks taken back */
	__u64 requested;		/* sum of the sizes that the program asked for, bytes */
};

#define MAFC_META_MAGIC		0x4346414dU	/* "MAFC" */

/* The start of the meta region.  Counters, published now and then, only grow, but @large_live. */
struct mafc_meta {
	__u32 magic;			/* MAFC_META_MAGIC, set last by the library */
	__u32 nclasses;			/* entries of @classes in use */
	__u64 large_live;		/* bytes of large blocks now allocated */
	__u64 large_allocs;		/* large blocks handed out since the start */
	__u64 large_frees;		/* large blocks taken back since the start */
	__u64 sites;			/* the library's own: address of its table of samples, or 0 */
	__u64 pad[3];
	struct mafc_class_count classes[MAFC_CLASSES_MAX];	/* the small classes */
};

/* &struct mafc_info.features */
#define MAFC_FEATURE_MESH	(1ULL << 0)
#define MAFC_FEATURE_MOVE	(1ULL << 1)
#define MAFC_FEATURE_DROP	(1ULL << 2)
#define MAFC_FEATURE_FORK_COW	(1ULL << 3)
#define MAFC_FEATURE_REMAP	(1ULL << 4)

/* MAFC_IOC_INFO: versions and limits. */
struct mafc_info {
	__u32 size;
	__u32 flags;
	__u32 abi_version;		/* out: MAFC_ABI_VERSION of the module */
	__u32 page_size;		/* out: bytes */
	__aligned_u64 features;		/* out: MAFC_FEATURE_* */
	__u32 region_align;		/* out: see MAFC_REGION_ALIGN */
	__u32 region_max;		/* out: see MAFC_REGION_MAX */
};

/* MAFC_IOC_SETUP: make the heap.  Page maps: a bit per page, bit 0 of 64-bit word 0 first. */
struct mafc_setup {
	__u32 size;
	__u32 flags;
	__u32 small_pages;		/* in: pages of the small region */
	__u32 large_pages;		/* in: pages of the large region */
	__aligned_u64 meta_bytes;	/* out: length of the meta region, bytes */
	__aligned_u64 small_map;	/* out: offset of the small page map in it, bytes */
	__aligned_u64 large_map;	/* out: offset of the large page map */
	__aligned_u64 spans;		/* out: offset of the array of struct mafc_span */
};

#define MAFC_STALL_BUCKETS	24

/* MAFC_IOC_STAT: the state of a heap; counts are since its start. */
struct mafc_stat {
	__u32 size;
	__u32 flags;
	__s32 pid;			/* in: whose heap; 0 is the caller's own */
	__u32 state;			/* out: PFM state, 0 Low, 1 Medium, 2 High */
	__aligned_u64 held;		/* out: bytes of physical memory charged to the heap */
	__aligned_u64 cached;		/* out: of these, bytes free in chunks */
	__aligned_u64 live;		/* out: bytes in allocated blocks, as of the last scan */
	__aligned_u64 mapped;		/* out: bytes of virtual pages that have a physical page */
	__aligned_u64 fragmentation;	/* out: (held - live) / held in 1/100 of a per cent */
	__aligned_u64 largest_free;	/* out: largest contiguous free run in the chunks, bytes */
	__aligned_u64 free_blocks[10];	/* out: number of free runs of 2^i pages, by i */
	__aligned_u64 meshed;		/* out: virtual pages meshed */
	__aligned_u64 moved;		/* out: physical pages moved */
	__aligned_u64 dropped;		/* out: pages dropped */
	__aligned_u64 pinned;		/* out: times that a page was in use elsewhere */
	__aligned_u64 chunks_returned;	/* out: whole chunks given back to the system */
	__aligned_u64 faults;		/* out: page faults served */
	__aligned_u64 cow_copies;	/* out: pages copied after fork */
	__aligned_u64 compactions;	/* out: passes of the compactor that gained something */
	__aligned_u64 away_max_ns;	/* out: longest time a page was in motion */
	__aligned_u64 stall[MAFC_STALL_BUCKETS];	/* out: waits for them, by log2(ns) */
	__u32 high_ppm;			/* out: probability of High within 10 steps, 1/10^6 */
	__u32 pad;
};

/* Move pages even where it gains nothing: for tests and measurements. */
#define MAFC_COMPACT_SHUFFLE	(1U << 0)

/* MAFC_IOC_COMPACT: compact the heap now, even where compaction is switched off. */
struct mafc_compact {
	__u32 size;
	__u32 flags;			/* MAFC_COMPACT_* */
	__aligned_u64 budget_us;	/* in: stop after so many; 0 is one full pass */
	__aligned_u64 meshed;		/* out: virtual pages meshed by this call */
	__aligned_u64 moved;		/* out: physical pages moved */
	__aligned_u64 dropped;		/* out: pages dropped */
	__aligned_u64 released;		/* out: bytes given back to the system */
};

/* MAFC_IOC_RELEASE: drop pages of the large region; the next touch finds zeros. */
struct mafc_release {
	__u32 size;
	__u32 flags;
	__aligned_u64 offset;		/* in: in the large region, bytes, page aligned */
	__aligned_u64 length;		/* in: bytes, page aligned */
	__aligned_u64 released;		/* out: bytes dropped */
};

/*
 * MAFC_IOC_REMAP: move pages within the large region, without copying.  What was at @to is lost;
 * @from reads as zeros.
 */
struct mafc_remap {
	__u32 size;
	__u32 flags;
	__aligned_u64 from;		/* in: likewise */
	__aligned_u64 to;		/* in: likewise; the ranges must not overlap */
	__aligned_u64 length;		/* in: likewise */
};

/* &struct mafc_policy.set: which members are to be changed */
#define MAFC_POLICY_COMPACT	(1U << 0)

/* MAFC_IOC_POLICY: settings of the heap. */
struct mafc_policy {
	__u32 size;
	__u32 flags;
	__u32 set;			/* in: MAFC_POLICY_* */
	__u32 compact;			/* in/out: may the compactor work on this heap? 0 or 1 */
};

#define MAFC_IOC_MAGIC		0xD5
#define MAFC_IOC_INFO		_IO(MAFC_IOC_MAGIC, 0)
#define MAFC_IOC_SETUP		_IO(MAFC_IOC_MAGIC, 1)
#define MAFC_IOC_STAT		_IO(MAFC_IOC_MAGIC, 2)
#define MAFC_IOC_COMPACT	_IO(MAFC_IOC_MAGIC, 3)
#define MAFC_IOC_RELEASE	_IO(MAFC_IOC_MAGIC, 4)
#define MAFC_IOC_REMAP		_IO(MAFC_IOC_MAGIC, 5)
#define MAFC_IOC_POLICY		_IO(MAFC_IOC_MAGIC, 6)

#endif /* _UAPI_MAFC_H */
