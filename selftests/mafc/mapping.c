// SPDX-License-Identifier: GPL-2.0-only
/*
 * mapping.c - what a program may do to the mappings of its heap
 */
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "test.h"

#define N	64	/* pages in use, of each region */

HEAP_FIXTURE(mapping)

static void fill(struct heap *h, uint64_t version)
{
	unsigned int i;

	map_set(h->small_map, 0, N);
	map_set(h->large_map, 0, N);
	for (i = 0; i < N; i++) {
		block_fill(h->small + i * PAGE, PAGE, i, version);
		block_fill(h->large + i * PAGE, PAGE, N + i, version);
	}
}

static int wrong_of(const char *small, const char *large, uint64_t version)
{
	int bad = 0, i;

	for (i = 0; i < N; i++) {
		bad += small && block_check(small + i * PAGE, PAGE, i, version) >= 0;
		bad += large && block_check(large + i * PAGE, PAGE, N + i, version) >= 0;
	}
	return bad;
}

static int wrong(struct heap *h, uint64_t version)
{
	return wrong_of(h->small, h->large, version);
}

static int shuffle(struct heap *h)
{
	return heap_compact(h, MAFC_COMPACT_SHUFFLE, NULL);
}

/* A part is unmapped: its pages live on, move, and can be mapped again. */
TEST_F(mapping, partial_munmap)
{
	struct heap *h = &self->h;
	uint64_t heaps = counter("heaps");
	char *hole = h->small + 16 * PAGE;

	fill(h, 1);
	ASSERT_EQ(0, munmap(hole, 16 * PAGE));
	EXPECT_EQ(SIGSEGV, touch_signal(hole, false));
	EXPECT_EQ(0, touch_signal(hole + 16 * PAGE, true));
	ASSERT_EQ(0, shuffle(h));
	EXPECT_EQ(heaps, counter("heaps"));
	ASSERT_EQ(hole, mmap(hole, 16 * PAGE, PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_FIXED, h->fd,
			     MAFC_OFF_SMALL + 16 * PAGE));
	EXPECT_EQ(0, wrong(h, 1));
	/* Something else in the middle, and fork over all of it. */
	ASSERT_EQ(hole, mmap(hole, 16 * PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	memset(hole, 7, 16 * PAGE);
	EXPECT_EQ(0, touch_signal(hole, true));
	ASSERT_EQ(0, shuffle(h));
	EXPECT_EQ(7, hole[PAGE]);
	EXPECT_EQ(0, wrong_of(NULL, h->large, 1));
}

/* The heap lives as long as any piece of a mapping does. */
TEST_F(mapping, last_piece)
{
	struct heap *h = &self->h;
	uint64_t heaps = counter("heaps");
	struct mafc_stat st;

	fill(h, 1);
	ASSERT_EQ(0, munmap(h->meta, h->setup.meta_bytes));
	ASSERT_EQ(0, munmap(h->small, h->setup.small_pages * PAGE));
	ASSERT_EQ(0, munmap(h->large, 10 * PAGE));
	ASSERT_EQ(0, munmap(h->large + 20 * PAGE,
			    h->setup.large_pages * PAGE - 20 * PAGE));
	EXPECT_EQ(-1, block_check(h->large + 10 * PAGE, PAGE, N + 10, 1));
	EXPECT_EQ(heaps, counter("heaps"));
	EXPECT_EQ(0, heap_stat(h, &st));
	ASSERT_EQ(0, shuffle(h));
	EXPECT_EQ(-1, block_check(h->large + 19 * PAGE, PAGE, N + 19, 1));
	ASSERT_EQ(0, munmap(h->large + 10 * PAGE, 10 * PAGE));
	EXPECT_EQ(heaps - 1, counter("heaps"));
	EXPECT_EQ(ENODEV, heap_stat(h, &st));
	EXPECT_EQ(ENODEV, shuffle(h));
	h->meta = h->small = h->large = NULL;
}

TEST_F(mapping, mremap)
{
	struct heap *h = &self->h;
	size_t small = h->setup.small_pages * PAGE;
	char *alias, *there;

	fill(h, 1);
	/* It does not grow. */
	EXPECT_EQ(MAP_FAILED, mremap(h->small, small, small + PAGE, MREMAP_MAYMOVE));
	EXPECT_EQ(MAP_FAILED, mremap(h->small, PAGE, 2 * PAGE, MREMAP_MAYMOVE));
	EXPECT_EQ(MAP_FAILED, mremap(h->large, 0, PAGE, MREMAP_MAYMOVE));
	/* It can be had twice ... */
	alias = mmap(NULL, N * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, h->fd,
		     MAFC_OFF_LARGE);
	ASSERT_NE(MAP_FAILED, alias);
	EXPECT_EQ(0, wrong_of(NULL, alias, 1));
	ASSERT_EQ(0, shuffle(h));
	block_fill(alias + 3 * PAGE, PAGE, 1, 2);
	EXPECT_EQ(-1, block_check(h->large + 3 * PAGE, PAGE, 1, 2));
	ASSERT_EQ(0, shuffle(h));
	block_fill(h->large + 3 * PAGE, PAGE, N + 3, 1);
	EXPECT_EQ(0, wrong_of(NULL, alias, 1));
	/* ... and elsewhere. */
	there = mmap(NULL, small, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_EQ(there, mremap(h->small, small, small,
				MREMAP_MAYMOVE | MREMAP_FIXED, there));
	EXPECT_EQ(SIGSEGV, touch_signal(h->small, false));
	h->small = there;
	EXPECT_EQ(0, wrong(h, 1));
	ASSERT_EQ(0, shuffle(h));
	fill(h, 3);
	EXPECT_EQ(0, wrong_of(there, alias, 3));
}

static int look_at_alias(struct heap *h, char *alias, int in)
{
	char c;
	int bad = wrong_of(h->small, alias, 1) + wrong(h, 1);

	if (read(in, &c, 1) != 1)
		return 99;
	bad += wrong_of(h->small, alias, 1) + wrong(h, 1);
	/* Written by one address, seen by the other, in this process alone. */
	fill(h, 3);
	bad += wrong_of(NULL, alias, 3);
	return !!bad;
}

TEST_F(mapping, alias_and_fork)
{
	struct heap *h = &self->h;
	char *alias;
	pid_t pid;
	int p[2], i;

	fill(h, 1);
	ASSERT_EQ(0, pipe(p));
	alias = mmap(NULL, N * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, h->fd,
		     MAFC_OFF_LARGE);
	ASSERT_NE(MAP_FAILED, alias);
	EXPECT_EQ(0, wrong_of(NULL, alias, 1));
	pid = fork();
	if (!pid)
		_exit(look_at_alias(h, alias, p[0]));
	for (i = 0; i < N; i++) {
		char *page = (i & 1 ? alias : h->large) + i * PAGE;

		block_fill(page, PAGE, N + i, 2);
		block_fill(h->small + i * PAGE, PAGE, i, 2);
	}
	EXPECT_EQ(0, wrong_of(h->small, alias, 2) + wrong(h, 2));
	ASSERT_EQ(1, write(p[1], "x", 1));
	EXPECT_EQ(0, child_status(pid));
	EXPECT_EQ(0, wrong_of(h->small, alias, 2) + wrong(h, 2));
}

/* Advice changes nothing that a program can see, of a heap that is shared. */
TEST_F(mapping, madvise)
{
	struct heap *h = &self->h;
	unsigned int advice;

	fill(h, 1);
	for (advice = 0; advice < 32; advice++) {
		if (advice == MADV_DONTFORK || advice == MADV_DOFORK)
			continue;
		madvise(h->small, N * PAGE, advice);
		madvise(h->large, N * PAGE, advice);
		EXPECT_EQ(0, wrong(h, 1)) TH_LOG("advice %u", advice);
		ASSERT_EQ(0, shuffle(h));
	}
	EXPECT_EQ(0, wrong(h, 1));
}

TEST_F(mapping, not_for_the_child)
{
	struct heap *h = &self->h;
	pid_t pid;

	fill(h, 1);
	ASSERT_EQ(0, madvise(h->small, 16 * PAGE, MADV_DONTFORK));
	EXPECT_EQ(SIGSEGV, touch_signal(h->small, false));
	EXPECT_EQ(0, touch_signal(h->small + 16 * PAGE, true));
	pid = fork();
	if (!pid)
		_exit(shuffle(h) || wrong_of(NULL, h->large, 1));
	fill(h, 2);
	EXPECT_EQ(0, child_status(pid));
	EXPECT_EQ(0, wrong(h, 2));
	/* All of it: then the child has no heap, and may make one. */
	ASSERT_EQ(0, madvise(h->meta, h->setup.meta_bytes, MADV_DONTFORK));
	ASSERT_EQ(0, madvise(h->small, h->setup.small_pages * PAGE, MADV_DONTFORK));
	ASSERT_EQ(0, madvise(h->large, h->setup.large_pages * PAGE, MADV_DONTFORK));
	pid = fork();
	if (!pid) {
		struct heap own;

		if (shuffle(h) != ENODEV || heap_open(&own, 0))
			_exit(1);
		fill(&own, 9);
		_exit(wrong(&own, 9));
	}
	EXPECT_EQ(0, child_status(pid));
	EXPECT_EQ(0, wrong(h, 2));
	ASSERT_EQ(0, shuffle(h));
}

/* Pages are placed by the kernel module, not by these. */
TEST_F(mapping, migration)
{
	struct heap *h = &self->h;
	unsigned long mask = 1;
	void *page[N];
	int node[N], status[N], i;

	fill(h, 1);
	for (i = 0; i < N; i++) {
		page[i] = h->small + i * PAGE;
		node[i] = 0;
	}
	syscall(SYS_move_pages, 0, N, page, node, status, 2 /* MPOL_MF_MOVE */);
	syscall(SYS_mbind, h->large, N * PAGE, MPOL_BIND, &mask, 8,
		MPOL_MF_MOVE | MPOL_MF_STRICT);
	file_write("/proc/sys/vm/compact_memory", "1");
	EXPECT_EQ(0, wrong(h, 1));
	ASSERT_EQ(0, shuffle(h));
	EXPECT_EQ(0, wrong(h, 1));
}

TEST_F(mapping, userfaultfd_is_refused)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { (uintptr_t)self->h.small, N * PAGE },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd < 0)
		SKIP(return, "no userfaultfd: %s", strerror(errno));
	ASSERT_EQ(0, ioctl(fd, UFFDIO_API, &api));
	EXPECT_EQ(-1, ioctl(fd, UFFDIO_REGISTER, &reg));
	EXPECT_EQ(EINVAL, errno);
	reg.mode = UFFDIO_REGISTER_MODE_MINOR;
	EXPECT_EQ(-1, ioctl(fd, UFFDIO_REGISTER, &reg));
	EXPECT_EQ(EINVAL, errno);
	fill(&self->h, 1);
	EXPECT_EQ(0, wrong(&self->h, 1));
}

/* Does a file that is mostly holes contain these bytes? */
static bool file_contains(const char *path, const void *what, size_t len)
{
	static char buf[1 << 20];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	off_t at = 0, end;
	bool found = false;
	ssize_t n;

	while (fd >= 0 && !found && (at = lseek(fd, at, SEEK_DATA)) >= 0) {
		end = lseek(fd, at, SEEK_HOLE);
		for (; at < end && !found; at += n) {
			n = pread(fd, buf, sizeof(buf) < (size_t)(end - at) ?
				  sizeof(buf) : (size_t)(end - at), at);
			if (n <= 0)
				break;
			found = memmem(buf, n, what, len);
		}
		if (n <= 0)
			break;
	}
	close(fd);
	return found;
}

static void crash(const char *filter)
{
	const struct rlimit none = { RLIM_INFINITY, RLIM_INFINITY };
	struct heap h;

	setrlimit(RLIMIT_CORE, &none);
	file_write("/proc/self/coredump_filter", filter);
	if (heap_open(&h, 0))
		_exit(1);
	fill(&h, 0xc0de);
	map_clear(h.small_map, 7, 1);
	abort();
}

/* Core dumps go over the whole region: holes must not stop them. */
TEST(core_dump)
{
	char dir[] = "/tmp/mafc-core-XXXXXX", pattern[64], old[128];
	uint64_t page[512];
	pid_t pid;
	char path[128];

	if (access("/dev/mafc", F_OK))
		SKIP(return, "no /dev/mafc");
	ASSERT_NE(NULL, mkdtemp(dir));
	snprintf(pattern, sizeof(pattern), "%s/core.%%p", dir);
	ASSERT_LT(0, file_read("/proc/sys/kernel/core_pattern", old, sizeof(old)));
	if (file_write("/proc/sys/kernel/core_pattern", pattern))
		SKIP(return, "cannot set the core pattern");
	pid = fork();
	if (!pid)
		crash("0x7f");
	EXPECT_EQ(1000 + SIGABRT, child_status(pid));
	file_write("/proc/sys/kernel/core_pattern", old);
	snprintf(path, sizeof(path), "%s/core.%d", dir, pid);
	block_fill((char *)page, PAGE, 3, 0xc0de);
	EXPECT_TRUE(file_contains(path, page, PAGE));
	block_fill((char *)page, PAGE, N + N - 1, 0xc0de);
	EXPECT_TRUE(file_contains(path, page, PAGE));
	unlink(path);
	rmdir(dir);
}

TEST_HARNESS_MAIN
