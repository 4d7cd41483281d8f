// SPDX-License-Identifier: Apache-2.0
/*
 * sites.c - samples of who has what (MAFC_SITES), seen from inside
 *
 * Linked with the library's objects, names prefixed.  A block that was not freed must be found in
 * the table with its chance, a freed one never, and by the stack of the one who has it.
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../src/small.h"
#include "ktap.h"

void *mafc_malloc(size_t n);
void *mafc_calloc(size_t m, size_t n);
void *mafc_realloc(void *p, size_t n);
void *mafc_memalign(size_t a, size_t n);
void mafc_free(void *p);
size_t mafc_malloc_usable_size(void *p);
int mafc_malloc_trim(size_t pad);

#define N		200000
#define INTERVAL	1024	/* bytes; MAFC_SITES=1 */

static void *blocks[N];

/* What the table says of the program's blocks: how many, and what they stand for. */
struct sum {
	size_t n, weight;
};

/* Counts records whose stack goes through the function [@from, @to), or all; none may be odd. */
static struct sum sum_of(const void *from, size_t length)
{
	struct sum sum = { 0 };
	const struct site *s;
	unsigned i, f;

	for (s = sites->records + 1; s < sites->records + sites->used; s++) {
		if (!s->nframes)
			continue;
		sum.n += s->seq % 2 ? 1000000 : 0;
		for (f = 0; from && f < s->nframes; f++)
			if (s->frames[f] - (uintptr_t)from < length)
				break;
		if (from && f == s->nframes)
			continue;
		sum.n++;
		sum.weight += s->weight;
	}
	for (i = 1; i < sites->used && sum.n < 1000000; i++)
		if (sites->records[i].addr && in_small((void *)sites->records[i].addr) &&
		    heap.page_class[small_page((void *)sites->records[i].addr)])
			sum.n = 2000000;	/* a free of this block would not be seen */
	return sum;
}

static const struct site *record_of(const void *p)
{
	for (unsigned i = 1; i < sites->used; i++)
		if (sites->records[i].addr == (uintptr_t)p && sites->records[i].nframes)
			return &sites->records[i];
	return NULL;
}

static bool near(size_t have, size_t want, unsigned percent)
{
	printf("# %zu of %zu\n", have, want);
	return have >= want / 100 * (100 - percent) && have <= want / 100 * (100 + percent);
}

static bool none_left(void)
{
	for (unsigned i = 0; i < N; i++) {
		mafc_free(blocks[i]);
		blocks[i] = NULL;
	}
	CHECK(sum_of(NULL, 0).n == 0);
	/* Nor are there any that wait in caches, and each page is as it was. */
	mafc_malloc_trim(0);
	for (unsigned i = 1; i < sites->used; i++)
		CHECK(!sites->records[i].addr);
	for (unsigned i = 1; i < pages_top(); i++)
		CHECK(heap.page_class[i] || !heap.spans[i].size_class);
	return true;
}

static bool comes_and_goes(void)
{
	static const size_t sizes[] = { 16, 100, 512, 3000, 16384, 20000, 100000, 500000 };
	size_t bytes, i, s, n;

	for (s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
		n = 8000000 / sizes[s];
		n = n < N ? n : N;
		for (i = bytes = 0; i < n; i++) {
			blocks[i] = mafc_malloc(sizes[s]);
			memset(blocks[i], i, sizes[s]);
			bytes += mafc_malloc_usable_size(blocks[i]);
		}
		CHECK(near(sum_of(NULL, 0).weight, bytes, sizes[s] < 100000 ? 5 : 1));
		for (i = 0; i < n; i++)
			CHECK(((unsigned char *)blocks[i])[sizes[s] - 1] == (unsigned char)i);
		/* Half of them, in no order. */
		for (i = 0; i < n; i++)
			if (i * 2654435761u >> 15 & 1) {
				bytes -= mafc_malloc_usable_size(blocks[i]);
				mafc_free(blocks[i]);
				blocks[i] = NULL;
			}
		CHECK(near(sum_of(NULL, 0).weight, bytes, 10));
		CHECK(none_left());
	}
	return true;
}

/* So long that no other function lies within. */
#define LENGTH_OF_CODE	256
#define OWN_CODE	__attribute__((__noinline__, aligned(LENGTH_OF_CODE)))
static OWN_CODE void *keeps(size_t size)
{
	void *p = mafc_malloc(size);

	__asm__ volatile("" : "+r"(p));
	return p;
}

static OWN_CODE void borrows(size_t size)
{
	void *p = mafc_malloc(size);

	__asm__ volatile("" : "+r"(p));
	mafc_free(p);
}

static OWN_CODE void next_function(void)
{
	__asm__ volatile("");
}

/* What is freed at once always comes first to a block that is kept afterwards. */
static bool rhythm(void)
{
	size_t i, before = sum_of(NULL, 0).n;

	next_function();
	CHECK(before == 0);
	for (i = 0; i < N / 4; i++) {
		borrows(80);
		blocks[i] = keeps(80);
		if (i % 16 == 0)
			borrows(80);
	}
	CHECK(near(sum_of((void *)keeps, LENGTH_OF_CODE).weight, N / 4 * 80, 10));
	CHECK(sum_of((void *)borrows, LENGTH_OF_CODE).n == 0);
	return none_left();
}

static bool realloc_in_place(void)
{
	const struct site *s;
	size_t i, kept = 0, moved = 0;
	void *p, *q;

	for (i = 0; i < N / 4; i++) {
		p = blocks[i] = mafc_malloc(200);
		if (!record_of(p))
			continue;
		CHECK(mafc_malloc_usable_size(p) >= 200);
		q = mafc_realloc(p, 190);
		CHECK(q == p);
		s = record_of(q);
		CHECK(s && s->size == mafc_malloc_usable_size(q));
		kept++;
		blocks[i] = mafc_realloc(q, 900);
		CHECK(blocks[i] != q && !record_of(q));
		moved += !!record_of(blocks[i]);
		if (kept == 500)
			break;
	}
	CHECK(kept == 500 && moved > 0 && moved < kept);
	p = mafc_malloc(1 << 20);
	CHECK(record_of(p) && record_of(p)->weight >> 10 == 1024);
	p = mafc_realloc(p, 3 << 20);
	CHECK(record_of(p) && record_of(p)->size == 3 << 20);
	mafc_free(p);
	p = mafc_memalign(1 << 16, 100000);
	CHECK(record_of(p));
	mafc_free(p);
	p = mafc_calloc(100, 1000);
	CHECK(record_of(p));
	mafc_free(p);
	return none_left();
}

/* Allocates all, the main thread frees them: its cache has others' blocks then. */
static void *fill_some(void *arg)
{
	size_t from = (uintptr_t)arg * (N / 8);

	for (size_t i = from; i < from + N / 8; i++) {
		blocks[i] = keeps(48);
		if (i % 3 == 0)
			borrows(48);
	}
	return NULL;
}

static void *free_some(void *arg)
{
	for (size_t i = (uintptr_t)arg; i < N; i += 8) {
		mafc_free(blocks[i]);
		blocks[i] = i % 64 < 8 ? keeps(48) : NULL;
	}
	return NULL;
}

static bool threads(void)
{
	pthread_t t[8];
	unsigned i, round;

	for (round = 0; round < 2; round++) {
		for (i = 0; i < 8; i++)
			CHECK(!pthread_create(&t[i], NULL, round ? free_some : fill_some,
					      (void *)(uintptr_t)i));
		for (i = 0; i < 8; i++)
			pthread_join(t[i], NULL);
		CHECK(near(sum_of((void *)keeps, LENGTH_OF_CODE).weight, N * 48 / (round ? 8 : 1),
			   10));
	}
	CHECK(sum_of((void *)borrows, LENGTH_OF_CODE).n == 0);
	return none_left();
}

static volatile bool stop;

static void *churn(void *arg)
{
	while (!stop)
		borrows(64);
	return arg;
}

static bool fork_with_threads(void)
{
	pthread_t t[4];
	unsigned i, round;
	int status;
	pid_t pid;

	for (i = 0; i < N / 8; i++)
		blocks[i] = keeps(100);
	for (i = 0; i < 4; i++)
		CHECK(!pthread_create(&t[i], NULL, churn, NULL));
	for (round = 0; round < 50; round++) {
		pid = fork();
		if (!pid) {
			size_t n = sum_of((void *)keeps, LENGTH_OF_CODE).n;

			for (i = 0; i < N / 8; i++)
				mafc_free(blocks[i]);
			_exit(n && !sum_of((void *)keeps, LENGTH_OF_CODE).n ? 0 : 1);
		}
		CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	}
	stop = true;
	for (i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	CHECK(near(sum_of((void *)keeps, LENGTH_OF_CODE).weight, N / 8 * 112, 10));
	return none_left();
}

/* More than there are records. */
static bool full(void)
{
	size_t i;

	for (i = 0; i < 40000; i++)
		blocks[i] = mafc_malloc(1024);
	printf("# %u lost, %u used\n", sites->lost, sites->used);
	CHECK(sites->lost > 10000 && sites->used == SITES_MAX);
	return none_left();
}

/* The second free of a block that was chosen is found at once, wherever it waits. */
static bool double_free(void)
{
	char text[256] = "";
	int fds[2], status, i;
	pid_t pid;

	CHECK(!pipe(fds));
	pid = fork();
	if (!pid) {
		dup2(fds[1], 2);
		for (i = 0; i < N / 8; i++)
			blocks[i] = mafc_malloc(200);
		for (i = 0; i < N / 8; i++)
			if (record_of(blocks[i])) {
				mafc_free(blocks[i]);
				mafc_free(mafc_malloc(2000));
				mafc_free(blocks[i + 1]);
				mafc_free(blocks[i]);
				_exit(0);
			}
		_exit(1);
	}
	close(fds[1]);
	CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
	CHECK(read(fds[0], text, sizeof(text) - 1) > 0 && strstr(text, "double free"));
	close(fds[0]);
	return true;
}

static const struct ktap_test tests[] = {
	{ "a sample comes with its chance, and goes at free", comes_and_goes },
	{ "what is kept is found, not what was freed before", rhythm },
	{ "realloc", realloc_in_place },
	{ "threads free each other's blocks", threads },
	{ "fork of a program with threads", fork_with_threads },
	{ "a full table", full },
	{ "a double free", double_free },
};

int main(int argc, char **argv)
{
	(void)argc;
	if (!getenv("MAFC_SITES") || strcmp(getenv("MAFC_SITES"), "1")) {
		setenv("MAFC_SITES", "1", 1);
		execv("/proc/self/exe", argv);
	}
	if (!sites || sites->interval != INTERVAL) {
		puts("Bail out! no samples");
		return 1;
	}
	return ktap_run(tests, sizeof(tests) / sizeof(tests[0]));
}
