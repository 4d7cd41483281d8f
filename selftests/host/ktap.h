/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ktap.h - tests of the pure cores in user space, KTAP out
 */
#ifndef MAFC_HOST_KTAP_H
#define MAFC_HOST_KTAP_H

#include <stdio.h>
#include <stdlib.h>

#include "pure.h"

static int ktap_failed;

/* Notes a failure and goes on. */
#define EXPECT(cond)							\
	do {								\
		if (!(cond)) {						\
			printf("# %s:%d: failed: %s\n", __FILE__,	\
			       __LINE__, #cond);			\
			ktap_failed = 1;				\
		}							\
	} while (0)

/* Notes a failure and ends the test. */
#define ASSERT(cond)							\
	do {								\
		EXPECT(cond);						\
		if (ktap_failed)					\
			return;						\
	} while (0)

struct ktap_test {
	const char *name;
	void (*run)(void);
};

static inline int ktap_main(const struct ktap_test *tests, unsigned int n)
{
	unsigned int i, failed = 0;

	printf("KTAP version 1\n1..%u\n", n);
	for (i = 0; i < n; i++) {
		ktap_failed = 0;
		tests[i].run();
		failed += ktap_failed;
		printf("%sok %u %s\n", ktap_failed ? "not " : "", i + 1,
		       tests[i].name);
		fflush(stdout);
	}
	return failed != 0;
}

#define KTAP_MAIN(tests)						\
	int main(void)							\
	{								\
		return ktap_main(tests, sizeof(tests) / sizeof(*(tests)));	\
	}

/* splitmix64 (G. Steele, D. Lea, C. Flood, OOPSLA 2014): same run every time. */
static inline u64 rnd(u64 *state)
{
	u64 z = *state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

/* 0 to n - 1 */
static inline unsigned int below(u64 *state, unsigned int n)
{
	return rnd(state) % n;
}

/*
 * Memory of exactly @size bytes, so that the sanitizer sees what goes beyond.
 * Filled with rubbish: nothing may rely on zeros.
 */
static inline void *memory(size_t size)
{
	void *p = malloc(size);

	if (!p) {
		perror("malloc");
		exit(2);
	}
	return memset(p, 0xa5, size);
}

#endif /* MAFC_HOST_KTAP_H */
