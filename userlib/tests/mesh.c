// SPDX-License-Identifier: Apache-2.0
/*
 * mesh.c - the kernel's side of the span protocol, played by a thread
 *
 * The small region lies on a file in memory (hooks.h).  A thread does to
 * it what the module does to real heaps, by the rules of uapi/mafc.h: it meshes
 * spans (two addresses, one file page), dissolves them, drops free pages, while
 * other threads allocate, check and free.  Taking a page away is mprotect here,
 * the wait in the fault handler is a signal handler that tries again.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../src/os.h"
#include "../src/small.h"
#include "ktap.h"

void *mafc_malloc(size_t n);
void mafc_free(void *p);
int mafc_malloc_trim(size_t pad);
static int mafc_test_file;

#define WORKERS	3
#define SLOTS	6000
#define SECONDS_MAX 60

static atomic_bool stop;
static atomic_int failures;
static unsigned long meshed, dissolved, dropped, called_off, buried;
static char *alias;	/* the whole file, always accessible */

#define at(page)	((char *)heap.small + (size_t)(page) * PAGE_SIZE)

bool mafc_test_map(const struct reserve *small)
{
	mafc_test_file = memfd_create("mafc", MFD_CLOEXEC);
	return mafc_test_file >= 0 && !ftruncate(mafc_test_file, small->size) &&
	       mmap(small->base, small->size, PROT_NONE, MAP_SHARED | MAP_FIXED, mafc_test_file, 0) !=
	       MAP_FAILED;
}

/* Let the others run, now and then. */
void mafc_test_race(void)
{
	static _Thread_local unsigned seed = 1;

	if (rand_r(&seed) % 64 == 0)
		sched_yield();
}

/* A page in motion: come back until it is there.  For too long: a real fault. */
static void on_fault(int sig, siginfo_t *info, void *context)
{
	static _Thread_local void *last;
	static _Thread_local long times;

	(void)sig, (void)context;
	times = info->si_addr == last ? times + 1 : 0;
	last = info->si_addr;
	if (!in_small(last) || times > 2000000)
		signal(SIGSEGV, SIG_DFL);
	sched_yield();
}

static bool change(struct mafc_span *s, uint32_t from, uint32_t to)
{
	uint32_t word = __atomic_load_n(&s->state, __ATOMIC_SEQ_CST);

	while (MAFC_SPAN_STATE(word) == from)
		if (__atomic_compare_exchange_n(&s->state, &word,
						(word & ~0xffU) | to, false,
						__ATOMIC_SEQ_CST,
						__ATOMIC_SEQ_CST))
			return true;
	return false;
}

static bool is_empty(struct mafc_span *s)
{
	uint64_t any = 0;
	int i;

	for (i = 0; i < 4; i++)
		any |= __atomic_load_n(&s->bitmap[i], __ATOMIC_SEQ_CST);
	return !any;
}

static void map_pages(uint32_t page, uint32_t file_page, unsigned n)
{
	if (mmap(at(page), n * PAGE_SIZE, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED, mafc_test_file,
		 (off_t)file_page * PAGE_SIZE) == MAP_FAILED)
		abort();
}

static void drop_file_pages(uint32_t page, unsigned n)
{
	fallocate(mafc_test_file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		  (off_t)page * PAGE_SIZE, (off_t)n * PAGE_SIZE);
}

/* The span is no more: NONE, or DEAD while the library has it in a list. */
static void bury(struct mafc_span *s, uint32_t from)
{
	uint32_t word = __atomic_load_n(&s->state, __ATOMIC_SEQ_CST), to;
	uint32_t page = s - heap.spans, i, n = s->npages;

	do {
		if (MAFC_SPAN_STATE(word) != from)
			abort();
		to = word & MAFC_SPAN_LISTED ?
		     MAFC_SPAN_DEAD | MAFC_SPAN_LISTED : MAFC_SPAN_NONE;
		if (to == MAFC_SPAN_NONE)
			for (i = 1; i < n; i++)
				store(&s[i].state, MAFC_SPAN_NONE);
	} while (!__atomic_compare_exchange_n(&s->state, &word, to, false,
					      __ATOMIC_SEQ_CST,
					      __ATOMIC_SEQ_CST));
	buried++;
	if (to == MAFC_SPAN_NONE)
		for (i = 0; i < n; i++)
			__atomic_fetch_and(&heap.small_map[(page + i) / 64],
					   ~(1ULL << (page + i) % 64),
					   __ATOMIC_SEQ_CST);
}

/* Step 1: claim B's places in A; false, and undone, where one is taken. */
static bool claim_places(struct mafc_span *a, uint64_t *live)
{
	uint64_t old[4];
	bool clash = false;
	int i;

	for (i = 0; i < 4; i++) {
		old[i] = __atomic_fetch_or(&a->bitmap[i], live[i],
					   __ATOMIC_SEQ_CST);
		clash |= (old[i] & live[i]) != 0;
	}
	for (i = 0; clash && i < 4; i++)
		__atomic_fetch_and(&a->bitmap[i], ~(live[i] & ~old[i]),
				   __ATOMIC_SEQ_CST);
	return !clash;
}

static void copy_blocks(uint32_t a, uint32_t b, const uint64_t *live)
{
	size_t size = heap.spans[b].block_size;
	unsigned i;

	for (i = 0; i < heap.spans[b].nblocks; i++)
		if (live[i / 64] >> i % 64 & 1)
			memcpy(alias + a * PAGE_SIZE + i * size,
			       alias + b * PAGE_SIZE + i * size, size);
}

/* Both are BUSY. */
static bool mesh_busy(struct mafc_span *a, struct mafc_span *b)
{
	uint32_t pa = a - heap.spans, pb = b - heap.spans;
	uint64_t live[4], left[4];
	int i;

	sched_yield();
	for (i = 0; i < 4; i++)
		live[i] = __atomic_load_n(&b->bitmap[i], __ATOMIC_SEQ_CST);
	if (!claim_places(a, live))
		return false;
	sched_yield();
	mprotect(at(pb), b->npages * PAGE_SIZE, PROT_NONE);
	__atomic_fetch_or(&a->state, MAFC_SPAN_ROOT, __ATOMIC_SEQ_CST);
	__atomic_store_n(&b->canonical, pa, __ATOMIC_SEQ_CST);
	mafc_test_race();
	for (i = 0; i < 4; i++) {
		left[i] = __atomic_exchange_n(&b->bitmap[i], 0,
					      __ATOMIC_SEQ_CST);
		__atomic_fetch_and(&a->bitmap[i], ~(live[i] & ~left[i]),
				   __ATOMIC_SEQ_CST);
	}
	copy_blocks(pa, pb, left);
	map_pages(pb, pa, b->npages);
	drop_file_pages(pb, b->npages);
	return true;
}

static void mesh(struct mafc_span *a, struct mafc_span *b)
{
	if (!change(a, MAFC_SPAN_IDLE, MAFC_SPAN_BUSY))
		return;
	if (change(b, MAFC_SPAN_IDLE, MAFC_SPAN_BUSY)) {
		if (a->block_size == b->block_size && !is_empty(b) &&
		    !(load(&b->state) & MAFC_SPAN_ROOT) && mesh_busy(a, b)) {
			meshed++;
			change(b, MAFC_SPAN_BUSY, MAFC_SPAN_MESHED);
		} else {
			called_off++;
			change(b, MAFC_SPAN_BUSY, MAFC_SPAN_IDLE);
		}
	}
	change(a, MAFC_SPAN_BUSY, MAFC_SPAN_IDLE);
}

/* A root without live blocks: all that is meshed into it, and it, are free. */
static void dissolve(struct mafc_span *a)
{
	uint32_t pa = a - heap.spans, pb;

	if (!change(a, MAFC_SPAN_IDLE, MAFC_SPAN_BUSY))
		return;
	if (!is_empty(a)) {
		change(a, MAFC_SPAN_BUSY, MAFC_SPAN_IDLE);
		return;
	}
	for (pb = 1; pb < pages_top(); pb++) {
		struct mafc_span *b = &heap.spans[pb];

		if (MAFC_SPAN_STATE(load(&b->state)) != MAFC_SPAN_MESHED ||
		    b->canonical != pa)
			continue;
		map_pages(pb, pb, b->npages);
		__atomic_store_n(&b->canonical, pb, __ATOMIC_SEQ_CST);
		bury(b, MAFC_SPAN_MESHED);
		dissolved++;
	}
	__atomic_fetch_and(&a->state, ~MAFC_SPAN_ROOT, __ATOMIC_SEQ_CST);
	change(a, MAFC_SPAN_BUSY, MAFC_SPAN_IDLE);
}

/* No block in it: the page is dropped without asking, whoever holds the span. */
static void drop_page(struct mafc_span *s)
{
	uint32_t page = s - heap.spans;

	if (s->npages != 1 || !is_empty(s))
		return;
	mprotect(at(page), PAGE_SIZE, PROT_NONE);
	if (is_empty(s)) {
		drop_file_pages(page, 1);
		dropped++;
	}
	mprotect(at(page), PAGE_SIZE, PROT_READ | PROT_WRITE);
}

static void dissolve_empty(struct mafc_span *s)
{
	if (!change(s, MAFC_SPAN_IDLE, MAFC_SPAN_BUSY))
		return;
	if (is_empty(s) && !(load(&s->state) & MAFC_SPAN_ROOT))
		bury(s, MAFC_SPAN_BUSY);
	else
		change(s, MAFC_SPAN_BUSY, MAFC_SPAN_IDLE);
}

static bool overlap(struct mafc_span *s, struct mafc_span *t)
{
	int i;

	for (i = 0; i < 4; i++)
		if (load(&s->bitmap[i]) & load(&t->bitmap[i]))
			return true;
	return false;
}

static struct mafc_span *partner(uint32_t page, unsigned *seed)
{
	struct mafc_span *s = &heap.spans[page], *t;
	uint32_t top = pages_top(), i, p = rand_r(seed) % top;

	for (i = 0; i < 200; i++, p = p + 1 < top ? p + 1 : 1) {
		t = &heap.spans[p];
		if (t != s && t->block_size == s->block_size &&
		    MAFC_SPAN_STATE(load(&t->state)) == MAFC_SPAN_IDLE &&
		    (!overlap(s, t) || rand_r(seed) % 512 == 0))
			return t;
	}
	return NULL;
}

static void *kernel(void *arg)
{
	unsigned seed = (uintptr_t)arg;
	struct mafc_span *s, *t;
	uint32_t page, state;

	while (!stop) {
		page = rand_r(&seed) % pages_top();
		s = &heap.spans[page];
		state = load(&s->state);
		if (MAFC_SPAN_STATE(state) != MAFC_SPAN_IDLE)
			continue;
		if (state & MAFC_SPAN_ROOT && is_empty(s))
			dissolve(s);
		else if (is_empty(s) && rand_r(&seed) % 2)
			dissolve_empty(s);
		else if (is_empty(s) && !(state & MAFC_SPAN_ROOT))
			drop_page(s);
		else if ((t = partner(page, &seed)))
			mesh(s, t);
	}
	return NULL;
}

struct block {
	uint64_t *p;
	unsigned words;
	uint64_t seed;
};

static void check(struct block *b)
{
	unsigned i;

	for (i = 0; i < b->words; i++)
		if (b->p[i] != b->seed + i) {
			printf("# %p word %u of %u: %lx for %lx\n", b->p, i,
			       b->words, b->p[i], b->seed + i);
			failures++;
			return;
		}
	/* Write all of it again, to other values. */
	b->seed += 0x1000003;
	for (i = 0; i < b->words; i++)
		b->p[i] = b->seed + i;
}

static void *worker(void *arg)
{
	struct block *blocks = calloc(SLOTS, sizeof(*blocks)), *b;
	unsigned seed = (uintptr_t)arg, i;
	long n = 0;

	while (!stop && !failures) {
		/* Phases: fill up, thin out, so that there is what to mesh. */
		unsigned fill = n / (SLOTS * 8) % 2 ? 2 : 7;

		b = &blocks[rand_r(&seed) % SLOTS];
		if (b->p) {
			check(b);
			if ((unsigned)rand_r(&seed) % 8 >= fill) {
				mafc_free(b->p);
				b->p = NULL;
			}
		} else if ((unsigned)rand_r(&seed) % 8 < fill) {
			size_t size = rand_r(&seed) % 16 ?
				16U << rand_r(&seed) % 6 : 700 * (seed % 24 + 1);

			b->p = mafc_malloc(size);
			b->words = size / 8;
			b->seed = rand_r(&seed);
			for (i = 0; i < b->words; i++)
				b->p[i] = b->seed + i;
		}
		if (++n % 20000 == 0)
			mafc_malloc_trim(0);
	}
	for (i = 0; i < SLOTS; i++)
		if (blocks[i].p) {
			check(&blocks[i]);
			mafc_free(blocks[i].p);
		}
	free(blocks);
	return NULL;
}

static bool enough(void)
{
	return load(&meshed) > 5000 && load(&dissolved) > 500 &&
	       load(&dropped) > 100 && load(&buried) > 500;
}

static bool meshed_under_threads(void)
{
	struct sigaction sa = { .sa_flags = SA_SIGINFO | SA_NODEFER };
	pthread_t t[WORKERS], k;
	uint32_t page;
	int i, left = 0;

	mafc_free(mafc_malloc(1));
	alias = mmap(NULL, heap.small_bytes, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_NORESERVE, mafc_test_file, 0);
	CHECK(alias != MAP_FAILED);
	sa.sa_sigaction = on_fault;
	sigaction(SIGSEGV, &sa, NULL);
	for (i = 0; i < WORKERS; i++)
		pthread_create(&t[i], NULL, worker, (void *)(uintptr_t)(i + 1));
	pthread_create(&k, NULL, kernel, (void *)99);
	for (i = 0; i < SECONDS_MAX * 10 && !failures && !enough(); i++)
		nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
	stop = true;
	pthread_join(k, NULL);
	for (i = 0; i < WORKERS; i++)
		pthread_join(t[i], NULL);
	printf("# meshed %lu dissolved %lu dropped %lu buried %lu off %lu top %u\n",
	       meshed, dissolved, dropped, buried, called_off, pages_top());
	CHECK(!failures);
	CHECK(enough());
	/* All blocks are free: no bit may have been lost on its way. */
	mafc_malloc_trim(0);
	for (page = 1; page < pages_top(); page++)
		left += !is_empty(&heap.spans[page]);
	printf("# spans with bits left: %d\n", left);
	CHECK(!left);
	return true;
}

static const struct ktap_test tests[] = {
	{ "spans meshed and dissolved under threads", meshed_under_threads },
};
KTAP_MAIN(tests)
