// SPDX-License-Identifier: GPL-2.0-only
/*
 * micro - small programs that do little but allocate; selftests/bench/run preloads the allocator
 *
 *   micro TEST [SCALE]
 *
 * Prints "NAME VALUE" a line: times in ns, memory in KiB. SCALE divides the work, for emulated machines.
 * What the tests themselves need is mapped, so that it is in nobody's heap.
 */
#include <math.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SIZES	8192		/* drawn beforehand */
#define KIB	1024UL
#define MIB	(1024 * KIB)
#define PAGE	4096UL

static long scale = 1;

static void __attribute__((noreturn)) die(const char *what)
{
	perror(what);
	exit(1);
}

static void *map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static void line(const char *name, double value)
{
	printf("%s %.4f\n", name, value);
}

static double clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

/* Tests of one thread count its CPU time: what else the machine does is no matter. */
static double wall(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static double cpu(void)
{
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static inline uint64_t rnd(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x * 0x2545f4914f6cdd1dULL >> 16;
}

/* Sizes from @low to @high, each doubling as likely as any other. */
static uint32_t *draw(uint32_t low, uint32_t high)
{
	uint32_t *sizes = map(SIZES * sizeof(*sizes)), octaves = 0, octave;
	uint64_t x = 42;

	while (low << octaves < high)
		octaves++;
	for (int i = 0; i < SIZES; i++) {
		octave = low << rnd(&x) % octaves;
		sizes[i] = octave + rnd(&x) % (octave + 1);
	}
	return sizes;
}

static void *get(size_t size)
{
	char *p = malloc(size);

	if (!p)
		die("malloc");
	return p;
}

/* One byte in each page. */
static void touch(char *p, size_t size)
{
	for (size_t i = 0; i < size; i += PAGE)
		*(volatile char *)(p + i) = 1;
}

/* --- random lifetimes: a block that is picked at random gives way to a new one ------------------- */

static void churn(const char *name, uint32_t low, uint32_t high, size_t slots, long rounds, bool all)
{
	uint32_t *sizes = draw(low, high), size;
	char **p = map(slots * sizeof(*p));
	uint64_t x = 7;
	double start = 0;
	long at;

	rounds /= scale;
	for (long warm = slots + rounds / 2, i = -warm; i < rounds; i++) {
		if (!i)
			start = cpu();
		at = i < (long)slots - warm ? i + warm : (long)(rnd(&x) % slots);
		free(p[at]);
		size = sizes[i & (SIZES - 1)];
		p[at] = get(size);
		touch(p[at], all ? size : 1);
	}
	line(name, (cpu() - start) / rounds);
}

/* --- latencies ------------------------------------------------------------------------------------ */

static inline uint64_t ticks(void)
{
#ifdef __x86_64__
	uint32_t low, high;

	__asm__ volatile("lfence; rdtsc; lfence" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
#else
	return clock_ns(CLOCK_MONOTONIC_RAW);
#endif
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

static void percentiles(const char *name, uint32_t *t, long n, double tick)
{
	double sum = 0, squares = 0, mean;

	for (long i = 0; i < n; i++)
		sum += t[i];
	mean = sum / n;
	for (long i = 0; i < n; i++)
		squares += (t[i] - mean) * (t[i] - mean);
	qsort(t, n, sizeof(*t), by_value);
#define OUT(suffix, value) printf("%s-%s %.4f\n", name, suffix, (value) * tick)
	OUT("mean", mean);
	OUT("p50", t[n / 2]);
	OUT("p99", t[n / 100 * 99]);
	OUT("p99.9", t[n / 1000 * 999]);
	OUT("sd", sqrt(squares / n));
}

/* How often the thread was made to wait for something. */
static long switches(void)
{
	struct rusage r;

	getrusage(RUSAGE_THREAD, &r);
	return r.ru_nvcsw + r.ru_nivcsw;
}

/* Blocks of rounds in which another program had the processor are not counted. */
#define LAP 250

static void latency(const char *name, uint32_t low, uint32_t high, size_t slots, long rounds)
{
	uint32_t *sizes = draw(low, high), *t[4], size;
	char **p = map(slots * sizeof(*p)), *new, key[64];
	static const char *const what[] = { "free", "malloc", "touch", "malloc+touch" };
	uint64_t x = 7, t0, t1, t2, t3, ticks0 = 0;
	long at, kept = 0, lap = 0, waited = 0;
	double ns = 0;

	rounds /= scale;
	for (int i = 0; i < 4; i++)
		t[i] = map(rounds * sizeof(**t));
	for (long warm = slots + rounds / 2, i = -warm; i < rounds; i++) {
		if (!i) {
			ns = wall();
			ticks0 = ticks();
			waited = switches();
		}
		at = i < (long)slots - warm ? i + warm : (long)(rnd(&x) % slots);
		size = sizes[i & (SIZES - 1)];
		t0 = ticks();
		free(p[at]);
		t1 = ticks();
		new = malloc(size);
		t2 = ticks();
		if (!new)
			die("malloc");
		*(volatile char *)new = 1;
		*(volatile char *)(new + size - 1) = 1;
		t3 = ticks();
		p[at] = new;
		if (i < 0)
			continue;
		t[0][kept + lap] = t1 - t0;
		t[1][kept + lap] = t2 - t1;
		t[2][kept + lap] = t3 - t2;
		t[3][kept + lap] = t3 - t1;
		if (++lap < LAP)
			continue;
		if (switches() == waited)
			kept += LAP;
		waited = switches();
		lap = 0;
	}
	ns = (wall() - ns) / (ticks() - ticks0);
	for (int i = 0; i < 4; i++) {
		snprintf(key, sizeof(key), "%s-%s", name, what[i]);
		percentiles(key, t[i], kept, ns);
	}
}

/* --- threads -------------------------------------------------------------------------------------- */

static void start(pthread_t *t, void *(*f)(void *), void *arg)
{
	if (pthread_create(t, NULL, f, arg))
		die("pthread_create");
}

static inline void relax(long spins)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#endif
	if (spins % 256 == 255)
		sched_yield();
}

/* One thread allocates, another frees. */
#define RING 4096
static struct {
	_Alignas(64) _Atomic long in;
	_Alignas(64) _Atomic long out;
	_Alignas(64) void *slots[RING];
} ring;

static long ring_rounds;

static void *consumer(void *arg)
{
	long ready = 0;

	(void)arg;
	for (long i = 0; i < ring_rounds; i++) {
		for (long spin = 0; i == ready; spin++) {
			ready = atomic_load_explicit(&ring.in, memory_order_acquire);
			if (i == ready)
				relax(spin);
		}
		free(ring.slots[i % RING]);
		if (i % 64 == 63 || i + 1 == ready)
			atomic_store_explicit(&ring.out, i + 1, memory_order_release);
	}
	return NULL;
}

static void produce(void)
{
	uint32_t *sizes = draw(16, 1024);
	pthread_t t;
	double begin;
	void *p;

	ring_rounds = 6000000 / scale;
	start(&t, consumer, NULL);
	begin = wall();
	for (long i = 0; i < ring_rounds; i++) {
		p = get(sizes[i & (SIZES - 1)]);
		*(volatile char *)p = 1;
		for (long spin = 0; i - atomic_load_explicit(&ring.out, memory_order_acquire) >= RING; spin++)
			relax(spin);
		ring.slots[i % RING] = p;
		if (i % 16 == 15 || i + 1 == ring_rounds)
			atomic_store_explicit(&ring.in, i + 1, memory_order_release);
	}
	pthread_join(t, NULL);
	line("xfree", (wall() - begin) / ring_rounds);
}

/* All threads allocate, and free what another one allocated: batches change hands. */
#define BATCH 128
#define BATCHES 64
static pthread_mutex_t swap_lock = PTHREAD_MUTEX_INITIALIZER;
static void *(*pots)[BATCH];

static void *swapper(void *arg)
{
	uint64_t x = (uintptr_t)arg;
	uint32_t *sizes = draw(16, 1024);
	void *mine[BATCH], *p;
	long rounds = 40000 / scale;
	size_t pot;

	for (long i = 0; i < rounds; i++) {
		for (int k = 0; k < BATCH; k++) {
			mine[k] = get(sizes[(i * BATCH + k) & (SIZES - 1)]);
			*(volatile char *)mine[k] = 1;
		}
		pot = rnd(&x) % BATCHES;
		pthread_mutex_lock(&swap_lock);
		for (int k = 0; k < BATCH; k++) {
			p = pots[pot][k];
			pots[pot][k] = mine[k];
			mine[k] = p;
		}
		pthread_mutex_unlock(&swap_lock);
		for (int k = 0; k < BATCH; k++)
			free(mine[k]);
	}
	return NULL;
}

static int threads(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n < 2 ? 2 : n > 16 ? 16 : n;
}

static void swap(void)
{
	int n = threads();
	pthread_t t[n];
	double begin;

	pots = map(BATCHES * sizeof(*pots));
	begin = wall();
	for (int i = 0; i < n; i++)
		start(&t[i], swapper, (void *)(i + 1UL));
	for (int i = 0; i < n; i++)
		pthread_join(t[i], NULL);
	line("xswap", (wall() - begin) / (40000 / scale * BATCH));
}

/* After P. Larson and M. Krishnan: threads of a server end, and leave their blocks to others. */
#define LARSON_BLOCKS	5000
#define LARSON_LIVES	40
struct larson {
	void *blocks[LARSON_BLOCKS];
	uint32_t *sizes;
	uint64_t x;
};

static void *larson_thread(void *arg)
{
	struct larson *l = arg;
	long rounds = 150000 / scale;
	size_t at;

	for (long i = 0; i < rounds; i++) {
		at = rnd(&l->x) % LARSON_BLOCKS;
		free(l->blocks[at]);
		l->blocks[at] = get(l->sizes[rnd(&l->x) & (SIZES - 1)]);
		*(volatile char *)l->blocks[at] = 1;
	}
	return NULL;
}

static void larson(void)
{
	int n = threads();
	struct larson *l = map(n * sizeof(*l));
	pthread_t t[n];
	double begin;

	for (int i = 0; i < n; i++)
		l[i] = (struct larson){ .sizes = draw(8, 1024), .x = i + 1 };
	begin = wall();
	for (int life = 0; life < LARSON_LIVES; life++) {
		for (int i = 0; i < n; i++)
			start(&t[i], larson_thread, &l[(i + life) % n]);
		for (int i = 0; i < n; i++)
			pthread_join(t[i], NULL);
	}
	line("larson", (wall() - begin) / (LARSON_LIVES * (150000 / scale)));
}

/* --- memory --------------------------------------------------------------------------------------- */

static double field_of(const char *file, const char *field)
{
	FILE *f = fopen(file, "r");
	char name[64];
	double value, found = -1;

	while (f && found < 0 && fscanf(f, "%63s %lf%*[^\n]", name, &value) > 0)
		if (!strcmp(name, field))
			found = value;
	if (f)
		fclose(f);
	return found;
}

/* KiB: of our memory cgroup, where we were given one of our own, else Pss, which counts shared pages once. */
static double held(void)
{
	const char *group = getenv("BENCH_CGROUP");
	char file[256];
	double all = -1;
	FILE *f;

	if (!group)
		return field_of("/proc/self/smaps_rollup", "Pss:");
	snprintf(file, sizeof(file), "%s/memory.current", group);
	f = fopen(file, "r");
	if (!f || fscanf(f, "%lf", &all) != 1)
		die(file);
	fclose(f);
	snprintf(file, sizeof(file), "%s/memory.stat", group);
	return (all - field_of(file, "file")) / KIB;
}

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 }, NULL);
}

/* A server's day: fill up, shrink to a quarter, go on with other sizes, fall asleep. */
static void memory(void)
{
	size_t slots = 1000000 / scale, live = 0, peak = 0;
	uint32_t *first = draw(16, 512), *second = draw(64, 1024);
	uint32_t *size = map(slots * sizeof(*size));
	char **p = map(slots * sizeof(*p));
	double before = held();
	uint64_t x = 3;

	for (size_t i = 0; i < slots; i++) {
		size[i] = first[i & (SIZES - 1)];
		p[i] = get(size[i]);
		memset(p[i], 1, size[i]);
		live += size[i];
	}
	peak = live;
	line("peak-live", peak / (double)KIB);
	line("peak-held", held() - before);
	for (size_t i = 0; i < slots; i++)
		if (rnd(&x) % 4) {
			free(p[i]);
			live -= size[i];
			size[i] = 0;
			p[i] = NULL;
		}
	for (size_t i = 0; i < slots; i++) {
		size_t at = rnd(&x) % slots;

		if (!p[at])
			continue;
		free(p[at]);
		live -= size[at];
		size[at] = second[i & (SIZES - 1)];
		p[at] = get(size[at]);
		memset(p[at], 1, size[at]);
		live += size[at];
	}
	line("busy-held", held() - before);
	pause_ms(scale > 1 ? 6000 : 1500);
	line("idle-live", live / (double)KIB);
	line("idle-held", held() - before);
}

/* A thousand threads that did some work once. */
#define CROWD 1000
static pthread_barrier_t crowd_here, crowd_go, crowd_done, crowd_end;

static void *crowd_thread(void *arg)
{
	volatile char stack[3 * PAGE];
	uint64_t x = (uintptr_t)arg;
	void *p[64];

	/* What calls will use of the stack is nobody's heap. */
	for (size_t i = 0; i < sizeof(stack); i += PAGE)
		stack[i] = 1;
	pthread_barrier_wait(&crowd_here);
	pthread_barrier_wait(&crowd_go);
	for (int i = 0; i < 64; i++) {
		p[i] = get(16 + rnd(&x) % 1009);
		*(volatile char *)p[i] = 1;
	}
	for (int i = 0; i < 64; i++)
		free(p[i]);
	pthread_barrier_wait(&crowd_done);
	pthread_barrier_wait(&crowd_end);
	return NULL;
}

static void crowd(void)
{
	pthread_t *t = map(CROWD * sizeof(*t));
	pthread_barrier_t *const all[] = { &crowd_here, &crowd_go, &crowd_done, &crowd_end };
	double before, until;
	pthread_attr_t attr;

	for (int i = 0; i < 4; i++)
		pthread_barrier_init(all[i], NULL, CROWD + 1);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 * KIB);
	for (int i = 0; i < CROWD; i++)
		if (pthread_create(&t[i], &attr, crowd_thread, (void *)(i + 1UL)))
			die("pthread_create");
	pthread_barrier_wait(&crowd_here);
	before = held();
	pthread_barrier_wait(&crowd_go);
	pthread_barrier_wait(&crowd_done);
	/* One thread goes on, as in a real server. */
	for (until = wall() + 1e9; wall() < until; pause_ms(1))
		for (int i = 0; i < 200; i++)
			free(get(16 + i * 5));
	line("crowd-held", held() - before);
	pthread_barrier_wait(&crowd_end);
	for (int i = 0; i < CROWD; i++)
		pthread_join(t[i], NULL);
}

/* --- start-up ------------------------------------------------------------------------------------- */

static int by_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* $BENCH_CHILD is what the children preload: the loader is the same program for all. */
static void startup(const char *self)
{
	const char *lib = getenv("BENCH_CHILD");
	char preload[512], *args[] = { (char *)self, "nothing", NULL }, *env[] = { preload, NULL };
	int n = 400 / scale, status;
	double *t = map(n * sizeof(*t));
	pid_t pid;

	snprintf(preload, sizeof(preload), "%s=%s", lib && *lib ? "LD_PRELOAD" : "NO_PRELOAD", lib ? lib : "");
	for (int i = 0; i < n; i++) {
		t[i] = wall();
		if (posix_spawn(&pid, self, NULL, NULL, args, env) || waitpid(pid, &status, 0) != pid || status)
			die("child");
		t[i] = wall() - t[i];
	}
	qsort(t, n, sizeof(*t), by_double);
	line("startup", t[n / 2]);
}

static void nothing(bool say)
{
	free(get(100));
	if (say)
		line("startup-kib", field_of("/proc/self/smaps_rollup", "Private_Dirty:"));
}

int main(int argc, char **argv)
{
	const char *test = argc > 1 ? argv[1] : "";

	if (argc > 2)
		scale = atol(argv[2]);
#define IS(name) (!strcmp(test, name))
	if (IS("small"))
		churn(test, 16, 1 * KIB, 4000, 12000000, false);
	else if (IS("small-wide"))
		churn(test, 16, 1 * KIB, 200000 / scale, 4000000, false);
	else if (IS("large"))
		churn(test, 1 * KIB, 4 * MIB, 100, 400000, false);
	else if (IS("large-touch"))
		churn(test, 1 * KIB, 4 * MIB, 100, 40000, true);
	else if (IS("small-lat"))
		latency("small", 16, 1 * KIB, 20000, 1000000);
	else if (IS("large-lat"))
		latency("large", 1 * KIB, 4 * MIB, 100, 200000);
	else if (IS("xfree"))
		produce();
	else if (IS("xswap"))
		swap();
	else if (IS("larson"))
		larson();
	else if (IS("memory"))
		memory();
	else if (IS("crowd"))
		crowd();
	else if (IS("startup"))
		startup(argv[0]);
	else if (IS("nothing") || IS("startup-kib"))
		nothing(!IS("nothing"));
	else
		return 2;
	return 0;
}
