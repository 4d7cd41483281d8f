// SPDX-License-Identifier: GPL-2.0-only
/*
 * engine.c - measurements of the engine on a program's own heap
 *
 *   engine pack random|regular MIB SECONDS   held/live over the time after a burst of frees
 *   engine stalls MOVES THREADS              what threads wait for pages in motion
 *   engine fork MIB ROUNDS                   fork of a heap and of anonymous memory
 *   engine touch MIB ROUNDS                  first touch of both
 *
 * To be run with libmafc.so preloaded. Each
 * figure is one line, "name value unit". Exit status 1 if data was wrong.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mafc.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BLOCK	240
#define PAGE	4096

static int device;

static void fatal(const char *what)
{
	fprintf(stderr, "engine: %s: %s\n", what, strerror(errno));
	exit(2);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static uint64_t rng(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static struct mafc_stat heap_stat(void)
{
	struct mafc_stat st = { .size = sizeof(st) };

	if (ioctl(device, MAFC_IOC_STAT, &st))
		fatal("STAT");
	return st;
}

static void *anonymous(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		fatal("mmap");
	madvise(p, bytes, MADV_NOHUGEPAGE);
	return p;
}

static uint64_t file_u64(const char *path)
{
	FILE *f = fopen(path, "re");
	unsigned long long v = 0;

	if (!f || fscanf(f, "%llu", &v) != 1)
		fatal(path);
	fclose(f);
	return v;
}

/* Free 2 MiB blocks of the whole system. */
static uint64_t huge_blocks(void)
{
	FILE *f = fopen("/proc/buddyinfo", "re");
	unsigned long n[11];
	uint64_t sum = 0;
	char zone[32];

	if (!f)
		fatal("buddyinfo");
	while (fscanf(f, "Node %*d, zone %31s %lu %lu %lu %lu %lu %lu %lu %lu %lu %lu %lu\n",
		      zone, n, n + 1, n + 2, n + 3, n + 4, n + 5, n + 6, n + 7, n + 8, n + 9, n + 10) == 12)
		sum += n[9] + 2 * n[10];
	fclose(f);
	return sum;
}

/* Every block begins with the address of the next one kept and ends with its own. */
struct block { struct block *next; char fill[BLOCK - 16]; uintptr_t self; };

static struct block *burst(size_t mib, int regular, uint64_t *live)
{
	const size_t n = (mib << 20) / BLOCK;
	struct block **b = anonymous(n * sizeof(*b)), *kept = NULL;
	uint64_t seed = 42;
	size_t i;

	*live = 0;
	for (i = 0; i < n; i++) {
		b[i] = malloc(BLOCK);
		if (!b[i])
			fatal("malloc");
		memset(b[i], i, BLOCK);
		b[i]->self = (uintptr_t)b[i];
	}
	for (i = 0; i < n; i++) {
		if (regular ? i % 8 : rng(&seed) % 1000 >= 150) {
			free(b[i]);
			continue;
		}
		b[i]->next = kept;
		kept = b[i];
		*live += BLOCK;
	}
	munmap(b, n * sizeof(*b));
	return kept;
}

static int pack(const char *pattern, size_t mib, unsigned int seconds)
{
	uint64_t huge, cpu, start, live, ms, reached = 0, cpu_reached = 0, moved;
	const double goal = !strcmp(pattern, "regular") ? 1.5 : 1.25;
	struct block *kept = burst(mib, goal > 1.3, &live), *b;
	const char *counter = "/sys/class/misc/mafc/counters/compactor_cpu_ns";
	const struct timespec tick = { .tv_nsec = 50000000 };
	double ratio = 0;
	struct mafc_stat st;
	unsigned int said = 0;
	size_t n = 0;

	st = heap_stat();
	huge = huge_blocks();
	moved = st.chunks_returned;
	cpu = file_u64(counter);
	start = now_ns();
	printf("%s_live %.1f MiB\n%s_held_before %.1f MiB\n", pattern,
	       live / 1048576.0, pattern, st.held / 1048576.0);
	do {
		nanosleep(&tick, NULL);
		st = heap_stat();
		ratio = (double)st.held / live;
		ms = (now_ns() - start) / 1000000;
		if (ratio <= goal && !reached) {
			reached = ms;
			cpu_reached = file_u64(counter) - cpu;
		}
		if (ms >= 5000 && !said++)
			printf("%s_ratio_at_5s %.3f held/live\n", pattern, ratio);
	} while (ms < seconds * 1000);
	for (b = kept; b; b = b->next, n++)
		if (b->self != (uintptr_t)b)
			return 1;
	if (n * BLOCK != live)
		return 1;
	if (reached)
		printf("%s_reached_%.2f_after %.2f s\n%s_cpu_until_then %.3f s\n", pattern,
		       goal, reached / 1e3, pattern, cpu_reached / 1e9);
	printf("%s_ratio_in_the_end %.3f held/live\n%s_cpu %.3f s\n", pattern, ratio, pattern,
	       (file_u64(counter) - cpu) / 1e9);
	printf("%s_meshed %llu pages\n%s_chunks_returned %llu chunks\n%s_free_2MiB_blocks_gained %lld blocks\n",
	       pattern, (unsigned long long)st.meshed, pattern,
	       (unsigned long long)(st.chunks_returned - moved), pattern,
	       (long long)(huge_blocks() - huge));
	return 0;
}

static atomic_bool stop;
static struct block **blocks;
static size_t nblocks;

/* Ordinary faults that each thread takes between its touches: pages, and samples kept. */
#define ANON_PAGES	1024
#define ANON_EVERY	256
#define SAMPLES		65536

struct toucher {
	pthread_t t;
	unsigned int id, of;
	uint64_t touches, wrong, longest, faults;
	uint64_t *fault_ns;	/* of SAMPLES ordinary faults, the last ones */
};

/* Each thread has every of-th block, and counts in it what it did. */
static void *touch_blocks(void *arg)
{
	struct toucher *t = arg;
	uint32_t *count = calloc(nblocks, sizeof(*count));
	volatile char *anon = anonymous(ANON_PAGES * PAGE);
	uint64_t seed = t->id + 1, start, ns;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		size_t i = rng(&seed) % (nblocks / t->of) * t->of + t->id;
		volatile uint32_t *seen;

		if (!blocks[i])
			continue;
		seen = (uint32_t *)blocks[i]->fill;
		start = now_ns();
		t->wrong += *seen != count[i];
		*seen = ++count[i];
		ns = now_ns() - start;
		t->longest = ns > t->longest ? ns : t->longest;
		if (++t->touches % ANON_EVERY)
			continue;
		if (t->faults % ANON_PAGES == 0)
			madvise((void *)anon, ANON_PAGES * PAGE, MADV_DONTNEED);
		start = now_ns();
		anon[t->faults % ANON_PAGES * PAGE] = 1;
		t->fault_ns[t->faults++ % SAMPLES] = now_ns() - start;
	}
	free(count);
	return NULL;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* What a minor fault on anonymous memory cost the same threads meanwhile, measured from outside. */
static void minor_faults(const struct toucher *t, unsigned int threads)
{
	uint64_t *ns = anonymous((size_t)threads * SAMPLES * sizeof(*ns));
	size_t n = 0, i, have;

	for (i = 0; i < threads; i++) {
		have = t[i].faults < SAMPLES ? t[i].faults : SAMPLES;
		memcpy(ns + n, t[i].fault_ns, have * sizeof(*ns));
		n += have;
	}
	if (!n)
		return;
	qsort(ns, n, sizeof(*ns), by_value);
	printf("anonymous_faults %zu\nanonymous_fault_median %.1f us\nanonymous_fault_p99.9 %.1f us\n",
	       n, ns[n / 2] / 1e3, ns[n - 1 - n / 1000] / 1e3);
	printf("anonymous_fault_longest %.1f us\n", ns[n - 1] / 1e3);
}

static int stalls(uint64_t moves, unsigned int threads)
{
	struct mafc_compact c = { .size = sizeof(c) };
	struct toucher t[64] = { 0 };
	uint64_t done = 0, waits = 0, sum = 0, wrong = 0, touches = 0, longest = 0;
	struct mafc_stat before, st;
	unsigned int i;

	if (threads < 1 || threads > 64)
		return 2;
	nblocks = 65536;
	blocks = anonymous(nblocks * sizeof(*blocks));
	for (i = 0; i < nblocks; i++)
		blocks[i] = calloc(1, BLOCK);
	for (i = 0; i < nblocks; i++) {
		if (i * 2654435761u % 100 < 60) {
			free(blocks[i]);
			blocks[i] = NULL;
		}
	}
	before = heap_stat();
	for (i = 0; i < threads; i++) {
		t[i].id = i;
		t[i].of = threads;
		t[i].fault_ns = anonymous(SAMPLES * sizeof(uint64_t));
		pthread_create(&t[i].t, NULL, touch_blocks, &t[i]);
	}
	while (done < moves) {
		c = (struct mafc_compact){ .size = sizeof(c), .flags = MAFC_COMPACT_SHUFFLE };
		if (ioctl(device, MAFC_IOC_COMPACT, &c) && errno != EINTR)
			fatal("COMPACT");
		done += c.moved + c.meshed;
	}
	atomic_store(&stop, true);
	for (i = 0; i < threads; i++) {
		pthread_join(t[i].t, NULL);
		wrong += t[i].wrong;
		touches += t[i].touches;
		longest = t[i].longest > longest ? t[i].longest : longest;
	}
	st = heap_stat();
	for (i = 0; i < MAFC_STALL_BUCKETS; i++)
		waits += st.stall[i] - before.stall[i];
	printf("threads %u\nmoves %llu pages\ntouches %llu\nlost_updates %llu\nwaits %llu\n",
	       threads, (unsigned long long)done, (unsigned long long)touches,
	       (unsigned long long)wrong, (unsigned long long)waits);
	printf("longest_touch %.1f us (with what the scheduler took)\n", longest / 1e3);
	printf("longest_away %.1f us\n", st.away_max_ns / 1e3);
	for (i = 0; i < MAFC_STALL_BUCKETS; i++) {
		uint64_t n = st.stall[i] - before.stall[i];

		if (n)
			printf("waits_below_%.1f_us %llu\n", (1ull << i) / 1e3, (unsigned long long)n);
		sum += n;
		if (n && sum - n < waits / 2 && sum >= waits / 2)
			printf("wait_median_at_most %.1f us\n", (1ull << i) / 1e3);
		if (n && sum - n < waits - waits / 1000 && sum >= waits - waits / 1000)
			printf("wait_p99.9_at_most %.1f us\n", (1ull << i) / 1e3);
	}
	minor_faults(t, threads);
	return wrong != 0;
}

/* Blocks of a page, as malloc gives them. */
static char **pages_malloc(size_t n)
{
	char **p = anonymous(n * sizeof(*p));
	size_t i;

	for (i = 0; i < n; i++)
		p[i] = malloc(2048);
	return p;
}

struct cost { uint64_t fork, write, exit; };

static struct cost fork_once(char **p, size_t n, size_t step)
{
	struct cost c;
	uint64_t start = now_ns();
	pid_t pid = fork();
	size_t i;

	if (!pid)
		_exit(0);
	c.fork = now_ns() - start;
	start = now_ns();
	for (i = 0; i < n; i += step)
		p[i][0]++;
	c.write = now_ns() - start;
	waitpid(pid, NULL, 0);
	c.exit = now_ns() - start;
	return c;
}

static void median(const char *name, uint64_t *v, unsigned int n)
{
	qsort(v, n, sizeof(*v), by_value);
	printf("%s %.3f ms\n", name, v[n / 2] / 1e6);
}

static int fork_cost(size_t mib, unsigned int rounds)
{
	const size_t n = (mib << 20) / 2048, pages = (mib << 20) / PAGE;
	uint64_t *f[2], *w[2];
	char **p[2], *a = anonymous(mib << 20);
	unsigned int i, k;

	p[0] = anonymous(pages * sizeof(char *));
	for (i = 0; i < pages; i++)
		(p[0][i] = a + (size_t)i * PAGE)[0] = 1;
	p[1] = pages_malloc(n);
	for (i = 0; i < n; i++)
		p[1][i][0] = 1;
	for (k = 0; k < 2; k++) {
		f[k] = anonymous(rounds * sizeof(uint64_t));
		w[k] = anonymous(rounds * sizeof(uint64_t));
	}
	/* One of them at a time is there for fork to copy. */
	for (k = 0; k < 2; k++) {
		madvise(a, mib << 20, k ? MADV_DONTFORK : MADV_DOFORK);
		if (!k)
			continue;
		for (i = 0; i < rounds; i++) {
			struct cost c = fork_once(p[1], n, 16);

			f[1][i] = c.fork;
			w[1][i] = c.write;
		}
	}
	for (i = 0; i < n; i++)
		free(p[1][i]);
	malloc_trim(0);
	madvise(a, mib << 20, MADV_DOFORK);
	for (i = 0; i < rounds; i++) {
		struct cost c = fork_once(p[0], pages, 8);

		f[0][i] = c.fork;
		w[0][i] = c.write;
	}
	for (k = 0; k < 2; k++) {
		median(k ? "fork_heap" : "fork_anonymous", f[k], rounds);
		median(k ? "fork_writes_heap" : "fork_writes_anonymous", w[k], rounds);
	}
	return 0;
}

static uint64_t faults(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return ru.ru_minflt;
}

static int touch_cost(size_t mib, unsigned int rounds)
{
	const size_t n = (mib << 20) / 2048, pages = (mib << 20) / PAGE;
	uint64_t start, count, *t[2], c[2] = { 0 };
	char **p, *a;
	unsigned int r;
	size_t i;

	t[0] = anonymous(rounds * sizeof(uint64_t));
	t[1] = anonymous(rounds * sizeof(uint64_t));
	for (r = 0; r < rounds; r++) {
		p = pages_malloc(n);
		count = faults();
		start = now_ns();
		for (i = 0; i < n; i++)
			*(volatile char *)p[i] = 1;
		t[1][r] = now_ns() - start;
		c[1] += faults() - count;
		for (i = 0; i < n; i++)
			free(p[i]);
		munmap(p, n * sizeof(*p));
		malloc_trim(0);

		a = anonymous(mib << 20);
		count = faults();
		start = now_ns();
		for (i = 0; i < n; i++)
			((volatile char *)a)[i * 2048] = 1;
		t[0][r] = now_ns() - start;
		c[0] += faults() - count;
		munmap(a, mib << 20);
	}
	printf("pages_touched %zu\nfaults_anonymous %llu\nfaults_heap %llu\n", pages,
	       (unsigned long long)c[0] / rounds, (unsigned long long)c[1] / rounds);
	median("touch_anonymous", t[0], rounds);
	median("touch_heap", t[1], rounds);
	return 0;
}

int main(int argc, char **argv)
{
	int a = argc > 2 ? atoi(argv[argc - 2]) : 0, b = argc > 2 ? atoi(argv[argc - 1]) : 0;

	device = open("/dev/mafc", O_RDWR | O_CLOEXEC);
	if (device < 0)
		fatal("/dev/mafc");
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 5 && !strcmp(argv[1], "pack"))
		return pack(argv[2], a, b);
	if (argc == 4 && !strcmp(argv[1], "stalls"))
		return stalls(a, b);
	if (argc == 4 && !strcmp(argv[1], "fork"))
		return fork_cost(a, b);
	if (argc == 4 && !strcmp(argv[1], "touch"))
		return touch_cost(a, b);
	fprintf(stderr, "usage: engine pack random|regular MIB SECONDS | stalls MOVES THREADS | fork MIB ROUNDS | touch MIB ROUNDS\n");
	return 2;
}
