// SPDX-License-Identifier: GPL-2.0-only
/*
 * secrets.c - no byte of a former owner is ever seen
 *
 * One process fills its memory with a secret and ends or lets go of it; another
 * looks for it in all pages that are new to it.  The page allocator likes to
 * hand out what was freed last, so that the same pages come round.
 */
#include "test.h"

#define SECRET		0x5ec2e75ec2e75ec2ULL
#define PAGES		1536	/* of each region */

static void write_secret(char *p, unsigned int pages)
{
	uint64_t *w = (uint64_t *)p;
	size_t i;

	for (i = 0; i < pages * PAGE / 8; i++)
		w[i] = SECRET;
}

/* Words of these pages that hold the secret. */
static uint64_t seen(const char *p, unsigned int pages)
{
	const uint64_t *w = (const uint64_t *)p;
	uint64_t n = 0;
	size_t i;

	for (i = 0; i < pages * PAGE / 8; i++)
		n += w[i] == SECRET;
	return n;
}

static void use(struct heap *h)
{
	map_set(h->small_map, 0, PAGES);
	map_set(h->large_map, 0, PAGES);
}

/* Fills everything, the descriptors too, which nobody looks at. */
static int fill_and_end(void *arg)
{
	struct heap h;

	if (heap_open(&h, 0) || heap_policy(&h, false))
		return 1;
	use(&h);
	write_secret(h.small, PAGES);
	write_secret(h.large, PAGES);
	write_secret(h.meta + h.setup.spans, 64);
	if (arg)
		raise(SIGKILL);
	return 0;
}

static uint64_t look_everywhere(struct heap *h)
{
	uint64_t n;

	/* Descriptors first: the pages of other regions cannot be zeros yet. */
	n = seen(h->meta + h->setup.spans, 64);
	n += seen(h->meta, 3);
	use(h);
	n += seen(h->large, PAGES);
	n += seen(h->small, PAGES);
	return n;
}

static int look_in_a_new_heap(void *arg)
{
	struct heap h;

	if (heap_open(&h, 0) || heap_policy(&h, false))
		return 1;
	return look_everywhere(&h) ? 2 : 0;
}

FIXTURE(secrets) { };

FIXTURE_SETUP(secrets)
{
	if (access("/dev/mafc", F_OK))
		SKIP(return, "no /dev/mafc");
}

FIXTURE_TEARDOWN(secrets) { }

TEST_F_TIMEOUT(secrets, of_the_dead, 60 * SLOW)
{
	unsigned int i;

	for (i = 0; i < scaled(12, 4); i++) {
		ASSERT_EQ(i & 1 ? 1000 + SIGKILL : 0,
			  child_status(spawn(fill_and_end, (void *)(uintptr_t)(i & 1))));
		EXPECT_EQ(0, child_status(spawn(look_in_a_new_heap, NULL)));
	}
}

/* The memory of a process that execs belongs to a stranger afterwards. */
TEST_F_TIMEOUT(secrets, of_who_execs, 60 * SLOW)
{
	pid_t pid = fork();

	if (!pid) {
		struct heap h;

		if (heap_open(&h, 0))
			_exit(1);
		use(&h);
		write_secret(h.small, PAGES);
		write_secret(h.large, PAGES);
		/* What it prints is not ours. */
		dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
		execl("/proc/self/exe", "secrets", "-r", "secrets.helper_looks", NULL);
		_exit(1);
	}
	EXPECT_EQ(0, child_status(pid));
}

TEST_F_TIMEOUT(secrets, helper_looks, 60 * SLOW)
{
	EXPECT_EQ(0, child_status(spawn(look_in_a_new_heap, NULL)));
}

/* A page that holds nothing secret, written so that it is really there. */
static void plain(struct heap *h)
{
	unsigned int i;

	for (i = 0; i < PAGES; i++)
		h->small[i * PAGE] = h->large[i * PAGE] = 1;
}

/*
 * The child writes its secret over what it shares with its parent, and dies.
 * The parent's own pages are unchanged, and new ones hold no trace.
 */
TEST_F_TIMEOUT(secrets, of_a_child, 60 * SLOW)
{
	struct heap h;
	unsigned int i, round;
	pid_t pid;

	ASSERT_EQ(0, heap_open(&h, 0));
	ASSERT_EQ(0, heap_policy(&h, false));
	use(&h);
	for (round = 0; round < 4; round++) {
		plain(&h);
		pid = fork();
		if (!pid) {
			if (round & 1)		/* frees, moves and all */
				heap_release(&h, 0, PAGES, NULL);
			write_secret(h.small, PAGES);
			write_secret(h.large, PAGES);
			heap_compact(&h, MAFC_COMPACT_SHUFFLE, NULL);
			heap_release(&h, 0, PAGES / 2, NULL);
			_exit(0);
		}
		/* Now and then the parent copies first, and the child gets the page. */
		if (round & 2)
			plain(&h);
		EXPECT_EQ(0, child_status(pid));
		EXPECT_EQ(0, seen(h.small, PAGES) + seen(h.large, PAGES));
		/* All go, and come again. */
		ASSERT_EQ(0, heap_release(&h, 0, PAGES, NULL));
		map_clear(h.small_map, 0, PAGES);
		for (i = 0; i < 3; i++)
			ASSERT_EQ(0, heap_compact(&h, MAFC_COMPACT_SHUFFLE, NULL));
		use(&h);
		EXPECT_EQ(0, seen(h.small, PAGES) + seen(h.large, PAGES));
	}
	heap_close(&h);
}

/*
 * The parent writes its secret after fork: into pages of its own, whose frames
 * lie in the same chunks as those that the child still has.
 */
static int look_in_a_child(struct heap *h, struct gate *g)
{
	uint64_t n;
	int i;

	await(g->in[0]);		/* the parent has written, or is gone */
	n = seen(h->small, PAGES) + seen(h->large, PAGES);
	/* Copies of the child's own, into new chunks and old ones. */
	plain(h);
	n += seen(h->small, PAGES) + seen(h->large, PAGES);
	heap_release(h, 0, PAGES, NULL);
	map_clear(h->small_map, 0, PAGES);
	for (i = 0; i < 3; i++)
		heap_compact(h, MAFC_COMPACT_SHUFFLE, NULL);
	use(h);
	n += seen(h->small, PAGES) + seen(h->large, PAGES);
	return n ? 1 : 0;
}

TEST_F_TIMEOUT(secrets, of_a_parent, 60 * SLOW)
{
	struct gate g;
	pid_t middle;
	int result = -1;

	/* The parent of the one who looks dies, so it is not this process. */
	ASSERT_EQ(0, gate_open(&g));
	middle = fork();
	if (!middle) {
		struct heap h;
		int r;

		if (heap_open(&h, 0) || heap_policy(&h, false))
			_exit(1);
		use(&h);
		plain(&h);
		if (!fork()) {
			r = look_in_a_child(&h, &g);
			if (write(g.out[1], &r, sizeof(r)) != sizeof(r))
				abort();
			_exit(0);
		}
		write_secret(h.small, PAGES);
		write_secret(h.large, PAGES);
		_exit(0);
	}
	ASSERT_EQ(0, child_status(middle));
	pass(g.in[1]);
	ASSERT_EQ(sizeof(result), read(g.out[0], &result, sizeof(result)));
	EXPECT_EQ(0, result);
}

/* Frames that one process gave back singly, and another got. */
static int give_back(void *arg)
{
	struct gate *g = arg;
	struct heap h;
	unsigned int k;

	if (heap_open(&h, 0) || heap_policy(&h, false))
		return 1;
	for (;;) {
		use(&h);
		write_secret(h.small, PAGES);
		write_secret(h.large, PAGES);
		/* A few stay, so that the chunks cannot go as a whole. */
		for (k = 0; k < PAGES; k++)
			if (k % 8) {
				map_clear(h.small_map, k, 1);
				map_clear(h.large_map, k, 1);
			}
		for (k = 0; k < 3; k++)
			heap_compact(&h, 0, NULL);
		pass(g->out[1]);
		await(g->in[0]);
	}
}

TEST_F_TIMEOUT(secrets, of_who_gives_back, 60 * SLOW)
{
	struct gate g;
	unsigned int i;
	pid_t pid;

	ASSERT_EQ(0, gate_open(&g));
	pid = spawn(give_back, &g);
	for (i = 0; i < 4; i++) {
		await(g.out[0]);
		EXPECT_EQ(0, child_status(spawn(look_in_a_new_heap, NULL)));
		pass(g.in[1]);
	}
	kill(pid, SIGKILL);
	child_status(pid);
}

/*
 * Anonymous memory and the heap get their pages from the same place: a secret
 * must not come from there either.
 */
static int look_after_others(void *arg)
{
	const size_t len = 2 * PAGES * PAGE;
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return 3;
	write_secret(p, 2 * PAGES);
	munmap(p, len);
	return look_in_a_new_heap(NULL);
}

TEST_F_TIMEOUT(secrets, of_anonymous_memory, 60 * SLOW)
{
	EXPECT_EQ(0, child_status(spawn(look_after_others, NULL)));
}

/* Large pages come back as zeros to their own process as well. */
TEST_F_TIMEOUT(secrets, large_pages_are_zero, 60 * SLOW)
{
	struct heap h;
	unsigned int i, k;

	ASSERT_EQ(0, heap_open(&h, 0));
	ASSERT_EQ(0, heap_policy(&h, false));
	for (k = 0; k < 4; k++) {
		use(&h);
		write_secret(h.large, PAGES);
		write_secret(h.small, PAGES);
		map_clear(h.small_map, 0, PAGES);
		map_clear(h.large_map, 0, PAGES / 2);
		ASSERT_EQ(0, heap_compact(&h, 0, NULL));
		ASSERT_EQ(0, heap_release(&h, PAGES / 2, PAGES / 2, NULL));
		use(&h);
		for (i = 0; i < PAGES * PAGE / 8; i++)
			if (((uint64_t *)h.large)[i])
				break;
		EXPECT_EQ(PAGES * PAGE / 8, i);
	}
	heap_close(&h);
}

TEST_HARNESS_MAIN
