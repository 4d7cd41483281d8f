// SPDX-License-Identifier: GPL-2.0-only
/*
 * sim.c - recorded streams of requests under other block sizes and other placement
 *
 *   sim STREAM...          two tables
 *   sim --plain STREAM...  figures, in bytes: stream, policy, what, mean, most
 *   sim --real STREAM...   with the library preloaded: is the simulation true?
 *
 * The library's blocks as far as they decide what is held: bins of one thread that double, run over
 * and are emptied when they rest, spans listed by eighths, refills from the fullest.  The sizes are
 * those of userlib/src/classes.c.  Left out: the second bins of the smallest classes, other
 * threads, blocks over 16 KiB (counted in whole pages), descriptors.  A stream is looked at SAMPLES
 * times, at equal numbers of records.  "Meshed" is what kmod/matcher.c would leave if it ran just then, once,
 * on all spans; the simulated heap stays as it is.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "pure.h"
#include "matcher.h"
#include "types.h"
#include "stream.h"

#define SAMPLES		100
#define GRAINS		(SMALL_MAX / GRAIN)
#define LIVES		2			/* lifetime classes: young ones, and others */
#define OLD		1
#define KINDS		((GRAINS + 1) * LIVES)	/* a kind: block size and lifetime */
#define LISTS		9
#define EMPTY		(LISTS - 1)
#define KEEP_PAGES	16
#define LOOK_EVERY	8
#define BUDGET_MIN	(1UL << 20)
#define BUDGET_MAX	(4UL << 20)
#define BUDGET_SHARE	24
#define RECENT		4096			/* requests of a class, then they count half */
#define ENOUGH		64			/* requests that make a histogram */
#define SITES		65536
#define SAMPLED		8			/* one block in so many, */
#define SAMPLED_FIRST	16			/* beside so many first ones of each site */
#define SITE_MEMORY	64			/* samples of a site, then they count half */
#define SITE_ENOUGH	4			/* samples that decide */
#define LEAST_PAGES	64			/* of a class whose lifetimes are kept apart */
#define NO_BLOCK	(~0ULL)

enum sizes { TABLE, ADAPT, ADAPT_PAGES, HINDSIGHT };
enum key { NO_KEY, BY_RET, BY_DEPTH, BY_STACK, BY_FUTURE };

static const struct policy {
	const char *name, *head;
	enum sizes sizes;
	enum key key;
	u64 young;	/* blocks that get this old are not; in bytes allocated meanwhile */
} policies[] = {
	{ "today", "today", TABLE, NO_KEY, 0 },
	{ "adapt", "adapt", ADAPT, NO_KEY, 0 },
	{ "adapt+pages", "+pages", ADAPT_PAGES, NO_KEY, 0 },
	{ "hindsight", "hindst", HINDSIGHT, NO_KEY, 0 },
	{ "caller-4M", "caller", TABLE, BY_RET, 4 << 20 },
	{ "depth-4M", "depth", TABLE, BY_DEPTH, 4 << 20 },
	{ "stack-256K", "st256K", TABLE, BY_STACK, 256 << 10 },
	{ "stack-4M", "st4M", TABLE, BY_STACK, 4 << 20 },
	{ "stack-64M", "st64M", TABLE, BY_STACK, 64 << 20 },
	{ "future-256K", "fu256K", TABLE, BY_FUTURE, 256 << 10 },
	{ "future-4M", "fu4M", TABLE, BY_FUTURE, 4 << 20 },
	{ "future-64M", "fu64M", TABLE, BY_FUTURE, 64 << 20 },
};
#define POLICIES	ARRAY_SIZE(policies)
#define PLACES		4	/* the first that is about lifetimes */

/* An event, with blocks numbered in the order of their allocation. */
struct event {
	u32 id;		/* the block that is allocated, or freed */
	u32 old;	/* the one that it replaces, or NO_ID */
	u32 size;	/* or FREED */
};

#define NO_ID		UINT32_MAX
#define FREED		UINT32_MAX

struct object {
	u32 keys[3];	/* of the site: BY_RET - 1 and so on */
	u64 age;	/* that it will reach, in bytes allocated meanwhile */
};

static struct event *events;
static size_t nevents, nrecords;
static struct object *objects;
static u32 nobjects;

static unsigned int hindsight[GRAINS + 1];	/* size in grains for a request of so many */
static double weight[GRAINS + 1];	/* live blocks of so many grains, summed over samples */

/* The outcome of a policy at a sample, in bytes. */
struct sample {
	u64 requested;	/* in live small blocks */
	u64 grains;	/* the same, rounded up to 16 */
	u64 blocks;	/* sizes of these blocks */
	u64 shares;	/* each with its part of the rest of its span */
	u64 held;	/* pages with live blocks */
	u64 meshed;	/* the same after meshing */
	u64 large;
};

static struct sample results[POLICIES][SAMPLES];

static void *zeroed(size_t n, size_t size)
{
	void *p = mmap(NULL, n * size + 1, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	return p;
}

static void unmap(void *p, size_t n, size_t size)
{
	munmap(p, n * size + 1);
}

static unsigned int grains(u32 size)
{
	return size ? (size + GRAIN - 1) / GRAIN : 1;
}

/* Reading a stream */

/* Address to block; open addressing, a deleted one stays as a stone. */
struct map {
	u64 *address;
	u32 *id;
	size_t mask;
};

static size_t map_at(const struct map *m, u64 address)
{
	size_t i = (address >> 4) * 0x9e3779b97f4a7c15ULL >> 20 & m->mask;

	while (m->address[i] && m->address[i] != address)
		i = (i + 1) & m->mask;
	return i;
}

static u32 map_take(struct map *m, u64 address)
{
	size_t i = map_at(m, address);
	u32 id = m->id[i];

	m->id[i] = 0;
	return m->address[i] && id ? id - 1 : NO_ID;
}

static void map_put(struct map *m, u64 address, u32 id)
{
	size_t i = map_at(m, address);

	m->address[i] = address;
	m->id[i] = id + 1;
}

static u32 hash(u32 a, u32 b)
{
	return ((a ^ (u64)b << 32) * 0x9e3779b97f4a7c15ULL) >> 32;
}

static unsigned int table_size(u32 size)
{
	return classes[class_own(class_of(size))].size;
}

/* Lifetimes: a block that realloc() leaves where it is lives on. */
static void look_ahead(void)
{
	u64 clock = 0, *born = zeroed(nobjects, sizeof(*born));
	u32 *first = zeroed(nobjects, sizeof(*first)), *size = zeroed(nobjects, sizeof(*size));
	size_t i;

	for (i = 0; i < nobjects; i++)
		objects[i].age = ~0ULL - 1;
	for (i = 0; i < nevents; i++) {
		struct event *e = &events[i];
		u32 gone = e->size == FREED ? e->id : e->old;
		bool stays = false;

		if (e->size != FREED) {
			clock += e->size;
			first[e->id] = e->id;
			size[e->id] = e->size;
			born[e->id] = clock;
			stays = gone != NO_ID && e->size <= SMALL_MAX && size[gone] <= SMALL_MAX &&
				table_size(e->size) == table_size(size[gone]);
		}
		if (stays) {
			first[e->id] = first[gone];
		} else if (gone != NO_ID) {
			objects[first[gone]].age = clock - born[first[gone]];
		}
	}
	unmap(born, nobjects, sizeof(*born));
	unmap(first, nobjects, sizeof(*first));
	unmap(size, nobjects, sizeof(*size));
}

static bool stream_read(const char *name)
{
	u32 old[256], id;
	const struct stream_header *h;
	const struct stream_record *r;
	struct map map = { 0 };
	size_t n, i, slots = 1024;
	struct stat st;
	int fd = open(name, O_RDONLY);

	if (fd < 0 || fstat(fd, &st) || (size_t)st.st_size < sizeof(*h))
		return false;
	h = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (h == MAP_FAILED || h->magic != STREAM_MAGIC)
		return false;
	n = MIN(h->count, (st.st_size - sizeof(*h)) / sizeof(*r));
	nrecords = n;
	r = (const struct stream_record *)(h + 1);
	while (slots < 2 * n)
		slots *= 2;
	map.mask = slots - 1;
	map.address = zeroed(slots, sizeof(*map.address));
	map.id = zeroed(slots, sizeof(*map.id));
	events = zeroed(n, sizeof(*events));
	objects = zeroed(n, sizeof(*objects));
	nevents = nobjects = 0;
	memset(old, 0xff, sizeof(old));
	for (i = 0; i < n; i++, r++) {
		u64 address = r->block & ((1ULL << 48) - 1);
		unsigned int thread = r->block >> 48 & 255, what = r->block >> 56;

		switch (what) {
		case STREAM_FREE:
			id = map_take(&map, address);
			if (id != NO_ID)
				events[nevents++] = (struct event){ id, NO_ID, FREED };
			break;
		case STREAM_OLD:
			old[thread] = map_take(&map, address);
			break;
		case STREAM_ALLOC:
		case STREAM_NEW:
			id = nobjects++;
			objects[id].keys[BY_RET - 1] = hash(r->ret, 0);
			objects[id].keys[BY_DEPTH - 1] = hash(hash(r->ret, r->depth), r->size);
			objects[id].keys[BY_STACK - 1] = hash(r->stack, r->size);
			events[nevents++] = (struct event){
				id, what == STREAM_NEW ? old[thread] : NO_ID,
				MIN(r->size, FREED - 1)
			};
			map_put(&map, address, id);
			break;
		default:	/* not finished when the program ended */
			break;
		}
	}
	unmap(map.address, slots, sizeof(*map.address));
	unmap(map.id, slots, sizeof(*map.id));
	munmap((void *)h, st.st_size);
	look_ahead();
	return nevents >= SAMPLES;
}

static void stream_forget(void)
{
	unmap(events, nrecords, sizeof(*events));
	unmap(objects, nrecords, sizeof(*objects));
}

/* The heap */

struct span {
	u64 bits[4];
	u32 next, prev;		/* in its list, 0: none */
	u16 kind, live;
	u8 list;		/* and 1; 0: none */
};

struct kind {
	u32 size;
	u16 pages, blocks;
	u32 lists[LISTS];
	u32 nempty;
	u64 *bin;		/* blocks: span << 8 | number */
	u32 count, slots, seen, bin_max;
};

/* What adapts within a class. */
struct recent {
	u32 hist[GRAINS + 1];
	u32 total;
	u32 now;	/* size in grains for what fits it */
};

struct site {
	u32 key;
	u16 seen;
	u8 lives[LIVES];
};

static const struct policy *policy;
static struct kind kinds[KINDS];
static u16 used_kinds[KINDS];
static unsigned int nused, hand;
static struct span *spans;
static u32 nspans, free_span;
static struct recent recents[NCLASSES];
static struct site *sites;
static u64 clock_bytes, room, pages_now, pages_most, large_bytes, slow_calls;
static u32 class_pages[NCLASSES];
static uint64_t seed;
static u64 *where;		/* of each block, NO_BLOCK: none or large */
static u32 *sizes;		/* asked for */
static u64 *born;		/* sampled blocks */
static u32 *fifo;		/* of sampled blocks, oldest first */
static u32 fifo_in, fifo_out;
static struct sample now;

/* Bytes of a span for each of its blocks. */
static double share(unsigned int size, unsigned int pages)
{
	return (double)(pages << PAGE_SHIFT) / ((pages << PAGE_SHIFT) / size);
}

/* As few pages as hold 8 blocks and waste 2 per cent at most, or the least. */
static unsigned int pages_for(unsigned int size)
{
	unsigned int pages, best = 0;

	for (pages = 1; pages <= 32; pages *= 2) {
		unsigned int blocks = (pages << PAGE_SHIFT) / size;

		if (blocks < 8 || blocks > 256)
			continue;
		if (!best || share(size, pages) < 0.995 * share(size, best))
			best = pages;
		if (share(size, best) <= 1.02 * size)
			break;
	}
	return best;
}

static unsigned int pages_of_kind(unsigned int g)
{
	unsigned int own = class_own(class_of(g * GRAIN));

	return policy->sizes == TABLE || policy->sizes == ADAPT ? classes[own].pages :
	       pages_for(g * GRAIN);
}

static struct kind *kind_get(unsigned int g, unsigned int life)
{
	struct kind *k = &kinds[g * LIVES + life];

	if (!k->size) {
		k->size = g * GRAIN;
		k->pages = pages_of_kind(g);
		k->blocks = (k->pages << PAGE_SHIFT) / k->size;
		k->bin_max = classes[class_own(class_of(k->size))].bin_max;
		k->bin = zeroed(BIN_MAX, sizeof(*k->bin));
		used_kinds[nused++] = k - kinds;
	}
	return k;
}

static unsigned int list_for(const struct span *s, const struct kind *k)
{
	return s->live < k->blocks ? (k->blocks - s->live) * EMPTY / k->blocks : 0;
}

static void list_link(struct kind *k, u32 n, unsigned int i)
{
	struct span *s = &spans[n];

	s->next = k->lists[i];
	s->prev = 0;
	s->list = i + 1;
	if (s->next)
		spans[s->next].prev = n;
	k->lists[i] = n;
	k->nempty += i == EMPTY;
}

static void list_unlink(struct kind *k, u32 n)
{
	struct span *s = &spans[n];
	unsigned int i = s->list - 1;

	if (s->next)
		spans[s->next].prev = s->prev;
	if (s->prev)
		spans[s->prev].next = s->next;
	else
		k->lists[i] = s->next;
	k->nempty -= i == EMPTY;
	s->list = 0;
}

/* The fullest span with a free block, unlisted; 0: none.  @last: the emptiest list to look at. */
static u32 pick(struct kind *k, unsigned int last)
{
	unsigned int i, right;
	u32 n;

	for (i = 0; i <= last; i++)
		while ((n = k->lists[i])) {
			right = list_for(&spans[n], k);
			list_unlink(k, n);
			if (right == i)
				return n;
			list_link(k, n, right);
			if (right < i)
				i = right;
		}
	return 0;
}

static u32 span_new(struct kind *k)
{
	u32 n = free_span;

	if (n)
		free_span = spans[n].next;
	else
		n = ++nspans;
	spans[n] = (struct span){ .kind = k - kinds };
	pages_now += k->pages;
	class_pages[class_own(class_of(k->size))] += k->pages;
	pages_most = MAX(pages_most, pages_now);
	return n;
}

static void span_free(struct kind *k, u32 n)
{
	list_unlink(k, n);
	pages_now -= k->pages;
	class_pages[class_own(class_of(k->size))] -= k->pages;
	spans[n].next = free_span;
	spans[n].kind = 0;
	free_span = n;
}

/* Lowest first, but handed out from a random one on, as span_claim() does. */
static unsigned int claim(struct kind *k, u32 n, u64 *out, unsigned int want)
{
	struct span *s = &spans[n];
	unsigned int got = 0, to, i, from;
	u64 taken[256];

	for (i = 0; i < k->blocks && got < want; i++) {
		if (s->bits[i / 64] >> i % 64 & 1)
			continue;
		s->bits[i / 64] |= 1ULL << i % 64;
		taken[got++] = (u64)n << 8 | i;
	}
	s->live += got;
	to = (random_next(&seed) >> 32) * got >> 32;
	for (from = 0; from < got; from++) {
		out[to] = taken[from];
		to = to ? to - 1 : got - 1;
	}
	if (s->live < k->blocks)
		list_link(k, n, list_for(s, k));
	return got;
}

/* Free blocks of larger sizes of the class serve as well, while sizes change. */
static u32 pick_larger(struct kind *k)
{
	unsigned int g = k->size / GRAIN + 1, top = table_size(k->size) / GRAIN;
	u32 n = 0;

	if (policy->sizes != ADAPT && policy->sizes != ADAPT_PAGES)
		return 0;
	for (; g <= top && !n; g++)
		if (kinds[g * LIVES + OLD].size)
			n = pick(&kinds[g * LIVES + OLD], EMPTY - 1);
	return n;
}

static unsigned int central_take(struct kind *k, u64 *out, unsigned int want)
{
	unsigned int got = 0;
	u32 n;

	while (got < want) {
		n = pick(k, EMPTY);
		if (!n && !got)
			n = pick_larger(k);
		if (!n && !got)
			n = span_new(k);
		if (!n)
			break;
		got += claim(&kinds[spans[n].kind], n, out + got, want - got);
	}
	return got;
}

static void central_give(const u64 *blocks, unsigned int count)
{
	for (; count; count--, blocks++) {
		u32 n = *blocks >> 8, bit = *blocks & 255;
		struct span *s = &spans[n];
		struct kind *k = &kinds[s->kind];

		s->bits[bit / 64] &= ~(1ULL << bit % 64);
		s->live--;
		if (!s->list)
			list_link(k, n, list_for(s, k));
		if (s->live)
			continue;
		list_unlink(k, n);
		list_link(k, n, EMPTY);
		while (k->nempty > MAX(KEEP_PAGES / k->pages, 1))
			span_free(k, k->lists[EMPTY]);
	}
}

static void bin_flush(struct kind *k, unsigned int n)
{
	central_give(k->bin, n);
	memmove(k->bin, k->bin + n, (k->count - n) * sizeof(*k->bin));
	k->count -= n;
}

static bool bin_grow(struct kind *k)
{
	u64 budget = ((pages_most << PAGE_SHIFT) + large_bytes) / BUDGET_SHARE;
	unsigned int slots;

	budget = MIN(MAX(budget, BUDGET_MIN), BUDGET_MAX);
	if (k->slots >= k->bin_max)
		return false;
	slots = k->slots ? k->slots * 2 + 1 : room + 3 * k->size <= budget ? 3 : 1;
	if (room + (slots - k->slots) * k->size > budget)
		return false;
	room += (slots - k->slots) * k->size;
	k->slots = slots;
	return true;
}

static void look_around(struct kind *busy)
{
	struct kind *k;

	if (slow_calls++ % LOOK_EVERY)
		return;
	hand = hand + 1 < nused ? hand + 1 : 0;
	k = &kinds[used_kinds[hand]];
	if (k == busy || !k->slots)
		return;
	if (k->count != k->seen) {
		k->seen = k->count;
		return;
	}
	bin_flush(k, k->count);
	room -= k->slots * k->size;
	k->slots = 0;
}

static u64 block_take(struct kind *k)
{
	unsigned int n, want;
	u64 block;

	if (k->count)
		return k->bin[--k->count];
	look_around(k);
	bin_grow(k);
	want = k->slots ? k->slots / 2 + 1 : 1;
	if (!k->slots) {
		central_take(k, &block, 1);
		return block;
	}
	n = central_take(k, k->bin, want);
	k->count = n - 1;
	return k->bin[n - 1];
}

static void block_give(u64 block)
{
	struct kind *k = &kinds[spans[block >> 8].kind];

	if (k->count == k->slots) {
		look_around(k);
		if (!bin_grow(k)) {
			if (!k->slots) {
				central_give(&block, 1);
				return;
			}
			bin_flush(k, k->slots / 2 + 1);
		}
	}
	k->bin[k->count++] = block;
}

/* Block sizes */

/* For new spans of the class, the size that saves most of what was asked for lately. */
static void adapt(struct recent *r, unsigned int own)
{
	unsigned int top = classes[own].size / GRAIN, g, low;
	double whole = share(top * GRAIN, pages_of_kind(top)), best = 0.01 * whole * r->total;
	u64 within = 0;

	low = own > 1 ? classes[own - 1].size / GRAIN + 1 : 1;
	r->now = top;
	for (g = low; g < top; g++) {
		double saved;

		within += r->hist[g];
		saved = within * (whole - share(g * GRAIN, pages_of_kind(g)));
		if (saved > best) {
			best = saved;
			r->now = g;
		}
	}
}

static bool bare(const struct kind *k)
{
	unsigned int i;

	for (i = 0; i < LISTS; i++)
		if (k->lists[i])
			return false;
	return !k->count;
}

static unsigned int size_for(u32 size)
{
	unsigned int g = grains(size), own = class_own(class_of(size)), i;
	unsigned int top = classes[own].size / GRAIN;
	struct recent *r = &recents[own];

	switch (policy->sizes) {
	case TABLE:
		return top;
	case HINDSIGHT:
		return hindsight[g];
	default:
		break;
	}
	r->hist[g]++;
	if (++r->total >= RECENT) {
		r->total = 0;
		for (i = 0; i <= top; i++)
			r->total += r->hist[i] /= 2;
	}
	if (!r->now)
		r->now = top;
	/* A span is about to be created. */
	if (r->total >= ENOUGH && bare(kind_get(g <= r->now ? r->now : top, OLD)))
		adapt(r, own);
	return g <= r->now ? r->now : top;
}

/* Lifetimes */

static void learn(u32 id, bool old)
{
	u32 key = objects[id].keys[policy->key - 1];
	struct site *s = &sites[key % SITES];

	if (s->key != key)
		return;
	s->lives[old]++;
	if (s->lives[0] + s->lives[1] >= SITE_MEMORY) {
		s->lives[0] /= 2;
		s->lives[1] /= 2;
	}
}

static void learn_survivors(void)
{
	for (; fifo_out < fifo_in; fifo_out++) {
		u32 id = fifo[fifo_out];

		if (!born[id])
			continue;	/* dead */
		if (clock_bytes - born[id] < policy->young)
			break;
		learn(id, true);
		born[id] = 0;
	}
}

static unsigned int life_for(u32 id, u32 size)
{
	const struct object *o = &objects[id];
	struct site *s;
	u32 key;

	if (policy->key == NO_KEY)
		return OLD;
	/* Where there is little, there is little to be kept apart. */
	if (class_pages[class_own(class_of(size))] < LEAST_PAGES)
		return OLD;
	if (policy->key == BY_FUTURE)
		return o->age >= policy->young;
	learn_survivors();
	key = o->keys[policy->key - 1];
	s = &sites[key % SITES];
	if (s->key != key)
		*s = (struct site){ .key = key };
	if (s->seen < SAMPLED_FIRST || random_next(&seed) >> 32 < (1ULL << 32) / SAMPLED) {
		s->seen += s->seen < SAMPLED_FIRST;
		born[id] = clock_bytes;
		fifo[fifo_in++] = id;
	}
	return s->lives[0] + s->lives[1] < SITE_ENOUGH || s->lives[1] >= s->lives[0];
}

/* Events */

static u64 large_size(u32 size)
{
	return round_up((u64)size, PAGE_SIZE);
}

static void account(u32 id, int sign)
{
	struct kind *k;

	if (where[id] == NO_BLOCK) {
		large_bytes += sign * (s64)large_size(sizes[id]);
		return;
	}
	k = &kinds[spans[where[id] >> 8].kind];
	now.requested += sign * (s64)sizes[id];
	now.grains += sign * (s64)(grains(sizes[id]) * GRAIN);
	now.blocks += sign * (s64)k->size;
}

static void drop(u32 id)
{
	account(id, -1);
	if (where[id] != NO_BLOCK)
		block_give(where[id]);
	if (born[id]) {
		learn(id, clock_bytes - born[id] >= policy->young);
		born[id] = 0;
	}
}

static void add(u32 id, u32 size)
{
	sizes[id] = size;
	where[id] = NO_BLOCK;
	clock_bytes += size;
	if (size <= SMALL_MAX)
		where[id] = block_take(kind_get(size_for(size), life_for(id, size)));
	account(id, 1);
}

/* realloc() keeps what fits and leaves less than a quarter unused. */
static bool keeps(u32 old, u32 size)
{
	u32 have;

	if (where[old] == NO_BLOCK)
		return false;
	have = kinds[spans[where[old] >> 8].kind].size;
	return size <= have && size >= have - have / 4;
}

static void handle(const struct event *e)
{
	if (e->size == FREED) {
		drop(e->id);
	} else if (e->old == NO_ID) {
		add(e->id, e->size);
	} else if (keeps(e->old, e->size)) {
		account(e->old, -1);
		where[e->id] = where[e->old];
		sizes[e->id] = e->size;
		account(e->id, 1);
		born[e->old] = 0;	/* no longer a sample */
	} else {
		add(e->id, e->size);
		drop(e->old);
	}
}

/* Pages of a span with these blocks that must be there. */
static unsigned int pages_in(const struct kind *k, const u64 *bits)
{
	u64 pages = 0;
	unsigned int i;

	for (i = 0; i < k->blocks; i++)
		if (bits[i / 64] >> i % 64 & 1)
			pages |= (2ULL << (((i + 1) * k->size - 1) >> PAGE_SHIFT)) -
				 (1ULL << (i * k->size >> PAGE_SHIFT));
	return __builtin_popcountll(pages);
}

static struct mafc_matcher *matcher;

/* All of one kind at a time; @bits: a copy to work on. */
static void mesh(const struct kind *k, u32 n, u64 (*bits)[4], const u32 *next)
{
	u32 dst, src;
	unsigned int w;

	while (n && k->blocks > 1) {
		mafc_matcher_reset(matcher, k->blocks);
		for (; n; n = next[n])
			if (spans[n].live < k->blocks &&
			    mafc_matcher_add(matcher, n, bits[n]) == -ENOSPC)
				break;
		while (mafc_matcher_next(matcher, &dst, &src) || matcher->paused) {
			if (matcher->paused)
				continue;
			for (w = 0; w < 4; w++) {
				bits[dst][w] |= bits[src][w];
				bits[src][w] = 0;
			}
			mafc_matcher_done(matcher, true);
		}
	}
}

static void look(struct sample *out)
{
	u64 (*bits)[4] = zeroed(nspans + 1, sizeof(*bits));
	u32 *next = zeroed(nspans + 1, sizeof(*next));
	u32 *first = zeroed(KINDS, sizeof(*first)), n;
	unsigned int i;

	*out = now;
	out->large = large_bytes;
	for (n = nspans; n; n--) {
		struct span *s = &spans[n];

		if (!s->kind || !s->live)
			continue;
		memcpy(bits[n], s->bits, sizeof(*bits));
		out->held += (u64)pages_in(&kinds[s->kind], bits[n]) << PAGE_SHIFT;
		next[n] = first[s->kind];
		first[s->kind] = n;
	}
	for (i = 0; i < KINDS; i++)
		mesh(&kinds[i], first[i], bits, next);
	for (n = nspans; n; n--)
		if (spans[n].kind && spans[n].live)
			out->meshed += (u64)pages_in(&kinds[spans[n].kind], bits[n]) << PAGE_SHIFT;
	unmap(bits, nspans + 1, sizeof(*bits));
	unmap(next, nspans + 1, sizeof(*next));
	unmap(first, KINDS, sizeof(*first));
}

/* Live blocks by what was asked for; their part of the spans' rests. */
static void look_at_objects(struct sample *out, const u8 *live, bool weigh)
{
	double shares = 0;
	u32 id;

	for (id = 0; id < nobjects; id++) {
		struct kind *k;

		if (!live[id] || where[id] == NO_BLOCK)
			continue;
		k = &kinds[spans[where[id] >> 8].kind];
		shares += share(k->size, k->pages);
		if (weigh)
			weight[grains(sizes[id])]++;
	}
	out->shares = shares;
}

static void begin(const struct policy *p)
{
	policy = p;
	memset(kinds, 0, sizeof(kinds));
	memset(recents, 0, sizeof(recents));
	memset(class_pages, 0, sizeof(class_pages));
	memset(&now, 0, sizeof(now));
	nused = hand = nspans = free_span = fifo_in = fifo_out = 0;
	clock_bytes = room = pages_now = pages_most = large_bytes = slow_calls = 0;
	seed = 1;
	spans = zeroed(nobjects + 2, sizeof(*spans));
	sites = zeroed(SITES, sizeof(*sites));
	where = zeroed(nobjects, sizeof(*where));
	sizes = zeroed(nobjects, sizeof(*sizes));
	born = zeroed(nobjects, sizeof(*born));
	fifo = zeroed(nobjects, sizeof(*fifo));
}

static void end(void)
{
	unsigned int i;

	for (i = 0; i < nused; i++)
		unmap(kinds[used_kinds[i]].bin, BIN_MAX, sizeof(u64));
	unmap(spans, nobjects + 2, sizeof(*spans));
	unmap(sites, SITES, sizeof(*sites));
	unmap(where, nobjects, sizeof(*where));
	unmap(sizes, nobjects, sizeof(*sizes));
	unmap(born, nobjects, sizeof(*born));
	unmap(fifo, nobjects, sizeof(*fifo));
}

static void simulate(const struct policy *p, struct sample *out)
{
	u8 *live = zeroed(nobjects, 1);
	size_t i, s = 0;

	begin(p);
	for (i = 0; i < nevents; i++) {
		const struct event *e = &events[i];

		handle(e);
		live[e->id] = e->size != FREED;
		if (e->old != NO_ID)
			live[e->old] = 0;
		if (i + 1 == (s + 1) * nevents / SAMPLES) {
			look(&out[s]);
			look_at_objects(&out[s], live, p == policies);
			s++;
		}
	}
	end();
	unmap(live, nobjects, 1);
}

/* The best table with as many sizes as today's, for the weights of this very stream. */
static void find_hindsight(void)
{
	static double cost[NCLASSES][GRAINS + 1];
	static u16 from[NCLASSES][GRAINS + 1];
	double sum[GRAINS + 1] = { 0 };
	unsigned int n, g, f, i;

	for (g = 1; g <= GRAINS; g++)
		sum[g] = sum[g - 1] + weight[g] + 1e-6;
	for (n = 1; n < nclasses; n++)
		for (g = n; g <= GRAINS; g++) {
			double each = share(g * GRAIN, pages_for(g * GRAIN));

			cost[n][g] = 1e300;
			for (f = n - 1; f < g; f++) {
				double c = each * (sum[g] - sum[f]);

				c += n > 1 ? cost[n - 1][f] : f ? 1e300 : 0;
				if (c < cost[n][g]) {
					cost[n][g] = c;
					from[n][g] = f;
				}
			}
		}
	for (n = nclasses - 1, g = GRAINS; n; n--, g = f) {
		f = from[n][g];
		for (i = f + 1; i <= g; i++)
			hindsight[i] = g;
	}
}

/* The tables */

enum figure { REQUESTED, ROUNDED, SHARES, SMALL, HELD, MESHED };

static double figure_of(const struct sample *s, enum figure f)
{
	switch (f) {
	case REQUESTED:
		return s->requested;
	case ROUNDED:
		return s->grains;
	case SHARES:
		return s->shares;
	case SMALL:
		return s->held;
	case HELD:
		return s->held + s->large;
	default:
		return s->meshed + s->large;
	}
}

/* The mean over the samples, or the most at any. */
static double figure(unsigned int p, enum figure f, bool peak)
{
	double sum = 0, max = 0;
	unsigned int i;

	for (i = 0; i < SAMPLES; i++) {
		sum += figure_of(&results[p][i], f);
		max = MAX(max, figure_of(&results[p][i], f));
	}
	return peak ? max : sum / SAMPLES;
}

static double change(unsigned int p, enum figure f, bool peak)
{
	return 100 * (figure(p, f, peak) / figure(0, f, peak) - 1);
}

/* Of what blocks take (@f), how much nobody asked for; @peak: where most was asked for. */
static double internal(unsigned int p, enum figure f, bool peak)
{
	const struct sample *s = results[p];
	unsigned int i, at = 0;

	for (i = 0; i < SAMPLES; i++)
		if (s[i].requested > s[at].requested)
			at = i;
	return 100 * (1 - (peak ? s[at].requested / figure_of(&s[at], f) :
			   figure(p, REQUESTED, false) / figure(p, f, false)));
}

static void print_heads(unsigned int from, unsigned int to)
{
	for (; from < to; from++)
		printf(" %6s", policies[from].head);
}

static void print_changes(unsigned int from, unsigned int to, enum figure f, bool peak)
{
	for (; from < to; from++)
		printf(" %6.2f", change(from, f, peak));
}

static void print_sizes(const char *name)
{
	unsigned int peak, i;

	for (peak = 0; peak < 2; peak++) {
		printf("%-9s %s %6.2f ", peak ? "" : name, peak ? "peak" : "mean",
		       figure(0, HELD, peak) / 1048576);
		for (i = 0; i < PLACES; i++)
			printf(" %6.2f", internal(i, SHARES, peak));
		printf(" %6.2f ", internal(0, ROUNDED, peak));
		print_changes(1, PLACES, HELD, peak);
		printf(" ");
		print_changes(1, PLACES, MESHED, peak);
		printf("\n");
	}
}

static void print_places(const char *name)
{
	unsigned int peak;

	for (peak = 0; peak < 2; peak++) {
		double held = figure(0, HELD, peak), meshed = figure(0, MESHED, peak);

		printf("%-9s %s held   %6.2f ", peak ? "" : name, peak ? "peak" : "mean",
		       held / 1048576);
		print_changes(PLACES, POLICIES, HELD, peak);
		printf("\n%14s meshed %6.2f ", "", 100 * (meshed / held - 1));
		print_changes(PLACES, POLICIES, MESHED, peak);
		printf("\n");
	}
}

static void print_plain(const char *name)
{
	static const char *const names[] = {
		"requested", "rounded", "shares", "small", "held", "meshed",
	};
	unsigned int p, f;

	for (p = 0; p < POLICIES; p++)
		for (f = REQUESTED; f <= MESHED; f++)
			printf("%s %s %s %.0f %.0f\n", name, policies[p].name, names[f],
			       figure(p, f, false), figure(p, f, true));
}

/*
 * How good the simulation is: pages with small blocks that the program has, mean over the samples,
 * simulated, and as malloc() places them: to be run with the library preloaded.
 */
static u64 pages_touched(const uintptr_t *at)
{
	static const u64 range = 1ULL << 30;	/* pages: more than the library reserves */
	u8 *seen = zeroed(range, 1);
	uintptr_t page, low = ~0UL;
	u64 n = 0;
	u32 id;

	for (id = 0; id < nobjects; id++)
		if (at[id] && sizes[id] <= SMALL_MAX)
			low = MIN(low, at[id] >> PAGE_SHIFT);
	for (id = 0; id < nobjects; id++) {
		if (!at[id] || sizes[id] > SMALL_MAX)
			continue;
		page = at[id] >> PAGE_SHIFT;
		for (; page <= (at[id] + MAX(sizes[id], 1U) - 1) >> PAGE_SHIFT; page++)
			if (page - low < range)
				n += !seen[page - low]++;
	}
	unmap(seen, range, 1);
	return n;
}

static void compare(const char *name)
{
	uintptr_t *real = zeroed(nobjects, sizeof(*real)), *at = zeroed(nobjects, sizeof(*at));
	u64 pages[2] = { 0 };
	size_t i, s = 0;
	u32 id;

	begin(&policies[0]);
	for (i = 0; i < nevents; i++) {
		const struct event *e = &events[i];

		handle(e);
		if (e->size == FREED) {
			free((void *)real[e->id]);
			real[e->id] = 0;
		} else if (e->old == NO_ID) {
			real[e->id] = (uintptr_t)malloc(e->size);
		} else {
			real[e->id] = (uintptr_t)realloc((void *)real[e->old], MAX(e->size, 1U));
			real[e->old] = 0;
		}
		if (i + 1 != (s + 1) * nevents / SAMPLES)
			continue;
		s++;
		/* Spans side by side, 32 pages for each. */
		for (id = 0; id < nobjects; id++) {
			const struct kind *k = real[id] && where[id] != NO_BLOCK ?
					       &kinds[spans[where[id] >> 8].kind] : NULL;

			at[id] = k ? ((where[id] >> 8) << 17) + (where[id] & 255) * k->size : 0;
		}
		pages[0] += pages_touched(at);
		pages[1] += pages_touched(real);
	}
	printf("%-9s simulated %8.2f MiB, placed %8.2f MiB, %.2f %%\n", name,
	       pages[0] / 256. / SAMPLES, pages[1] / 256. / SAMPLES,
	       100. * pages[0] / pages[1] - 100);
	end();
}

static void name_of(const char *file, char *name, size_t size)
{
	const char *base = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;

	snprintf(name, size, "%.*s", (int)strcspn(base, "."), base);
}

static void read_or_end(const char *file)
{
	if (stream_read(file))
		return;
	fprintf(stderr, "sim: %s: no stream, or too short\n", file);
	exit(1);
}

static void simulate_all(void)
{
	unsigned int i;

	memset(weight, 0, sizeof(weight));
	for (i = 0; i < POLICIES; i++) {
		simulate(&policies[i], results[i]);
		if (!i)
			find_hindsight();
	}
}

/* The second table is printed when the first is complete. */
static struct sample (*kept)[POLICIES][SAMPLES];

static void print_tables(int n, char **files)
{
	char name[32];
	int i;

	kept = zeroed(n, sizeof(*kept));
	printf("sizes: MiB held today; internal fragmentation, %%, with the rest of the span;\n"
	       "held, then meshed, %% over today's\n"
	       "%-9s %4s %6s ", "stream", "", "MiB");
	print_heads(0, PLACES);
	printf(" %6s ", "round");
	print_heads(1, PLACES);
	printf(" ");
	print_heads(1, PLACES);
	printf("\n");
	for (i = 0; i < n; i++) {
		name_of(files[i], name, sizeof(name));
		read_or_end(files[i]);
		simulate_all();
		print_sizes(name);
		fflush(stdout);
		memcpy(kept[i], results, sizeof(results));
		stream_forget();
	}
	printf("\nplaces: held, MiB today, the others %% over that; after meshing, today %% over held,\n"
	       "the others %% over that\n"
	       "%-9s %4s %6s %6s ", "stream", "", "", "today");
	print_heads(PLACES, POLICIES);
	printf("\n");
	for (i = 0; i < n; i++) {
		name_of(files[i], name, sizeof(name));
		memcpy(results, kept[i], sizeof(results));
		print_places(name);
	}
}

int main(int argc, char **argv)
{
	bool real = argc > 1 && !strcmp(argv[1], "--real");
	bool plain = argc > 1 && !strcmp(argv[1], "--plain");
	char name[32];
	int i;

	classes_init(MEDIUM_MAX / 2);
	matcher = zeroed(1, mafc_matcher_size(MAFC_MATCHER_SPANS_MAX));
	mafc_matcher_init(matcher, MAFC_MATCHER_SPANS_MAX);
	if (!real && !plain)
		print_tables(argc - 1, argv + 1);
	for (i = 2; i < argc && (real || plain); i++) {
		name_of(argv[i], name, sizeof(name));
		read_or_end(argv[i]);
		if (real) {
			compare(name);
		} else {
			simulate_all();
			print_plain(name);
		}
		stream_forget();
	}
	return 0;
}
