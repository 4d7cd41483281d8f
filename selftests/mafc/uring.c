// SPDX-License-Identifier: GPL-2.0-only
/*
 * uring.c - long-term pins: registered buffers of io_uring
 *
 * They work as long as a heap has never forked, and again once it shares
 * nothing any longer.  Kernels before 6.12 refuse them on such memory.
 */
#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "test.h"

/* The least of a ring: one request at a time. */
struct ring {
	int fd;
	char *sq, *cq;
	size_t sq_len, cq_len;
	struct io_uring_params p;
	struct io_uring_sqe *sqe;
};

static int ring_init(struct ring *r)
{
	memset(r, 0, sizeof(*r));
	r->fd = syscall(SYS_io_uring_setup, 4, &r->p);
	if (r->fd < 0)
		return errno;
	r->sq_len = r->p.sq_off.array + r->p.sq_entries * 4;
	r->cq_len = r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe);
	r->sq = mmap(NULL, r->sq_len, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
		     IORING_OFF_SQ_RING);
	r->cq = mmap(NULL, r->cq_len, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
		     IORING_OFF_CQ_RING);
	r->sqe = mmap(NULL, r->p.sq_entries * sizeof(*r->sqe),
		      PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQES);
	return r->sq == MAP_FAILED || r->cq == MAP_FAILED ||
	       (void *)r->sqe == MAP_FAILED ? errno : 0;
}

static _Atomic uint32_t *ring_u32(char *base, uint32_t off)
{
	return (_Atomic uint32_t *)(base + off);
}

/* Reads or writes with registered buffer 0; the result of the request. */
static int ring_rw(struct ring *r, int op, int fd, void *addr, unsigned int len,
		   uint64_t off)
{
	_Atomic uint32_t *tail = ring_u32(r->sq, r->p.sq_off.tail);
	_Atomic uint32_t *head = ring_u32(r->cq, r->p.cq_off.head);
	uint32_t at = *tail & (r->p.sq_entries - 1);
	struct io_uring_cqe *cqe;
	int res;

	r->sqe[at] = (struct io_uring_sqe){
		.opcode = op, .fd = fd, .addr = (uintptr_t)addr, .len = len,
		.off = off, .buf_index = 0,
	};
	*ring_u32(r->sq, r->p.sq_off.array + at * 4) = at;
	atomic_fetch_add(tail, 1);
	do {
		res = syscall(SYS_io_uring_enter, r->fd, 1, 1,
			      IORING_ENTER_GETEVENTS, NULL, 0);
	} while (res < 0 && errno == EINTR);
	if (res < 0)
		return -errno;
	cqe = (void *)(r->cq + r->p.cq_off.cqes);
	res = cqe[*head & (r->p.cq_entries - 1)].res;
	atomic_fetch_add(head, 1);
	return res;
}

static int ring_register(struct ring *r, void *addr, size_t len)
{
	struct iovec iov = { addr, len };

	return syscall(SYS_io_uring_register, r->fd, IORING_REGISTER_BUFFERS,
		       &iov, 1) ? errno : 0;
}

static int ring_unregister(struct ring *r)
{
	return syscall(SYS_io_uring_register, r->fd, IORING_UNREGISTER_BUFFERS,
		       NULL, 0) ? errno : 0;
}

#define BUF_PAGES 4

FIXTURE(uring) {
	struct heap h;
	struct ring r;
	char *buf;
	int file;
};

FIXTURE_SETUP(uring)
{
	int err = heap_open(&self->h, 0);

	if (err == ENOENT)
		SKIP(return, "no /dev/mafc");
	ASSERT_EQ(0, err);
	ASSERT_EQ(0, heap_policy(&self->h, false));
	err = ring_init(&self->r);
	if (err == ENOSYS || err == EPERM)
		SKIP(return, "no io_uring");
	ASSERT_EQ(0, err);
	self->file = memfd_create("mafc", MFD_CLOEXEC);
	ASSERT_LE(0, self->file);
	map_set(self->h.large_map, 0, 64);
	self->buf = self->h.large;
	memset(self->buf, 0, BUF_PAGES * PAGE);
	err = ring_register(&self->r, self->buf, BUF_PAGES * PAGE);
	if (err == EOPNOTSUPP)
		SKIP(return, "this kernel has no long-term pins on file mappings");
	ASSERT_EQ(0, err);
	ASSERT_EQ(0, ring_unregister(&self->r));
}

FIXTURE_TEARDOWN(uring)
{
	heap_close(&self->h);
}

/* Out of the buffer into a file, and back, with the kernel's own mapping. */
static int round_trip(struct ring *r, int file, char *buf, uint64_t version)
{
	const unsigned int len = BUF_PAGES * PAGE;
	static char copy[BUF_PAGES * PAGE];

	block_fill(buf, len, 5, version);
	if (ring_rw(r, IORING_OP_WRITE_FIXED, file, buf, len, 0) != (int)len)
		return 1;
	if (pread(file, copy, len, 0) != (ssize_t)len ||
	    block_check(copy, len, 5, version) >= 0)
		return 2;
	block_fill(copy, len, 6, version);
	if (pwrite(file, copy, len, 0) != (ssize_t)len)
		return 3;
	if (ring_rw(r, IORING_OP_READ_FIXED, file, buf, len, 0) != (int)len)
		return 4;
	return block_check(buf, len, 6, version) >= 0 ? 5 : 0;
}

TEST_F(uring, registered_buffers_stay)
{
	struct heap *h = &self->h;
	struct mafc_stat before, after;
	struct mafc_compact c;
	unsigned int i;

	ASSERT_EQ(0, ring_register(&self->r, self->buf, BUF_PAGES * PAGE));
	ASSERT_EQ(0, heap_stat(h, &before));
	h->large[BUF_PAGES * PAGE] = 1;		/* and one that is free to go */
	for (i = 0; i < 20; i++) {
		ASSERT_EQ(0, heap_compact(h, MAFC_COMPACT_SHUFFLE, &c));
		ASSERT_EQ(0, round_trip(&self->r, self->file, self->buf, i));
	}
	ASSERT_EQ(0, heap_stat(h, &after));
	EXPECT_LE(before.pinned + 20 * BUF_PAGES, after.pinned);
	EXPECT_EQ(before.moved + 20, after.moved);
	ASSERT_EQ(0, ring_unregister(&self->r));
	EXPECT_TRUE(WAIT_FOR(5000, !heap_compact(h, MAFC_COMPACT_SHUFFLE, &c) &&
			     c.moved == BUF_PAGES + 1));
	EXPECT_EQ(-1, block_check(self->buf, BUF_PAGES * PAGE, 6, 19));
}

/* Buffers among small blocks: spans that are to be meshed. */
TEST_F(uring, registered_blocks)
{
	struct heap *h = &self->h;
	struct mafc_compact c;
	char *block;
	int i;

	for (i = 0; i < 4; i++) {
		span_make(h, i, 1024, 4, 1);
		block_fill(block_alloc(h, i, i), 1024, i, 1);
		span_detach(h, i);
	}
	block = block_at(h, 2, 2);
	ASSERT_EQ(0, ring_register(&self->r, block, 1024));
	ASSERT_EQ(0, heap_compact(h, 0, &c));
	/* The others go onto its frame, or onto one of theirs. */
	EXPECT_LE(2, c.meshed);
	for (i = 0; i < 4; i++)
		EXPECT_EQ(-1, block_check(block_at(h, i, i), 1024, i, 1));
	block_fill(block, 1024, 2, 2);
	ASSERT_EQ(1024, ring_rw(&self->r, IORING_OP_WRITE_FIXED, self->file,
				block, 1024, 0));
	memset(block, 0, 1024);
	ASSERT_EQ(1024, ring_rw(&self->r, IORING_OP_READ_FIXED, self->file,
				block, 1024, 0));
	EXPECT_EQ(-1, block_check(block, 1024, 2, 2));
	ASSERT_EQ(0, ring_unregister(&self->r));
}

struct kid { char *buf; int in; };

/* The child sees what was there at fork, whatever the ring reads later. */
static int child_of_pinned(void *arg)
{
	struct kid *k = arg;
	int bad = block_check(k->buf, BUF_PAGES * PAGE, 1, 1) >= 0;
	char c;

	if (read(k->in, &c, 1) != 1)
		return 99;
	bad |= block_check(k->buf, BUF_PAGES * PAGE, 1, 1) >= 0;
	block_fill(k->buf, BUF_PAGES * PAGE, 1, 3);
	return bad;
}

/* The pinned page is the parent's, before and after its first write. */
TEST_F(uring, fork_with_pinned_pages)
{
	struct kid k = { .buf = self->buf };
	unsigned int i;
	pid_t pid;
	int p[2];

	ASSERT_EQ(0, pipe(p));
	k.in = p[0];
	ASSERT_EQ(0, ring_register(&self->r, self->buf, BUF_PAGES * PAGE));
	block_fill(self->buf, BUF_PAGES * PAGE, 1, 1);
	pid = spawn(child_of_pinned, &k);
	for (i = 0; i < 5; i++) {
		EXPECT_EQ(0, round_trip(&self->r, self->file, self->buf, i));
		ASSERT_EQ(0, heap_compact(&self->h, MAFC_COMPACT_SHUFFLE, NULL));
	}
	ASSERT_EQ(1, write(p[1], "x", 1));
	EXPECT_EQ(0, child_status(pid));
	EXPECT_EQ(-1, block_check(self->buf, BUF_PAGES * PAGE, 6, 4));
	EXPECT_EQ(0, round_trip(&self->r, self->file, self->buf, 7));
	ASSERT_EQ(0, ring_unregister(&self->r));
}

static int wait_on(void *arg)
{
	char c;

	return read(*(int *)arg, &c, 1) != 1;
}

/*
 * While pages are shared no long-term pin is given; afterwards again, whether
 * the compactor works on the heap or not.
 */
TEST_F_TIMEOUT(uring, copy_on_write_mode_ends, 60 * SLOW)
{
	const uint64_t interval = tunable("interval_ms");
	int p[2], err, compact;
	pid_t pid;

	if (tunable_set("interval_ms", "20"))
		SKIP(return, "cannot set the interval: not root?");
	ASSERT_EQ(0, pipe(p));
	for (compact = 0; compact < 2; compact++) {
		ASSERT_EQ(0, heap_policy(&self->h, compact));
		pid = spawn(wait_on, &p[0]);
		sleep_ms(200);
		/* Untouched, then written: it is the mode that counts, not the page. */
		EXPECT_NE(0, ring_register(&self->r, self->buf, PAGE));
		memset(self->buf, 1, BUF_PAGES * PAGE);
		EXPECT_NE(0, ring_register(&self->r, self->buf, PAGE));
		ASSERT_EQ(1, write(p[1], "x", 1));
		EXPECT_EQ(0, child_status(pid));
		EXPECT_TRUE(WAIT_FOR(30000, !(err = ring_register(&self->r, self->buf,
								  BUF_PAGES * PAGE))))
			TH_LOG("%s", strerror(err));
		EXPECT_EQ(0, round_trip(&self->r, self->file, self->buf, 1));
		ASSERT_EQ(0, ring_unregister(&self->r));
	}
	/* And it can fork again. */
	block_fill(self->buf, BUF_PAGES * PAGE, 1, 1);
	pid = spawn(wait_on, &p[0]);
	block_fill(self->buf, BUF_PAGES * PAGE, 1, 2);
	ASSERT_EQ(1, write(p[1], "x", 1));
	EXPECT_EQ(0, child_status(pid));
	tunable_set_u64("interval_ms", interval);
}

TEST_HARNESS_MAIN
