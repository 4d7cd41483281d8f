/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * test.h - what the tests have in common, beside heap.h
 */
#ifndef MAFC_SELFTEST_TEST_H
#define MAFC_SELFTEST_TEST_H

/* Time limits are for tests that hang: a busy machine must not reach them. */
#define SLOW 5

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

#include <kselftest_harness.h>

#include "heap.h"

#define SYSFS "/sys/class/misc/mafc/"
#define CGROUP "/sys/fs/cgroup/"

/*
 * Fixture of most tests: self->h, a heap of the least size that the compactor's
 * kthread leaves alone.
 */
#define HEAP_FIXTURE(name)					\
	FIXTURE(name) { struct heap h; };			\
	FIXTURE_SETUP(name)					\
	{							\
		int err = heap_open(&self->h, 0);		\
								\
		if (err == ENOENT)				\
			SKIP(return, "no /dev/mafc");		\
		ASSERT_EQ(0, err);				\
		ASSERT_EQ(0, heap_policy(&self->h, false));	\
	}							\
	FIXTURE_TEARDOWN(name) { heap_close(&self->h); }

/* xorshift64*: the same numbers in each run. */
static inline uint64_t rng(uint64_t *s)
{
	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return *s * 0x2545f4914f6cdd1dULL;
}

static inline uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ULL + ts.tv_nsec / 1000000;
}

static inline void sleep_ms(unsigned int ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

/* Reads a file of one line; returns its length or -errno. */
static inline int file_read(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), n;

	if (fd < 0)
		return -errno;
	n = read(fd, buf, size - 1);
	n = n < 0 ? -errno : n;
	close(fd);
	buf[n > 0 ? n : 0] = 0;
	return n;
}

/* Returns 0 or an errno value. */
static inline int file_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return errno;
	if (write(fd, text, strlen(text)) < 0)
		err = errno;
	close(fd);
	return err;
}

/* A number in a file, or all ones. */
static inline uint64_t file_u64(const char *path)
{
	char buf[64];

	return file_read(path, buf, sizeof(buf)) > 0 ? strtoull(buf, NULL, 10) :
						       UINT64_MAX;
}

/* The number behind "@key " in a file of many lines, or all ones. */
static inline uint64_t file_key(const char *path, const char *key)
{
	FILE *f = fopen(path, "re");
	uint64_t value = UINT64_MAX;
	size_t len = strlen(key);
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, len) && strchr(" \t:", line[len]))
			value = strtoull(line + len + strspn(line + len, " \t:"),
					 NULL, 10);
	if (f)
		fclose(f);
	return value;
}

static inline uint64_t counter(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), SYSFS "counters/%s", name);
	return file_u64(path);
}

static inline uint64_t tunable(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), SYSFS "%s", name);
	return file_u64(path);
}

static inline int tunable_set(const char *name, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), SYSFS "%s", name);
	return file_write(path, value);
}

static inline int tunable_set_u64(const char *name, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return tunable_set(name, text);
}

/* Waits until the expression is true; false after @ms milliseconds. */
#define WAIT_FOR(ms, expr) ({					\
	uint64_t _end = now_ms() + (ms) * SLOW;			\
	bool _ok;						\
								\
	while (!(_ok = (expr)) && now_ms() < _end)		\
		sleep_ms(5);					\
	_ok;							\
})

/* Waits for a child; its exit status, or 1000 + signal. */
static inline int child_status(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) != pid)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/*
 * Runs @fn(@arg) in a child that does not outlive the calling thread; its result
 * is the child's exit status.
 */
static inline pid_t spawn(int (*fn)(void *arg), void *arg)
{
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(fn(arg));
	}
	return pid;
}

/*
 * Lockstep with a child: one byte each way.  The child awaits in[0] and passes
 * out[1].  Who waits for somebody who is gone ends, and fails.
 */
struct gate { int in[2], out[2]; };

static inline int gate_open(struct gate *g)
{
	return pipe(g->in) || pipe(g->out);
}

static inline void pass(int fd)
{
	if (write(fd, "x", 1) != 1)
		abort();
}

static inline void await(int fd)
{
	char c;

	if (read(fd, &c, 1) != 1)
		_exit(99);
}

/* Memory that children share, zeros; or MAP_FAILED. */
static inline void *shared_alloc(size_t size)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* The debug kernel is ten times slower: tests that only need time do less. */
static inline bool slow_kernel(void)
{
	return !access("/sys/kernel/debug/kmemleak", F_OK) ||
	       !access("/proc/lockdep", F_OK);
}

static inline uint64_t scaled(uint64_t n, unsigned int by)
{
	return slow_kernel() ? (n + by - 1) / by : n;
}

/* Signal, or 0, that a touch of the byte at @p raises; in a child. */
static inline int touch_signal(volatile char *p, bool write)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		signal(SIGBUS, SIG_DFL);
		signal(SIGSEGV, SIG_DFL);
		if (write)
			*p = 1;
		else
			(void)*p;
		_exit(0);
	}
	status = child_status(pid);
	return status >= 1000 ? status - 1000 : status;
}

#endif /* MAFC_SELFTEST_TEST_H */
