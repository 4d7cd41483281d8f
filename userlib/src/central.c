// SPDX-License-Identifier: Apache-2.0
/*
 * central.c - what all threads share of a class: its spans with free blocks
 * Spans are listed by how full they are, which is looked at again when they come up.  Refills take
 * the fullest that are worth the trouble, with a sixteenth of their blocks free: what is nearly
 * empty gets the time to become empty.  A span is ATTACHED only while blocks are taken from it, so
 * no sleeping thread keeps one from being compacted.
 */
#include "program.h"
#include "small.h"

#define LISTS		17	/* by sixteenths of free blocks; the last: empty */
#define EMPTY		(LISTS - 1)
#define KEEP_PAGES	16	/* of empty spans that a class keeps */
#define BUSY_MAX	8	/* spans that the kernel works on are passed over, up to so many */
#define AHEAD		6	/* blocks between the one worked on and the one fetched */
#define IDLE_LISTED	(MAFC_SPAN_IDLE | MAFC_SPAN_LISTED)

/* Of one class. */
struct central {
	struct lock lock;	/* guards the rest */
	uint32_t filled;	/* bit i: lists[i] is not empty */
	uint32_t nempty;	/* spans in the last list */
	uint32_t spans;		/* created, about: the kernel dissolves without telling */
	uint64_t random;	/* state of random_next(), 0 at first */
	uint32_t npassed;	/* blocks in passed[] */
	uint32_t seen;		/* how many there were at the last look */
	uint32_t lists[LISTS];	/* first span of each */
} __attribute__((aligned(64)));

static struct central centrals[NCLASSES];
/* Blocks on their way from one thread to another; their bits are set. */
static void *passed[NCLASSES][2 * BIN_MAX];

static unsigned list_for(const struct mafc_span *s, const struct size_class *c)
{
	unsigned used = span_used(s);

	return used < c->blocks ? (c->blocks - used) * EMPTY / c->blocks : 0;
}

static void list_link(struct central *k, struct mafc_span *s, unsigned i)
{
	uint32_t first = k->lists[i], n = span_number(s);

	span_next(s) = first;
	span_prev(s) = 0;
	span_list(s) = i + 1;
	if (first)
		span_prev(&heap.spans[first]) = n;
	k->lists[i] = n;
	k->filled |= 1U << i;
	k->nempty += i == EMPTY;
}

static void list_unlink(struct central *k, struct mafc_span *s)
{
	unsigned i = span_list(s) - 1;
	uint32_t next = span_next(s), prev = span_prev(s);

	if (next)
		span_prev(&heap.spans[next]) = prev;
	if (prev)
		span_next(&heap.spans[prev]) = next;
	else
		k->lists[i] = next;
	if (!k->lists[i])
		k->filled &= ~(1U << i);
	k->nempty -= i == EMPTY;
	span_list(s) = 0;
}

static void list_move(struct central *k, struct mafc_span *s, unsigned i)
{
	list_unlink(k, s);
	list_link(k, s, i);
}

/* It may have a free block of which nobody knows.  Meshed spans have no blocks to give. */
static inline void make_listed(struct central *k, struct mafc_span *s, const struct size_class *c)
{
	uint32_t state = span_state(s), base;

	while (unlikely(!(state & MAFC_SPAN_LISTED))) {
		base = MAFC_SPAN_STATE(state);
		race_window();
		if (base != MAFC_SPAN_IDLE && base != MAFC_SPAN_BUSY)
			return;
		if (exchange_if(&s->state, &state, state | MAFC_SPAN_LISTED)) {
			list_link(k, s, list_for(s, c));
			return;
		}
	}
}

/* Nobody hands out its blocks any longer: to the lists, if it has any left. */
static void detach(struct central *k, struct mafc_span *s, const struct size_class *c)
{
	bool left = span_used(s) < c->blocks;

	if (left)
		list_link(k, s, list_for(s, c));
	race_window();
	span_change(s, MAFC_SPAN_ATTACHED, left ? IDLE_LISTED : MAFC_SPAN_IDLE);
}

/* What became of a span that came up in a list. */
enum verdict { TAKEN, GONE, SKIPPED };

static enum verdict examine(struct central *k, struct mafc_span *s, const struct size_class *c)
{
	unsigned list;

	switch (MAFC_SPAN_STATE(span_state(s))) {
	case MAFC_SPAN_IDLE:
		list = list_for(s, c);
		if (list != span_list(s) - 1) {
			list_move(k, s, list);
			return GONE;
		}
		race_window();
		if (!span_change(s, IDLE_LISTED, MAFC_SPAN_ATTACHED))
			return SKIPPED;
		list_unlink(k, s);
		return TAKEN;
	case MAFC_SPAN_MESHED:
		list_unlink(k, s);
		race_window();
		bits_clear(&s->state, MAFC_SPAN_LISTED);
		/* It may have died in between, and then nobody else looks. */
		if (MAFC_SPAN_STATE(span_state(s)) == MAFC_SPAN_DEAD)
			span_retire(s, MAFC_SPAN_DEAD);
		return GONE;
	case MAFC_SPAN_DEAD:
		/* The kernel waits for us to forget it. */
		list_unlink(k, s);
		span_retire(s, MAFC_SPAN_DEAD | MAFC_SPAN_LISTED);
		return GONE;
	default:
		return SKIPPED;
	}
}

/* One of the first spans of a list, ATTACHED; or NULL. */
static struct mafc_span *pick_from(struct central *k, const struct size_class *c, unsigned list)
{
	uint32_t n, next;
	unsigned skipped = 0;
	enum verdict v;

	for (n = k->lists[list]; n && skipped < BUSY_MAX; n = next) {
		struct mafc_span *s = &heap.spans[n];

		next = span_next(s);
		v = examine(k, s, c);
		if (v == TAKEN) {
			if (next)
				__builtin_prefetch(&heap.spans[next]);
			return s;
		}
		skipped += v == SKIPPED;
	}
	return NULL;
}

/* The listed span to take blocks from, ATTACHED; or NULL. */
static struct mafc_span *pick(struct central *k, const struct size_class *c)
{
	struct mafc_span *s = NULL;
	unsigned list, round;

	/* What turns out to be emptier moves to a list that comes later; what was meshed, not. */
	for (round = 0; !s && round < 2; round++) {
		for (list = 1; !s && k->filled >> list; list++)
			if (k->filled >> list & 1)
				s = pick_from(k, c, list);
		if (!s && (k->filled & 1))
			s = pick_from(k, c, 0);
	}
	return s;
}

/* A new span, ATTACHED, and some more where a class grows: neighbours are faulted in together. */
static struct mafc_span *create(struct central *k, unsigned cls)
{
	const struct size_class *c = &classes[cls];
	unsigned i, got, want = 1 + MIN(k->spans / 8, 15U / c->pages);
	uint32_t runs[PAGES_RUNS_MAX];

	got = pages_take(c->pages, want, runs);
	if (!got)
		return NULL;
	k->spans += got;
	for (i = got - 1; i > 0; i--)
		list_link(k, span_create(runs[i], cls, IDLE_LISTED), EMPTY);
	return span_create(runs[0], cls, MAFC_SPAN_ATTACHED);
}

unsigned central_take(unsigned cls, void **blocks, unsigned want, size_t size)
{
	const struct size_class *c = &classes[cls];
	struct mafc_class_count *count = &heap.meta->classes[cls];
	struct central *k = &centrals[cls];
	struct mafc_span *s;
	unsigned got = 0;

	lock_take(&k->lock);
	if (k->npassed) {
		got = MIN(want, k->npassed);
		k->npassed -= got;
		memcpy(blocks, passed[cls] + k->npassed, got * sizeof(*blocks));
		lock_drop(&k->lock);
		return got;
	}
	if (unlikely(!k->random))
		k->random = (uintptr_t)k * 0x9e3779b97f4a7c15ULL | 1;
	while (got < want) {
		s = pick(k, c);
		if (!s && !got)
			s = create(k, cls);
		if (!s)
			break;
		got += span_claim(s, blocks + got, want - got, random_next(&k->random));
		detach(k, s, c);
	}
	store(&count->allocs, count->allocs + got);
	store(&count->requested, count->requested + got * size);
	lock_drop(&k->lock);
	return got;
}

bool central_pass(unsigned cls, void **blocks, unsigned n)
{
	struct central *k = &centrals[cls];
	bool ok;

	lock_take(&k->lock);
	ok = k->npassed + n <= 2U * classes[cls].bin_max;
	if (ok) {
		memcpy(passed[cls] + k->npassed, blocks, n * sizeof(*blocks));
		k->npassed += n;
	}
	lock_drop(&k->lock);
	return ok;
}

void central_settle(bool all)
{
	void *blocks[64];
	struct central *k;
	unsigned cls, n;

	for (cls = 1; cls < nclasses; cls++) {
		k = &centrals[cls];
		do {
			lock_take(&k->lock);
			n = all || k->npassed == k->seen ? MIN(k->npassed, 64U) : 0;
			k->npassed -= n;
			k->seen = k->npassed;
			memcpy(blocks, passed[cls] + k->seen, n * sizeof(*blocks));
			lock_drop(&k->lock);
			if (n)
				central_give(cls, blocks, n);
		} while (all && n);
	}
}

static bool retire_one(struct central *k)
{
	struct mafc_span *s = &heap.spans[k->lists[EMPTY]];

	/* A root must stay, as long as anything is meshed into it. */
	if (span_state(s) != IDLE_LISTED || !span_empty(s) ||
	    !span_change(s, IDLE_LISTED, MAFC_SPAN_ATTACHED))
		return false;
	list_unlink(k, s);
	if (!span_retire(s, MAFC_SPAN_ATTACHED)) {
		detach(k, s, &classes[load(&s->size_class)]);
		return false;
	}
	k->spans -= k->spans > 0;
	return true;
}

/* Blocks of one span that are on their way back: bits of one word. */
struct batch {
	struct central *central;
	struct mafc_span *span;
	unsigned word;
	uint64_t bits;
};

/* Where the program ends, its handlers may want the lock. */
static void misuse(struct batch *b, const char *what, void *p)
{
	lock_drop(&b->central->lock);
	report_misuse(what, p);
	lock_take(&b->central->lock);
}

/*
 * Clears the bits of a batch, and sees what that changes. The root is listed while the bits still
 * keep it alive: what is listed the kernel does not dissolve, it only says DEAD.
 */
static void give_batch(struct batch *b, const struct size_class *c)
{
	struct central *k = b->central;
	struct mafc_span *root = span_root(b->span);
	uint64_t twice;

	make_listed(k, root, c);
	twice = span_clear(b->span, b->word, b->bits, &root);
	b->bits = 0;
	if (unlikely(twice))
		misuse(b, "double free", (void *)(span_address(b->span) + (uintptr_t)c->size *
						  (b->word * 64 + __builtin_ctzll(twice))));
	if (unlikely(load(&root->block_size) != c->size))
		return;		/* misuse, reported */
	make_listed(k, root, c);	/* another one, if it was meshed in between */
	if (span_list(root) == 1 && list_for(root, c))
		list_move(k, root, list_for(root, c));
	if (unlikely(span_empty(root)) && span_list(root)) {
		list_move(k, root, EMPTY);
		while (k->nempty > MAX(KEEP_PAGES / c->pages, 1) && retire_one(k))
			;
	}
}

/*
 * Neighbours in a bin are often neighbours in a span, and are cleared together.  Where they are
 * not, each descriptor is a cache miss to be started early.
 */
void central_give(unsigned cls, void **blocks, unsigned n)
{
	const struct size_class *c = &classes[cls];
	uint32_t size = c->size, end = size * c->blocks, off, bit;
	struct batch batch = { .central = &centrals[cls] };
	uint64_t reciprocal = c->reciprocal, mask;
	uintptr_t base = 0;
	unsigned i;

	lock_take(&batch.central->lock);
	for (i = 0; i < n; i++) {
		if ((uintptr_t)blocks[i] - base >= end) {
			if (i + AHEAD < n)
				__builtin_prefetch(&heap.spans[small_page(blocks[i + AHEAD])], 1);
			if (batch.bits)
				give_batch(&batch, c);
			batch.span = span_of(blocks[i], c->pages);
			base = span_address(batch.span);
		}
		off = (uintptr_t)blocks[i] - base;
		bit = off * reciprocal >> 32;
		if (unlikely(bit * size != off || off >= end)) {
			misuse(&batch, "free of a pointer into a block", blocks[i]);
			continue;
		}
		mask = 1ULL << bit % 64;
		if (batch.bits && batch.word != bit / 64)
			give_batch(&batch, c);
		if (unlikely(batch.bits & mask))
			misuse(&batch, "double free", blocks[i]);
		batch.word = bit / 64;
		batch.bits |= mask;
	}
	if (batch.bits)
		give_batch(&batch, c);
	store(&heap.meta->classes[cls].frees, heap.meta->classes[cls].frees + n);
	lock_drop(&batch.central->lock);
}

void central_trim(void)
{
	unsigned cls;

	for (cls = 1; cls < nclasses; cls++) {
		lock_take(&centrals[cls].lock);
		while (centrals[cls].lists[EMPTY] && retire_one(&centrals[cls]))
			;
		lock_drop(&centrals[cls].lock);
	}
}

void central_lock(void)
{
	unsigned cls;

	for (cls = 1; cls < nclasses; cls++)
		lock_take(&centrals[cls].lock);
}

void central_unlock(bool child)
{
	unsigned cls;

	for (cls = 1; cls < nclasses; cls++)
		(child ? lock_reset : lock_drop)(&centrals[cls].lock);
}
