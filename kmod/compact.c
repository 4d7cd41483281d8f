// SPDX-License-Identifier: GPL-2.0-only
/* compact.c - the compactor, see design.rst; holds heap->motion for one step at a time */
#include <linux/freezer.h>
#include <linux/kthread.h>
#include <linux/memcontrol.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include "mafc.h"
#include "matcher.h"
#include "trace.h"

#define ROUND_SPANS	16384	/* of one class, that one round of the matcher looks at */
#define CANDIDATES_MAX	65536	/* spans that one scan remembers for meshing */
#define TRIM_MESHES	256	/* after so many in a round what they freed is given back, */
#define TRIM_PART	16	/* but for one part in so many: room for evacuation */
#define RESERVE_PART	128	/* of the frames, that stays at the end of a visit */
#define BACKOFF_MAX	6	/* visits without gain double the interval, so many times */
#define SLICE_NS	(2 * NSEC_PER_MSEC)	/* CPU time that is used in one go */
#define PACE_NS		(100 * NSEC_PER_USEC)	/* how often the clock is looked at */

/* How long a piece of work may go on. */
struct pace {
	bool kthread;		/* it is the compactor: keep to the CPU budget */
	u64 deadline;		/* else: when to stop, ns, or 0 */
	u64 checked;		/* when it was last asked */
	bool signal;		/* it was stopped by a signal */
};

/* Spans of one geometry that could be meshed; unused: block_size 0. */
struct klass {
	u32 block_size;
	u16 nblocks;		/* per span */
	u16 npages;		/* per span */
	int nid;		/* NUMA node of the first page */
	u32 spans;
	u64 live;		/* their live blocks */
};

#define KLASSES		256

/* What meshing needs: the spans that could be meshed, in the order of the scan. */
struct matching {
	struct {
		u32 span;		/* page index in the small region */
		u32 klass;		/* its geometry */
	} candidate[CANDIDATES_MAX];
	u32 order[CANDIDATES_MAX];	/* the same spans, sorted by geometry */
	struct mafc_matcher matcher;	/* of mafc_matcher_size(ROUND_SPANS) bytes */
};

/* What one pass over a heap needs. */
struct worker {
	struct mafc_heap *heap;
	struct pace *pace;	/* for so long */
	bool act;		/* change something, or only count */
	bool now;		/* drop also what was given up since the last scan */
	bool idle;		/* no page fault since the last visit */
	u64 live;		/* bytes found live */
	u64 mapped;		/* slots found with a frame */
	struct matching *m;	/* allocated when first needed; or NULL */
	unsigned int candidates;
	struct klass klass[KLASSES];
	struct {		/* blocks asked for since the last visit; */
		u64 block_size;	/* nothing for a pass that somebody asked for */
		u64 allocs;
	} asked[MAFC_CLASSES_MAX];
	struct mafc_drop drop;	/* pages to be dropped */
	u32 root[MAFC_SPANS_PER_PAGE];	/* roots without live blocks */
	unsigned int roots;
	struct mafc_span span[MAFC_SPANS_PER_PAGE];	/* copy of descriptors */
	unsigned long entry[MAFC_SPANS_PER_PAGE + MAFC_SPAN_PAGES_MAX];	/* theirs, and last tails */
};

static struct task_struct *compactor;
static DECLARE_WAIT_QUEUE_HEAD(compactor_wait);
static bool compactor_kicked;

/* CPU time in hand, ns; below 0: to be slept off. */
static s64 tokens;
static u64 tokens_run, tokens_time;

static void tokens_update(unsigned int percent)
{
	u64 now = ktime_get_ns(), run = READ_ONCE(current->se.sum_exec_runtime);

	tokens += div_u64((now - tokens_time) * percent, 100);
	/* What was not used within a second is lost. */
	tokens = min_t(s64, tokens, percent * (NSEC_PER_SEC / 100));
	tokens -= run - tokens_run;
	tokens_time = now;
	tokens_run = run;
}

/* Works in slices: a sleep lasts until there is CPU time for many meshes. */
static bool pace_kthread(void)
{
	unsigned int percent = READ_ONCE(mafc_budget_percent);
	s64 want = 0;

	for (;;) {
		if (kthread_should_stop() || !percent || !READ_ONCE(mafc_enable))
			return false;
		try_to_freeze();
		tokens_update(percent);
		if (tokens >= want || percent == 100)
			break;
		want = min_t(s64, SLICE_NS, percent * (NSEC_PER_SEC / 200));
		schedule_timeout_interruptible(1 + nsecs_to_jiffies(
			min_t(u64, div_u64((want - tokens) * 100, percent), NSEC_PER_SEC / 2)));
		percent = READ_ONCE(mafc_budget_percent);
	}
	cond_resched();
	return true;
}

/* To be asked between two steps, without locks.  False: stop. */
static bool go_on(struct pace *pace)
{
	u64 now = ktime_get_ns();

	if (now - pace->checked < PACE_NS)
		return true;
	pace->checked = now;
	if (pace->kthread)
		return pace_kthread();
	cond_resched();
	if (signal_pending(current)) {
		pace->signal = true;
		return false;
	}
	return !pace->deadline || now < pace->deadline;
}

static struct worker *worker_create(struct mafc_heap *heap, struct pace *pace)
{
	struct worker *w = kvzalloc(sizeof(*w), GFP_KERNEL);

	if (w) {
		w->heap = heap;
		w->pace = pace;
	}
	return w;
}

DEFINE_FREE(worker, struct worker *, if (_T) { kvfree(_T->m); kvfree(_T); })

/* Without the memory for it, there is no meshing. */
static void worker_prepare(struct worker *w)
{
	if (w->m)
		return;
	w->m = kvmalloc(offsetof(struct matching, matcher) + mafc_matcher_size(ROUND_SPANS),
			GFP_KERNEL);
	if (w->m)
		mafc_matcher_init(&w->m->matcher, ROUND_SPANS);
}

/* The place of a geometry; or NULL when there are too many. */
static struct klass *klass_of(struct worker *w, const struct mafc_span *d, int nid)
{
	unsigned int i, k = d->block_size / 16;

	for (i = 0; i < KLASSES; i++, k++) {
		struct klass *c = &w->klass[k % KLASSES];

		if (!c->block_size)	/* it has no spans */
			*c = (struct klass){ .block_size = d->block_size, .nblocks = d->nblocks,
					     .npages = d->npages, .nid = nid };
		if (c->block_size == d->block_size && c->nblocks == d->nblocks &&
		    c->npages == d->npages && c->nid == nid)
			return c;
	}
	return NULL;
}

/* Copies the entries of the pages whose descriptors are in w->span. */
static void load_entries(struct worker *w, u32 first)
{
	u32 slot = mafc_slot(MAFC_SMALL, first);
	struct mafc_leaf *leaf = mafc_leaf_exclusive(w->heap, slot);
	unsigned int i = 0;

	if (leaf) {
		i = min_t(unsigned int, ARRAY_SIZE(w->entry),
			  MAFC_LEAF_SLOTS - mafc_leaf_index(slot));
		memcpy(w->entry, &leaf->entry[mafc_leaf_index(slot)], i * sizeof(*w->entry));
	}
	for (; i < ARRAY_SIZE(w->entry); i++)
		w->entry[i] = first + i < w->heap->pages[MAFC_SMALL] ?
			      mafc_entry_held(w->heap, slot + i) : 0;
}

static bool can_mesh(const struct worker *w, const struct mafc_span *d,
		     unsigned int i, u32 index, unsigned int live)
{
	unsigned int j;

	if (MAFC_SPAN_STATE(d->state) != MAFC_SPAN_IDLE ||
	    d->canonical != index || !live || live >= d->nblocks)
		return false;
	for (j = 0; j < d->npages; j++)
		if (!w->entry[i + j])
			return false;
	return true;
}

/* A page that seems to hold no live block; @seen: its span as it was, or NULL. */
static void note_drop(struct worker *w, u32 slot, u32 head, const struct mafc_span *seen)
{
	if (w->drop.n == MAFC_MOTION_MAX)
		mafc_drop_flush(w->heap, &w->drop);
	w->drop.p[w->drop.n++] = (struct mafc_drop_page){
		.slot = slot, .head = head, .block_size = seen ? seen->block_size : 0,
		.nblocks = seen ? seen->nblocks : 0, .npages = seen ? seen->npages : 0,
	};
}

static void scan_span(struct worker *w, unsigned int i, u32 index)
{
	const struct mafc_span *d = &w->span[i];
	const unsigned long *bitmap = (const unsigned long *)d->bitmap;
	unsigned int live, j;
	struct klass *c;
	u64 mask[4];

	if (!mafc_span_valid(w->heap, index, d) || d->canonical != index)
		return;
	live = bitmap_weight(bitmap, MAFC_SPAN_BLOCKS_MAX);
	w->live += (u64)live * d->block_size;
	if (!live && d->state & MAFC_SPAN_ROOT) {
		if (MAFC_SPAN_STATE(d->state) == MAFC_SPAN_IDLE)
			w->root[w->roots++] = index;
		return;
	}
	if (d->npages == 1 && live)
		goto mesh;	/* no page of it is empty */
	for (j = 0; j < d->npages; j++) {
		if (!w->entry[i + j] || w->entry[i + j] & MAFC_E_MESHED)
			continue;
		mafc_span_page_mask(d, j, mask);
		if (w->act && !bitmap_intersects((unsigned long *)mask, bitmap, d->nblocks))
			note_drop(w, mafc_slot(MAFC_SMALL, index + j), index, d);
	}
mesh:
	if (w->candidates == CANDIDATES_MAX || index < w->heap->mesh_from ||
	    !can_mesh(w, d, i, index, live))
		return;
	c = klass_of(w, d, page_to_nid(mafc_entry_page(w->entry[i])));
	if (!c)
		return;
	c->spans++;
	c->live += live;
	if (w->m) {
		w->m->candidate[w->candidates].span = index;
		w->m->candidate[w->candidates++].klass = c - w->klass;
	}
}

static void scan_page(struct worker *w, u32 page)
{
	u32 first = page * MAFC_SPANS_PER_PAGE, slot = mafc_slot(MAFC_SMALL, first);
	struct mafc_heap *heap = w->heap;
	const void *descriptors;
	unsigned int i, state;

	guard(mutex)(&heap->motion);
	descriptors = heap->dead ? NULL : mafc_meta(heap, heap->spans + page, false);
	if (!descriptors)
		return;
	memcpy(w->span, descriptors, PAGE_SIZE);
	load_entries(w, first);
	w->roots = 0;
	for (i = 0; i < MAFC_SPANS_PER_PAGE; i++) {
		w->mapped += !!w->entry[i];
		state = MAFC_SPAN_STATE(w->span[i].state);
		if (state == MAFC_SPAN_ATTACHED || state == MAFC_SPAN_IDLE)
			scan_span(w, i, first + i);
		else if ((state == MAFC_SPAN_NONE || state == MAFC_SPAN_TAIL) && w->act &&
			 w->entry[i] && !(mafc_handed_out(heap, slot + i) & 1))
			note_drop(w, slot + i, first + i, NULL);	/* nobody claims it */
	}
	mafc_drop_flush(heap, &w->drop);
	for (i = 0; i < w->roots && w->act; i++)
		mafc_dissolve(heap, w->root[i]);
}

/* Scans all pages of span descriptors; false: time is up. */
static bool scan_small(struct worker *w)
{
	u32 base = mafc_slot(MAFC_META, w->heap->spans), slot = base;
	u32 end = mafc_slot(MAFC_META, w->heap->pages[MAFC_META]);
	unsigned long index = slot >> MAFC_LEAF_SHIFT;

	for (; slot < end && xa_find(&w->heap->leaves, &index,
				     (end - 1) >> MAFC_LEAF_SHIFT, XA_PRESENT); index++) {
		slot = max_t(u32, slot, index << MAFC_LEAF_SHIFT);
		for (; slot < end && slot >> MAFC_LEAF_SHIFT == index; slot++) {
			if (!mafc_entry(w->heap, slot))
				continue;
			scan_page(w, slot - base);
			if (!go_on(w->pace))
				return false;
		}
	}
	return true;
}

static void scan_large_leaf(struct worker *w, unsigned long leaf_index)
{
	u32 slot = leaf_index << MAFC_LEAF_SHIFT, index = mafc_slot_index(slot);
	struct mafc_heap *heap = w->heap;
	struct mafc_leaf *leaf __free(mafc_leaf) = NULL;
	unsigned long *map;
	unsigned int i;

	guard(mutex)(&heap->motion);
	leaf = heap->dead ? NULL : mafc_leaf_get(heap, slot);
	if (!leaf)
		return;
	map = mafc_meta(heap, heap->map[MAFC_LARGE] + index / (8 * PAGE_SIZE), false);
	for (i = 0; i < MAFC_LEAF_SLOTS; i++) {
		if (!READ_ONCE(leaf->entry[i]))
			continue;
		w->mapped++;
		if (map && test_bit((index + i) % (8 * PAGE_SIZE), map)) {
			clear_bit(i, leaf->seen_free);
			w->live += PAGE_SIZE;
		} else if (w->act && (test_and_set_bit(i, leaf->seen_free) || w->now)) {
			note_drop(w, slot + i, index + i, NULL);
		}
	}
	mafc_drop_flush(heap, &w->drop);
}

static bool scan_large(struct worker *w)
{
	unsigned long first = mafc_slot(MAFC_LARGE, 0) >> MAFC_LEAF_SHIFT;
	unsigned long last = first + (w->heap->pages[MAFC_LARGE] >> MAFC_LEAF_SHIFT) - 1;
	unsigned long index = first;

	while (xa_find(&w->heap->leaves, &index, last, XA_PRESENT)) {
		scan_large_leaf(w, index++);
		if (!go_on(w->pace))
			return false;
	}
	return true;
}

/* One look at the whole heap; drops pages if w->act says so. */
static bool scan(struct worker *w)
{
	struct mafc_heap *heap = w->heap;

	w->live = 0;
	w->mapped = 0;
	w->drop.n = 0;
	w->candidates = 0;
	memset(w->klass, 0, sizeof(w->klass));
	if (!scan_small(w) || !scan_large(w))
		return false;
	guard(mutex)(&heap->motion);
	if (w->m)	/* those that did not fit are first next time */
		heap->mesh_from = w->candidates == CANDIDATES_MAX ?
				  w->m->candidate[w->candidates - 1].span + 1 : 0;
	heap->scan.live = w->live;
	heap->scan.mapped = w->mapped;
	heap->scan.when = jiffies;
	return true;
}

/* Tells the matcher of spans; returns how many of the @n it took. */
static unsigned int collect(struct worker *w, const u32 *span, unsigned int n,
			    const struct klass *c)
{
	const struct mafc_span *d;
	unsigned int i;
	u64 bits[4];

	guard(mutex)(&w->heap->motion);
	for (i = 0; i < n && !w->heap->dead; i++) {
		d = mafc_span(w->heap, span[i], false);
		if (!d || READ_ONCE(d->block_size) != c->block_size)
			continue;
		memcpy(bits, d->bitmap, sizeof(bits));
		if (mafc_matcher_add(&w->m->matcher, span[i], bits) == -ENOSPC)
			break;
	}
	return i;
}

static bool mesh_round(struct worker *w)
{
	struct mafc_matcher *matcher = &w->m->matcher;
	struct mafc_heap *heap = w->heap;
	unsigned int n = 0;
	u32 dst, src;
	int err = 0;

	while (mafc_matcher_next(matcher, &dst, &src) || matcher->paused) {
		if (!matcher->paused) {		/* it was no long search */
			scoped_guard(mutex, &heap->motion)
				err = heap->dead ? -ENODEV : mafc_mesh(heap, dst, src);
			mafc_matcher_done(matcher, !err);
			if (++n % TRIM_MESHES == 0)
				mafc_pool_trim(heap->pool, TRIM_PART);
		}
		if (err == -ENODEV || !go_on(w->pace))
			return false;
	}
	return true;
}

/* Pages that would be free if the live blocks were packed. */
static u64 klass_gain(const struct klass *c)
{
	u64 packed = DIV_ROUND_UP_ULL(c->live, c->nblocks);

	return (c->spans - packed) * c->npages;
}

/* All spans of one geometry, as many at a time as the matcher holds. */
static bool mesh_klass(struct worker *w, const u32 *span, const struct klass *c)
{
	unsigned int i = 0, first, part, took;

	while (i < c->spans) {
		first = i;
		if (mafc_matcher_reset(&w->m->matcher, c->nblocks))
			return true;	/* too few blocks to pair */
		do {
			part = min_t(unsigned int, MAFC_SPANS_PER_PAGE, c->spans - i);
			took = collect(w, span + i, part, c);
			i += took;
		} while (i < c->spans && took == part && go_on(w->pace));
		if (i == first || !mesh_round(w))
			return false;	/* the heap is dead, or time is up */
	}
	return true;
}

/* Is the program filling the holes of a geometry by itself? Then meshing is work for nothing. */
static bool klass_busy(const struct worker *w, const struct klass *c)
{
	unsigned int i;

	for (i = 0; i < MAFC_CLASSES_MAX; i++)
		if (w->asked[i].block_size == c->block_size)
			return w->asked[i].allocs * c->npages > klass_gain(c) * c->nblocks / 2;
	return false;
}

static bool mesh_all(struct worker *w)
{
	u32 end[KLASSES], sum = 0;	/* of the spans of each geometry in w->m->order */
	unsigned int i;

	if (!w->m)
		return true;
	for (i = 0; i < KLASSES; sum += w->klass[i++].spans)
		end[i] = sum;
	for (i = 0; i < w->candidates; i++)
		w->m->order[end[w->m->candidate[i].klass]++] = w->m->candidate[i].span;
	for (i = 0; i < KLASSES; i++) {
		const struct klass *c = &w->klass[i];

		if (c->spans > 1 && klass_gain(c) && !klass_busy(w, c) &&
		    !mesh_klass(w, w->m->order + end[i] - c->spans, c))
			return false;
	}
	return true;
}

static bool evacuate_frame(struct worker *w, struct mafc_chunk *chunk, unsigned int i)
{
	struct mafc_heap *heap = w->heap;
	u32 slot = READ_ONCE(chunk->frame[i].slot);
	struct page *page = chunk->base + i;
	int err = 0;

	if (!atomic_read(&chunk->frame[i].owners))
		return true;
	scoped_guard(mutex, &heap->motion)
		if (!heap->dead && mafc_entry_page(mafc_entry(heap, slot)) == page)
			err = mafc_relocate(heap, slot, 0);
	return err != -ENOMEM && go_on(w->pace);
}

/* Empties sparse chunks, and gives them back whole. */
static bool evacuate(struct worker *w)
{
	struct mafc_chunk *chunk;
	unsigned int i, frames;
	bool more = true, released = true;

	while (more && released) {
		chunk = mafc_pool_victim(w->heap->pool);
		if (!chunk)
			return true;
		frames = 1U << chunk->order;
		for (i = 0; i < frames && more; i++)
			more = evacuate_frame(w, chunk, i);
		released = mafc_pool_release_victim(chunk);
	}
	return more;
}

/* Moves every page once, whether it is of use or not. */
static void shuffle(struct worker *w)
{
	struct mafc_heap *heap = w->heap;
	unsigned long index = mafc_slot(MAFC_SMALL, 0) >> MAFC_LEAF_SHIFT;
	u32 slot;

	for (; xa_find(&heap->leaves, &index, ULONG_MAX, XA_PRESENT); index++)
		for (slot = index << MAFC_LEAF_SHIFT; slot >> MAFC_LEAF_SHIFT == index; slot++) {
			if (!mafc_entry(heap, slot))
				continue;
			scoped_guard(mutex, &heap->motion)
				if (!heap->dead)
					mafc_relocate(heap, slot, GFP_KERNEL_ACCOUNT);
			if (!go_on(w->pace))
				return;
		}
}

static u64 gain_count(struct mafc_heap *heap)
{
	return atomic64_read(&heap->count[MAFC_N_MESHED]) +
	       atomic64_read(&heap->count[MAFC_N_MOVED]) +
	       atomic64_read(&heap->count[MAFC_N_DROPPED]);
}

static void improve(struct worker *w)
{
	struct mafc_heap *heap = w->heap;
	unsigned int i;
	u64 gain = 0;

	for (i = 0; i < KLASSES; i++)
		gain += w->klass[i].spans > 1 ? klass_gain(&w->klass[i]) : 0;
	/* To flush the TLBs is the better half of a mesh: see Unmapping an idle heap in design.rst. */
	if (w->idle && gain > w->mapped / 16)
		unmap_mapping_range(heap->inode->i_mapping, MAFC_OFF_SMALL,
				    (loff_t)heap->pages[MAFC_SMALL] << PAGE_SHIFT, 1);
	if (mesh_all(w))
		evacuate(w);
}

/* Compacts a heap in the caller's context. Return: 0; -EINVAL; -ENOMEM; -EINTR. */
int mafc_compact_now(struct mafc_heap *heap, struct mafc_compact *arg)
{
	u64 meshed = atomic64_read(&heap->count[MAFC_N_MESHED]);
	u64 moved = atomic64_read(&heap->count[MAFC_N_MOVED]);
	u64 dropped = atomic64_read(&heap->count[MAFC_N_DROPPED]);
	u64 held = mafc_heap_held(heap);
	struct pace pace = { 0 };
	struct worker *w __free(worker) = worker_create(heap, &pace);

	if (arg->budget_us > U64_MAX / NSEC_PER_USEC / 2)
		return -EINVAL;
	if (!w)
		return -ENOMEM;
	if (arg->budget_us)
		pace.deadline = ktime_get_ns() + arg->budget_us * NSEC_PER_USEC;
	w->act = true;
	w->now = true;
	worker_prepare(w);
	if (scan(w)) {
		improve(w);
		mafc_pool_trim(heap->pool, RESERVE_PART);
		if (arg->flags & MAFC_COMPACT_SHUFFLE)
			shuffle(w);
	}
	arg->meshed = atomic64_read(&heap->count[MAFC_N_MESHED]) - meshed;
	arg->moved = atomic64_read(&heap->count[MAFC_N_MOVED]) - moved;
	arg->dropped = atomic64_read(&heap->count[MAFC_N_DROPPED]) - dropped;
	arg->released = held - min(held, mafc_heap_held(heap));
	return pace.signal ? -EINTR : 0;
}

/* Counts live blocks, unless that was done just now. Takes heap->motion; may sleep. */
void mafc_scan_fresh(struct mafc_heap *heap)
{
	struct worker *w __free(worker) = NULL;
	struct pace pace = { 0 };

	if (heap->scan.when && time_before(jiffies, READ_ONCE(heap->scan.when) + HZ / 10))
		return;
	w = worker_create(heap, &pace);
	if (w)
		scan(w);
}

#ifdef CONFIG_MEMCG
static pid_t owner_pid(struct mafc_heap *heap)
{
	struct task_struct *owner;

	guard(rcu)();
	owner = rcu_dereference(heap->mm->owner);
	return owner ? task_tgid_nr(owner) : 0;
}
#else
#define owner_pid(heap)	0
#endif

/* Of the requests since the last visit. False: no counters, or not what a library would write. */
static bool sample_requests(struct worker *w, struct mafc_pfm_sample *sample)
{
	struct mafc_heap *heap = w->heap;
	u64 delta[MAFC_CLASSES_MAX] = { 0 }, allocs = 0, frees = 0, wild, n;
	const struct mafc_meta *meta = mafc_meta(heap, 0, false);
	unsigned int i, classes = 0;

	memset(w->asked, 0, sizeof(w->asked));
	if (meta && READ_ONCE(meta->magic) == MAFC_META_MAGIC)
		classes = READ_ONCE(meta->nclasses);
	if (!classes || classes > MAFC_CLASSES_MAX)
		return false;
	for (i = 0, wild = 0; i < classes; i++) {
		n = READ_ONCE(meta->classes[i].allocs);
		delta[i] = n - heap->pfm_allocs[i];
		heap->pfm_allocs[i] = n;
		w->asked[i].block_size = READ_ONCE(meta->classes[i].block_size);
		w->asked[i].allocs = delta[i];
		wild |= delta[i];
		allocs += delta[i];
		frees += READ_ONCE(meta->classes[i].frees);
	}
	n = frees - heap->pfm_frees;
	heap->pfm_frees = frees;
	if ((wild | n) >> 40) {	/* they only grow, and not so fast */
		memset(w->asked, 0, sizeof(w->asked));
		return false;
	}
	sample->entropy_q16 = mafc_pfm_entropy(delta, classes);
	sample->free_rate_q16 = allocs + n ? div64_u64(n * MAFC_PFM_ONE, allocs + n) :
				MAFC_PFM_ONE / 2;
	return true;
}

/* Feeds the model; true if it expects High. Without counters it expects nothing. */
static bool predict(struct worker *w)
{
	struct mafc_heap *heap = w->heap;
	struct mafc_pfm_forecast forecast;
	struct mafc_pfm_sample sample = { 0 };

	guard(mutex)(&heap->motion);
	if (heap->dead)
		return false;
	mafc_pfm_set_thresholds(&heap->pfm, 100 * READ_ONCE(mafc_medium_percent),
				100 * READ_ONCE(mafc_high_percent));
	if (sample_requests(w, &sample))
		sample.heap_pages = mafc_heap_held(heap) >> PAGE_SHIFT;
	sample.frag = mafc_heap_fragmentation(heap);
	mafc_pfm_update(&heap->pfm, &sample);
	mafc_pfm_forecast(&heap->pfm, &forecast);
	trace_mafc_predict(owner_pid(heap), &sample, &forecast);
	return forecast.high_ppm > 500000;
}

/* Drops pages, and gives back what is free; more where it is, or will be, needed. */
static void coalesce(struct worker *w)
{
	struct mafc_heap *heap = w->heap;

	worker_prepare(w);
	if (!scan(w))
		return;
	if (predict(w) || mafc_heap_fragmentation(heap) >= 100 * READ_ONCE(mafc_threshold_percent))
		improve(w);
	mafc_pool_trim(heap->pool, RESERVE_PART);
}

static void visit(struct worker *w, struct mafc_heap *heap)
{
	u64 faults = atomic64_read(&heap->count[MAFC_N_FAULTS]);
	/* Allocations are charged to the heap's owner. */
	struct mem_cgroup *memcg = get_mem_cgroup_from_mm(heap->mm);
	struct mem_cgroup *old = set_active_memcg(memcg);
	u64 gain = gain_count(heap);

	w->heap = heap;
	w->act = true;
	w->idle = faults == heap->last_faults;
	if (READ_ONCE(heap->compact))
		coalesce(w);
	if (READ_ONCE(heap->cow))
		mafc_try_uncow(heap);
	set_active_memcg(old);
	mem_cgroup_put(memcg);

	gain = gain_count(heap) - gain;
	if (gain)
		mafc_count(heap, MAFC_N_COMPACTIONS, 1);
	heap->backoff = gain || !w->idle ? 0 : min(heap->backoff + 1, BACKOFF_MAX);
	heap->last_faults = faults;
	heap->next_pass = jiffies +
		(msecs_to_jiffies(READ_ONCE(mafc_interval_ms)) << heap->backoff);
}

/* Visits the heaps whose time has come, or all if @urgent; returns when to come again. */
static unsigned long visit_all(struct worker *w, bool urgent)
{
	unsigned long next = jiffies + msecs_to_jiffies(READ_ONCE(mafc_interval_ms));
	struct mafc_heap *heap = NULL;

	while ((heap = mafc_heap_next(heap))) {
		if (urgent || time_after_eq(jiffies, heap->next_pass))
			visit(w, heap);
		if (time_before(heap->next_pass, next))
			next = heap->next_pass;
		if (!go_on(w->pace)) {
			mafc_heap_put(heap);
			break;
		}
	}
	return next;
}

static int compactor_main(void *data)
{
	struct worker *w __free(worker) = data;
	unsigned long next;
	bool urgent = false;
	long timeout;

	set_freezable();
	tokens_time = ktime_get_ns();
	while (!kthread_should_stop()) {
		next = jiffies + HZ;
		if (READ_ONCE(mafc_enable) && READ_ONCE(mafc_budget_percent))
			next = visit_all(w, urgent);
		timeout = clamp_t(long, next - jiffies, 1, MAX_SCHEDULE_TIMEOUT);
		wait_event_interruptible_timeout(compactor_wait, READ_ONCE(compactor_kicked) ||
						 kthread_should_stop(), timeout);
		urgent = xchg(&compactor_kicked, false);
		try_to_freeze();
	}
	return 0;
}

/* Something changed: visits all heaps now. In any context. */
void mafc_compactor_kick(void)
{
	WRITE_ONCE(compactor_kicked, true);
	wake_up_interruptible(&compactor_wait);
}

/* While the device is there: the compactor outlives it. */
u64 mafc_compactor_cpu_ns(void)
{
	return READ_ONCE(compactor->se.sum_exec_runtime);
}

int mafc_compactor_start(void)
{
	static struct pace pace = { .kthread = true };
	struct worker *w __free(worker) = worker_create(NULL, &pace);

	if (!w)
		return -ENOMEM;
	compactor = kthread_run(compactor_main, w, "mafc_compact");
	if (IS_ERR(compactor))
		return PTR_ERR(compactor);
	w = NULL;	/* the thread's now */
	return 0;
}

void mafc_compactor_stop(void)
{
	kthread_stop(compactor);
}
