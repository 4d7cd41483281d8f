// SPDX-License-Identifier: Apache-2.0
/* api.c - every function of the interface, in its corners; run preloaded */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ktap.h"

/* Keeps the compiler from knowing what the allocator does. */
static void *volatile sink;
static volatile size_t too_big = (size_t)PTRDIFF_MAX + 1;
static volatile size_t wide = 1UL << 32;

static bool all_sizes(void)
{
	size_t n, i;
	char *p;

	for (n = 0; n < 300000; n += n < 20000 ? 1 : 997) {
		p = malloc(n);
		CHECK(p && (uintptr_t)p % 16 == 0);
		CHECK(malloc_usable_size(p) >= n);
		memset(p, 0x5a, n);
		for (i = 0; i < n; i += 511)
			CHECK(p[i] == 0x5a);
		free(p);
	}
	return true;
}

static bool huge_sizes(void)
{
	size_t n = 1UL << 20;
	char *p;

	for (; n <= 1UL << 32; n *= 2) {
		p = malloc(n);
		CHECK(p);
		p[0] = p[n / 2] = p[n - 1] = 1;
		CHECK(malloc_usable_size(p) >= n);
		free(p);
	}
	return true;
}

static int by_address(const void *a, const void *b)
{
	uintptr_t x = *(uintptr_t *)a, y = *(uintptr_t *)b;

	return x < y ? -1 : x > y;
}

/* Whoever asks for nothing gets a block of its own all the same. */
static bool zero_size(void)
{
	enum { N = 3000 };
	static void *p[N];
	int i;

	for (i = 0; i < N; i++) {
		switch (i % 6) {
		case 0: p[i] = malloc(0); break;
		case 1: p[i] = calloc(0, 7); break;
		case 2: p[i] = calloc(7, 0); break;
		case 3: p[i] = realloc(NULL, 0); break;
		case 4: p[i] = reallocarray(NULL, 0, 7); break;
		case 5: p[i] = aligned_alloc(64, 0); break;
		}
		CHECK(p[i] && (uintptr_t)p[i] % 16 == 0);
	}
	qsort(p, N, sizeof(*p), by_address);
	for (i = 1; i < N; i++)
		CHECK(p[i] != p[i - 1]);
	for (i = 0; i < N; i++)
		free(p[i]);
	CHECK(!posix_memalign(&p[0], 64, 0) && p[0]);
	free(p[0]);
	p[0] = valloc(0);
	p[1] = pvalloc(0);
	p[2] = memalign(0, 0);
	CHECK(p[0] && p[1] && p[2] && p[0] != p[1]);
	for (i = 0; i < 3; i++)
		free(p[i]);
	free(NULL);
	CHECK(malloc_usable_size(NULL) == 0);
	return true;
}

static bool too_large(void)
{
	errno = 0;
	sink = malloc(too_big);
	CHECK(!sink && errno == ENOMEM);
	errno = 0;
	sink = calloc(too_big / 2, 4);
	CHECK(!sink && errno == ENOMEM);
	errno = 0;
	sink = calloc(too_big, 1);
	CHECK(!sink && errno == ENOMEM);
	errno = 0;
	sink = calloc(too_big * 2 - 1, too_big * 2 - 1);
	CHECK(!sink && errno == ENOMEM);
	errno = 0;
	sink = calloc(wide, wide);
	CHECK(!sink && errno == ENOMEM);
	errno = 0;
	sink = malloc(too_big - 1);
	CHECK(!sink && errno == ENOMEM);
	errno = 0;
	sink = malloc(too_big * 2 - 1);
	CHECK(!sink && errno == ENOMEM);
	errno = 0;
	sink = memalign(4096, too_big * 2 - 4096);
	CHECK(!sink && errno == ENOMEM);
	errno = 0;
	sink = memalign(too_big, 1);
	CHECK(!sink && errno == ENOMEM);
	errno = 0;
	sink = reallocarray(NULL, too_big / 2, 4);
	CHECK(!sink && errno == ENOMEM);
	errno = 0;
	sink = reallocarray(NULL, wide, wide);
	CHECK(!sink && errno == ENOMEM);
	errno = 0;
	sink = aligned_alloc(64, too_big);
	CHECK(!sink && errno == ENOMEM);
	errno = 0;
	sink = valloc(too_big * 2 - 5);
	CHECK(!sink && errno == ENOMEM);
	errno = 0;
	sink = pvalloc(too_big * 2 - 5);
	CHECK(!sink && errno == ENOMEM);
	return true;
}

static bool realloc_fails_keeps(void)
{
	char *volatile p = malloc(100), *q;

	strcpy(p, "kept");
	errno = 0;
	q = realloc(p, too_big);
	sink = q;
	CHECK(!sink && errno == ENOMEM);
	CHECK(!strcmp(p, "kept"));
	free(p);
	p = malloc(1 << 20);
	strcpy(p, "kept");
	q = realloc(p, too_big);
	sink = q;
	CHECK(!sink && !strcmp(p, "kept"));
	errno = 0;
	q = reallocarray(p, wide, wide);
	sink = q;
	CHECK(!sink && errno == ENOMEM && !strcmp(p, "kept"));
	q = reallocarray(p, 20, 3);
	CHECK(q && !strcmp(q, "kept"));
	free(q);
	return true;
}

static bool calloc_zeros(void)
{
	size_t n, i;
	int round;
	char *p;

	for (round = 0; round < 3; round++)
		for (n = 1; n < 8 << 20; n = n * 3 / 2 + 1) {
			p = calloc(1, n);
			CHECK(p);
			for (i = 0; i < n; i++)
				CHECK(!p[i]);
			memset(p, 0xff, n);
			free(p);
		}
	return true;
}

static bool realloc_contents(void)
{
	static const size_t sizes[] = {
		1, 17, 100, 4000, 4097, 16384, 16385, 30000, 262144, 262145,
		1000000, 5000000, 900000, 20000, 16000, 600, 20, 3,
	};
	size_t i, j, have = 0;
	unsigned char *p = NULL;

	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		p = realloc(p, sizes[i]);
		CHECK(p);
		for (j = 0; j < have && j < sizes[i]; j++)
			CHECK(p[j] == (unsigned char)(j * 7));
		for (; j < sizes[i]; j++)
			p[j] = j * 7;
		have = sizes[i];
	}
	sink = realloc(p, 0);
	CHECK(!sink);
	sink = realloc(NULL, 0);
	CHECK(sink);
	free(sink);
	return true;
}

static bool realloc_grows_long(void)
{
	size_t n = 1000, i, *p = NULL, have = 0;

	for (; n < 32 << 20; n = n * 5 / 4, have = n * 4 / 5 / sizeof(*p)) {
		p = realloc(p, n);
		CHECK(p);
		for (i = 0; i < n / sizeof(*p); i += 499)
			CHECK(i >= have || !have || p[i] == i || i >= n / 10);
		for (i = 0; i < n / sizeof(*p); i++)
			p[i] = i;
	}
	for (i = 0; i < have; i++)
		CHECK(p[i] == i);
	free(p);
	return true;
}

static bool alignments(void)
{
	size_t align, n;
	void *p;

	for (align = 1; align <= 4 << 20; align *= 2)
		for (n = 1; n < 3 << 20; n = n * 4 + 3) {
			p = memalign(align, n);
			CHECK(p && (uintptr_t)p % align == 0);
			CHECK(malloc_usable_size(p) >= n);
			memset(p, 1, n);
			free(p);
			p = aligned_alloc(align, n);
			CHECK(p && (uintptr_t)p % align == 0);
			p = realloc(p, n + 1);
			CHECK(p);
			free(p);
			if (align < sizeof(void *))
				continue;
			CHECK(!posix_memalign(&p, align, n));
			CHECK((uintptr_t)p % align == 0);
			free(p);
		}
	return true;
}

static bool odd_alignments(void)
{
	static volatile size_t odd = 48, none = 0, vast = SIZE_MAX;
	void *p = &p;

	CHECK(posix_memalign(&p, odd, 10) == EINVAL && p == &p);
	CHECK(posix_memalign(&p, none, 10) == EINVAL && p == &p);
	CHECK(posix_memalign(&p, 4, 10) == EINVAL && p == &p);
	/* glibc sets it as well; the others above do not. */
	errno = 7;
	CHECK(posix_memalign(&p, odd, 10) == EINVAL && errno == 7);
	CHECK(posix_memalign(&p, 64, too_big) == ENOMEM && p == &p);
	CHECK(errno == ENOMEM);
	errno = 0;
	sink = aligned_alloc(odd, 10);
	CHECK(!sink && errno == EINVAL);
	errno = 0;
	sink = aligned_alloc(none, 10);
	CHECK(!sink && errno == EINVAL);
	errno = 0;
	sink = memalign(vast, 10);
	CHECK(!sink && errno == EINVAL);
	sink = memalign(odd, 10);
	CHECK(sink && (uintptr_t)sink % 64 == 0);
	free(sink);
	sink = memalign(none, 10);
	CHECK(sink);
	free(sink);
	return true;
}

static bool page_aligned(void)
{
	size_t page = getpagesize();

	sink = valloc(1);
	CHECK(sink && (uintptr_t)sink % page == 0);
	free(sink);
	sink = pvalloc(page + 1);
	CHECK(sink && (uintptr_t)sink % page == 0);
	CHECK(malloc_usable_size(sink) >= 2 * page);
	free(sink);
	return true;
}

static bool free_keeps_errno(void)
{
	void (*sized)(void *p, size_t n) = dlsym(RTLD_DEFAULT, "free_sized");
	void (*aligned_sized)(void *p, size_t align, size_t n) =
		dlsym(RTLD_DEFAULT, "free_aligned_sized");
	void (*cfree_)(void *p) = dlsym(RTLD_DEFAULT, "cfree");
	static const size_t sizes[] = { 10, 5000, 50000, 500000, 200 << 20 };
	size_t i;

	for (i = 0; i < 5 * sizeof(sizes) / sizeof(sizes[0]); i++) {
		char *p = malloc(sizes[i / 5]);

		p[0] = 1;
		errno = 4711;
		switch (i % 5) {
		case 0: free(p); break;
		case 1: p = realloc(p, 0); CHECK(!p); break;
		case 2: sized(p, sizes[i / 5]); break;
		case 3: aligned_sized(p, 16, sizes[i / 5]); break;
		case 4: cfree_(p); break;
		}
		CHECK(errno == 4711);
	}
	/* Memory that goes back to the system on the way. */
	for (i = 0; i < 200; i++) {
		char *p = malloc(70 << 20);

		p[0] = 1;
		errno = 4711;
		free(p);
		CHECK(errno == 4711);
	}
	return true;
}

/* Every element that opens closes, in order; attributes have their quotes. */
static bool is_xml(const char *s)
{
	const char *open[8], *end;
	int depth = 0;
	size_t n;

	for (; (s = strchr(s, '<')); s = end) {
		end = strchr(s, '>');
		n = strcspn(s + 1, " >/");
		CHECK(end && depth < 8);
		if (s[1] == '/') {
			n = strcspn(s + 2, ">");
			CHECK(depth && !strncmp(open[--depth], s + 2, n));
		} else if (end[-1] != '/') {
			CHECK(n);
			open[depth++] = s + 1;
		}
		for (; s < end; s++)
			if (*s == '=')
				CHECK(s[1] == '"');
	}
	CHECK(!depth);
	return true;
}

/* What malloc_stats() says on stderr. */
static bool stats_told(void)
{
	char text[1000] = "";
	int fd[2], old = dup(2);

	CHECK(!pipe(fd) && dup2(fd[1], 2) == 2);
	malloc_stats();
	dup2(old, 2);
	close(old);
	CHECK(read(fd[0], text, sizeof(text) - 1) > 0);
	CHECK(strstr(text, "system bytes") && strstr(text, "in use bytes"));
	close(fd[0]);
	close(fd[1]);
	return true;
}

static bool trims(void)
{
	int (*on_device)(void) = dlsym(RTLD_DEFAULT, "mafc_on_device");
	int i, got;
	char *p[64];

	for (i = 0; i < 64; i++)
		p[i] = memset(malloc(100000), 1, 100000);
	for (i = 0; i < 64; i++)
		free(p[i]);
	errno = 4711;
	got = malloc_trim(0);
	CHECK(errno == 4711);
	/* On the device the kernel may have been faster. */
	CHECK(got == 1 || (got == 0 && on_device && on_device()));
	return true;
}

static bool informs(void)
{
	size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
	char *text = NULL, *p = malloc(10 << 20);
	size_t len;
	FILE *f;

	CHECK(p);
	CHECK(mallinfo2().uordblks + mallinfo2().hblkhd >= before + (10 << 20));
	free(p);
	f = open_memstream(&text, &len);
	CHECK(f && malloc_info(0, f) == 0);
	fclose(f);
	/* libc's own malloc may not be ours (prefixed.h). */
	text = strcpy(malloc(len + 1), text);
	CHECK(!strncmp(text, "<malloc version=", 16) &&
	      strstr(text, "</malloc>") && is_xml(text));
	free(text);
	CHECK(malloc_info(1, stdout) == EINVAL);
	CHECK(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1);
	CHECK(mallopt(M_ARENA_MAX, 1) == 1 && mallopt(M_PERTURB, 0) == 1);
	CHECK(stats_told() && trims());
	return true;
}

/* The old structure holds the same figures, as far as an int goes. */
static bool old_mallinfo(void)
{
	struct mallinfo (*old)(void) = dlsym(RTLD_DEFAULT, "mallinfo");
	void *vast = malloc(3UL << 30);
	struct mallinfo2 m = mallinfo2();
	struct mallinfo o;

	CHECK(old);
	o = old();
	CHECK(vast && m.hblkhd >= 3UL << 30 && o.hblkhd == INT_MAX);
	CHECK((size_t)o.uordblks == m.uordblks && m.hblks >= 1);
	free(vast);
	CHECK(mallinfo2().hblkhd < m.hblkhd);
	return true;
}

static bool fragmentation_known(void)
{
	int (*get)(void) = dlsym(RTLD_DEFAULT, "mafc_get_fragmentation");
	int percent;

	CHECK(get);
	percent = get();
	CHECK(percent >= 0 && percent <= 100);
	return true;
}

/* Not where a sanitizer is in the way. */
#ifndef MAFC_PREFIX
static bool is_ours(void)
{
	Dl_info info;

	CHECK(dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info));
	CHECK(strstr(info.dli_fname, "libmafc"));
	return true;
}

static bool aliases_exist(void)
{
	static const char *const names[] = {
		"malloc", "calloc", "realloc", "reallocarray", "free", "cfree",
		"free_sized", "free_aligned_sized", "aligned_alloc", "memalign",
		"posix_memalign", "valloc", "pvalloc", "malloc_usable_size",
		"malloc_trim", "mallinfo", "mallinfo2", "malloc_info",
		"malloc_stats", "mallopt",
		"__libc_malloc", "__libc_calloc", "__libc_realloc",
		"__libc_reallocarray", "__libc_free", "__libc_cfree",
		"__libc_memalign", "__libc_valloc", "__libc_pvalloc",
		"__posix_memalign", "__libc_mallinfo", "__libc_mallopt",
		"_Znwm", "_Znam", "_ZnwmSt11align_val_t", "_ZnamSt11align_val_t",
		"_ZdlPv", "_ZdaPv", "_ZdlPvm", "_ZdaPvm",
		"_ZdlPvRKSt9nothrow_t", "_ZdaPvRKSt9nothrow_t",
		"_ZdlPvSt11align_val_t", "_ZdaPvSt11align_val_t",
		"_ZdlPvmSt11align_val_t", "_ZdaPvmSt11align_val_t",
		"_ZdlPvSt11align_val_tRKSt9nothrow_t",
		"_ZdaPvSt11align_val_tRKSt9nothrow_t",
	};
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		Dl_info info;

		CHECK(dladdr(dlsym(RTLD_DEFAULT, names[i]), &info));
		CHECK(strstr(info.dli_fname, "libmafc"));
	}
	return true;
}

static bool in_child(void (*run)(void))
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		run();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

/* The heap was made before; a limit now makes growing fail, not crash. */
static void eat_all(void)
{
	struct rlimit limit = { 64 << 20, 64 << 20 };
	void **last = NULL, **p;
	size_t size = 1 << 20, n = 0;

	setrlimit(RLIMIT_DATA, &limit);
	for (; size >= 16; size /= 2)
		while ((p = malloc(size)) && n++ < 10000000) {
			*p = last;
			last = p;
		}
	if (n < 32 || errno != ENOMEM)
		_exit(1);
	for (; last; last = p) {
		p = *last;
		free(last);
	}
	p = malloc(1 << 20);
	_exit(!p);
}

static bool out_of_memory(void)
{
	int (*on_device)(void) = dlsym(RTLD_DEFAULT, "mafc_on_device");

	/* The limit is one of private memory; the device's is the cgroup. */
	if (on_device && on_device())
		return true;
	CHECK(in_child(eat_all));
	return true;
}
#endif

/* What one of them frees the next one gets, and zeroed by calloc. */
static bool reused(bool zero)
{
	static const size_t sizes[] = { 100 << 10, 250 << 10, 300 << 10, 500 << 10 };
	size_t i, k, n, others;
	char *p, *last;

	for (i = 0; i < 4; i++) {
		n = sizes[i];
		for (k = 0, others = 0, last = NULL; k < 100; k++, last = p) {
			p = zero ? calloc(1, n) : aligned_alloc(4096, n);
			CHECK(p && (zero || (uintptr_t)p % 4096 == 0));
			CHECK(!zero || (!p[0] && !memcmp(p, p + 1, n - 1)));
			others += p != last;
			memset(p, 1, n);
			free(p);
		}
		CHECK(others <= 10);
	}
	return true;
}

static bool medium_reused(void)
{
	return reused(true) && reused(false);
}

static const struct ktap_test tests[] = {
#ifndef MAFC_PREFIX
	{ "the library is in use", is_ours },
	{ "all names are ours", aliases_exist },
	{ "out of memory", out_of_memory },
#endif
	{ "all sizes", all_sizes },
	{ "1 MiB to 4 GiB", huge_sizes },
	{ "size 0", zero_size },
	{ "sizes that cannot be", too_large },
	{ "a failed realloc keeps the block", realloc_fails_keeps },
	{ "calloc is zero", calloc_zeros },
	{ "calloc, aligned_alloc: what was freed is used again", medium_reused },
	{ "realloc keeps contents", realloc_contents },
	{ "realloc grows step by step", realloc_grows_long },
	{ "alignments", alignments },
	{ "alignments that cannot be", odd_alignments },
	{ "valloc, pvalloc", page_aligned },
	{ "free keeps errno", free_keeps_errno },
	{ "mallinfo, malloc_info, mallopt, malloc_trim", informs },
	{ "mallinfo", old_mallinfo },
	{ "mafc_get_fragmentation", fragmentation_known },
};
KTAP_MAIN(tests)
