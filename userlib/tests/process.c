// SPDX-License-Identifier: Apache-2.0
/* process.c - threads, their end, fork, limits, misuse; run preloaded */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ktap.h"

static atomic_bool stop;

static void *churn(void *arg)
{
	unsigned seed = (uintptr_t)arg;
	char *slots[256] = { NULL };
	int i;

	while (!stop) {
		i = rand_r(&seed) % 256;
		free(slots[i]);
		slots[i] = malloc(rand_r(&seed) % (i % 16 ? 600 : 60000) + 1);
		slots[i][0] = 1;
	}
	for (i = 0; i < 256; i++)
		free(slots[i]);
	return NULL;
}

static int wait_for(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) :
				     WEXITSTATUS(status);
}

/* The child goes on as a program of its own: threads, allocation, a fork. */
static void forked_child(void)
{
	pthread_t t;
	int i;

	alarm(60);
	stop = false;
	if (pthread_create(&t, NULL, churn, (void *)7))
		_exit(2);
	for (i = 0; i < 20000; i++)
		free(malloc(i));
	if (wait_for(fork() ?: (free(malloc(100)), _exit(0), 0)))
		_exit(3);
	stop = true;
	pthread_join(t, NULL);
	_exit(0);
}

bool fork_in_threads(void);
bool fork_in_threads(void)
{
	pthread_t t[4];
	int i, status, bad = 0;

	stop = false;
	for (i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, churn, (void *)(uintptr_t)(i + 1));
	for (i = 0; i < 100; i++) {
		pid_t pid = fork();

		if (!pid)
			forked_child();
		status = wait_for(pid);
		if (status)
			printf("# child %d: status %d\n", i, status);
		bad += status != 0;
	}
	stop = true;
	for (i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	CHECK(!bad);
	return true;
}

/* Contents are the child's own, and the parent's stay. */
static bool fork_contents(void)
{
	enum { N = 2000 };
	static char *p[N];
	int i, j, status;
	pid_t pid;

	for (i = 0; i < N; i++)
		p[i] = memset(malloc(i * 13 + 1), i, i * 13 + 1);
	pid = fork();
	if (!pid) {
		for (i = 0; i < N; i++) {
			for (j = 0; j <= i * 13; j++)
				if (p[i][j] != (char)i)
					_exit(1);
			memset(p[i], ~i, i * 13 + 1);
			if (i % 3)
				free(p[i]);
		}
		_exit(0);
	}
	status = wait_for(pid);
	CHECK(status == 0);
	for (i = 0; i < N; i++) {
		for (j = 0; j <= i * 13; j++)
			CHECK(p[i][j] == (char)i);
		free(p[i]);
	}
	return true;
}

static void *short_life(void *arg)
{
	void *p[200];
	int i;

	for (i = 0; i < 200; i++)
		p[i] = malloc(i * 20);
	for (i = 0; i < 200; i++)
		free(p[i]);
	return arg;
}

static bool threads_come_and_go(void)
{
	size_t before = 0, after;
	pthread_t t;
	int i;

	for (i = 0; i < 3000; i++) {
		CHECK(!pthread_create(&t, NULL, short_life, NULL));
		pthread_join(t, NULL);
		if (i == 100)
			before = mallinfo2().uordblks;
	}
	after = mallinfo2().uordblks;
	CHECK(after < before + (64 << 10));
	return true;
}

/* Destructors of other keys run after the cache is gone, some of them twice. */
static pthread_key_t late;

static void late_destructor(void *p)
{
	static _Thread_local int rounds;
	int i;

	free(p);
	for (i = 0; i < 1000; i++)
		free(malloc(i));
	if (++rounds < 3)
		pthread_setspecific(late, malloc(100));
}

static void *with_late(void *arg)
{
	pthread_setspecific(late, malloc(10));
	return arg;
}

static bool late_destructors(void)
{
	pthread_t t;
	int i;

	CHECK(!pthread_key_create(&late, late_destructor));
	for (i = 0; i < 200; i++) {
		CHECK(!pthread_create(&t, NULL, with_late, NULL));
		pthread_join(t, NULL);
	}
	return true;
}

static void *idle_thread(void *arg)
{
	short_life(NULL);
	pthread_barrier_wait(arg);
	pthread_barrier_wait(arg);
	return NULL;
}

/* What a thousand threads that sleep keep from the others. */
static bool idle_threads(void)
{
	enum { N = 1000 };
	static pthread_t t[N];
	static pthread_barrier_t barrier;
	size_t before = mallinfo2().uordblks, kept;
	pthread_attr_t attr;
	int i;

	pthread_barrier_init(&barrier, NULL, N + 1);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	for (i = 0; i < N; i++)
		CHECK(!pthread_create(&t[i], &attr, idle_thread, &barrier));
	pthread_barrier_wait(&barrier);
	kept = mallinfo2().uordblks - before;
	pthread_barrier_wait(&barrier);
	for (i = 0; i < N; i++)
		pthread_join(t[i], NULL);
	printf("# kept by %d idle threads: %zu KiB\n", N, kept >> 10);
	CHECK(kept < 64 << 20);
	return true;
}

/* Program with its own RLIMIT_AS: the whole thing again, in little space. */
static bool small_address_space(void)
{
	static const size_t limits[] = { 64 << 20, 256 << 20, 1 << 30 };
	size_t i;

	for (i = 0; i < 3; i++) {
		pid_t pid = fork();

		if (!pid) {
			struct rlimit limit = { limits[i], limits[i] };

			/* The device cannot do with so little. */
			unsetenv("MAFC_REQUIRE");
			setrlimit(RLIMIT_AS, &limit);
			execl("/bin/sh", "sh", "-c", "echo $(echo hi | cat)",
			      NULL);
			_exit(9);
		}
		CHECK(wait_for(pid) == 0);
	}
	return true;
}

#define HOARDERS 16

/* Leaves blocks of many lengths in its cache, and falls asleep. */
static void *hoarder(void *barrier)
{
	void *p[7];
	size_t n;
	int i;

	for (n = 20 << 10; n <= 512 << 10; n += 4096) {
		for (i = 0; i < 7; i++)
			p[i] = malloc(n);
		while (i--)
			free(p[i]);
	}
	pthread_barrier_wait(barrier);
	pthread_barrier_wait(barrier);
	return NULL;
}

/* Nothing is live, so nearly all of the 512 MiB must be there. */
static bool hoard(void)
{
	pthread_barrier_t barrier;
	pthread_t t[HOARDERS];
	bool ok;
	void *p;
	int i;

	pthread_barrier_init(&barrier, NULL, HOARDERS + 1);
	for (i = 0; i < HOARDERS; i++)
		CHECK(!pthread_create(&t[i], NULL, hoarder, &barrier));
	pthread_barrier_wait(&barrier);
	p = malloc(500 << 20);
	ok = p;
	free(p);
	p = malloc(200 << 20);
	p = realloc(p, 250 << 20);
	ok = ok && p;
	free(p);
	pthread_barrier_wait(&barrier);
	for (i = 0; i < HOARDERS; i++)
		pthread_join(t[i], NULL);
	return ok;
}

static bool hoards_are_found(void)
{
	pid_t pid = fork();

	if (!pid) {
		setenv("MAFC_RESERVE_GIB", "1", 1);
		setenv("HOARD", "1", 1);
		execl("/proc/self/exe", "process", NULL);
		_exit(9);
	}
	CHECK(wait_for(pid) == 0);
	return true;
}

struct mapping {
	uintptr_t from, to;
	char perms[5];
};

/* The accessible mappings around @p, and what lies on either side of them. */
static bool guarded(const void *p)
{
	struct mapping m, before = { 0 }, first = { 0 }, last = { 0 };
	uintptr_t at = (uintptr_t)p;
	bool after = false;
	char text[512];
	FILE *f = fopen("/proc/self/maps", "r");

	CHECK(f);
	while (fgets(text, sizeof(text), f)) {
		if (sscanf(text, "%lx-%lx %4s", &m.from, &m.to, m.perms) != 3)
			continue;
		if (m.perms[0] == '-' || m.from != last.to) {
			if (last.to > at && first.from <= at) {
				after = m.perms[0] == '-' && m.from == last.to;
				break;
			}
			before = m.perms[0] == '-' ? m : (struct mapping){ 0 };
			first = (struct mapping){ .from = m.to };
			if (m.perms[0] != '-')
				first = m;
		} else if (first.from == m.from) {
			first = m;
		}
		last = m;
	}
	fclose(f);
	CHECK(first.from <= at && at < last.to);
	CHECK(before.perms[0] == '-' && before.to == first.from && after);
	return true;
}

static bool regions_are_guarded(void)
{
	void *small = malloc(100), *large = malloc(1 << 20);

	CHECK(small && large && guarded(small) && guarded(large));
	free(small);
	free(large);
	return true;
}

static char line[200];

/* Run @f in a child; its exit status, and what it said first. */
static int misuse(void (*f)(void))
{
	int fd[2], n;
	pid_t pid;

	if (pipe(fd))
		return -1;
	pid = fork();
	if (!pid) {
		dup2(fd[1], 2);
		f();
		_exit(0);
	}
	close(fd[1]);
	n = read(fd[0], line, sizeof(line) - 1);
	line[n > 0 ? n : 0] = '\0';
	close(fd[0]);
	return wait_for(pid);
}

static char *volatile victim;

static void twice_at_once(void)
{
	victim = malloc(100);
	free(victim);
	free(victim);
}

static void twice_later(void)
{
	char *p[2000];
	int i;

	for (i = 0; i < 2000; i++)
		p[i] = malloc(100);
	victim = p[0];
	for (i = 0; i < 2000; i++)
		free(p[i]);
	free(victim);
	malloc_trim(0);
}

static void twice_large(void)
{
	victim = malloc(1 << 20);
	free(victim);
	free(victim);
}

static void foreign(void)
{
	static char here[100];

	victim = here + 16;
	free(victim);
}

static void interior(void)
{
	victim = malloc(100);
	free(victim + 16);
	malloc_trim(0);
}

static void interior_large(void)
{
	victim = malloc(1 << 20);
	free(victim + 4096);
}

static void null_page(void)
{
	victim = (char *)16;
	free(victim);
}

static void on_stack(void)
{
	char here[64];

	victim = here;
	free(victim);
}

static void twice_medium(void)
{
	char *p[100];
	int i;

	for (i = 0; i < 100; i++)
		p[i] = malloc(40000);
	for (i = 0; i < 100; i++)
		free(p[i]);
	free(p[3]);
	malloc_trim(0);
}

static void realloc_foreign(void)
{
	static char here[100];

	victim = here + 16;
	victim = realloc(victim, 1000);
}

static void never_given(void)
{
	victim = malloc(1 << 20);
	free(victim + (64 << 20));
}

static void *free_twice(void *p)
{
	free(p);
	return NULL;
}

/* Each thread's cache ends with it. */
static void twice_in_threads(void)
{
	pthread_t t;
	int i;

	victim = malloc(100);
	for (i = 0; i < 2; i++) {
		pthread_create(&t, NULL, free_twice, victim);
		pthread_join(t, NULL);
	}
}

static bool misuse_is_found(void)
{
	static void (*const kinds[])(void) = {
		twice_at_once, twice_later, twice_large, foreign, interior,
		interior_large, null_page, on_stack, twice_medium,
		realloc_foreign, never_given, twice_in_threads,
	};
	size_t i;

	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		printf("# kind %zu\n", i);
		CHECK(misuse(kinds[i]) == 128 + SIGABRT);
		/* One line, and in it the address. */
		CHECK(!strncmp(line, "mafc: ", 6) && strstr(line, ": 0x"));
		CHECK(strchr(line, '\n') == line + strlen(line) - 1);
	}
	return true;
}

static bool misuse_carries_on(void)
{
	char self[4096] = "";

	CHECK(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	pid_t pid = fork();

	if (!pid) {
		setenv("MAFC_ON_ERROR", "continue", 1);
		setenv("MISUSE_ONLY", "1", 1);
		execl(self, self, NULL);
	}
	CHECK(wait_for(pid) == 0);
	return true;
}

/* What MAFC_DEBUG=1 finds at the very call; run in a program of its own. */
static void debug_write(void)
{
	int i;

	victim = malloc(100);
	free(victim);
	victim[5] = 1;
	for (i = 0; i < 5000; i++)
		free(malloc(i));
}

static void debug_twice(void)
{
	char *other = malloc(100);

	victim = malloc(100);
	free(victim);
	free(other);
	free(victim);
}

/* Long after: the block is no longer kept. */
static void debug_twice_later(void)
{
	int i;

	victim = malloc(100);
	free(victim);
	for (i = 0; i < 5000; i++)
		free(malloc(200));
	free(victim);
}

/* Next to a block that must not be filled by mistake. */
static void debug_interior(void)
{
	char *p = malloc(64), *q = malloc(64);

	memset(p, 1, 64);
	memset(q, 1, 64);
	victim = p;
	free(victim + 32);
}

static void debug_interior_large(void)
{
	victim = malloc(1 << 20);
	free(victim + 8192);
}

static const struct {
	void (*run)(void);
	const char *says;
} debug_kinds[] = {
	{ debug_write, "write after free: 0x" },
	{ debug_twice, "double free: 0x" },
	{ debug_twice_later, "double free: 0x" },
	{ debug_interior, "into a block: 0x" },
	{ debug_interior_large, "what is no block: 0x" },
};

static const char *kind_name;

static void debug_self(void)
{
	char self[4096] = "";

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		_exit(9);
	setenv("MAFC_DEBUG", "1", 1);
	setenv("MISUSE_DEBUG", kind_name, 1);
	execl(self, self, NULL);
	_exit(9);
}

static bool debug_finds(void)
{
	static char name[] = "0";

	kind_name = name;
	for (; name[0] < '0' + (int)(sizeof(debug_kinds) /
				     sizeof(debug_kinds[0])); name[0]++) {
		printf("# kind %s\n", name);
		CHECK(misuse(debug_self) == 128 + SIGABRT);
		CHECK(strstr(line, debug_kinds[name[0] - '0'].says));
	}
	return true;
}

static const struct ktap_test tests[] = {
#ifndef MAFC_PREFIX	/* ASan's own malloc may be locked in the child. */
	{ "fork while threads allocate", fork_in_threads },
#endif
	{ "fork: contents", fork_contents },
	{ "threads come and go", threads_come_and_go },
	{ "destructors after the cache is gone", late_destructors },
	{ "1000 idle threads", idle_threads },
	{ "little address space", small_address_space },
	{ "address space in other threads' caches", hoards_are_found },
	{ "guards around the regions", regions_are_guarded },
	{ "misuse is found", misuse_is_found },
	{ "MAFC_DEBUG finds misuse at the call", debug_finds },
	{ "misuse is survived on request", misuse_carries_on },
};

int main(void)
{
	if (getenv("HOARD"))
		return !hoard();
	if (getenv("MISUSE_DEBUG")) {
		debug_kinds[atoi(getenv("MISUSE_DEBUG"))].run();
		return 0;
	}
	if (getenv("MISUSE_ONLY")) {
		twice_at_once();
		foreign();
		interior_large();
		/* The heap is whole all the same. */
		stop = true;
		churn((void *)3);
		return 0;
	}
	return ktap_run(tests, sizeof(tests) / sizeof(tests[0]));
}
