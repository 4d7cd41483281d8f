// SPDX-License-Identifier: Apache-2.0
/*
 * fuzz.c - random calls by many threads, everything checked
 *
 * Every block is filled with a pattern of its own, end to end, so that blocks
 * that overlap, lose their contents or are shorter than said are found.  Blocks
 * travel between threads.  Run preloaded, or linked with MAFC_PREFIX.
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "ktap.h"

#ifdef MAFC_PREFIX
#define API(name) mafc_##name
void *API(malloc)(size_t n);
void *API(calloc)(size_t m, size_t n);
void *API(realloc)(void *p, size_t n);
void *API(reallocarray)(void *p, size_t m, size_t n);
void *API(memalign)(size_t a, size_t n);
void *API(aligned_alloc)(size_t a, size_t n);
int API(posix_memalign)(void **p, size_t a, size_t n);
void *API(valloc)(size_t n);
void API(free)(void *p);
size_t API(malloc_usable_size)(void *p);
int API(malloc_trim)(size_t pad);
#else
#define API(name) name
#endif

#define THREADS	8
#define SLOTS	2000
#define SHARED	256

struct slot {
	unsigned char *p;
	size_t size;
	unsigned char seed;
};

static _Atomic(struct slot *) shared[SHARED];
static atomic_int failures;
static long ops = 125000;

static void fill(struct slot *s, size_t from)
{
	for (size_t i = from; i < s->size; i++)
		s->p[i] = (unsigned char)(s->seed + i * 31);
}

static void verify(const struct slot *s, size_t size)
{
	for (size_t i = 0; i < size; i++)
		if (s->p[i] != (unsigned char)(s->seed + i * 31)) {
			printf("# %p[%zu] of %zu\n", s->p, i, s->size);
			failures++;
			return;
		}
}

static size_t some_size(unsigned *seed)
{
	unsigned r = rand_r(seed) % 1000;

	if (r < 700)
		return rand_r(seed) % 512;
	if (r < 950)
		return rand_r(seed) % 20000;
	if (r < 998)
		return rand_r(seed) % 300000;
	return rand_r(seed) % (4 << 20);
}

static void get(struct slot *s, unsigned *seed)
{
	size_t align = 16, i;
	void *p = NULL;

	s->size = some_size(seed);
	s->seed = rand_r(seed);
	switch (rand_r(seed) % 12) {
	case 0:
		s->p = API(calloc)(1, s->size);
		for (i = 0; i < s->size; i++)
			if (s->p[i]) {
				printf("# calloc: %p[%zu] of %zu\n", s->p, i,
				       s->size);
				failures++;
				break;
			}
		break;
	case 1:
		align = 1UL << rand_r(seed) % 14;
		s->p = API(memalign)(align, s->size);
		break;
	case 2:
		align = 1UL << rand_r(seed) % 14;
		s->p = API(aligned_alloc)(align, s->size);
		break;
	case 3:
		align = 8UL << rand_r(seed) % 11;
		if (API(posix_memalign)(&p, align, s->size))
			failures++;
		s->p = p;
		break;
	case 4:
		s->p = API(reallocarray)(NULL, s->size / 3 + 1, 3);
		break;
	case 5:
		if (rand_r(seed) % 8 == 0)
			align = 4096;
		s->p = align == 4096 ? API(valloc)(s->size) :
		       API(realloc)(NULL, s->size);
		break;
	default:
		s->p = API(malloc)(s->size);
	}
	if (!s->p || (uintptr_t)s->p % align ||
	    API(malloc_usable_size)(s->p) < s->size) {
		failures++;
		return;
	}
	/* All of what may be used, some of the time. */
	if (rand_r(seed) % 4 == 0)
		s->size = API(malloc_usable_size)(s->p);
	fill(s, 0);
}

static void put(struct slot *s)
{
	verify(s, s->size);
	API(free)(s->p);
	s->p = NULL;
}

static void change(struct slot *s, unsigned *seed)
{
	size_t old = s->size;

	s->size = some_size(seed) + 1;
	s->p = rand_r(seed) % 4 ? API(realloc)(s->p, s->size) :
	       API(reallocarray)(s->p, 1, s->size);
	if (!s->p || API(malloc_usable_size)(s->p) < s->size) {
		failures++;
		s->p = NULL;
		return;
	}
	verify(s, old < s->size ? old : s->size);
	fill(s, 0);
}

/* Swap a block with whatever another thread has left. */
static void swap(struct slot *s, unsigned *seed)
{
	static _Thread_local struct slot boxes[SHARED];
	int i = rand_r(seed) % SHARED;
	struct slot *mine = &boxes[i], *theirs;

	theirs = atomic_exchange(&shared[i], NULL);
	if (theirs) {
		struct slot got = *theirs;

		/* Hand the empty box back by clearing it. */
		__atomic_store_n(&theirs->p, NULL, __ATOMIC_RELEASE);
		put(&got);
		return;
	}
	if (__atomic_load_n(&mine->p, __ATOMIC_ACQUIRE))
		return;
	*mine = *s;
	s->p = NULL;
	atomic_store(&shared[i], mine);
}

static void *fuzz(void *arg)
{
	struct slot *slots = calloc(SLOTS, sizeof(*slots)), *s;
	unsigned seed = (uintptr_t)arg;
	long i;

	for (i = 0; i < ops && !failures; i++) {
		s = &slots[rand_r(&seed) % SLOTS];
		if (!s->p)
			get(s, &seed);
		else if (rand_r(&seed) % 8 == 0)
			change(s, &seed);
		else if (rand_r(&seed) % 8 == 0)
			swap(s, &seed);
		else
			put(s);
		if (i % 50000 == 49999)
			API(malloc_trim)(0);
	}
	for (i = 0; i < SLOTS; i++)
		if (slots[i].p)
			put(&slots[i]);
	free(slots);
	return NULL;
}

/* A thread's boxes must outlive it: nobody ends before all are done. */
static pthread_barrier_t done;

static void *fuzz_thread(void *arg)
{
	fuzz(arg);
	pthread_barrier_wait(&done);
	return NULL;
}

static bool random_calls(void)
{
	pthread_t t[THREADS];
	int i;

	pthread_barrier_init(&done, NULL, THREADS);
	for (i = 0; i < THREADS; i++)
		CHECK(!pthread_create(&t[i], NULL, fuzz_thread,
				      (void *)(uintptr_t)(i + 1)));
	for (i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	CHECK(!failures);
	return true;
}

static const struct ktap_test tests[] = {
	{ "random calls by 8 threads", random_calls },
};

int main(int argc, char **argv)
{
	if (argc > 1)
		ops = atol(argv[1]) / THREADS;
	return ktap_run(tests, 1);
}
