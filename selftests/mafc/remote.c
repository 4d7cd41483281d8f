// SPDX-License-Identifier: GPL-2.0-only
/*
 * remote.c - another process reads and writes a heap whose pages move
 *
 * By process_vm_readv() and _writev(), /proc/PID/mem and ptrace.  The process
 * that owns the heap shuffles and meshes it all the time; the test has none.
 */
#include <sys/ptrace.h>
#include <sys/uio.h>

#include "test.h"

#define SPANS		12
#define BLOCK		512

/* Where the blocks of the owner are; each in another span, on shared frames. */
struct place {
	char *block[SPANS];
	char *large;
	char *hole;
	uint64_t moved;
	atomic_bool ready, stop;
};

static int own_heap(void *arg)
{
	struct place *p = arg;
	struct mafc_compact c;
	struct heap h;
	int i, err;

	if (heap_open(&h, 0) || heap_policy(&h, false))
		return 1;
	for (i = 0; i < SPANS; i++) {
		span_make(&h, i, BLOCK, 8, 1);
		p->block[i] = block_alloc(&h, i, i % 8);
		block_fill(p->block[i], BLOCK, i, 0);
		span_detach(&h, i);
	}
	map_set(h.large_map, 0, 4);
	p->large = h.large;
	p->hole = h.large + 8 * PAGE;
	block_fill(h.large, 4 * PAGE, 99, 0);
	if (heap_compact(&h, 0, &c) || c.meshed < SPANS / 2)
		return 2;
	atomic_store(&p->ready, true);
	while (!atomic_load(&p->stop)) {
		err = heap_compact(&h, MAFC_COMPACT_SHUFFLE, &c);
		if (err && err != EINTR)	/* a tracer's stop is a signal */
			return 3;
		p->moved += c.moved;
		usleep(50);
	}
	for (i = 0; i < SPANS; i++)
		if (block_check(p->block[i], BLOCK, i, 1000) >= 0)
			return 4;
	return block_check(p->large, 4 * PAGE, 99, 1000) >= 0 ? 5 : 0;
}

FIXTURE(remote) {
	struct place *p;
	pid_t pid;
};

FIXTURE_SETUP(remote)
{
	if (access("/dev/mafc", F_OK))
		SKIP(return, "no /dev/mafc");
	self->p = shared_alloc(sizeof(*self->p));
	ASSERT_NE(MAP_FAILED, self->p);
	self->pid = spawn(own_heap, self->p);
	ASSERT_TRUE(WAIT_FOR(10000, atomic_load(&self->p->ready)));
}

FIXTURE_TEARDOWN(remote)
{
	kill(self->pid, SIGKILL);
}

typedef int (*copy_fn)(pid_t pid, int fd, void *local, void *remote,
		       size_t len, bool write);

/* Everything is written with a version, and read back. */
static int write_and_read(struct place *p, pid_t pid, int fd, copy_fn copy,
			  unsigned int version)
{
	static uint64_t buf[4 * PAGE / 8];
	int i, err = 0;

	for (i = 0; i < SPANS; i++) {
		block_fill((char *)buf, BLOCK, i, version);
		err |= copy(pid, fd, buf, p->block[i], BLOCK, true);
	}
	block_fill((char *)buf, sizeof(buf), 99, version);
	err |= copy(pid, fd, buf, p->large, sizeof(buf), true);
	for (i = 0; i < SPANS; i++) {
		memset(buf, 0, BLOCK);
		err |= copy(pid, fd, buf, p->block[i], BLOCK, false);
		if (block_check((char *)buf, BLOCK, i, version) >= 0)
			err |= 2;
	}
	memset(buf, 0, sizeof(buf));
	err |= copy(pid, fd, buf, p->large, sizeof(buf), false);
	if (block_check((char *)buf, sizeof(buf), 99, version) >= 0)
		err |= 4;
	return err;
}

static int copy_vm(pid_t pid, int fd, void *local, void *remote, size_t len,
		   bool write)
{
	struct iovec l = { local, len }, r = { remote, len };
	ssize_t n = write ? process_vm_writev(pid, &l, 1, &r, 1, 0) :
			    process_vm_readv(pid, &l, 1, &r, 1, 0);

	return n != (ssize_t)len;
}

static int copy_mem(pid_t pid, int fd, void *local, void *remote, size_t len,
		    bool write)
{
	ssize_t n = write ? pwrite(fd, local, len, (off_t)(uintptr_t)remote) :
			    pread(fd, local, len, (off_t)(uintptr_t)remote);

	return n != (ssize_t)len;
}

static int copy_ptrace(pid_t pid, int fd, void *local, void *remote,
		       size_t len, bool write)
{
	long *word = local, *there = remote;
	size_t i;

	for (i = 0; i < len / sizeof(long); i++) {
		if (write) {
			if (ptrace(PTRACE_POKEDATA, pid, there + i, word[i]))
				return 1;
			continue;
		}
		errno = 0;
		word[i] = ptrace(PTRACE_PEEKDATA, pid, there + i, NULL);
		if (errno)
			return 1;
	}
	return 0;
}

static int finish(struct place *p, pid_t pid, int fd, copy_fn copy)
{
	int err = write_and_read(p, pid, fd, copy, 1000);

	atomic_store(&p->stop, true);
	return err;
}

TEST_F_TIMEOUT(remote, process_vm, 60 * SLOW)
{
	const unsigned int rounds = scaled(400, 4);
	unsigned int r;
	char c;

	for (r = 1; r <= rounds; r++)
		ASSERT_EQ(0, write_and_read(self->p, self->pid, -1, copy_vm, r));
	/* Where the owner has given out nothing, there is nothing to be had. */
	EXPECT_EQ(1, copy_vm(self->pid, -1, &c, self->p->hole, 1, false));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(0, finish(self->p, self->pid, -1, copy_vm));
	EXPECT_EQ(0, child_status(self->pid));
	EXPECT_LT(10, self->p->moved);
}

TEST_F_TIMEOUT(remote, proc_mem, 60 * SLOW)
{
	const unsigned int rounds = scaled(400, 4);
	char path[64], c;
	unsigned int r;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/mem", self->pid);
	fd = open(path, O_RDWR);
	ASSERT_LE(0, fd);
	for (r = 1; r <= rounds; r++)
		ASSERT_EQ(0, write_and_read(self->p, self->pid, fd, copy_mem, r));
	EXPECT_EQ(1, copy_mem(self->pid, fd, &c, self->p->hole, 1, false));
	EXPECT_EQ(EIO, errno);
	EXPECT_EQ(0, finish(self->p, self->pid, fd, copy_mem));
	EXPECT_EQ(0, child_status(self->pid));
	EXPECT_LT(10, self->p->moved);
}

/* A traced process stands still: here it moves between two stops. */
TEST_F_TIMEOUT(remote, ptrace, 60 * SLOW)
{
	const unsigned int rounds = scaled(20, 4);
	unsigned int r;
	int status;

	ASSERT_EQ(0, ptrace(PTRACE_SEIZE, self->pid, NULL, NULL));
	for (r = 1; r <= rounds; r++) {
		ASSERT_EQ(0, ptrace(PTRACE_INTERRUPT, self->pid, NULL, NULL));
		ASSERT_EQ(self->pid, waitpid(self->pid, &status, 0));
		ASSERT_TRUE(WIFSTOPPED(status));
		ASSERT_EQ(0, write_and_read(self->p, self->pid, -1, copy_ptrace, r));
		if (r == rounds)
			EXPECT_EQ(0, finish(self->p, self->pid, -1, copy_ptrace));
		ASSERT_EQ(0, ptrace(PTRACE_CONT, self->pid, NULL, NULL));
		usleep(3000);
	}
	ASSERT_EQ(self->pid, waitpid(self->pid, &status, 0));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
}

/* What can be looked at is worth looking at: smaps, pagemap, clear_refs. */
TEST_F_TIMEOUT(remote, proc_files, 60 * SLOW)
{
	const char *files[] = { "smaps", "smaps_rollup", "maps", "status", "statm" };
	uint64_t entry[4];
	char path[64];
	unsigned int i, k;
	static char buf[1 << 16];
	int fd, n;

	for (k = 0; k < scaled(20, 4); k++) {
		for (i = 0; i < 5; i++) {
			snprintf(path, sizeof(path), "/proc/%d/%s", self->pid, files[i]);
			fd = open(path, O_RDONLY);
			ASSERT_LE(0, fd);
			while ((n = read(fd, buf, sizeof(buf))) > 0)
				;
			EXPECT_EQ(0, n);
			close(fd);
		}
		snprintf(path, sizeof(path), "/proc/%d/clear_refs", self->pid);
		file_write(path, k & 1 ? "1" : "4");
		snprintf(path, sizeof(path), "/proc/%d/pagemap", self->pid);
		fd = open(path, O_RDONLY);
		ASSERT_LE(0, fd);
		EXPECT_EQ(sizeof(entry), pread(fd, entry, sizeof(entry),
					       (uintptr_t)self->p->large / PAGE * 8));
		close(fd);
		ASSERT_EQ(0, write_and_read(self->p, self->pid, -1, copy_vm, k));
	}
	EXPECT_EQ(0, finish(self->p, self->pid, -1, copy_vm));
	EXPECT_EQ(0, child_status(self->pid));
}

TEST_HARNESS_MAIN
