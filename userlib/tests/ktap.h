/* SPDX-License-Identifier: Apache-2.0 */
/* ktap.h - results in the Kernel Test Anything Protocol */
#ifndef MAFC_KTAP_H
#define MAFC_KTAP_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

struct ktap_test {
	const char *name;
	bool (*run)(void);
};

/* In a test: say what did not hold, and fail. */
#define CHECK(cond)							\
	do {								\
		if (!(cond)) {						\
			printf("# %s:%d: %s\n", __FILE__, __LINE__,	\
			       #cond);					\
			return false;					\
		}							\
	} while (0)

static inline int ktap_run(const struct ktap_test *tests, int n)
{
	int i, failed = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("KTAP version 1\n1..%d\n", n);
	for (i = 0; i < n; i++) {
		bool ok = tests[i].run();

		failed += !ok;
		printf("%sok %d %s\n", ok ? "" : "not ", i + 1, tests[i].name);
	}
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#define KTAP_MAIN(tests)						\
	int main(void)							\
	{								\
		return ktap_run(tests, sizeof(tests) / sizeof(tests[0])); \
	}

#endif
