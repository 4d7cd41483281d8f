/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * For jemalloc's integration tests: its test/test.h, and the little of jemalloc that this and they need.
 * Of its controls there is the one that gives free memory back, and the largest size that there can be.
 */
#ifndef PEERS_JEMALLOC_TEST_H
#define PEERS_JEMALLOC_TEST_H

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIZE_T_MAX SIZE_MAX
#define LG_SIZEOF_PTR 3
#define BUFERROR_BUF 64
#define TEST_MALLOC_SIZE malloc_usable_size
#define JEMALLOC_FORMAT_PRINTF(s, i) __attribute__((format(printf, s, i)))
#define JEMALLOC_DIAGNOSTIC_PUSH
#define JEMALLOC_DIAGNOSTIC_POP
#define JEMALLOC_DIAGNOSTIC_IGNORE_ALLOC_SIZE_LARGER_THAN
#define malloc_snprintf snprintf
#define malloc_printf printf
#define set_errno(e) (errno = (e))
#define get_errno() errno
#define buferror(e, buf, len) snprintf(buf, len, "%s", strerror(e))

static inline int mallctl(const char *name, void *out, size_t *len, void *in, size_t n)
{
	(void)len, (void)in, (void)n;
	if (strcmp(name, "arena.0.purge") == 0)
		malloc_trim(0);
	else if (strcmp(name, "arenas.nlextents") == 0)
		*(unsigned *)out = 1;
	else
		return ENOENT;
	return 0;
}

static inline int mallctlnametomib(const char *name, size_t *mib, size_t *len)
{
	(void)mib, (void)len;
	return strcmp(name, "arenas.lextent.0.size") == 0 ? 0 : ENOENT;
}

static inline int mallctlbymib(size_t *mib, size_t len, void *out, size_t *n, void *in, size_t in_len)
{
	(void)mib, (void)len, (void)n, (void)in, (void)in_len;
	*(size_t *)out = PTRDIFF_MAX;
	return 0;
}

#ifdef __cplusplus
extern "C" {
#endif
#include "test/test.h"

static const char *test_now;
static int tests_failed, this_failed;

void p_test_init(const char *name)
{
	test_now = name;
	this_failed = 0;
}

void p_test_fail(const char *prefix, const char *message)
{
	printf("%s%s\n", prefix, message);
	this_failed = 1;
}

void test_fail(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	puts("");
	this_failed = 1;
}

void p_test_fini(void)
{
	printf("%s: %s\n", test_now, this_failed ? "fail" : "pass");
	tests_failed += this_failed;
}

test_status_t p_test(test_t *t, ...)
{
	va_list ap;

	va_start(ap, t);
	for (; t; t = va_arg(ap, test_t *))
		t();
	va_end(ap);
	return tests_failed ? test_status_fail : test_status_pass;
}
#ifdef __cplusplus
}
#endif

#endif
