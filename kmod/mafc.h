/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * mafc.h - the nouns of the module
 *
 * Documentation/design.rst says what slot, frame, chunk, pool, leaf, entry, ring
 * and motion are, and has the invariants and the order of locks.
 */
#ifndef MAFC_H
#define MAFC_H

#include <linux/atomic.h>
#include <linux/bitmap.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/rwsem.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/xarray.h>

#include "../uapi/mafc.h"
#include "buddy.h"
#include "compat.h"
#include "markov.h"

enum mafc_region {
	MAFC_META,
	MAFC_SMALL,
	MAFC_LARGE,
	MAFC_REGIONS,
};

#define MAFC_LEAF_SHIFT		9
#define MAFC_LEAF_SLOTS		(1U << MAFC_LEAF_SHIFT)
#define MAFC_SLOT_SHIFT		30
#define MAFC_SPANS_PER_PAGE	(PAGE_SIZE / sizeof(struct mafc_span))

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

/**
 * struct mafc_leaf - the entries of 512 slots
 * @refs: who may look at it; freed under RCU
 * @users: heaps that have it in their table; changes under @sem for writing
 * @sem: read by faults while they use the entries
 * @entry: MAFC_LEAF_SLOTS entries, see the invariants
 * @ring: next slot of each slot's ring, or NULL before the first mesh; both
 *	under heap->motion
 * @seen_free: large slots that were found given up by the last scan
 * @rcu: for freeing
 */
struct mafc_leaf {
	refcount_t refs;
	atomic_t users;
	struct rw_semaphore sem;
	unsigned long *entry;
	u32 *ring;
	DECLARE_BITMAP(seen_free, MAFC_LEAF_SLOTS);
	struct rcu_head rcu;
};

/**
 * struct mafc_frame - what the module knows of a physical page
 * @owners: entries that point at it; 0 when free or gone
 * @slot: one of its slots; a hint, as heaps that share it may have remapped it
 */
struct mafc_frame {
	atomic_t owners;
	u32 slot;
};

#define MAFC_CHUNK_ORDER_MAX	9
#define MAFC_CHUNK_FRAMES_MAX	(1U << MAFC_CHUNK_ORDER_MAX)

/**
 * struct mafc_chunk - 2^order frames
 * @node: in one of the pool's lists
 * @lru: in the shrinker's list, from creation to the end
 * @pool: whose it is; the chunk holds a reference
 * @base: its first page
 * @order: log2 of its frames
 * @gone: frames that went back to the system one by one
 * @age: of the histogram that the buddy's lazy targets are from
 * @aside: new, being emptied or leaving: not in the pool's lists, nothing is
 *	taken from it
 * @dirty: frames that hold data of the process, not of the system
 * @buddy: over the frames; those gone are never free in it
 * @frame: the frames, and the buddy behind them
 *
 * All under pool->lock, @frame[].owners excepted, which is atomic.
 */
struct mafc_chunk {
	struct list_head node;
	struct list_head lru;
	struct mafc_pool *pool;
	struct page *base;
	u16 order;
	u16 gone;
	u16 age;
	bool aside;
	DECLARE_BITMAP(dirty, MAFC_CHUNK_FRAMES_MAX);
	struct mafc_buddy *buddy;
	struct mafc_frame *frame;
};

/* Lists of chunks by how full they are; 0 is without a free frame. */
#define MAFC_POOL_LISTS		9

/**
 * struct mafc_pool_node - its chunks on one NUMA node
 * @cached: free frames in @lists
 * @lists: chunks by fullness
 */
struct mafc_pool_node {
	unsigned long cached;
	struct list_head lists[MAFC_POOL_LISTS];
};

/**
 * struct mafc_pool - physical memory of a heap
 * @lock: protects all that follows, and the chunks
 * @refs: one by the heap, one by each chunk
 * @dead: the heap is gone; what is freed goes to the system
 * @min_order: order of the smallest chunk
 * @frames: frames held from the system
 * @cached: of these, free ones
 * @low: least @cached since the last trim: what was not needed
 * @returned: whole chunks given back
 * @hist: orders asked for
 * @node: by number
 */
struct mafc_pool {
	spinlock_t lock;
	refcount_t refs;
	bool dead;
	u8 min_order;
	unsigned long frames;
	unsigned long cached;
	unsigned long low;
	unsigned long returned;
	struct mafc_hist hist;
	struct mafc_pool_node node[];
};

/**
 * struct mafc_place - NUMA nodes for a page
 * @nid: the best
 * @nodes: those that will do, or NULL
 * @only: and no other
 */
struct mafc_place {
	int nid;
	const nodemask_t *nodes;
	bool only;
};

#define MAFC_BATCH_MAX		16

/**
 * struct mafc_batch - frames on their way from a pool to a table
 * @n: how many
 * @zero: bit i: @page[i] must be cleared before the process sees it
 * @page: the frames
 */
struct mafc_batch {
	unsigned int n;
	u32 zero;
	struct page *page[MAFC_BATCH_MAX];
};

/**
 * enum mafc_fill - what a frame may hold when it is taken
 * @MAFC_FILL_RAW: anything: the caller overwrites the whole of it
 * @MAFC_FILL_OWN: zeros, or what this process left there
 * @MAFC_FILL_ZERO: zeros
 */
enum mafc_fill {
	MAFC_FILL_RAW,
	MAFC_FILL_OWN,
	MAFC_FILL_ZERO,
};

enum mafc_counter {
	MAFC_N_FAULTS,
	MAFC_N_COW,
	MAFC_N_MESHED,
	MAFC_N_MOVED,
	MAFC_N_DROPPED,
	MAFC_N_PINNED,
	MAFC_N_COMPACTIONS,
	MAFC_N_WAITS,
	MAFC_N_COUNTERS,
};

#define MAFC_MOTION_MAX		64

/**
 * struct mafc_motion - the slots in motion; one set per heap, under its mutex
 * @start: since when
 * @n: how many
 * @s: each slot, its leaf and its entry before MOVING was set
 */
struct mafc_motion {
	ktime_t start;
	unsigned int n;
	struct {
		u32 slot;
		struct mafc_leaf *leaf;
		unsigned long entry;
	} s[MAFC_MOTION_MAX];
};

#define MAFC_LEAF_CACHE		64

/**
 * struct mafc_leaf_cache - a leaf lately found to be exclusive
 * @key: slot >> MAFC_LEAF_SHIFT
 * @leaf: the leaf, or NULL
 *
 * Good until the next fork, as exclusiveness is.  Under heap->motion.
 */
struct mafc_leaf_cache {
	u32 key;
	struct mafc_leaf *leaf;
};

/**
 * struct mafc_scan - what the last scan of a heap found
 * @live: bytes in allocated blocks
 * @mapped: slots with a frame
 * @when: jiffies of the scan
 */
struct mafc_scan {
	u64 live;
	u64 mapped;
	unsigned long when;
};

/**
 * struct mafc_heap - the heap of one process
 * @refs: lookups, the list, the mappings together
 * @mm: whose it is; grabbed, not pinned
 * @inode: of the open file; its mapping is what gets zapped
 * @pages: length of each region, pages
 * @map: index in the meta region of the page map of each region (META: 0)
 * @spans: index in the meta region of the first page of span descriptors
 * @vmas: mappings; the heap dies with the last one
 * @motion: the mutex, see the lock order
 * @dead: no page may be added or moved any more; set under @motion
 * @cow: it has forked: page_mkwrite is in force; set under mmap_lock
 * @forks: how often it has forked
 * @compact: the compactor may work on it
 * @leaves: slot >> MAFC_LEAF_SHIFT -> struct mafc_leaf
 * @leaf_cache: exclusive leaves by key
 * @moving: threads that wait for a page in motion
 * @mo: the motion under way
 * @pool: frames for the small and large regions
 * @meta_pool: frames for the meta region
 * @node: in the list of heaps
 * @count: statistics by enum mafc_counter
 * @stall: waits for pages in motion by log2(ns)
 * @away_max: longest motion, ns
 * @scan: results of the last scan; under @motion
 * @mesh_from: where the next scan begins to look for spans to mesh
 * @pfm: the fragmentation model; under @motion
 * @pfm_frees: blocks freed as of the last visit; under @motion
 * @pfm_allocs: blocks allocated, by class, likewise
 * @next_pass: jiffies of the compactor's next visit
 * @last_faults: faults as of the last visit
 * @backoff: visits that gained nothing, in a row
 * @rcu: for freeing; kvfree_rcu() wants it near the start
 */
struct mafc_heap {
	refcount_t refs;
	struct rcu_head rcu;
	struct mm_struct *mm;
	struct inode *inode;
	u32 pages[MAFC_REGIONS];
	u32 map[MAFC_REGIONS];
	u32 spans;
	atomic_t vmas;
	struct mutex motion;
	bool dead;
	bool cow;
	unsigned int forks;
	bool compact;
	struct xarray leaves;
	struct mafc_leaf_cache leaf_cache[MAFC_LEAF_CACHE];
	wait_queue_head_t moving;
	struct mafc_motion mo;
	struct mafc_pool *pool;
	struct mafc_pool *meta_pool;
	struct list_head node;
	atomic64_t count[MAFC_N_COUNTERS];
	atomic_long_t stall[MAFC_STALL_BUCKETS];
	u64 away_max;
	struct mafc_scan scan;
	u32 mesh_from;
	struct mafc_pfm pfm;
	u64 pfm_frees;
	u64 pfm_allocs[MAFC_CLASSES_MAX];
	unsigned long next_pass;
	u64 last_faults;
	unsigned int backoff;
};

extern atomic64_t mafc_total[MAFC_N_COUNTERS];
extern atomic64_t mafc_away_max;

static inline void mafc_count(struct mafc_heap *heap, enum mafc_counter c,
			      long n)
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
int mafc_pool_take(struct mafc_pool *pool, struct mafc_batch *batch,
		   unsigned int want, enum mafc_fill fill, gfp_t gfp,
		   const struct mafc_place *place);
void mafc_place_of(const struct vm_area_struct *vma, u32 slot,
		   struct mafc_place *place);
void mafc_pool_untake(struct mafc_pool *pool, struct mafc_batch *batch);
void mafc_frame_dirty(struct page *page);
void mafc_frame_put(struct mafc_pool *mine, struct page *page, int owners);
unsigned long mafc_pool_trim(struct mafc_pool *pool, unsigned int part);
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
int mafc_leaf_own(struct mafc_heap *heap, u32 slot);
u32 mafc_ring_next(struct mafc_heap *heap, u32 slot);
void mafc_ring_splice(struct mafc_heap *heap, u32 a, u32 b);
int mafc_ring_prepare(struct mafc_heap *heap, u32 slot);
bool mafc_leaf_current(struct mafc_heap *heap, u32 slot,
		       struct mafc_leaf *leaf);
unsigned long mafc_entry(struct mafc_heap *heap, u32 slot);
unsigned long mafc_entry_held(struct mafc_heap *heap, u32 slot);
int mafc_table_fork(struct mafc_heap *parent, struct mafc_heap *child);
void mafc_table_destroy(struct mafc_heap *heap);
void *mafc_meta(struct mafc_heap *heap, u32 index, bool write);
struct mafc_span *mafc_span(struct mafc_heap *heap, u32 index, bool write);
bool mafc_handed_out(struct mafc_heap *heap, u32 slot);

/* motion.c */
int mafc_motion_add(struct mafc_heap *heap, u32 slot);
int mafc_motion_ring(struct mafc_heap *heap, u32 slot, bool cow);
void mafc_motion_zap(struct mafc_heap *heap, bool frozen);
bool mafc_motion_freeze(struct mafc_heap *heap, struct page *page);
void mafc_motion_set(struct mafc_heap *heap, unsigned int i, unsigned long e);
void mafc_motion_end(struct mafc_heap *heap);
void mafc_motion_wait(struct mafc_heap *heap, struct mafc_leaf *leaf,
		      unsigned int i);
int mafc_relocate(struct mafc_heap *heap, u32 slot, gfp_t gfp);
int mafc_cow_break(struct mafc_heap *heap, u32 slot,
		   const struct vm_area_struct *vma, struct page **owned);
int mafc_release_range(struct mafc_heap *heap, u32 slot, u32 n, u64 *pages);
int mafc_remap_range(struct mafc_heap *heap, u32 from, u32 to, u32 n);

/* mesh.c */
/**
 * struct mafc_drop - pages to be dropped together
 * @n: how many
 * @p: each with the span it belongs to and how that looked when the page was
 *	found without live blocks; @head is the slot's own index if no span is
 *	there at all
 */
struct mafc_drop {
	unsigned int n;
	struct mafc_drop_page {
		u32 slot;
		u32 head;
		u32 block_size;
		u16 nblocks;
		u16 npages;
	} p[MAFC_MOTION_MAX];
};

void mafc_drop_add(struct mafc_heap *heap, struct mafc_drop *drop, u32 slot,
		   u32 head, const struct mafc_span *seen);
void mafc_drop_flush(struct mafc_heap *heap, struct mafc_drop *drop);
unsigned int mafc_ring_exclusive(struct mafc_heap *heap, u32 slot);
int mafc_mesh(struct mafc_heap *heap, u32 dst, u32 src);
int mafc_dissolve(struct mafc_heap *heap, u32 span);
bool mafc_span_valid(const struct mafc_heap *heap, u32 index,
		     const struct mafc_span *d);
void mafc_span_page_mask(const struct mafc_span *d, unsigned int page,
			 u64 mask[4]);

/* fault.c */
void mafc_vma_mode(struct vm_area_struct *vma, bool cow);
bool mafc_try_uncow(struct mafc_heap *heap);

/* heap.c */
struct mafc_heap *mafc_heap_find(struct mm_struct *mm);
struct mafc_heap *mafc_heap_find_pid(pid_t pid);	/* or an ERR_PTR */
struct mafc_heap *mafc_heap_create(struct mm_struct *mm, struct inode *inode,
				   u32 small_pages, u32 large_pages);
struct mafc_heap *mafc_heap_fork(struct mafc_heap *parent,
				 struct mm_struct *mm);
void mafc_heap_put(struct mafc_heap *heap);
void mafc_heap_kill(struct mafc_heap *heap);
void mafc_heap_stat(struct mafc_heap *heap, struct mafc_stat *st);
struct mafc_heap *mafc_heap_next(struct mafc_heap *prev);
unsigned int mafc_heap_fragmentation(struct mafc_heap *heap);
u64 mafc_heap_held(const struct mafc_heap *heap);
unsigned int mafc_heaps_count(void);

/* compact.c */
void mafc_scan_fresh(struct mafc_heap *heap);
int mafc_compact_now(struct mafc_heap *heap, struct mafc_compact *arg);
int mafc_compactor_start(void);
void mafc_compactor_stop(void);
void mafc_compactor_kick(void);
u64 mafc_compactor_cpu_ns(void);

/* sysfs.c: the tunables and the attribute groups */
extern unsigned int mafc_enable;
extern unsigned int mafc_threshold_percent;
extern unsigned int mafc_budget_percent;
extern unsigned int mafc_interval_ms;
extern unsigned int mafc_medium_percent;
extern unsigned int mafc_high_percent;
extern const struct attribute_group *mafc_sysfs_groups[];

#endif /* MAFC_H */
