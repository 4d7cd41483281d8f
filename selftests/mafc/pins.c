// SPDX-License-Identifier: GPL-2.0-only
/*
 * pins.c - pages that the kernel uses stay where they are, and system calls on
 * pages in motion work
 */
#include <linux/futex.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "test.h"

HEAP_FIXTURE(pins)

struct mover {
	struct heap *h;
	atomic_bool stop;
	_Atomic uint64_t moved, meshed;
	pthread_t t;
};

static void *move_all(void *arg)
{
	struct mover *m = arg;
	struct mafc_compact c;

	while (!atomic_load(&m->stop)) {
		if (heap_compact(m->h, MAFC_COMPACT_SHUFFLE, &c))
			return NULL;
		atomic_fetch_add(&m->moved, c.moved);
		atomic_fetch_add(&m->meshed, c.meshed);
		usleep(100);
	}
	return NULL;
}

static int mover_start(struct mover *m, struct heap *h)
{
	memset(m, 0, sizeof(*m));
	m->h = h;
	return pthread_create(&m->t, NULL, move_all, m);
}

static void mover_stop(struct mover *m)
{
	atomic_store(&m->stop, true);
	pthread_join(m->t, NULL);
}

static uint64_t pinned(struct heap *h)
{
	struct mafc_stat st;

	return heap_stat(h, &st) ? UINT64_MAX : st.pinned;
}

/* Lets a pipe hold a reference to a page; what it has is read by unpin(). */
static int pin(int pipe_in, char *page)
{
	struct iovec iov = { page, PAGE };

	return vmsplice(pipe_in, &iov, 1, 0) == (ssize_t)PAGE ? 0 : -1;
}

static int unpin(int pipe_out, char *buf)
{
	return read(pipe_out, buf, PAGE) == (ssize_t)PAGE ? 0 : -1;
}

TEST_F(pins, pinned_pages_do_not_move)
{
	struct heap *h = &self->h;
	char buf[PAGE];
	uint64_t count;
	int p[2], i;

	map_set(h->small_map, 0, 4);
	map_set(h->large_map, 0, 4);
	for (i = 0; i < 4; i++) {
		block_fill(h->small + i * PAGE, PAGE, i, 1);
		block_fill(h->large + i * PAGE, PAGE, 10 + i, 1);
	}
	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(0, pin(p[1], h->small + PAGE));
	ASSERT_EQ(0, pin(p[1], h->large + 2 * PAGE));
	count = pinned(h);
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, heap_compact(h, MAFC_COMPACT_SHUFFLE, NULL));
	EXPECT_LE(count + 8, pinned(h));
	/* Still the same page: what is written now is what the pipe has. */
	block_fill(h->small + PAGE, PAGE, 1, 2);
	block_fill(h->large + 2 * PAGE, PAGE, 12, 2);
	ASSERT_EQ(0, unpin(p[0], buf));
	EXPECT_EQ(-1, block_check(buf, PAGE, 1, 2));
	ASSERT_EQ(0, unpin(p[0], buf));
	EXPECT_EQ(-1, block_check(buf, PAGE, 12, 2));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(-1, block_check(h->small + i * PAGE, PAGE, i, 1 + (i == 1)));
	count = pinned(h);
	ASSERT_EQ(0, heap_compact(h, MAFC_COMPACT_SHUFFLE, NULL));
	EXPECT_EQ(count, pinned(h));
}

/* Two spans that fit: the pinned one may stay, but cannot go. */
TEST_F(pins, pinned_pages_are_meshed_into)
{
	struct heap *h = &self->h;
	struct mafc_compact c;
	char buf[PAGE];
	int p[2], i;

	ASSERT_EQ(0, pipe(p));
	for (i = 0; i < 2; i++) {
		span_make(h, i, 1024, 4, 1);
		block_fill(block_alloc(h, i, i), 1024, i, 1);
		span_detach(h, i);
		ASSERT_EQ(0, pin(p[1], h->small + i * PAGE));
	}
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, heap_compact(h, 0, &c));
		EXPECT_EQ(0, c.meshed);
		EXPECT_EQ(0, c.dropped);
	}
	EXPECT_EQ(MAFC_SPAN_IDLE, span_is(h, 0));
	EXPECT_EQ(MAFC_SPAN_IDLE, span_is(h, 1));
	EXPECT_EQ(1, h->span[0].bitmap[0]);
	EXPECT_EQ(2, h->span[1].bitmap[0]);
	ASSERT_EQ(0, unpin(p[0], buf));
	ASSERT_EQ(0, unpin(p[0], buf));
	ASSERT_EQ(0, heap_compact(h, 0, &c));
	EXPECT_EQ(1, c.meshed);
	EXPECT_EQ(-1, block_check(block_at(h, 0, 0), 1024, 0, 1));
	EXPECT_EQ(-1, block_check(block_at(h, 1, 1), 1024, 1, 1));
}

TEST_F(pins, pinned_pages_are_not_dropped)
{
	struct heap *h = &self->h;
	struct mafc_compact c;
	char buf[PAGE];
	int p[2];

	ASSERT_EQ(0, pipe(p));
	span_make(h, 0, 512, 8, 1);
	memset(block_alloc(h, 0, 0), 7, 512);
	ASSERT_EQ(0, pin(p[1], h->small));
	EXPECT_TRUE(block_free(h, 0, 0));
	ASSERT_EQ(0, heap_compact(h, 0, &c));
	EXPECT_EQ(0, c.dropped);
	h->small[0] = 8;
	ASSERT_EQ(0, unpin(p[0], buf));
	EXPECT_EQ(8, buf[0]);
	ASSERT_EQ(0, heap_compact(h, 0, &c));
	EXPECT_EQ(1, c.dropped);
}

/* The last free of a meshed ring whose frame is pinned. */
TEST_F(pins, pinned_rings_are_not_dissolved)
{
	struct heap *h = &self->h;
	struct mafc_compact c;
	char buf[PAGE];
	int p[2], i;

	ASSERT_EQ(0, pipe(p));
	for (i = 0; i < 3; i++) {
		span_make(h, i, 1024, 4, 1);
		block_fill(block_alloc(h, i, i), 1024, i, 1);
		span_detach(h, i);
	}
	ASSERT_EQ(0, heap_compact(h, 0, &c));
	ASSERT_EQ(2, c.meshed);
	ASSERT_EQ(0, pin(p[1], h->small + 2 * PAGE));
	for (i = 0; i < 3; i++)
		EXPECT_TRUE(block_free(h, i, i));
	ASSERT_EQ(0, heap_compact(h, MAFC_COMPACT_SHUFFLE, &c));
	EXPECT_EQ(0, c.dropped + c.moved);
	ASSERT_EQ(0, unpin(p[0], buf));
	EXPECT_EQ(-1, block_check(buf + 2048, 1024, 2, 1));
	ASSERT_EQ(0, heap_compact(h, 0, &c));
	EXPECT_EQ(1, c.dropped);
	for (i = 0; i < 3; i++)
		EXPECT_EQ(MAFC_SPAN_NONE, span_is(h, i));
}

/* Released while pinned: the pipe keeps the page, the heap gets a new one. */
TEST_F(pins, release_and_remap)
{
	struct heap *h = &self->h;
	char buf[PAGE];
	int p[2], i;

	ASSERT_EQ(0, pipe(p));
	map_set(h->large_map, 0, 200);
	for (i = 0; i < 3; i++) {
		block_fill(h->large + i * PAGE, PAGE, i, 1);
		ASSERT_EQ(0, pin(p[1], h->large + i * PAGE));
	}
	ASSERT_EQ(0, heap_release(h, 0, 1, NULL));
	ASSERT_EQ(0, heap_remap(h, 1, 100, 1));
	EXPECT_EQ(0, *(uint64_t *)h->large);
	EXPECT_EQ(-1, block_check(h->large + 100 * PAGE, PAGE, 1, 1));
	/* Nobody else may get the released page while the pipe has it. */
	for (i = 4; i < 90; i++)
		memset(h->large + i * PAGE, 0xee, PAGE);
	block_fill(h->large + 100 * PAGE, PAGE, 1, 2);
	ASSERT_EQ(0, unpin(p[0], buf));
	EXPECT_EQ(-1, block_check(buf, PAGE, 0, 1));
	ASSERT_EQ(0, unpin(p[0], buf));
	EXPECT_EQ(-1, block_check(buf, PAGE, 1, 2));
	ASSERT_EQ(0, unpin(p[0], buf));
	EXPECT_EQ(-1, block_check(buf, PAGE, 2, 1));
}

/* The process ends while a pipe holds its pages: they live on in the pipe. */
static int pin_and_exit(void *arg)
{
	int *p = arg, i;
	struct heap h;

	if (heap_open(&h, 0))
		return 1;
	map_set(h.small_map, 0, 8);
	for (i = 0; i < 8; i++) {
		block_fill(h.small + i * PAGE, PAGE, i, 1);
		if (pin(p[1], h.small + i * PAGE))
			return 2;
	}
	return 0;
}

TEST(pins_outlive_the_process)
{
	uint64_t heaps = counter("heaps");
	char buf[PAGE];
	int p[2], i;

	if (access("/dev/mafc", F_OK))
		SKIP(return, "no /dev/mafc");
	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(0, child_status(spawn(pin_and_exit, p)));
	EXPECT_TRUE(WAIT_FOR(3000, counter("heaps") == heaps));
	for (i = 0; i < 8; i++) {
		ASSERT_EQ(0, unpin(p[0], buf));
		EXPECT_EQ(-1, block_check(buf, PAGE, i, 1));
	}
}

/*
 * A block device that keeps its requests for a while: null_blk with memory of
 * its own and a timer.  Else /dev/ram0, which is done at once.
 */
#define NULLB "/sys/kernel/config/nullb/nullb_heap"

static int open_slow_disk(void)
{
	const struct { const char *file, *value; } set[] = {
		{ "size", "16" }, { "memory_backed", "1" }, { "irqmode", "2" },
		{ "completion_nsec", "1000000" }, { "power", "1" },
	};
	char path[128];
	unsigned int i;

	if (system("modprobe -q configfs; modprobe -q null_blk nr_devices=0; modprobe -q brd rd_size=16384"))
		errno = 0;	/* built in, or not there */
	mount("configfs", "/sys/kernel/config", "configfs", 0, NULL);
	if (mkdir(NULLB, 0755) && errno != EEXIST)
		return open("/dev/ram0", O_RDWR | O_DIRECT | O_CLOEXEC);
	for (i = 0; i < sizeof(set) / sizeof(set[0]); i++) {
		snprintf(path, sizeof(path), NULLB "/%s", set[i].file);
		file_write(path, set[i].value);
	}
	/* Newer kernels name it as the directory. */
	snprintf(path, sizeof(path), "/dev/nullb_heap");
	if (!WAIT_FOR(2000, !access(path, F_OK)))
		snprintf(path, sizeof(path), "/dev/nullb%llu",
			 (unsigned long long)file_u64(NULLB "/index"));
	return open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
}

#define DISK_PAGES	8

struct disk_user {
	int fd;
	char *buf;
	unsigned int id, rounds;
	uint64_t wrong, failed;
};

/* Writes its pages to the disk, forgets them, and reads them back. */
static void *use_disk(void *arg)
{
	struct disk_user *u = arg;
	const size_t len = DISK_PAGES * PAGE;
	off_t at = u->id * len;
	unsigned int r;

	for (r = 1; r <= u->rounds && !u->wrong && !u->failed; r++) {
		block_fill(u->buf, len, u->id, r);
		u->failed += pwrite(u->fd, u->buf, len, at) != (ssize_t)len;
		u->wrong += block_check(u->buf, len, u->id, r) >= 0;
		memset(u->buf, 0, len);
		u->failed += pread(u->fd, u->buf, len, at) != (ssize_t)len;
		u->wrong += block_check(u->buf, len, u->id, r) >= 0;
	}
	return NULL;
}

TEST_F_TIMEOUT(pins, direct_io, 60 * SLOW)
{
	struct heap *h = &self->h;
	struct disk_user u[2];
	pthread_t t[2];
	struct mover m;
	int fd, i;

	fd = open_slow_disk();
	if (fd < 0)
		SKIP(return, "no block device for O_DIRECT");
	map_set(h->small_map, 0, DISK_PAGES);
	map_set(h->large_map, 0, DISK_PAGES);
	ASSERT_EQ(0, mover_start(&m, h));
	for (i = 0; i < 2; i++) {
		u[i] = (struct disk_user){ .fd = fd, .id = i,
			.buf = i ? h->large : h->small,
			.rounds = scaled(400, 2) };
		ASSERT_EQ(0, pthread_create(&t[i], NULL, use_disk, &u[i]));
	}
	for (i = 0; i < 2; i++) {
		pthread_join(t[i], NULL);
		EXPECT_EQ(0, u[i].failed);
		EXPECT_EQ(0, u[i].wrong);
	}
	mover_stop(&m);
	EXPECT_LT(10, m.moved);
	EXPECT_LT(0, pinned(h));
	close(fd);
	rmdir(NULLB);
}

/* System calls that read and write the heap's pages while these move. */
TEST_F_TIMEOUT(pins, system_calls, 60 * SLOW)
{
	const unsigned int rounds = scaled(3000, 3);
	struct heap *h = &self->h;
	struct iovec in[4], out[4];
	unsigned int r, i;
	int p[2], s[2];
	struct mover m;
	char *a, *b;

	ASSERT_EQ(0, pipe(p));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, s));
	map_set(h->small_map, 0, 16);
	map_set(h->large_map, 0, 16);
	for (i = 0; i < 4; i++) {
		/* Across the border of two pages. */
		in[i] = (struct iovec){ h->small + (2 * i + 1) * PAGE - 100, 200 };
		out[i] = (struct iovec){ h->large + (2 * i + 1) * PAGE - 50, 200 };
	}
	ASSERT_EQ(0, mover_start(&m, h));
	for (r = 0; r < rounds; r++) {
		for (i = 0; i < 4; i++)
			block_fill(in[i].iov_base, 200, i, r);
		ASSERT_EQ(800, writev(p[1], in, 4)) TH_LOG("%s", strerror(errno));
		ASSERT_EQ(800, readv(p[0], out, 4)) TH_LOG("%s", strerror(errno));
		for (i = 0; i < 4; i++)
			ASSERT_EQ(-1, block_check(out[i].iov_base, 200, i, r));
		a = h->small + 10 * PAGE + r % 3000;
		b = h->large + 12 * PAGE + r % 2000;
		memset(a, r, 1000);
		ASSERT_EQ(1000, send(s[0], a, 1000, 0)) TH_LOG("%s", strerror(errno));
		memset(b, ~r, 1000);
		ASSERT_EQ(1000, recv(s[1], b, 1000, MSG_WAITALL)) TH_LOG("%s", strerror(errno));
		ASSERT_EQ(0, memcmp(a, b, 1000));
		ASSERT_EQ(0, clock_gettime(CLOCK_REALTIME, (void *)(h->small + 15 * PAGE)));
		ASSERT_NE(NULL, getcwd(h->large + 15 * PAGE, PAGE));
	}
	mover_stop(&m);
	EXPECT_LT(20, m.moved);
}

static long futex(void *word, int op, uint32_t value, const struct timespec *ts)
{
	return syscall(SYS_futex, word, op, value, ts, NULL, 0);
}

struct sleeper {
	uint32_t *word;
	int op;
	_Atomic int state;	/* 1 waits, 2 woken, -errno */
};

static void *sleep_on(void *arg)
{
	const struct timespec limit = { 20, 0 };
	struct sleeper *s = arg;

	atomic_store(&s->state, 1);
	while (*(volatile uint32_t *)s->word == 0)
		if (futex(s->word, s->op, 0, &limit) && errno != EAGAIN &&
		    errno != EINTR) {
			atomic_store(&s->state, -errno);
			return NULL;
		}
	atomic_store(&s->state, 2);
	return NULL;
}

/* Waits on a word in a span that is moved and meshed, and is woken. */
static int futex_over_motion(struct heap *h, int wait, int wake)
{
	struct sleeper s = { .op = wait };
	struct mafc_compact c;
	pthread_t t;
	int i;

	for (i = 0; i < 4; i++) {
		span_make(h, i, 1024, 4, 1);
		memset(block_alloc(h, i, i), 0, 1024);
		span_detach(h, i);
	}
	s.word = (uint32_t *)block_at(h, 3, 3);
	if (pthread_create(&t, NULL, sleep_on, &s))
		return -1;
	WAIT_FOR(2000, atomic_load(&s.state));
	sleep_ms(50);
	if (heap_compact(h, MAFC_COMPACT_SHUFFLE, &c) || c.meshed != 3)
		return -1;
	heap_compact(h, MAFC_COMPACT_SHUFFLE, &c);
	*(volatile uint32_t *)s.word = 1;
	futex(s.word, wake, 1, NULL);
	pthread_join(t, NULL);
	return atomic_load(&s.state);
}

TEST_F(pins, private_futex)
{
	EXPECT_EQ(2, futex_over_motion(&self->h, FUTEX_WAIT | FUTEX_PRIVATE_FLAG,
				       FUTEX_WAKE | FUTEX_PRIVATE_FLAG));
}

/* Of a shared one no wake is lost: either it works, or it says that it cannot. */
TEST_F(pins, shared_futex)
{
	int state = futex_over_motion(&self->h, FUTEX_WAIT, FUTEX_WAKE);

	EXPECT_TRUE(state == 2 || state == -EFAULT) TH_LOG("%d", state);
}

TEST_HARNESS_MAIN
