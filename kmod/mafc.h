/* SPDX-License-Identifier: GPL-2.0-only */
/* mafc.h - the nouns of the module; for what they mean, invariants and locks see design.rst */
#ifndef MAFC_H
#define MAFC_H
#include <linux/bitmap.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/wait.h>
#include <linux/xarray.h>
#include "../uapi/mafc.h"
#include "buddy.h"
#include "compat.h"
#include "markov.h"

enum mafc_region { MAFC_META, MAFC_SMALL, MAFC_LARGE, MAFC_REGIONS };
#define MAFC_LEAF_SHIFT		9
#define MAFC_LEAF_SLOTS		(1U << MAFC_LEAF_SHIFT)
#define MAFC_SLOT_SHIFT		30
#define MAFC_SPANS_PER_PAGE	(PAGE_SIZE / sizeof(struct mafc_span))
#define MAFC_CHUNK_ORDER_MAX	9
#define MAFC_CHUNK_FRAMES_MAX	(1U << MAFC_CHUNK_ORDER_MAX)
#define MAFC_POOL_LISTS		9	/* of chunks by how full they are; 0: no free frame */
#define MAFC_BATCH_MAX		16
#define MAFC_MOTION_MAX		64
#define MAFC_LEAF_CACHE		64

static inline u32 mafc_slot(enum mafc_region region, u32 index)
{
	return (u32)region << MAFC_SLOT_SHIFT | index;
}

static inline enum mafc_region mafc_slot_region(u32 slot)
{
	return slot >> MAFC_SLOT_SHIFT;
}

static inline u32 mafc_slot_index(u32 slot)
{
	return slot & (BIT(MAFC_SLOT_SHIFT) - 1);
}

/* The regions' file offsets, MAFC_OFF_*, are 2^44 bytes apart. */
static inline pgoff_t mafc_slot_pgoff(u32 slot)
{
	return ((pgoff_t)mafc_slot_region(slot) << 32) | mafc_slot_index(slot);
}

static inline u32 mafc_pgoff_slot(pgoff_t pgoff)
{
	return mafc_slot(pgoff >> 32, (u32)pgoff);
}

/* Flags of an entry, below the address of its struct page. */
#define MAFC_E_MOVING		1UL	/* wait until it is gone */
#define MAFC_E_MESHED		2UL	/* the ring has other members */
#define MAFC_E_FLAGS		7UL

static inline unsigned int mafc_leaf_index(u32 slot)
{
	return slot & (MAFC_LEAF_SLOTS - 1);
}

static inline struct page *mafc_entry_page(unsigned long entry)
{
	return (struct page *)(entry & ~MAFC_E_FLAGS);
}

/* The entries of 512 slots; @entry and @ring under heap->motion, see the invariants. */
struct mafc_leaf {
	refcount_t refs;		/* who may look at it; freed under RCU */
	atomic_t users;			/* heaps that have it; changes under @sem for writing */
	struct rw_semaphore sem;	/* read by faults while they use the entries */
	unsigned long *entry;		/* MAFC_LEAF_SLOTS of them */
	u32 *ring;			/* next slot of each ring, NULL before the first mesh */
	DECLARE_BITMAP(seen_free, MAFC_LEAF_SLOTS);	/* large slots found given up */
	struct rcu_head rcu;
};

/* What the module knows of a physical page. */
struct mafc_frame {
	atomic_t owners;	/* entries that point at it; 0 when free or gone */
	u32 slot;		/* one of them; a hint, as sharing heaps may have remapped it */
};

/* 2^@order frames; all under pool->lock, @frame[].owners excepted, which is atomic. */
struct mafc_chunk {
	struct list_head node;		/* in one of the pool's lists */
	struct list_head lru;		/* in the shrinker's list, from creation to the end */
	struct mafc_pool *pool;		/* whose it is; with a reference */
	struct page *base;
	u16 order;
	u16 gone;			/* frames that went back to the system one by one */
	u16 age;			/* of the histogram that gave the lazy targets */
	bool aside;			/* in no list, nothing is taken: new or leaving */
	bool zeroed;			/* by the page allocator: what is not @dirty is zeros */
	DECLARE_BITMAP(dirty, MAFC_CHUNK_FRAMES_MAX);	/* those with data of the process */
	struct mafc_buddy *buddy;	/* over the frames; those gone are never free in it */
	struct mafc_frame *frame;	/* the frames, and the buddy behind them */
};

/* A pool's chunks on one NUMA node. */
struct mafc_pool_node {
	unsigned long cached;		/* free frames in @lists */
	struct list_head lists[MAFC_POOL_LISTS];
};

/* Physical memory of a heap. */
struct mafc_pool {
	spinlock_t lock;		/* protects what follows, and the chunks */
	refcount_t refs;		/* one by the heap, one by each chunk */
	bool dead;			/* the heap is gone; what is freed goes to the system */
	u8 min_order;			/* of the smallest chunk */
	unsigned long frames;		/* held from the system */
	unsigned long cached;		/* of these, free ones */
	unsigned long low;		/* least @cached since the last trim: what was not needed */
	unsigned long returned;		/* whole chunks given back */
	struct mafc_hist hist;		/* orders asked for */
	struct mafc_pool_node node[];	/* by number */
};

/* NUMA nodes for a page: the best, those that will do (or NULL), and whether no other. */
struct mafc_place {
	int nid;
	const nodemask_t *nodes;
	bool only;
};

/* Frames on their way from a pool to a table. */
struct mafc_batch {
	unsigned int n;
	u32 zero;	/* bit i: page[i] must be cleared before the process sees it */
	struct page *page[MAFC_BATCH_MAX];
};

/* What a frame may hold when it is taken. */
enum mafc_fill {
	MAFC_FILL_RAW,	/* anything: the caller overwrites the whole of it */
	MAFC_FILL_OWN,	/* zeros, or what this process left there */
	MAFC_FILL_ZERO,
};

enum mafc_counter {
	MAFC_N_FAULTS, MAFC_N_COW, MAFC_N_MESHED, MAFC_N_MOVED, MAFC_N_DROPPED, MAFC_N_PINNED,
	MAFC_N_COMPACTIONS, MAFC_N_WAITS, MAFC_N_COUNTERS
};

/* The slots in motion; one set per heap, under its mutex. */
struct mafc_motion {
	ktime_t start;			/* since when they say MOVING; 0: they do not yet */
	bool atomic;			/* preemption is off meanwhile */
	unsigned int n;
	struct {
		u32 slot;
		struct mafc_leaf *leaf;
		unsigned long entry;	/* before MOVING was set */
	} s[MAFC_MOTION_MAX];
};

/* A leaf (or NULL) found exclusive, which lasts until the next fork; under heap->motion. */
struct mafc_leaf_cache {
	u32 key;			/* slot >> MAFC_LEAF_SHIFT */
	struct mafc_leaf *leaf;
};

/* The heap of one process. */
struct mafc_heap {
	refcount_t refs;		/* lookups, the list, the mappings together */
	struct rcu_head rcu;		/* kvfree_rcu() wants it near the start */
	struct mm_struct *mm;		/* whose it is; grabbed, not pinned */
	struct inode *inode;		/* of the open file; its mapping is what gets zapped */
	u32 pages[MAFC_REGIONS];	/* length of each region */
	u32 map[MAFC_REGIONS];		/* page map of each region: page of the meta region */
	u32 spans;			/* the span descriptors, likewise */
	atomic_t vmas;			/* mappings; the heap dies with the last one */
	struct mutex motion;		/* see the lock order */
	bool dead;			/* no page is added or moved any more; set under @motion */
	bool cow;			/* page_mkwrite is in force; set under mmap_lock */
	unsigned int forks;		/* how often it has forked */
	bool compact;			/* the compactor may work on it */
	struct xarray leaves;		/* slot >> MAFC_LEAF_SHIFT -> struct mafc_leaf */
	struct mafc_leaf_cache leaf_cache[MAFC_LEAF_CACHE];	/* by key */
	wait_queue_head_t moving;	/* threads that wait for a page in motion */
	struct mafc_motion mo;		/* the motion under way */
	struct task_struct *mover;	/* whose it is, or the last was; RCU */
	struct mafc_pool *pool;		/* small and large region */
	struct mafc_pool *meta_pool;
	struct list_head node;		/* in the list of heaps */
	atomic64_t count[MAFC_N_COUNTERS];
	atomic_long_t stall[MAFC_STALL_BUCKETS];	/* waits for pages in motion by log2(ns) */
	u64 away_max;			/* longest motion, ns */
	struct {			/* what the last scan found; under @motion */
		u64 live;		/* bytes in allocated blocks */
		u64 mapped;		/* slots with a frame */
		unsigned long when;	/* jiffies */
	} scan;
	u32 mesh_from;			/* where the next scan begins to look for spans to mesh */
	struct mafc_pfm pfm;		/* the model, and what it was told; under @motion */
	u64 pfm_frees;			/* blocks freed as of the last visit */
	u64 pfm_allocs[MAFC_CLASSES_MAX];	/* blocks allocated, by class, likewise */
	unsigned long next_pass;	/* jiffies of the compactor's next visit */
	u64 last_faults;		/* as of the last visit */
	unsigned int backoff;		/* visits that gained nothing, in a row */
};

extern atomic64_t mafc_total[MAFC_N_COUNTERS];
extern atomic64_t mafc_away_max;
extern unsigned int mafc_heaps_count;

static inline void mafc_count(struct mafc_heap *heap, enum mafc_counter c, long n)
{
	atomic64_add(n, &heap->count[c]);
	atomic64_add(n, &mafc_total[c]);
}

/* pool.c */
extern atomic_long_t mafc_node_frames[];	/* by node: held, of all heaps */
int mafc_pools_init(void);
void mafc_pools_exit(void);
struct mafc_pool *mafc_pool_create(unsigned int min_order);
void mafc_pool_kill(struct mafc_pool *pool);
void mafc_pool_put(struct mafc_pool *pool);
int mafc_pool_take(struct mafc_pool *pool, struct mafc_batch *batch, unsigned int want,
		   enum mafc_fill fill, gfp_t gfp, const struct mafc_place *place);
void mafc_place_of(const struct vm_area_struct *vma, u32 slot, struct mafc_place *place);
void mafc_pool_untake(struct mafc_pool *pool, struct mafc_batch *batch);
void mafc_frame_dirty(struct page *page);
void mafc_frame_put(struct mafc_pool *mine, struct page *page, int owners);
void mafc_pool_trim(struct mafc_pool *pool, unsigned int part);
struct mafc_chunk *mafc_pool_victim(struct mafc_pool *pool);
bool mafc_pool_release_victim(struct mafc_chunk *chunk);
void mafc_pool_stat(struct mafc_pool *pool, struct mafc_stat *st);

static inline struct mafc_pool *mafc_pool_of(struct mafc_heap *heap, u32 slot)
{
	return mafc_slot_region(slot) == MAFC_META ? heap->meta_pool : heap->pool;
}

static inline struct mafc_frame *mafc_frame(struct page *page)
{
	struct mafc_chunk *chunk = (struct mafc_chunk *)page_private(page);

	return &chunk->frame[page_to_pfn(page) - page_to_pfn(chunk->base)];
}

/* table.c */
struct mafc_leaf *mafc_leaf_get(struct mafc_heap *heap, u32 slot);
struct mafc_leaf *mafc_leaf_make(struct mafc_heap *heap, u32 slot);
struct mafc_leaf *mafc_leaf_exclusive(struct mafc_heap *heap, u32 slot);
void mafc_leaf_put(struct mafc_leaf *leaf);
DEFINE_FREE(mafc_leaf, struct mafc_leaf *, if (_T) mafc_leaf_put(_T))
int mafc_leaf_own(struct mafc_heap *heap, u32 slot);
u32 mafc_ring_next(struct mafc_heap *heap, u32 slot);
void mafc_ring_splice(struct mafc_heap *heap, u32 a, u32 b);
int mafc_ring_prepare(struct mafc_heap *heap, u32 slot);
bool mafc_leaf_current(struct mafc_heap *heap, u32 slot, struct mafc_leaf *leaf);
unsigned long mafc_entry(struct mafc_heap *heap, u32 slot);
unsigned long mafc_entry_held(struct mafc_heap *heap, u32 slot);
int mafc_table_fork(struct mafc_heap *parent, struct mafc_heap *child);
void mafc_table_destroy(struct mafc_heap *heap);
void *mafc_meta(struct mafc_heap *heap, u32 index, bool write);
struct mafc_span *mafc_span(struct mafc_heap *heap, u32 index, bool write);
u64 mafc_handed_out(struct mafc_heap *heap, u32 slot);

/* motion.c */
int mafc_motion_add(struct mafc_heap *heap, u32 slot);
int mafc_motion_ring(struct mafc_heap *heap, u32 slot, bool cow);
int mafc_motion_start(struct mafc_heap *heap);
bool mafc_motion_freeze(struct mafc_heap *heap, struct page *page);
void mafc_motion_set(struct mafc_heap *heap, unsigned int i, unsigned long e);
void mafc_motion_end(struct mafc_heap *heap);
int mafc_frames_take(struct mafc_heap *heap, u32 slot, unsigned int n, u16 first[],
		     struct page *page[]);
void mafc_frames_free(struct mafc_heap *heap, unsigned int n, const u16 first[],
		      struct page *page[]);
void mafc_motion_wait(struct mafc_heap *heap, struct mafc_leaf *leaf, unsigned int i);
int mafc_relocate(struct mafc_heap *heap, u32 slot, gfp_t gfp);
int mafc_cow_break(struct mafc_heap *heap, u32 slot, const struct vm_area_struct *vma,
		   struct page **owned);
int mafc_release_range(struct mafc_heap *heap, u32 slot, u32 n, u64 *pages);
int mafc_remap_range(struct mafc_heap *heap, u32 from, u32 to, u32 n);

/* mesh.c: pages to be dropped together, and the span of each as it was seen */
struct mafc_drop {
	unsigned int n;
	struct mafc_drop_page {
		u32 slot;
		u32 head;
		u32 block_size;		/* 0: there was no span */
		u16 nblocks;
		u16 npages;
	} p[MAFC_MOTION_MAX];
};

void mafc_drop_flush(struct mafc_heap *heap, struct mafc_drop *drop);
unsigned int mafc_ring_exclusive(struct mafc_heap *heap, u32 slot);
int mafc_mesh(struct mafc_heap *heap, u32 dst, u32 src);
int mafc_dissolve(struct mafc_heap *heap, u32 span);
bool mafc_span_valid(const struct mafc_heap *heap, u32 index, const struct mafc_span *d);
void mafc_span_page_mask(const struct mafc_span *d, unsigned int page, u64 mask[4]);

/* fault.c */
void mafc_vma_mode(struct vm_area_struct *vma, bool cow);
void mafc_try_uncow(struct mafc_heap *heap);

/* heap.c */
struct mafc_heap *mafc_heap_find(struct mm_struct *mm);
struct mafc_heap *mafc_heap_find_pid(pid_t pid);
struct mafc_heap *mafc_heap_create(struct mm_struct *mm, struct inode *inode, u32 small, u32 large);
struct mafc_heap *mafc_heap_fork(struct mafc_heap *parent, struct mm_struct *mm);
void mafc_heap_put(struct mafc_heap *heap);
DEFINE_FREE(mafc_heap, struct mafc_heap *, if (_T) mafc_heap_put(_T))
void mafc_heap_kill(struct mafc_heap *heap);
void mafc_heap_stat(struct mafc_heap *heap, struct mafc_stat *st);
struct mafc_heap *mafc_heap_next(struct mafc_heap *prev);
unsigned int mafc_heap_fragmentation(struct mafc_heap *heap);
u64 mafc_heap_held(const struct mafc_heap *heap);

/* compact.c */
void mafc_scan_fresh(struct mafc_heap *heap);
int mafc_compact_now(struct mafc_heap *heap, struct mafc_compact *arg);
int mafc_compactor_start(void);
void mafc_compactor_stop(void);
void mafc_compactor_kick(void);
u64 mafc_compactor_cpu_ns(void);

/* sysfs.c: the tunables and the attribute groups */
extern unsigned int mafc_enable, mafc_threshold_percent, mafc_budget_percent, mafc_interval_ms;
extern unsigned int mafc_medium_percent, mafc_high_percent;
extern const struct attribute_group *mafc_sysfs_groups[];
#endif /* MAFC_H */
