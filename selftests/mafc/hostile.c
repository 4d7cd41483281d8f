// SPDX-License-Identifier: GPL-2.0-only
/*
 * hostile.c - a process can spoil its own heap, and nothing else
 *
 * Nonsense in the memory that library and kernel share, and in the arguments of
 * ioctls, from seeded random numbers.  A witness with a heap of its own works
 * beside it.  In the end no heap and no memory is left; that the kernel log is
 * clean and the module unloads is seen by who runs the tests.
 *
 * MAFC_FUZZ_STEPS sets the number of steps, MAFC_FUZZ_SEED other random numbers.
 */
#include <setjmp.h>
#include <sys/prctl.h>

#include "cgroup.h"
#include "test.h"

#define PAGES		192	/* that the fuzzer plays with, in each region */

static uint64_t steps_wanted(void)
{
	const char *text = getenv("MAFC_FUZZ_STEPS");

	return text ? strtoull(text, NULL, 10) : scaled(200000, 4);
}

static uint64_t seeded(uint64_t seed)
{
	const char *text = getenv("MAFC_FUZZ_SEED");

	return text ? seed + 1000 * strtoull(text, NULL, 10) : seed;
}

/*
 * The witness: blocks with patterns in spans that are meshed and moved.
 */
struct witness {
	_Atomic uint64_t checks;
	_Atomic uint64_t wrong;
	atomic_bool stop;
	atomic_bool ready;
};

static int witness(void *arg)
{
	struct witness *w = arg;
	uint64_t seed = 3, v[64] = { 0 };
	struct heap h;
	unsigned int i;

	if (heap_open(&h, 0))
		return 1;
	for (i = 0; i < 64; i++) {
		span_make(&h, i, 256, 16, 1);
		block_fill(block_alloc(&h, i, i % 16), 256, i, 0);
		span_detach(&h, i);
	}
	atomic_store(&w->ready, true);
	while (!atomic_load(&w->stop)) {
		i = rng(&seed) % 64;
		if (block_check(block_at(&h, i, i % 16), 256, i, v[i]) >= 0)
			atomic_fetch_add(&w->wrong, 1);
		block_fill(block_at(&h, i, i % 16), 256, i, ++v[i]);
		if (atomic_fetch_add(&w->checks, 1) % 256 == 0)
			heap_compact(&h, MAFC_COMPACT_SHUFFLE, NULL);
		usleep(rng(&seed) % 500);
	}
	return 0;
}

/* Touches that may end in SIGBUS. */
static __thread sigjmp_buf touch_env;
static __thread volatile sig_atomic_t touching;

static void on_bus(int sig)
{
	if (touching)
		siglongjmp(touch_env, 1);
	_exit(200);
}

static void touch(volatile char *p, bool write)
{
	if (sigsetjmp(touch_env, 1) == 0) {
		touching = 1;
		if (write)
			*p = 1;
		else
			(void)*p;
	}
	touching = 0;
}

static void catch_bus(void)
{
	struct sigaction sa = { .sa_handler = on_bus, .sa_flags = SA_NODEFER };

	sigaction(SIGBUS, &sa, NULL);
}

/* A geometry that the kernel takes for possible, mostly. */
static void random_geometry(struct mafc_span *s, uint64_t *seed)
{
	static const uint16_t pages[] = { 1, 1, 1, 2, 2, 3, 4, 8, 32 };
	uint32_t size = (1 + rng(seed) % 64) * 16;

	s->npages = pages[rng(seed) % 9];
	if (rng(seed) % 4)
		size = 256 << rng(seed) % 4;
	s->block_size = size;
	s->nblocks = rng(seed) % 4 ? s->npages * 4096 / size : 1 + rng(seed) % 256;
	if (s->nblocks > 256)
		s->nblocks = 256;
}

static uint64_t sparse(uint64_t *seed)
{
	return rng(seed) & rng(seed) & rng(seed);
}

/* One step: nonsense in one descriptor, page map, or counter. */
static void spoil(struct heap *h, uint64_t *seed)
{
	uint32_t page = rng(seed) % PAGES;
	struct mafc_span *s = &h->span[page];
	unsigned int i;

	switch (rng(seed) % 16) {
	case 0:
		for (i = 0; i < 8; i++)
			((volatile uint64_t *)s)[i] = rng(seed);
		break;
	case 1:
		s->state = rng(seed) % 8 | (rng(seed) % 4 << 8);
		break;
	case 2:
		s->canonical = rng(seed) % 4 ? rng(seed) % PAGES : rng(seed);
		break;
	case 3:
		random_geometry(s, seed);
		s->canonical = page;
		break;
	case 4:
		for (i = 0; i < 4; i++)
			s->bitmap[i] = rng(seed) % 4 ? sparse(seed) : 0;
		break;
	case 5:
		if (rng(seed) % 2)
			map_set(h->small_map, page, 1);
		else
			map_clear(h->small_map, page, 1);
		break;
	case 6:
		map_set(h->small_map, 0, PAGES);
		map_set(h->large_map, 0, PAGES);
		break;
	case 7:
		h->header->magic = MAFC_META_MAGIC;
		h->header->nclasses = rng(seed);
		h->header->classes[rng(seed) % MAFC_CLASSES_MAX].allocs = rng(seed);
		h->header->classes[rng(seed) % MAFC_CLASSES_MAX].frees = rng(seed);
		h->header->classes[rng(seed) % MAFC_CLASSES_MAX].block_size =
			rng(seed) % 2048;
		break;
	case 8:
		h->span[rng(seed) % h->setup.small_pages].state = rng(seed) % 8;
		break;
	case 9:
	case 10:
		random_geometry(s, seed);
		break;
	default:	/* a span that can be meshed, wherever it lies */
		if (rng(seed) % 4)
			s->block_size = 256, s->nblocks = 16, s->npages = 1;
		else
			random_geometry(s, seed);
		s->canonical = page;
		map_set(h->small_map, page, 1);
		touch(h->small + page * PAGE, true);
		for (i = 0; i < 4; i++)
			s->bitmap[i] = i * 64 < s->nblocks ? sparse(seed) : 0;
		if (s->nblocks < 64)
			s->bitmap[0] &= (1ULL << s->nblocks) - 1;
		s->state = rng(seed) % 8 ? MAFC_SPAN_IDLE : MAFC_SPAN_ATTACHED;
		break;
	}
}

struct fuzz {
	struct heap h;
	atomic_bool stop;
	_Atomic uint64_t steps;
	uint64_t want;
};

static void *toucher(void *arg)
{
	struct fuzz *f = arg;
	uint64_t seed = seeded(17);
	char *p;

	while (!atomic_load(&f->stop)) {
		p = rng(&seed) % 4 ? f->h.small : f->h.large;
		touch(p + rng(&seed) % (PAGES * PAGE), rng(&seed) % 2);
		if (rng(&seed) % 64 == 0)
			usleep(100);
	}
	return NULL;
}

static void *spoiler(void *arg)
{
	struct fuzz *f = arg;
	uint64_t seed = seeded(23);

	while (atomic_load(&f->steps) < f->want) {
		spoil(&f->h, &seed);
		if (atomic_fetch_add(&f->steps, 1) % 64 == 0)
			usleep(rng(&seed) % 200);
	}
	atomic_store(&f->stop, true);
	return NULL;
}

/* What the kernel is asked for meanwhile. */
static void ask(struct fuzz *f, uint64_t *seed, struct mafc_compact *sum)
{
	struct mafc_compact c = { 0 };
	struct mafc_stat st;
	unsigned int k;
	pid_t pid;

	switch (rng(seed) % 16) {
	case 0:
		heap_stat(&f->h, &st);
		break;
	case 1:
		heap_release(&f->h, rng(seed) % PAGES, 1 + rng(seed) % PAGES, NULL);
		break;
	case 2:
		heap_remap(&f->h, rng(seed) % PAGES, rng(seed) % PAGES,
			   1 + rng(seed) % 32);
		break;
	case 3:
		pid = fork();
		if (!pid) {
			for (k = rng(seed) % 64; k; k--)
				touch(f->h.small + rng(seed) % (PAGES * PAGE), true);
			for (k = 0; k < 64; k++)
				spoil(&f->h, seed);
			heap_compact(&f->h, rng(seed) & 1, NULL);
			if (rng(seed) % 2 && !fork()) {
				for (k = 0; k < 128; k++)
					touch(f->h.small + rng(seed) % (PAGES * PAGE), true);
				_exit(0);
			}
			_exit(0);
		}
		if (pid > 0 && rng(seed) % 2)
			child_status(pid);
		break;
	default:
		heap_compact(&f->h, rng(seed) & 1, &c);
		sum->meshed += c.meshed;
		sum->dropped += c.dropped;
		sum->moved += c.moved;
		break;
	}
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

static int fuzz_memory(struct mafc_compact *sum)
{
	struct fuzz f = { .want = steps_wanted() };
	pthread_t t[2];
	uint64_t seed = seeded(42);

	if (heap_open(&f.h, 0))
		return 1;
	catch_bus();
	map_set(f.h.small_map, 0, PAGES);
	map_set(f.h.large_map, 0, PAGES);
	if (pthread_create(&t[0], NULL, toucher, &f) ||
	    pthread_create(&t[1], NULL, spoiler, &f))
		return 1;
	while (!atomic_load(&f.stop))
		ask(&f, &seed, sum);
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	return 0;
}

/* Random arguments for ioctls: sizes, flags, numbers, addresses. */
static void random_call(struct heap *h, char *page, uint64_t *seed)
{
	static const uint64_t odd[] = { 0, 1, 4095, 4096, 4097, 1ULL << 20,
		1ULL << 27, 1ULL << 31, 1ULL << 32, 1ULL << 44, 1ULL << 63,
		-1ULL, -4096ULL, 0x7ffffffff000ULL };
	uint64_t *word = (uint64_t *)page;
	unsigned int i, nr = rng(seed) % 9;
	static const uint16_t size[] = { sizeof(struct mafc_info),
		sizeof(struct mafc_setup), sizeof(struct mafc_stat),
		sizeof(struct mafc_compact), sizeof(struct mafc_release),
		sizeof(struct mafc_remap), sizeof(struct mafc_policy), 64, 64 };
	char *at = page;

	for (i = 0; i < 64; i++)
		word[i] = rng(seed) % 2 ? odd[rng(seed) % 14] :
			  rng(seed) % 2 ? rng(seed) % PAGES * PAGE : 0;
	*(uint32_t *)page = rng(seed) % 4 ? size[nr] : rng(seed) % 5000;
	*(uint32_t *)(page + 4) = rng(seed) % 4 ? 0 : rng(seed);
	if (nr == 3 && rng(seed) % 2)
		*(uint64_t *)(page + 8) = rng(seed) % 1000;
	if (rng(seed) % 16 == 0)
		at = page + PAGE - rng(seed) % 64;	/* into what is not mapped */
	if (rng(seed) % 16 == 0)
		at = h->small + rng(seed) % (PAGES * PAGE);
	ioctl(h->fd, _IO(MAFC_IOC_MAGIC, nr), at);
}

static int fuzz_ioctls(uint64_t *done)
{
	uint64_t seed = seeded(5), want = steps_wanted() / 10;
	struct heap h;
	unsigned int i;
	char *page;

	catch_bus();
	if (heap_open(&h, 0))
		return 1;
	page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED || munmap(page + PAGE, PAGE))
		return 1;
	map_set(h.small_map, 0, PAGES);
	map_set(h.large_map, 0, PAGES);
	for (i = 0; i < PAGES; i++)
		h.large[i * PAGE] = h.small[i * PAGE] = 1;
	for (*done = 0; *done < want; ++*done) {
		random_call(&h, page, &seed);
		touch(h.large + rng(&seed) % (PAGES * PAGE), true);
	}
	return 0;
}

struct shared {
	struct witness w;
	struct mafc_compact sum;
	uint64_t calls;
};

FIXTURE(hostile) {
	struct shared *s;
	struct cgroup cg;
	bool group;
	pid_t witness;
	uint64_t heaps;
};

FIXTURE_SETUP(hostile)
{
	if (access("/dev/mafc", F_OK))
		SKIP(return, "no /dev/mafc");
	self->s = shared_alloc(sizeof(*self->s));
	ASSERT_NE(MAP_FAILED, self->s);
	self->heaps = counter("heaps");
	tunable_set("budget_percent", "50");
	tunable_set("interval_ms", "5");
	self->group = !cgroup_make(&self->cg, "hostile");
	self->witness = spawn(witness, &self->s->w);
	ASSERT_TRUE(WAIT_FOR(5000, atomic_load(&self->s->w.ready)));
}

/* The witness is well, and all of the other is gone. */
FIXTURE_TEARDOWN(hostile)
{
	uint64_t usage = 0;

	EXPECT_LT(10, self->s->w.checks);
	atomic_store(&self->s->w.stop, true);
	EXPECT_EQ(0, child_status(self->witness));
	EXPECT_EQ(0, self->s->w.wrong);
	EXPECT_TRUE(WAIT_FOR(10000, counter("heaps") == self->heaps))
		TH_LOG("%llu heaps", (unsigned long long)counter("heaps"));
	if (self->group) {
		EXPECT_TRUE(WAIT_FOR(15000, (usage = cgroup_kernel_bytes(&self->cg)) < 256 * 1024))
			TH_LOG("%llu bytes still charged", (unsigned long long)usage);
		cgroup_remove(&self->cg);
	}
	tunable_set("budget_percent", "1");
	tunable_set("interval_ms", "1000");
}

#define IN_GROUP(expr) ({						\
	pid_t _pid = fork();						\
									\
	if (!_pid) {							\
		prctl(PR_SET_PDEATHSIG, SIGKILL);			\
		if (self->group && cgroup_enter(&self->cg))		\
			_exit(77);					\
		_exit(expr);						\
	}								\
	child_status(_pid);						\
})

TEST_F_TIMEOUT(hostile, shared_memory, 200 * SLOW)
{
	EXPECT_EQ(0, IN_GROUP(fuzz_memory(&self->s->sum)));
	TH_LOG("%llu steps: %llu meshed, %llu dropped, %llu moved",
	       (unsigned long long)steps_wanted(),
	       (unsigned long long)self->s->sum.meshed,
	       (unsigned long long)self->s->sum.dropped,
	       (unsigned long long)self->s->sum.moved);
	/* It must get deep enough to do harm. */
	EXPECT_LT(0, self->s->sum.meshed);
	EXPECT_LT(0, self->s->sum.dropped);
	EXPECT_LT(0, self->s->sum.moved);
}

TEST_F_TIMEOUT(hostile, ioctls, 200 * SLOW)
{
	EXPECT_EQ(0, IN_GROUP(fuzz_ioctls(&self->s->calls)));
	EXPECT_LE(steps_wanted() / 10, self->s->calls);
}

/* Spans of two pages that begin at every page: each page is in two of them. */
static int overlapping_drops(void)
{
	struct heap h;
	unsigned int i, round;

	if (heap_open(&h, 0))
		return 1;
	map_set(h.small_map, 0, 2048);
	for (round = 0; round < 10; round++) {
		for (i = 0; i < 2048; i++)
			h.small[i * PAGE] = 1;
		for (i = 0; i < 2048; i++) {
			h.span[i].block_size = 4096;
			h.span[i].nblocks = 2;
			h.span[i].npages = 2;
			h.span[i].canonical = i;
			atomic_store(span_state(&h, i), MAFC_SPAN_ATTACHED);
		}
		if (heap_compact(&h, 0, NULL))
			return 2;
	}
	return 0;
}

TEST_F_TIMEOUT(hostile, overlapping_drops, 60 * SLOW)
{
	EXPECT_EQ(0, IN_GROUP(overlapping_drops()));
}

static void fake_pair(struct heap *h, uint32_t page, uint64_t bits)
{
	h->span[page].block_size = 1024;
	h->span[page].nblocks = 8;
	h->span[page].npages = 2;
	h->span[page].canonical = page;
	h->span[page].bitmap[0] = bits;
	atomic_store(span_state(h, page + 1), MAFC_SPAN_TAIL);
	atomic_store(span_state(h, page), MAFC_SPAN_IDLE);
}

/*
 * Pages z+1 and x share a frame; then z,z+1 and x,x+1 are said to be spans of
 * two pages, so that meshing one into the other has a frame on both sides.
 */
static void cross_frames(struct heap *h, uint32_t z, uint32_t x)
{
	span_make(h, z + 1, 512, 8, 1);
	span_make(h, x, 512, 8, 1);
	block_alloc(h, z + 1, 0)[0] = 1;
	block_alloc(h, x, 7)[0] = 1;
	span_detach(h, z + 1);
	span_detach(h, x);
	heap_compact(h, 0, NULL);
	map_set(h->small_map, z, 2);
	map_set(h->small_map, x, 2);
	h->small[z * PAGE] = 1;
	h->small[(x + 1) * PAGE] = 1;
	fake_pair(h, z, 0x81);
	fake_pair(h, x, 0x42);
	heap_compact(h, 0, NULL);
}

static void write_four(struct heap *h, uint32_t z, uint32_t x)
{
	h->small[z * PAGE] = 1;
	h->small[(z + 1) * PAGE] = 2;
	h->small[x * PAGE] = 3;
	h->small[(x + 1) * PAGE] = 4;
}

static int crossing_meshes(void)
{
	struct heap h;
	uint32_t z, k;
	pid_t pid;

	if (heap_open(&h, 0))
		return 1;
	heap_policy(&h, false);
	for (z = 0; z < 2000; z += 20)
		cross_frames(&h, z, z + 10);
	pid = fork();
	if (!pid) {
		pid_t grandchild = fork();

		for (z = grandchild ? 0 : 1000; z < 2000; z += 20)
			write_four(&h, z, z + 10);
		heap_compact(&h, MAFC_COMPACT_SHUFFLE, NULL);
		_exit(grandchild ? child_status(grandchild) : 0);
	}
	for (z = 0; z < 2000; z += 40)
		write_four(&h, z, z + 10);
	child_status(pid);
	for (k = 0; k < 3; k++) {
		for (z = 0; z < 2000; z += 20) {
			write_four(&h, z, z + 10);
			h.span[z].bitmap[0] = h.span[z + 10].bitmap[0] = 0;
		}
		heap_compact(&h, MAFC_COMPACT_SHUFFLE, NULL);
	}
	return 0;
}

TEST_F_TIMEOUT(hostile, crossing_meshes, 60 * SLOW)
{
	EXPECT_EQ(0, IN_GROUP(crossing_meshes()));
}

TEST_HARNESS_MAIN
