// SPDX-License-Identifier: GPL-2.0-only
/* mesh.c - drop, mesh, dissolve spans with heap->motion held: see Hostile metadata in design.rst */
#include "mafc.h"
#include "trace.h"

#define BITMAP_WORDS	4

static bool span_shift(struct mafc_span *s, u32 from, u32 to, u32 set, u32 clear)
{
	u32 old = READ_ONCE(s->state);

	do {
		if (MAFC_SPAN_STATE(old) != from)
			return false;
	} while (!try_cmpxchg(&s->state, &old, (old & ~(0xffU | clear)) | to | set));
	return true;
}

/* Does @d, a copy of descriptor @index, have a geometry that makes sense? */
bool mafc_span_valid(const struct mafc_heap *heap, u32 index, const struct mafc_span *d)
{
	return d->block_size >= 16 && d->block_size % 16 == 0 &&
	       d->nblocks && d->nblocks <= MAFC_SPAN_BLOCKS_MAX &&
	       d->npages && d->npages <= MAFC_SPAN_PAGES_MAX &&
	       (u64)d->block_size * d->nblocks <= (u64)d->npages << PAGE_SHIFT &&
	       (u64)index + d->npages <= heap->pages[MAFC_SMALL];
}

/* The blocks that lie in page @page of a span of valid geometry, in part or whole. */
void mafc_span_page_mask(const struct mafc_span *d, unsigned int page, u64 mask[BITMAP_WORDS])
{
	unsigned int first = page * PAGE_SIZE / d->block_size;
	unsigned int last = (page * PAGE_SIZE + PAGE_SIZE - 1) / d->block_size;

	memset(mask, 0, BITMAP_WORDS * sizeof(u64));
	if (first < d->nblocks)
		bitmap_set((unsigned long *)mask, first, min(last + 1, d->nblocks + 0U) - first);
}

static void read_geometry(struct mafc_span *geo, const struct mafc_span *s)
{
	geo->block_size = READ_ONCE(s->block_size);
	geo->nblocks = READ_ONCE(s->nblocks);
	geo->npages = READ_ONCE(s->npages);
}

/* Is a block of the span, or of those in @mask, live? */
static bool any_live(const struct mafc_span *s, const u64 *mask)
{
	unsigned int w;

	for (w = 0; w < BITMAP_WORDS; w++)
		if (READ_ONCE(s->bitmap[w]) & (mask ? mask[w] : U64_MAX))
			return true;
	return false;
}

/* Still without live blocks, and still the same span? */
static bool page_idle(struct mafc_heap *heap, const struct mafc_drop_page *p)
{
	struct mafc_span d, *s;
	u64 mask[BITMAP_WORDS];
	unsigned int state;

	if (!p->block_size)
		return !(mafc_handed_out(heap, p->slot) & 1);
	s = mafc_span(heap, p->head, false);
	if (!s)
		return false;
	read_geometry(&d, s);
	if (d.block_size != p->block_size || d.nblocks != p->nblocks ||
	    d.npages != p->npages || READ_ONCE(s->canonical) != p->head)
		return false;
	state = MAFC_SPAN_STATE(READ_ONCE(s->state));
	if (state != MAFC_SPAN_IDLE && state != MAFC_SPAN_ATTACHED)
		return false;
	mafc_span_page_mask(&d, mafc_slot_index(p->slot) - p->head, mask);
	return !any_live(s, mask);
}

/* Puts pages in motion; removes those of @drop for which that fails, and keeps the order. */
static void drop_start(struct mafc_heap *heap, struct mafc_drop *drop)
{
	unsigned int i, n = 0;
	unsigned long e;

	for (i = 0; i < drop->n; i++) {
		e = mafc_entry_held(heap, drop->p[i].slot);
		if (!e || e & MAFC_E_MESHED ||
		    atomic_read(&mafc_frame(mafc_entry_page(e))->owners) != 1 ||
		    mafc_motion_add(heap, drop->p[i].slot))
			continue;
		drop->p[n++] = drop->p[i];
	}
	drop->n = n;
}

/* Drops the pages noted; @drop is empty afterwards.  Sleeps. */
void mafc_drop_flush(struct mafc_heap *heap, struct mafc_drop *drop)
{
	struct page *page, *freed[MAFC_MOTION_MAX];
	unsigned int i, n = 0;

	drop_start(heap, drop);
	if (!drop->n || mafc_motion_start(heap)) {
		drop->n = 0;
		return;
	}
	for (i = 0; i < drop->n; i++) {
		page = mafc_entry_page(heap->mo.s[i].entry);
		/* Frozen before the look: no late entry can write after it. */
		if (!mafc_motion_freeze(heap, page))
			continue;
		if (page_idle(heap, &drop->p[i])) {
			mafc_motion_set(heap, i, 0);
			freed[n++] = page;
		}
		page_ref_unfreeze(page, 1);
	}
	mafc_motion_end(heap);
	trace_mafc_drop(drop->p[0].slot, drop->n, n);
	for (i = 0; i < n; i++)
		mafc_frame_put(heap->pool, freed[i], 1);
	mafc_count(heap, MAFC_N_DROPPED, n);
	drop->n = 0;
}

/* A mesh under way. */
struct mesh {
	struct mafc_heap *heap;
	u32 dst, src;			/* the span that stays, that goes */
	struct mafc_span *d, *s;	/* their descriptors */
	struct mafc_span geo;		/* geometry of both, checked */
	u64 bits[BITMAP_WORDS];		/* blocks of @src live when it began */
	u64 live[BITMAP_WORDS];		/* those that still are */
	u16 first[MAFC_SPAN_PAGES_MAX + 1];	/* where the rings of @from start in motion; end */
	struct page *to[MAFC_SPAN_PAGES_MAX];	/* frames of @dst */
	struct page *from[MAFC_SPAN_PAGES_MAX];	/* and @src */
};

static bool same_geometry(struct mesh *m)
{
	struct mafc_span *geo = &m->geo;

	read_geometry(geo, m->s);
	return geo->block_size == READ_ONCE(m->d->block_size) &&
	       geo->nblocks == READ_ONCE(m->d->nblocks) && geo->npages == READ_ONCE(m->d->npages) &&
	       READ_ONCE(m->s->canonical) == m->src && READ_ONCE(m->d->canonical) == m->dst &&
	       mafc_span_valid(m->heap, m->src, geo) && mafc_span_valid(m->heap, m->dst, geo) &&
	       (m->src >= m->dst + geo->npages || m->dst >= m->src + geo->npages);
}

/* Length of the ring of a frame's @slot, or 0 if another heap has a part in it. */
unsigned int mafc_ring_exclusive(struct mafc_heap *heap, u32 slot)
{
	unsigned long e = mafc_entry_held(heap, slot);
	unsigned int n = 0;
	u32 s = slot;

	if (!e)
		return 0;
	do {
		if (!mafc_leaf_exclusive(heap, s))
			return 0;
		n++;
		s = mafc_ring_next(heap, s);
	} while (s != slot);
	return atomic_read(&mafc_frame(mafc_entry_page(e))->owners) == n ? n : 0;
}

/* Are all frames different? Always so, unless the process made up overlapping spans. */
static bool frames_distinct(const struct mesh *m, unsigned int j)
{
	unsigned int k;

	for (k = 0; k < j; k++)
		if (m->to[j] == m->to[k] || m->to[j] == m->from[k] ||
		    m->from[j] == m->to[k] || m->from[j] == m->from[k])
			return false;
	return m->to[j] != m->from[j];
}

/* Before anything is touched. A ring must fit into one motion, to be moved or dissolved later. */
static int mesh_check(struct mesh *m)
{
	u32 s, slot = mafc_slot(MAFC_SMALL, m->src);
	unsigned int j, nd, ns;

	for (j = 0; j < m->geo.npages; j++) {
		u32 dst = mafc_slot(MAFC_SMALL, m->dst + j);

		nd = mafc_ring_exclusive(m->heap, dst);
		ns = mafc_ring_exclusive(m->heap, slot + j);
		if (!nd || !ns)
			return -EBUSY;
		if ((nd + ns) * m->geo.npages > MAFC_MOTION_MAX)
			return -E2BIG;
		if (mafc_ring_prepare(m->heap, dst) || mafc_ring_prepare(m->heap, slot + j))
			return -ENOMEM;
		m->to[j] = mafc_entry_page(mafc_entry_held(m->heap, dst));
		m->from[j] = mafc_entry_page(mafc_entry_held(m->heap, slot + j));
		if (!frames_distinct(m, j))
			return -EINVAL;
		if (page_to_nid(m->to[j]) != page_to_nid(m->from[j]))
			return -EXDEV;
	}
	for (s = mafc_ring_next(m->heap, slot); s != slot; s = mafc_ring_next(m->heap, s))
		if (!mafc_span(m->heap, mafc_slot_index(s), true))
			return -EBUSY;
	return 0;
}

static void word_andnot(u64 *word, u64 bits)
{
	if (bits)
		atomic64_andnot(bits, (atomic64_t *)word);
}

static void mesh_unmerge(struct mesh *m, unsigned int words)
{
	while (words--)
		word_andnot(&m->d->bitmap[words], m->bits[words]);
}

/* Step 2.  Undone by mesh_unmerge(). */
static int mesh_merge(struct mesh *m)
{
	u64 mask[BITMAP_WORDS] = { 0 }, old;
	unsigned int w;

	bitmap_set((unsigned long *)mask, 0, m->geo.nblocks);
	for (w = 0; w < BITMAP_WORDS; w++)
		m->bits[w] = READ_ONCE(m->s->bitmap[w]) & mask[w];
	for (w = 0; w < BITMAP_WORDS; w++) {
		if (!m->bits[w])
			continue;
		old = atomic64_fetch_or(m->bits[w], (atomic64_t *)&m->d->bitmap[w]);
		if (old & m->bits[w]) {
			word_andnot(&m->d->bitmap[w], m->bits[w] & ~old);
			mesh_unmerge(m, w);
			return -EAGAIN;
		}
	}
	return 0;
}

/* Step 4. */
static void mesh_redirect(struct mesh *m)
{
	u32 s, slot = mafc_slot(MAFC_SMALL, m->src);
	unsigned int w;
	u64 now;

	smp_store_release(&m->s->canonical, m->dst);
	for (w = 0; w < BITMAP_WORDS; w++) {
		now = xchg(&m->s->bitmap[w], 0);
		m->live[w] = m->bits[w] & now;
		word_andnot(&m->d->bitmap[w], m->bits[w] & ~now);
	}
	for (s = mafc_ring_next(m->heap, slot); s != slot; s = mafc_ring_next(m->heap, s))
		WRITE_ONCE(mafc_span(m->heap, mafc_slot_index(s), true)->canonical, m->dst);
}

static void mesh_copy_block(struct mesh *m, unsigned int block)
{
	unsigned int off = block * m->geo.block_size, end = off + m->geo.block_size, n;

	for (; off < end; off += n) {
		n = min_t(unsigned int, end - off, PAGE_SIZE - offset_in_page(off));
		memcpy(page_address(m->to[off >> PAGE_SHIFT]) + offset_in_page(off),
		       page_address(m->from[off >> PAGE_SHIFT]) + offset_in_page(off), n);
	}
}

static void mark_meshed(struct mafc_heap *heap, u32 slot)
{
	struct mafc_leaf *leaf = mafc_leaf_exclusive(heap, slot);
	unsigned int i = mafc_leaf_index(slot);

	if (!(leaf->entry[i] & MAFC_E_MESHED)) {
		leaf->ring[i] = slot;
		WRITE_ONCE(leaf->entry[i], leaf->entry[i] | MAFC_E_MESHED);
	}
}

/* Step 5. */
static void mesh_publish(struct mesh *m)
{
	unsigned int block, i, j, n;
	struct mafc_heap *heap = m->heap;

	for_each_set_bit(block, (unsigned long *)m->live, m->geo.nblocks)
		mesh_copy_block(m, block);
	for (j = 0; j < m->geo.npages; j++) {
		u32 src = mafc_slot(MAFC_SMALL, m->src + j);
		u32 dst = mafc_slot(MAFC_SMALL, m->dst + j);

		mark_meshed(heap, dst);
		mark_meshed(heap, src);
		mafc_ring_splice(heap, dst, src);
		n = m->first[j + 1] - m->first[j];
		atomic_add(n, &mafc_frame(m->to[j])->owners);
		for (i = m->first[j]; i < m->first[j + 1]; i++)
			mafc_motion_set(heap, i, (unsigned long)m->to[j] | MAFC_E_MESHED);
	}
	mafc_frames_free(heap, m->geo.npages, m->first, m->from);
}

static int mesh_try(struct mesh *m)
{
	int err = same_geometry(m) ? mesh_check(m) : -EINVAL;

	if (err)
		return err;
	if (!span_shift(m->d, MAFC_SPAN_IDLE, MAFC_SPAN_BUSY, 0, 0))
		return -EAGAIN;
	if (!span_shift(m->s, MAFC_SPAN_IDLE, MAFC_SPAN_BUSY, 0, 0)) {
		span_shift(m->d, MAFC_SPAN_BUSY, MAFC_SPAN_IDLE, 0, 0);
		return -EAGAIN;
	}
	/* The library may have used them for something else before. */
	err = same_geometry(m) ? mesh_merge(m) : -EAGAIN;
	if (!err) {
		err = mafc_frames_take(m->heap, mafc_slot(MAFC_SMALL, m->src), m->geo.npages,
				       m->first, m->from);
		if (err)
			mesh_unmerge(m, BITMAP_WORDS);
	}
	if (!err) {
		mesh_redirect(m);
		mesh_publish(m);
		mafc_count(m->heap, MAFC_N_MESHED, m->geo.npages);
	}
	span_shift(m->s, MAFC_SPAN_BUSY, err ? MAFC_SPAN_IDLE : MAFC_SPAN_MESHED,
		   0, err ? 0 : MAFC_SPAN_ROOT);
	span_shift(m->d, MAFC_SPAN_BUSY, MAFC_SPAN_IDLE, err ? 0 : MAFC_SPAN_ROOT, 0);
	return err;
}

/*
 * Puts the blocks of span @src onto the pages of @dst; sleeps. 0; -EAGAIN: in use, or no fit (now);
 * -EBUSY: pinned or shared; -E2BIG: too many slots; -EXDEV: other node; -EINVAL: nonsense; -ENOMEM.
 */
int mafc_mesh(struct mafc_heap *heap, u32 dst, u32 src)
{
	struct mesh m;	/* large: not worth clearing */
	int err = -EBUSY;

	m.heap = heap;
	m.dst = dst;
	m.src = src;
	m.d = mafc_span(heap, dst, true);
	m.s = mafc_span(heap, src, true);
	if (m.d && m.s)
		err = mesh_try(&m);
	trace_mafc_mesh(mafc_slot(MAFC_SMALL, src), dst, err);
	return err;
}

static unsigned long *page_map(struct mafc_heap *heap, u32 index)
{
	return mafc_meta(heap, heap->map[MAFC_SMALL] + index / (8 * PAGE_SIZE), true);
}

/* Ends a span: for good, or for the library to do so when it unlists it. */
static void retire(struct mafc_heap *heap, u32 index, u32 npages)
{
	struct mafc_span *s = mafc_span(heap, index, true);
	u32 old = READ_ONCE(s->state), new, i;

	WRITE_ONCE(s->canonical, index);
	do {
		new = old & MAFC_SPAN_LISTED ? MAFC_SPAN_DEAD | MAFC_SPAN_LISTED : MAFC_SPAN_NONE;
	} while (!try_cmpxchg(&s->state, &old, new));
	if (new != MAFC_SPAN_NONE)
		return;
	for (i = 1; i < npages; i++)
		WRITE_ONCE(mafc_span(heap, index + i, true)->state, MAFC_SPAN_NONE);
	smp_mb();	/* states before bits */
	for (i = index; i < index + npages; i++)
		clear_bit(i % (8 * PAGE_SIZE), page_map(heap, i));
}

static int members(struct mafc_heap *heap, u32 root, u32 npages, u32 *member)
{
	u32 slot = mafc_slot(MAFC_SMALL, root), s = slot, index, last;
	struct mafc_span *d;
	int n = 0;

	do {
		index = mafc_slot_index(s);
		last = index + npages - 1;
		d = mafc_span(heap, index, true);
		/* May everything that its end writes be written? */
		if (n == MAFC_MOTION_MAX || !d || !mafc_span(heap, last, true) ||
		    !page_map(heap, index) || !page_map(heap, last))
			return -EBUSY;
		if (index != root && (MAFC_SPAN_STATE(READ_ONCE(d->state)) != MAFC_SPAN_MESHED ||
				      READ_ONCE(d->canonical) != root))
			return -EINVAL;
		member[n++] = index;
		s = mafc_ring_next(heap, s);
	} while (s != slot);
	return n;
}

static int dissolve_busy(struct mafc_heap *heap, u32 span, const struct mafc_span *s)
{
	u32 member[MAFC_MOTION_MAX], slot = mafc_slot(MAFC_SMALL, span);
	struct page *page[MAFC_SPAN_PAGES_MAX];
	u16 first[MAFC_SPAN_PAGES_MAX + 1];
	struct mafc_span geo;
	int i, n, err;

	read_geometry(&geo, s);
	if (!mafc_span_valid(heap, span, &geo))
		return -EINVAL;
	if (any_live(s, NULL))
		return -EAGAIN;
	if (!mafc_ring_exclusive(heap, slot))
		return -EBUSY;
	n = members(heap, span, geo.npages, member);
	err = n < 0 ? n : mafc_frames_take(heap, slot, geo.npages, first, page);
	if (err)
		return err;
	for (i = 0; i < heap->mo.n; i++)
		mafc_motion_set(heap, i, 0);
	mafc_frames_free(heap, geo.npages, first, page);
	mafc_count(heap, MAFC_N_DROPPED, geo.npages);
	for (i = 0; i < n; i++)
		retire(heap, member[i], geo.npages);
	return 0;
}

/* Ends an empty root and its ring; sleeps. 0; -EAGAIN: in use; -EBUSY: pinned, shared; -EINVAL. */
int mafc_dissolve(struct mafc_heap *heap, u32 span)
{
	struct mafc_span *s = mafc_span(heap, span, true);
	int err;

	if (!s)
		return -EBUSY;
	if (!span_shift(s, MAFC_SPAN_IDLE, MAFC_SPAN_BUSY, 0, 0))
		return -EAGAIN;
	err = dissolve_busy(heap, span, s);
	if (err)
		span_shift(s, MAFC_SPAN_BUSY, MAFC_SPAN_IDLE, 0, 0);
	return err;
}
