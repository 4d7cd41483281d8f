// SPDX-License-Identifier: GPL-2.0-only
/*
 * numa.c - pages lie where the program wants them, and stay there
 *
 * Skips on a machine of one node: selftests/vm/run --numa 2.
 */
#include <numa.h>
#include <numaif.h>

#include "test.h"

#define N	512U	/* pages */

HEAP_FIXTURE(numa)

/* The nodes of these pages, counted.  They are touched, as a move unmaps them. */
struct nodes { unsigned int n[2], other; };

static struct nodes nodes_of(const char *p, unsigned int n)
{
	struct nodes at = { 0 };
	unsigned int i;

	for (i = 0; i < n; i++) {
		void *page = (void *)(p + i * PAGE);
		int status = -1;

		(void)*(volatile char *)page;
		if (numa_move_pages(0, 1, &page, NULL, &status, 0) ||
		    status < 0 || status > 1)
			at.other++;
		else
			at.n[status]++;
	}
	return at;
}

static void touch(struct heap *h, char *region, unsigned int first, unsigned int n)
{
	unsigned int i;

	map_set(region == h->small ? h->small_map : h->large_map, first, n);
	for (i = first; i < first + n; i++)
		block_fill(region + i * PAGE, PAGE, i, 1);
}

#define EXPECT_NODES(p, pages, want0, want1) ({				\
	struct nodes _at = nodes_of(p, pages);				\
									\
	EXPECT_TRUE(_at.n[0] == (want0) && _at.n[1] == (want1))		\
		TH_LOG("%u on node 0, %u on node 1, %u elsewhere",	\
		       _at.n[0], _at.n[1], _at.other);			\
})

#define TWO_NODES() do {						\
	if (numa_available() < 0 || numa_num_configured_nodes() < 2)	\
		SKIP(return, "one node only");				\
} while (0)

/* Bytes of @node by sysfs. */
static uint64_t held(int node)
{
	char buf[4096] = "", *p = buf;
	uint64_t v = 0;
	int i;

	file_read(SYSFS "nodes/held", buf, sizeof(buf));
	for (i = 0; i <= node; i++)
		v = strtoull(p, &p, 10);
	return v;
}

/* First touch decides, whatever is free on the other node. */
TEST_F(numa, local)
{
	struct heap *h = &self->h;
	uint64_t was[2] = { held(0), held(1) };

	TWO_NODES();
	ASSERT_EQ(0, numa_run_on_node(0));
	touch(h, h->large, 0, N);
	ASSERT_EQ(0, heap_release(h, 0, N / 2, NULL));
	ASSERT_EQ(0, numa_run_on_node(1));
	touch(h, h->large, N, N);
	touch(h, h->small, 0, N);
	EXPECT_NODES(h->large + N / 2 * PAGE, N / 2, N / 2, 0);
	EXPECT_NODES(h->large + N * PAGE, N, 0, N);
	EXPECT_NODES(h->small, N, 0, N);
	EXPECT_LE(was[0] + N / 2 * PAGE, held(0));
	EXPECT_LE(was[1] + 2 * N * PAGE, held(1));
	EXPECT_GE(was[1] + 3 * N * PAGE, held(1));
	ASSERT_EQ(0, numa_run_on_node(0));
	touch(h, h->large, 0, N / 2);
	EXPECT_NODES(h->large, N, N, 0);
	numa_run_on_node(-1);
}

/* numactl --membind, --preferred, --interleave */
TEST_F(numa, policy_of_the_task)
{
	struct heap *h = &self->h;
	struct bitmask *one;
	struct nodes at;

	TWO_NODES();
	one = numa_parse_nodestring("1");
	ASSERT_EQ(0, numa_run_on_node(0));
	numa_set_membind(one);
	touch(h, h->large, 0, N);
	EXPECT_NODES(h->large, N, 0, N);
	numa_set_localalloc();
	numa_set_preferred(1);
	touch(h, h->large, N, N);
	EXPECT_NODES(h->large + N * PAGE, N, 0, N);
	numa_set_localalloc();
	touch(h, h->large, 2 * N, N);
	EXPECT_NODES(h->large + 2 * N * PAGE, N, N, 0);
	numa_set_interleave_mask(numa_all_nodes_ptr);
	touch(h, h->small, 0, 4 * N);
	at = nodes_of(h->small, 4 * N);
	EXPECT_LE(4 * N * 2 / 5, at.n[0]) TH_LOG("%u, %u", at.n[0], at.n[1]);
	EXPECT_LE(4 * N * 2 / 5, at.n[1]) TH_LOG("%u, %u", at.n[0], at.n[1]);
	numa_set_localalloc();
	numa_run_on_node(-1);
}

/* mbind() of a part of a region */
TEST_F(numa, policy_of_the_mapping)
{
	const unsigned long one = 2;
	struct heap *h = &self->h;

	TWO_NODES();
	ASSERT_EQ(0, numa_run_on_node(0));
	ASSERT_EQ(0, mbind(h->large + N * PAGE, N * PAGE, MPOL_BIND, &one, 8, 0));
	touch(h, h->large, 0, 3 * N);
	EXPECT_NODES(h->large, N, N, 0);
	EXPECT_NODES(h->large + N * PAGE, N, 0, N);
	EXPECT_NODES(h->large + 2 * N * PAGE, N, N, 0);
	numa_run_on_node(-1);
}

/* Moved by order, evacuated, and copied after fork. */
TEST_F_TIMEOUT(numa, moves_stay, 60 * SLOW)
{
	struct heap *h = &self->h;
	struct mafc_compact c;
	unsigned int i, k;
	pid_t pid;

	TWO_NODES();
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, numa_run_on_node(i));
		touch(h, h->large, i * N, N);
	}
	for (k = 0; k < 3; k++) {
		ASSERT_EQ(0, heap_compact(h, MAFC_COMPACT_SHUFFLE, &c));
		EXPECT_LT(N, c.moved);
		EXPECT_NODES(h->large, 2 * N, N, N);
	}
	for (i = 0; i < 2 * N; i++)
		if (i % 8 && !heap_release(h, i, 1, NULL))
			map_clear(h->large_map, i, 1);
	ASSERT_EQ(0, heap_compact(h, 0, &c));
	EXPECT_LT(0, c.moved);
	for (i = 0; i < 2 * N; i += 8) {
		EXPECT_NODES(h->large + i * PAGE, 1, i < N, i >= N);
		EXPECT_EQ(-1, block_check(h->large + i * PAGE, PAGE, i, 1));
	}
	pid = fork();
	if (!pid) {
		struct nodes at;

		numa_run_on_node(1);
		h->large[0] = 1;
		at = nodes_of(h->large, 1);
		_exit(at.n[1] != 1);
	}
	EXPECT_EQ(0, child_status(pid));
	EXPECT_NODES(h->large, 1, 1, 0);
	numa_run_on_node(-1);
}

/* Spans are meshed with those of their node. */
TEST_F_TIMEOUT(numa, meshes_stay, 60 * SLOW)
{
	const uint32_t spans = 512;
	struct heap *h = &self->h;
	struct mafc_compact c;
	uint32_t i;

	TWO_NODES();
	for (i = 0; i < spans; i++) {
		if (i % 64 == 0)
			ASSERT_EQ(0, numa_run_on_node(i / 64 % 2));
		span_make(h, i, 256, 16, 1);
		block_fill(block_alloc(h, i, i % 16), 256, i, 1);
		span_detach(h, i);
	}
	ASSERT_EQ(0, heap_compact(h, 0, &c));
	EXPECT_LE(spans * 3 / 4, c.meshed);
	for (i = 0; i < spans; i += 64)
		EXPECT_NODES(h->small + i * PAGE, 64, i / 64 % 2 ? 0 : 64,
			     i / 64 % 2 ? 64 : 0);
	for (i = 0; i < spans; i++)
		EXPECT_EQ(-1, block_check(block_at(h, i, i % 16), 256, i, 1));
	numa_run_on_node(-1);
}

TEST_HARNESS_MAIN
