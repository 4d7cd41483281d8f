// SPDX-License-Identifier: GPL-2.0-only
/*
 * fork.c - copy on write between a process and its children
 */
#include <spawn.h>

#include "test.h"

extern char **environ;

#define SMALL	48	/* pages used by most tests, in each region */
#define LARGE	48

HEAP_FIXTURE(fork)

static void fill_all(struct heap *h, uint64_t version)
{
	unsigned int i;

	for (i = 0; i < SMALL; i++)
		block_fill(h->small + i * PAGE, PAGE, i, version);
	for (i = 0; i < LARGE; i++)
		block_fill(h->large + i * PAGE, PAGE, 1000 + i, version);
}

/* Number of pages that do not hold this version. */
static int wrong_pages(struct heap *h, uint64_t version)
{
	int wrong = 0, i;

	for (i = 0; i < SMALL; i++)
		wrong += block_check(h->small + i * PAGE, PAGE, i, version) >= 0;
	for (i = 0; i < LARGE; i++)
		wrong += block_check(h->large + i * PAGE, PAGE, 1000 + i, version) >= 0;
	return wrong;
}

static void use_pages(struct heap *h)
{
	map_set(h->small_map, 0, SMALL);
	map_set(h->large_map, 0, LARGE);
}

TEST_F(fork, both_directions)
{
	struct heap *h = &self->h;
	struct gate g;
	pid_t pid;

	use_pages(h);
	fill_all(h, 1);
	ASSERT_EQ(0, gate_open(&g));
	pid = fork();
	if (!pid) {
		int wrong = wrong_pages(h, 1);

		await(g.in[0]);		/* the parent has written */
		wrong += wrong_pages(h, 1);
		fill_all(h, 2);
		wrong += wrong_pages(h, 2);
		pass(g.out[1]);
		await(g.in[0]);
		wrong += wrong_pages(h, 2);
		_exit(wrong);
	}
	fill_all(h, 3);
	EXPECT_EQ(0, wrong_pages(h, 3));
	pass(g.in[1]);
	await(g.out[0]);		/* the child has written */
	EXPECT_EQ(0, wrong_pages(h, 3));
	fill_all(h, 4);
	pass(g.in[1]);
	EXPECT_EQ(0, child_status(pid));
	EXPECT_EQ(0, wrong_pages(h, 4));
}

/* First touches after fork: pages that neither had. */
TEST_F(fork, new_pages_are_private)
{
	struct heap *h = &self->h;
	struct gate g;
	pid_t pid;

	use_pages(h);
	ASSERT_EQ(0, gate_open(&g));
	pid = fork();
	if (!pid) {
		fill_all(h, 1);
		pass(g.out[1]);
		await(g.in[0]);
		_exit(wrong_pages(h, 1));
	}
	await(g.out[0]);
	EXPECT_EQ(0, *(uint64_t *)h->small);
	EXPECT_EQ(0, *(uint64_t *)h->large);
	fill_all(h, 2);
	pass(g.in[1]);
	EXPECT_EQ(0, child_status(pid));
	EXPECT_EQ(0, wrong_pages(h, 2));
}

#define GENERATIONS	5

/* Generation @g adds a version of its own, and looks after its children. */
static int generation(struct heap *h, int g)
{
	pid_t pid;
	int bad;

	bad = wrong_pages(h, g);
	fill_all(h, g + 1);
	if (g + 1 < GENERATIONS) {
		pid = fork();
		if (!pid)
			_exit(generation(h, g + 1));
		fill_all(h, 100 + g);
		bad += !!child_status(pid);
		bad += wrong_pages(h, 100 + g);
	}
	return !!bad;
}

TEST_F(fork, nested)
{
	use_pages(&self->h);
	fill_all(&self->h, 0);
	EXPECT_EQ(0, generation(&self->h, 0));
}

/* The middle one dies; the grandchild and the first go on. */
TEST_F(fork, middle_dies)
{
	struct heap *h = &self->h;
	struct gate g;
	int result[2], r = -1;
	pid_t pid;

	use_pages(h);
	fill_all(h, 1);
	ASSERT_EQ(0, gate_open(&g));
	ASSERT_EQ(0, pipe(result));
	pid = fork();
	if (!pid) {
		fill_all(h, 2);
		if (!fork()) {
			await(g.in[0]);
			r = wrong_pages(h, 2);
			fill_all(h, 3);
			r += wrong_pages(h, 3);
			if (write(result[1], &r, sizeof(r)) != sizeof(r))
				abort();
			_exit(0);
		}
		_exit(0);
	}
	ASSERT_EQ(0, child_status(pid));
	fill_all(h, 4);
	ASSERT_EQ(0, heap_compact(h, MAFC_COMPACT_SHUFFLE, NULL));
	pass(g.in[1]);
	ASSERT_EQ(sizeof(r), read(result[0], &r, sizeof(r)));
	EXPECT_EQ(0, r);
	EXPECT_EQ(0, wrong_pages(h, 4));
}

/* Spans 0, 1, 2 with one block each, meshed onto one frame. */
static int mesh_three(struct heap *h)
{
	struct mafc_compact c;
	unsigned int i;

	for (i = 0; i < 3; i++) {
		span_make(h, i, 1024, 4, 1);
		block_fill(block_alloc(h, i, i), 1024, i, 1);
		span_detach(h, i);
	}
	if (heap_compact(h, 0, &c))
		return -1;
	return c.meshed;
}

static int wrong_blocks(struct heap *h, uint64_t version)
{
	int wrong = 0, i, k;

	/* Each block through the addresses of all three spans. */
	for (i = 0; i < 3; i++)
		for (k = 0; k < 3; k++)
			wrong += block_check(block_at(h, k, i), 1024, i, version) >= 0;
	return wrong;
}

TEST_F(fork, meshed_pages)
{
	struct heap *h = &self->h;
	struct gate g;
	pid_t pid;
	int i;

	ASSERT_EQ(2, mesh_three(h));
	ASSERT_EQ(0, gate_open(&g));
	pid = fork();
	if (!pid) {
		int wrong = wrong_blocks(h, 1);

		await(g.in[0]);
		wrong += wrong_blocks(h, 1);
		/* Written by one address, read by the others. */
		for (i = 0; i < 3; i++)
			block_fill(block_at(h, (i + 1) % 3, i), 1024, i, 2);
		wrong += wrong_blocks(h, 2);
		pass(g.out[1]);
		_exit(wrong);
	}
	for (i = 0; i < 3; i++)
		block_fill(block_at(h, (i + 2) % 3, i), 1024, i, 3);
	EXPECT_EQ(0, wrong_blocks(h, 3));
	pass(g.in[1]);
	await(g.out[0]);
	EXPECT_EQ(0, wrong_blocks(h, 3));
	EXPECT_EQ(0, child_status(pid));

	/* With the child gone, they can be moved and dissolved again. */
	ASSERT_EQ(0, heap_compact(h, MAFC_COMPACT_SHUFFLE, NULL));
	EXPECT_EQ(0, wrong_blocks(h, 3));
	for (i = 0; i < 3; i++)
		EXPECT_TRUE(block_free(h, i, i));
	ASSERT_EQ(0, heap_compact(h, 0, NULL));
	for (i = 0; i < 3; i++)
		EXPECT_EQ(MAFC_SPAN_NONE, span_is(h, i));
}

/* What is shared with a child is left alone by the compactor of either. */
TEST_F(fork, compaction_leaves_shared_pages)
{
	struct heap *h = &self->h;
	struct mafc_compact c;
	struct gate g;
	unsigned int i;
	pid_t pid;

	for (i = 0; i < 8; i++) {
		span_make(h, i, 512, 8, 1);
		block_fill(block_alloc(h, i, i), 512, i, 1);
		span_detach(h, i);
	}
	ASSERT_EQ(0, gate_open(&g));
	pid = fork();
	if (!pid) {
		int bad = heap_compact(h, MAFC_COMPACT_SHUFFLE, &c);

		bad |= c.meshed || c.dropped || c.moved;
		for (i = 0; i < 8; i++)
			bad |= block_check(block_at(h, i, i), 512, i, 1) >= 0;
		pass(g.out[1]);
		await(g.in[0]);
		for (i = 0; i < 8; i++)
			bad |= block_check(block_at(h, i, i), 512, i, 1) >= 0;
		_exit(bad);
	}
	await(g.out[0]);
	ASSERT_EQ(0, heap_compact(h, MAFC_COMPACT_SHUFFLE, &c));
	EXPECT_EQ(0, c.meshed);
	EXPECT_EQ(0, c.moved);
	/* Once the parent has its own copies (and descriptors), it goes on. */
	for (i = 0; i < 8; i++) {
		block_fill(block_at(h, i, i), 512, i, 2);
		atomic_fetch_or(span_state(h, i), 0);
	}
	ASSERT_EQ(0, heap_compact(h, 0, &c));
	EXPECT_EQ(7, c.meshed);
	for (i = 0; i < 8; i++)
		EXPECT_EQ(-1, block_check(block_at(h, i, i), 512, i, 2));
	pass(g.in[1]);
	EXPECT_EQ(0, child_status(pid));
}

/* Descriptors and page maps are each process's own. */
TEST_F(fork, metadata_is_private)
{
	struct heap *h = &self->h;
	struct gate g;
	pid_t pid;

	span_make(h, 0, 512, 8, 1);
	memset(block_alloc(h, 0, 3), 3, 512);
	ASSERT_EQ(0, gate_open(&g));
	pid = fork();
	if (!pid) {
		bool ok = block_free(h, 0, 3) && span_detach(h, 0);

		ok = ok && !heap_compact(h, 0, NULL);
		map_clear(h->small_map, 0, 1);
		map_set(h->small_map, 9, 1);
		memset(h->small + 9 * PAGE, 9, PAGE);
		pass(g.out[1]);
		await(g.in[0]);
		ok = ok && !span_live(h, 0) && !map_test(h->small_map, 0);
		_exit(!ok);
	}
	await(g.out[0]);
	EXPECT_EQ(MAFC_SPAN_ATTACHED, span_is(h, 0));
	EXPECT_EQ(1, span_live(h, 0));
	EXPECT_TRUE(map_test(h->small_map, 0));
	EXPECT_FALSE(map_test(h->small_map, 9));
	EXPECT_EQ(SIGBUS, touch_signal(h->small + 9 * PAGE, false));
	EXPECT_EQ(3, *block_at(h, 0, 3));
	block_alloc(h, 0, 4);
	pass(g.in[1]);
	EXPECT_EQ(0, child_status(pid));
	EXPECT_EQ(2, span_live(h, 0));
}

/* Memory is shared until somebody writes. */
TEST_F(fork, sharing)
{
	const unsigned int pages = 2048;
	struct mafc_stat mine, his;
	struct heap *h = &self->h;
	struct gate g;
	unsigned int i;
	pid_t pid;

	map_set(h->large_map, 0, pages);
	for (i = 0; i < pages; i++)
		h->large[i * PAGE] = 1;
	ASSERT_EQ(0, heap_stat(h, &mine));
	EXPECT_LE(pages * PAGE, mine.held);
	ASSERT_EQ(0, gate_open(&g));
	pid = fork();
	if (!pid) {
		int sum = 0;

		for (i = 0; i < pages; i++)
			sum += h->large[i * PAGE];
		pass(g.out[1]);
		await(g.in[0]);
		for (i = 0; i < 100; i++)
			h->large[i * PAGE] = 2;
		pass(g.out[1]);
		await(g.in[0]);
		_exit(sum != (int)pages);
	}
	await(g.out[0]);
	memset(&his, 0, sizeof(his));
	his.size = sizeof(his);
	his.pid = pid;
	ASSERT_EQ(0, ioctl(h->fd, MAFC_IOC_STAT, &his));
	EXPECT_GE(PAGE * 64, his.held);
	pass(g.in[1]);
	await(g.out[0]);
	his.flags = 0;
	his.pad = 0;
	ASSERT_EQ(0, ioctl(h->fd, MAFC_IOC_STAT, &his));
	EXPECT_LE(PAGE * 100, his.held);
	EXPECT_GE(PAGE * 250, his.held);
	EXPECT_LE(100, his.cow_copies);
	ASSERT_EQ(0, heap_stat(h, &his));
	EXPECT_GE(mine.held + 16 * PAGE, his.held);
	pass(g.in[1]);
	EXPECT_EQ(0, child_status(pid));
}

/*
 * mprotect() makes entries writable again that it takes for written before:
 * those of shared pages must not be among them.
 */
TEST_F(fork, mprotect_after_fork)
{
	struct heap *h = &self->h;
	struct gate g;
	pid_t pid;

	use_pages(h);
	fill_all(h, 1);
	ASSERT_EQ(0, gate_open(&g));
	pid = fork();
	if (!pid) {
		await(g.in[0]);
		_exit(wrong_pages(h, 1));
	}
	ASSERT_EQ(0, mprotect(h->large, LARGE * PAGE, PROT_READ));
	ASSERT_EQ(0, mprotect(h->small, SMALL * PAGE, PROT_NONE));
	ASSERT_EQ(0, mprotect(h->large, LARGE * PAGE, PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, mprotect(h->small, SMALL * PAGE, PROT_READ | PROT_WRITE));
	fill_all(h, 2);
	pass(g.in[1]);
	EXPECT_EQ(0, child_status(pid));
	EXPECT_EQ(0, wrong_pages(h, 2));
}

/* A range that is not writable stays so in both, whatever fork does. */
TEST_F(fork, read_only_ranges)
{
	struct heap *h = &self->h;

	use_pages(h);
	fill_all(h, 1);
	ASSERT_EQ(0, mprotect(h->small + PAGE, PAGE, PROT_READ));
	ASSERT_EQ(0, mprotect(h->small + 2 * PAGE, PAGE, PROT_NONE));
	EXPECT_EQ(SIGSEGV, touch_signal(h->small + PAGE, true));
	EXPECT_EQ(0, touch_signal(h->small + PAGE, false));
	EXPECT_EQ(SIGSEGV, touch_signal(h->small + 2 * PAGE, false));
	EXPECT_EQ(0, touch_signal(h->small + 3 * PAGE, true));
	ASSERT_EQ(0, heap_compact(h, MAFC_COMPACT_SHUFFLE, NULL));
	EXPECT_EQ(SIGSEGV, touch_signal(h->small + PAGE, true));
	ASSERT_EQ(0, mprotect(h->small + PAGE, 2 * PAGE, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, wrong_pages(h, 1));
}

TEST_F(fork, vfork_and_spawn)
{
	char *const argv[] = { "true", NULL };
	uint64_t heaps = counter("heaps");
	struct heap *h = &self->h;
	pid_t pid;
	int i;

	use_pages(h);
	fill_all(h, 1);
	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, posix_spawnp(&pid, "true", NULL, NULL, argv, environ));
		EXPECT_EQ(0, child_status(pid));
		pid = vfork();
		if (!pid)
			_exit(0);
		EXPECT_EQ(0, child_status(pid));
	}
	EXPECT_EQ(0, wrong_pages(h, 1));
	EXPECT_TRUE(WAIT_FOR(3000, counter("heaps") == heaps));
}

/*
 * Writers write the words of their pages in order, round after round, so that at
 * any moment the words up to some place are of round n and the rest of n - 1.
 * A child is to see exactly that, and go on seeing it.
 */
#define WRITERS		3
#define PAGES_EACH	4
#define WORDS		(PAGES_EACH * PAGE / 8)

struct writer {
	size_t words;
	volatile uint64_t *word[WORDS];
	atomic_bool *stop;
	_Atomic uint64_t rounds;
};

static void *write_rounds(void *arg)
{
	struct writer *w = arg;
	uint64_t n;
	size_t i;

	for (n = 1; !atomic_load(w->stop); n++) {
		for (i = 0; i < w->words; i++)
			*w->word[i] = n;
		atomic_store(&w->rounds, n);
	}
	return NULL;
}

/* 0, or the place of the second step. */
static size_t second_step(const struct writer *w)
{
	uint64_t first = *w->word[0], before = first;
	bool stepped = false;
	size_t i;

	for (i = 1; i < w->words; i++) {
		uint64_t now = *w->word[i];

		if (now == before)
			continue;
		if (stepped || now + 1 != first)
			return i;
		stepped = true;
		before = now;
	}
	return 0;
}

static int check_snapshot(struct writer *w, struct heap *h, unsigned int n)
{
	uint64_t sum[2] = { 0, 0 };
	size_t at, i;
	int k, pass;

	for (pass = 0; pass < 2; pass++) {
		for (k = 0; k < WRITERS; k++) {
			at = second_step(&w[k]);
			if (at) {
				printf("# fork %u pass %d writer %d: torn at word %zu: %llu %llu %llu\n",
				       n, pass, k, at,
				       (unsigned long long)*w[k].word[0],
				       (unsigned long long)*w[k].word[at - 1],
				       (unsigned long long)*w[k].word[at]);
				fflush(stdout);
				return 1;
			}
			for (i = 0; i < w[k].words; i++)
				sum[pass] += *w[k].word[i];
		}
		if (!pass && n % 3 == 0)
			sleep_ms(20);
	}
	if (sum[0] != sum[1]) {
		printf("# fork %u: the parent's writes came through\n", n);
		fflush(stdout);
		return 1;
	}
	/* Its own writes, and a child of its own now and then. */
	for (k = 0; k < WRITERS; k++)
		*w[k].word[7] = 0;
	if (n % 5 == 0) {
		pid_t pid = fork();

		if (!pid)
			_exit(*w[0].word[7] || *w[1].word[7]);
		return child_status(pid);
	}
	return 0;
}

struct shuffler {
	struct heap *h;
	atomic_bool *stop;
	_Atomic uint64_t moved;
};

static void *shuffle(void *arg)
{
	struct shuffler *s = arg;
	struct mafc_compact c;

	while (!atomic_load(s->stop)) {
		if (!heap_compact(s->h, MAFC_COMPACT_SHUFFLE, &c))
			atomic_fetch_add(&s->moved, c.moved);
		sleep_ms(1);
	}
	return NULL;
}

FIXTURE(fork_load) {
	struct heap h;
	struct writer w[WRITERS];
};

FIXTURE_VARIANT(fork_load) {
	bool shuffle;
	bool meshed;
};

FIXTURE_VARIANT_ADD(fork_load, writers) { };
FIXTURE_VARIANT_ADD(fork_load, writers_and_moves) { .shuffle = true };
FIXTURE_VARIANT_ADD(fork_load, meshed_and_moves) { .shuffle = true, .meshed = true };

FIXTURE_SETUP(fork_load)
{
	struct heap *h = &self->h;
	int err = heap_open(h, 0);
	size_t i, k;

	if (err == ENOENT)
		SKIP(return, "no /dev/mafc");
	ASSERT_EQ(0, err);
	ASSERT_EQ(0, heap_policy(h, false));
	/*
	 * Meshed: page p of all writers on one frame, a quarter of the frame
	 * each; else pages of their own, in both regions.
	 */
	map_set(h->small_map, 0, 64);
	map_set(h->large_map, 0, 64);
	for (k = 0; variant->meshed && k < 16; k++) {
		span_make(h, k, 1024, 4, 1);
		memset(block_alloc(h, k, k % 4), 0, 1024);
		span_detach(h, k);
	}
	if (variant->meshed)
		ASSERT_EQ(0, heap_compact(h, 0, NULL));
	for (k = 0; k < WRITERS; k++) {
		const size_t each = variant->meshed ? 1024 : PAGE;

		self->w[k].words = PAGES_EACH * each / 8;
		for (i = 0; i < self->w[k].words; i++) {
			size_t page = i * 8 / each, off = i * 8 % each;
			char *base = page & 1 ? h->small : h->large;

			base = variant->meshed ? block_at(h, k + page * 4, k) :
						 base + (k * 8 + page) * PAGE;
			self->w[k].word[i] = (void *)(base + off);
		}
	}
}

FIXTURE_TEARDOWN(fork_load)
{
	heap_close(&self->h);
}

TEST_F_TIMEOUT(fork_load, no_torn_pages, 120 * SLOW)
{
	const unsigned int forks = scaled(40, 2);
	struct shuffler sh = { .h = &self->h };
	pthread_t t[WRITERS], mover;
	atomic_bool stop = false;
	unsigned int i, n, torn = 0;
	uint64_t rounds = 0;
	struct mafc_stat st;

	sh.stop = &stop;
	for (i = 0; i < WRITERS; i++) {
		self->w[i].stop = &stop;
		ASSERT_EQ(0, pthread_create(&t[i], NULL, write_rounds, &self->w[i]));
	}
	if (variant->shuffle)
		ASSERT_EQ(0, pthread_create(&mover, NULL, shuffle, &sh));
	for (n = 1; n <= forks && !torn; n++) {
		pid_t pid = fork();

		if (!pid)
			_exit(check_snapshot(self->w, &self->h, n));
		torn += !!child_status(pid);
		sleep_ms(n % 4);
	}
	atomic_store(&stop, true);
	for (i = 0; i < WRITERS; i++) {
		pthread_join(t[i], NULL);
		rounds += self->w[i].rounds;
		/* The parent's own: all of the last round. */
		EXPECT_EQ(self->w[i].rounds, *self->w[i].word[0]);
		EXPECT_EQ(self->w[i].rounds, *self->w[i].word[self->w[i].words - 1]);
		EXPECT_EQ(0, second_step(&self->w[i]));
	}
	if (variant->shuffle)
		pthread_join(mover, NULL);
	EXPECT_EQ(0, torn);
	EXPECT_LT(forks, rounds);
	ASSERT_EQ(0, heap_stat(&self->h, &st));
	TH_LOG("%u forks, %llu rounds, %llu moves, %llu copies", n - 1,
	       (unsigned long long)rounds, (unsigned long long)st.moved,
	       (unsigned long long)st.cow_copies);
	EXPECT_LT(forks, st.cow_copies);
	if (variant->shuffle)
		EXPECT_LT(10, sh.moved);
}

TEST_HARNESS_MAIN
