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
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
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
 * The dynamic loader may call malloc before libc knows its environment; the
 * kernel has it at hand.  One read is enough for any sane environment: what
 * lies beyond is not seen, as if it had not been set.
 */
static void read_from_kernel(void)
{
	static char buf[16384];
	int fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/environ", O_RDONLY);
	long len = fd < 0 ? 0 : syscall(SYS_read, fd, buf, sizeof(buf) - 1);
	char *s, *equals;

	if (fd >= 0)
		syscall(SYS_close, fd);
	for (s = buf; s < buf + len; s += strlen(s) + 1) {
		equals = strchr(s, '=');
		if (!equals || strncmp(s, "MAFC_", 5))
			continue;
		*equals = '\0';
		set_one(s, equals + 1);
		*equals = '=';
	}
}

void options_read(void)
{
	const char *value;
	size_t i;

	if (!environ) {
		if (!getauxval(AT_SECURE))
			read_from_kernel();
		return;
	}
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		value = secure_getenv(names[i]);
		if (value)
			set_one(names[i], value);
	}
}
