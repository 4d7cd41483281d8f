// SPDX-License-Identifier: Apache-2.0
/*
 * start.c - malloc where there is hardly a process yet; run preloaded
 *
 * In .preinit_array, before all constructors, those of libc among them; from
 * dlsym, which a wrapper around malloc calls before it knows what to wrap.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ktap.h"

static char *preinited, *constructed;
static bool no_environment;

static void preinit(void)
{
	no_environment = !environ;
	preinited = calloc(10, 100);
	free(malloc(50));
}

__attribute__((section(".preinit_array"), used))
static void (*const at_preinit)(void) = preinit;

__attribute__((constructor(101))) static void construct(void)
{
	constructed = realloc(malloc(10), 5000);
}

static bool all_set(const char *p, char c, size_t n)
{
	while (n--)
		CHECK(p[n] == c);
	return true;
}

/* Ours, and still what they were; freed by the program proper. */
static bool early_blocks(void)
{
	CHECK(preinited && constructed);
	CHECK(malloc_usable_size(preinited) >= 1000);
	CHECK(all_set(preinited, 0, 1000));
	free(preinited);
	free(constructed);
	return true;
}

/* The program again with a variable behind 200 KiB of others; its stderr. */
static bool says(char *name, const char *what)
{
	static char big[100000], text[4096], self[4096];
	char *env[4] = { big, big, name, NULL };
	char preload[5000] = "LD_PRELOAD=";
	int fd[2], status, n, len = 0;
	pid_t pid;

	memset(big, 'x', sizeof(big) - 1);
	big[3] = '=';
	CHECK(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
	strcat(preload, getenv("LD_PRELOAD"));
	env[1] = preload;
	CHECK(!pipe(fd));
	pid = fork();
	if (!pid) {
		dup2(fd[1], 2);
		execle(self, self, "quiet", NULL, env);
		_exit(9);
	}
	close(fd[1]);
	while ((n = read(fd[0], text + len, sizeof(text) - 1 - len)) > 0)
		len += n;
	text[len] = '\0';
	close(fd[0]);
	CHECK(waitpid(pid, &status, 0) == pid && !status);
	return what ? strstr(text, what) != NULL : !text[0];
}

/* The heap was made when libc did not know its environment. */
static bool options_are_found(void)
{
	CHECK(no_environment);
	CHECK(says("MAFC_STATS=1", "mafc: heap on"));
	CHECK(says("MAFC_STATS=0", NULL));
	return true;
}

/* dlsym's own allocations, and dlerror's. */
static bool dlsym_may_allocate(void)
{
	int i;

	for (i = 0; i < 100; i++) {
		CHECK(!dlsym(RTLD_DEFAULT, "no_such_symbol_anywhere"));
		CHECK(strstr(dlerror(), "no_such_symbol_anywhere"));
	}
	/* There only if the wrapper is preloaded: wrap.c */
	unsigned long *wrapped = dlsym(RTLD_DEFAULT, "wrapped_calls");

	if (wrapped) {
		unsigned long before = *wrapped;

		free(malloc(10));
		CHECK(*wrapped == before + 2);
	}
	printf("# %s wrapper\n", wrapped ? "with a" : "no");
	return true;
}

/* A C program loads a module in C++, and with it the C++ library. */
static bool cxx_comes_later(void)
{
	char path[4200] = "";
	int (*throws)(void);
	void *lib;

	CHECK(readlink("/proc/self/exe", path, 4096) > 0);
	strcpy(strrchr(path, '/'), "/liblate.so");
	lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		printf("# %s\n", dlerror());
	CHECK(lib);
	throws = (int (*)(void))dlsym(lib, "throws_bad_alloc");
	CHECK(throws && throws() == 1);
	return true;
}

static const struct ktap_test tests[] = {
	{ "blocks from before the constructors", early_blocks },
	{ "options, read early from a large environment", options_are_found },
	{ "dlsym", dlsym_may_allocate },
	{ "a C++ library that is loaded later", cxx_comes_later },
};

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "quiet"))
		return 0;
	return ktap_run(tests, sizeof(tests) / sizeof(tests[0]));
}
