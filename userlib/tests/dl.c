// SPDX-License-Identifier: Apache-2.0
/*
 * dl.c - the library opened by a program that is running, with threads
 *
 * dl LIBRARY.  Not preloaded: the program's own malloc stays what it was.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ktap.h"

static const char *path;
static void *(*get)(size_t size);
static void *(*resize)(void *p, size_t size);
static void (*put)(void *p);
static size_t (*usable)(void *p);
static int (*fragmentation)(void);
static atomic_int bad;

static void *churn(void *arg)
{
	unsigned seed = (uintptr_t)arg;
	unsigned char *p[100] = { NULL };
	int i, n, k;

	for (n = 0; n < 20000; n++) {
		i = rand_r(&seed) % 100;
		if (p[i]) {
			for (k = 0; k < 16; k++)
				bad += p[i][k] != (unsigned char)i;
			put(p[i]);
		}
		p[i] = resize(get(16), rand_r(&seed) % 3000 + 16);
		memset(p[i], i, 16);
		/* The program's own malloc has nothing to do with it. */
		if (n % 16 == 0)
			free(malloc(100));
	}
	for (i = 0; i < 100; i++)
		put(p[i]);
	return NULL;
}

/* Threads from before the library, and from after. */
static pthread_barrier_t loaded;

static void *early(void *arg)
{
	pthread_barrier_wait(&loaded);
	return churn(arg);
}

/* Forks from before the first use on; each child uses the library as well. */
static atomic_bool usable_now, done;

static void *forker(void *arg)
{
	int status;
	pid_t pid;

	while (!done) {
		pid = fork();
		if (!pid) {
			alarm(30);
			if (usable_now)
				put(get(100));
			_exit(0);
		}
		bad += waitpid(pid, &status, 0) != pid || status;
	}
	return arg;
}

static bool opens(void)
{
	pthread_t forks;
	pthread_t before[4], after[4];
	void *lib;
	int i;

	pthread_barrier_init(&loaded, NULL, 5);
	for (i = 0; i < 4; i++)
		CHECK(!pthread_create(&before[i], NULL, early,
				      (void *)(uintptr_t)(i + 1)));
	CHECK(!pthread_create(&forks, NULL, forker, NULL));
	lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		printf("# %s\n", dlerror());
	CHECK(lib);
	get = dlsym(lib, "malloc");
	resize = dlsym(lib, "realloc");
	put = dlsym(lib, "free");
	usable = dlsym(lib, "malloc_usable_size");
	fragmentation = dlsym(lib, "mafc_get_fragmentation");
	CHECK(get && resize && put && usable && fragmentation);
	CHECK((void *)get != (void *)malloc);
	usable_now = true;
	pthread_barrier_wait(&loaded);
	for (i = 0; i < 4; i++)
		CHECK(!pthread_create(&after[i], NULL, churn,
				      (void *)(uintptr_t)(i + 9)));
	for (i = 0; i < 4; i++) {
		pthread_join(before[i], NULL);
		pthread_join(after[i], NULL);
	}
	done = true;
	pthread_join(forks, NULL);
	CHECK(!bad);
	CHECK(fragmentation() >= 0 && fragmentation() <= 100);
	return true;
}

static bool closes(void)
{
	char *p = get(100);
	void *lib;
	pthread_t t;

	strcpy(p, "kept");
	/* Blocks outlive it, and so must it. */
	lib = dlopen(path, RTLD_NOW);
	CHECK(lib && !dlclose(lib) && !dlclose(lib));
	CHECK(usable(p) >= 100 && !strcmp(p, "kept"));
	put(p);
	CHECK(!pthread_create(&t, NULL, churn, (void *)1));
	pthread_join(t, NULL);
	CHECK(!bad);
	return true;
}

static bool forks(void)
{
	char *p = get(1000);
	int status;
	pid_t pid;

	strcpy(p, "parent");
	pid = fork();
	if (!pid) {
		strcpy(p, "child");
		put(p);
		churn((void *)5);
		_exit(bad != 0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && !status);
	CHECK(!strcmp(p, "parent"));
	put(p);
	return true;
}

static const struct ktap_test tests[] = {
	{ "dlopen while threads run", opens },
	{ "dlclose", closes },
	{ "fork", forks },
};

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	path = argv[1];
	return ktap_run(tests, sizeof(tests) / sizeof(tests[0]));
}
