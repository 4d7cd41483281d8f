// SPDX-License-Identifier: Apache-2.0
/*
 * options.c - every environment variable that the library knows
 *
 *   MAFC_VERBOSE=1        say on stderr when /dev/mafc cannot be used
 *   MAFC_REQUIRE=1        end the program with status 127 in that case
 *   MAFC_COMPACT=0        ask the kernel not to compact this heap
 *   MAFC_ON_ERROR=continue  carry on after a misuse (default: abort)
 *   MAFC_CACHE_KIB=n      most that one thread's cache may hold (default 4096)
 *   MAFC_RESERVE_GIB=n    address space to reserve (default 1024)
 *   MAFC_STATS=1          malloc_stats() when the program ends
 *   MAFC_DEBUG=1          find writes after free, slowly (debug.c)
 *
 * All are ignored in programs that run with more rights than their caller.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "options.h"

struct options options = {
	.compact = true,
	.cache_kib = 4096,
	.reserve_gib = 1024,
};

static size_t to_number(const char *s)
{
	size_t v = 0;

	for (; *s >= '0' && *s <= '9' && v < SIZE_MAX / 32; s++)
		v = v * 10 + (*s - '0');
	return v;
}

static void set_one(const char *name, const char *value)
{
	if (!strcmp(name, "MAFC_VERBOSE"))
		options.verbose = to_number(value);
	else if (!strcmp(name, "MAFC_REQUIRE"))
		options.require = to_number(value);
	else if (!strcmp(name, "MAFC_COMPACT"))
		options.compact = to_number(value);
	else if (!strcmp(name, "MAFC_STATS"))
		options.stats = to_number(value);
	else if (!strcmp(name, "MAFC_DEBUG"))
		options.debug = to_number(value);
	else if (!strcmp(name, "MAFC_CACHE_KIB"))
		options.cache_kib = to_number(value);
	else if (!strcmp(name, "MAFC_RESERVE_GIB"))
		options.reserve_gib = MAX(to_number(value), 1UL);
	else if (!strcmp(name, "MAFC_ON_ERROR") && !strcmp(value, "continue"))
		options.on_error = ON_ERROR_CONTINUE;
}

static const char *const names[] = {
	"MAFC_VERBOSE", "MAFC_REQUIRE", "MAFC_COMPACT", "MAFC_STATS",
	"MAFC_DEBUG", "MAFC_CACHE_KIB", "MAFC_RESERVE_GIB", "MAFC_ON_ERROR",
};

/*
 * The dynamic loader may call malloc before libc knows its environment, which
 * lies behind the arguments, on the stack that the program was started on.
 */
extern long *__libc_stack_end __attribute__((weak));

void options_read(void)
{
	char **saved = environ;
	const char *value;
	size_t i;

	if (!environ && &__libc_stack_end)
		environ = (char **)&__libc_stack_end[*__libc_stack_end + 2];
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		value = secure_getenv(names[i]);
		if (value)
			set_one(names[i], value);
	}
	environ = saved;
}
