// SPDX-License-Identifier: GPL-2.0-only
/*
 * failnth.c - every allocation of the kernel fails once
 *
 * A walk does the same again and again, each time in a new process: first its
 * first allocation (or copy from or to user space) fails, then its second, until
 * there are no more.  Each must end in success, in a clean error, or in a killed
 * process; what was in the heap must still be there, and the next try must work.
 * What leaks is found by kmemleak at the end of the guest's run.
 *
 * Only what has a function of the module on the stack counts; at fork, where the
 * rest of the kernel has hundreds of points, some of these follow.
 */
#include <sys/uio.h>

#include "test.h"

#define SPANS	32U	/* with one block each */
#define PAGES	32U	/* of the large region */
#define POINTS	4000U	/* more than any walk has */

/* Exit status of a step. */
enum { REACHED, BAD_DATA, BAD_ERROR, BAD_RETRY, BROKEN, NO_MORE };

struct walk {
	const char *name;
	int (*prepare)(struct heap *h);
	int (*act)(struct heap *h);	/* 0 or an errno value */
	int (*check)(struct heap *h);	/* 0 if all is well afterwards */
	unsigned int stride;		/* through all points; 0: just the module's */
};

static int nth = -1;

/* In the task that is going to be failed: the file is this task's. */
static int arm(unsigned int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", n);

	nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	return nth < 0 || write(nth, text, len) != len;
}

/* True if a failure happened since; it may also hit what asks for it. */
static bool disarm(void)
{
	char text[16] = "";
	bool reached = pread(nth, text, sizeof(text) - 1, 0) > 0 &&
		       strtoul(text, NULL, 10) == 0;

	while (write(nth, "0", 1) != 1)
		;
	close(nth);
	return reached;
}

static int fill(struct heap *h)
{
	unsigned int i;

	for (i = 0; i < SPANS; i++) {
		span_make(h, i, 256, 16, 1);
		block_fill(block_alloc(h, i, i % 16), 256, i, 1);
		span_detach(h, i);
	}
	map_set(h->large_map, 0, 4 * PAGES);
	for (i = 0; i < PAGES; i++)
		block_fill(h->large + i * PAGE, PAGE, i, 2);
	return 0;
}

static int nothing(struct heap *h)
{
	return 0;
}

static int open_heap(struct heap *h)
{
	return heap_open(h, 0) || heap_policy(h, false);
}

static int filled_heap(struct heap *h)
{
	return open_heap(h) || fill(h);
}

/* The blocks of the spans, wherever they lie by now. */
static int check_small(struct heap *h)
{
	unsigned int i, bad = 0;

	for (i = 0; i < SPANS; i++)
		bad += block_check(block_at(h, i, i % 16), 256, i, 1) >= 0;
	return bad;
}

static int check_all(struct heap *h)
{
	unsigned int i, bad = check_small(h);

	for (i = 0; i < PAGES; i++)
		bad += block_check(h->large + i * PAGE, PAGE, i, 2) >= 0;
	return bad;
}

/* A heap that shares everything with a child, which stays until the end. */
static int shared_heap(struct heap *h)
{
	int ready[2];
	char c;

	if (filled_heap(h) || pipe(ready))
		return 1;
	if (!fork()) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (write(ready[1], "x", 1) == 1)
			pause();
		_exit(0);
	}
	return read(ready[0], &c, 1) != 1;
}

/* The same, and it is the child that goes on. */
static int inherited_heap(struct heap *h)
{
	pid_t pid;
	int status;

	if (filled_heap(h))
		return 1;
	pid = fork();
	if (pid > 0) {
		status = child_status(pid);
		_exit(status == REACHED || status == NO_MORE ?
		      (check_all(h) ? BAD_DATA : status) : status);
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid < 0;
}

static int act_open(struct heap *h)
{
	int err = heap_open(h, 0);

	if (err) {
		if (h->fd >= 0)
			heap_close(h);
		memset(h, 0, sizeof(*h));
	}
	return err;
}

static int check_open(struct heap *h)
{
	return (!h->meta && heap_open(h, 0)) || fill(h) || check_all(h);
}

/* Faults of user space do not fail: they are tried again. */
static int act_touch(struct heap *h)
{
	return fill(h);
}

static int act_write(struct heap *h)
{
	unsigned int i;

	for (i = 0; i < SPANS; i++)
		block_fill(block_at(h, i, i % 16), 256, i, 1);
	for (i = 0; i < PAGES; i++)
		block_fill(h->large + i * PAGE, PAGE, i, 2);
	return 0;
}

/* Those of system calls do. */
static int act_gup(struct heap *h)
{
	static char data[PAGES * PAGE];
	struct iovec from = { data, sizeof(data) };
	struct iovec to = { h->large + 2 * PAGES * PAGE, sizeof(data) };

	memset(data, 7, sizeof(data));
	return process_vm_writev(getpid(), &from, 1, &to, 1, 0) < 0 ? errno : 0;
}

static int check_gup(struct heap *h)
{
	const char *p = h->large + 2 * PAGES * PAGE;
	unsigned int i;

	for (i = 0; i < PAGES * PAGE; i++)
		if (p[i] && p[i] != 7)
			return 1;
	return act_gup(h) || p[0] != 7 || p[PAGES * PAGE - 1] != 7 || check_all(h);
}

static int act_fork(struct heap *h)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return errno == EAGAIN ? ENOMEM : errno;
	if (!pid)
		_exit(check_all(h) || act_write(h) || check_all(h));
	act_write(h);
	status = child_status(pid);
	return status && status != 1000 + SIGBUS ? EIO : 0;
}

static int check_fork(struct heap *h)
{
	return check_all(h) || act_fork(h) || check_all(h);
}

static int act_compact(struct heap *h)
{
	struct mafc_compact c;

	return heap_compact_once(h, MAFC_COMPACT_SHUFFLE, &c);
}

static int check_compact(struct heap *h)
{
	return check_all(h) || act_compact(h) || check_all(h);
}

static int act_release(struct heap *h)
{
	return heap_release(h, 0, PAGES, NULL);
}

static int check_release(struct heap *h)
{
	unsigned int i;

	for (i = 0; i < PAGES; i++)
		if (h->large[i * PAGE] &&
		    block_check(h->large + i * PAGE, PAGE, i, 2) >= 0)
			return 1;
	if (act_release(h))
		return 2;
	for (i = 0; i < PAGES * PAGE; i++)
		if (h->large[i])
			return 3;
	return check_small(h);
}

static int act_remap(struct heap *h)
{
	return heap_remap(h, 0, PAGES, PAGES);
}

/* All or nothing; a failure to copy the answer comes after all. */
static int check_remap(struct heap *h)
{
	unsigned int i, from = 0, to = 0;

	for (i = 0; i < PAGES; i++) {
		from += block_check(h->large + i * PAGE, PAGE, i, 2) < 0;
		to += block_check(h->large + (PAGES + i) * PAGE, PAGE, i, 2) < 0;
	}
	if (from + to != PAGES || (from && to))
		return 1;
	if (from && (act_remap(h) || check_remap(h)))
		return 2;
	return check_small(h);
}

static int act_stat(struct heap *h)
{
	struct mafc_stat st;

	return heap_stat(h, &st);
}

static const struct walk walks[] = {
	{ "open, setup, mmap", nothing, act_open, check_open, 0 },
	{ "first touch", open_heap, act_touch, check_all, 0 },
	{ "touch by a system call", filled_heap, act_gup, check_gup, 0 },
	{ "fork", filled_heap, act_fork, check_fork, 0 },
	{ "fork, other points", filled_heap, act_fork, check_fork, 9 },
	{ "writes of a parent", shared_heap, act_write, check_all, 0 },
	{ "writes of a child", inherited_heap, act_write, check_all, 0 },
	{ "compaction", filled_heap, act_compact, check_compact, 0 },
	{ "compaction while shared", shared_heap, act_compact, check_compact, 0 },
	{ "release", filled_heap, act_release, check_release, 0 },
	{ "release while shared", shared_heap, act_release, check_release, 0 },
	{ "remap", filled_heap, act_remap, check_remap, 0 },
	{ "remap while shared", shared_heap, act_remap, check_remap, 0 },
	{ "stat", filled_heap, act_stat, check_all, 0 },
};

static int take_step(const struct walk *w, unsigned int n)
{
	struct heap h = { .fd = -1 };
	bool reached;
	int err;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (w->prepare(&h) || arm(n))
		return BROKEN;
	err = w->act(&h);
	reached = disarm();
	if (err && err != ENOMEM && err != EFAULT) {
		printf("# %s, point %u: %s\n", w->name, n, strerror(err));
		return BAD_ERROR;
	}
	if (w->check(&h)) {
		printf("# %s, point %u: after %s\n", w->name, n, strerror(err));
		return BAD_DATA;
	}
	return reached ? REACHED : NO_MORE;
}

static bool knob(const char *dir, const char *name, const char *value)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/kernel/debug/%s/%s", dir, name);
	return !file_write(path, value);
}

static const char *const faults[] = { "failslab", "fail_page_alloc", "fail_usercopy" };

/* Lets only the module's calls fail, or (@all) everybody's. */
static bool select_points(bool all)
{
	char from[24] = "0", to[24] = "0xffffffffffffffff", line[256];
	FILE *f = all ? NULL : fopen("/proc/modules", "re");
	unsigned long long base, size;
	bool ok = all;
	unsigned int i;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "mafc %llu %*s %*s %*s 0x%llx", &size, &base) == 2 && base) {
			snprintf(from, sizeof(from), "0x%llx", base);
			snprintf(to, sizeof(to), "0x%llx", base + size);
			ok = true;
		}
	if (f)
		fclose(f);
	for (i = 0; i < 3; i++)
		ok = ok && knob(faults[i], "stacktrace-depth", "32") &&
		     knob(faults[i], "require-start", from) &&
		     knob(faults[i], "require-end", to);
	return ok;
}

FIXTURE(failnth) { uint64_t heaps; };

FIXTURE_SETUP(failnth)
{
	if (access("/dev/mafc", F_OK))
		SKIP(return, "no /dev/mafc");
	if (access("/proc/thread-self/fail-nth", W_OK) ||
	    !knob("failslab", "ignore-gfp-wait", "N") ||
	    !knob("fail_page_alloc", "ignore-gfp-wait", "N") ||
	    !knob("fail_page_alloc", "min-order", "0") || !select_points(false))
		SKIP(return, "no fault injection in this kernel");
	knob("failslab", "verbose", "0");
	knob("fail_page_alloc", "verbose", "0");
	knob("fail_usercopy", "verbose", "0");
	self->heaps = counter("heaps");
}

FIXTURE_TEARDOWN(failnth)
{
	select_points(true);
	EXPECT_TRUE(WAIT_FOR(10000, counter("heaps") == self->heaps));
}

TEST_F_TIMEOUT(failnth, every_point, 250 * SLOW)
{
	unsigned int i, n, points, all = 0;
	uint64_t start = now_ms();
	int status;
	pid_t pid;

	for (i = 0; i < sizeof(walks) / sizeof(*walks); i++) {
		ASSERT_TRUE(select_points(walks[i].stride));
		for (n = 1, points = 0; n < POINTS; n += walks[i].stride ?: 1) {
			fflush(stdout);
			pid = fork();
			if (!pid) {
				status = take_step(&walks[i], n);
				fflush(stdout);
				_exit(status);
			}
			status = child_status(pid);
			if (status)
				break;
			points++;
		}
		EXPECT_EQ(NO_MORE, status)
			TH_LOG("%s, point %u", walks[i].name, n);
		EXPECT_LT(0, points) TH_LOG("%s has no point", walks[i].name);
		TH_LOG("%s: %u points", walks[i].name, points);
		all += points;
	}
	TH_LOG("%u points in all, %llu s", all,
	       (unsigned long long)(now_ms() - start) / 1000);
}

/* The way out cannot ask how far it came; it needs no memory of its own. */
TEST_F_TIMEOUT(failnth, exit, 60 * SLOW)
{
	unsigned int n;
	pid_t pid;

	for (n = 1; n <= 24; n++) {
		pid = fork();
		if (!pid) {
			struct heap h;

			_exit(((n & 1 ? filled_heap : shared_heap)(&h)) || arm(n));
		}
		EXPECT_EQ(0, child_status(pid));
	}
}

TEST_HARNESS_MAIN
