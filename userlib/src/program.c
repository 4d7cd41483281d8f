// SPDX-License-Identifier: Apache-2.0
/* program.c - towards the program: its environment, what it is told, MAFC_DEBUG=1 */
#include "program.h"
#include <stdarg.h>
#include <stdlib.h>

#define KEPT		4096		/* freed blocks that wait */
#define FILL_MAX	((size_t)4096)	/* of each block, from its start */
#define NEW_BYTE	0xa5
#define FREE_BYTE	0xdf

/* A leaf; guards the two below. */
struct lock debug_lock;
static struct kept {
	unsigned char *p;
	size_t size;
} ring[KEPT];
static unsigned at;

struct options options = {
	.compact = true,
	.cache_kib = 4096,
	.reserve_gib = 1024,
};

static const struct {
	const char *name;
	size_t *value;
} variables[] = {
	{ "MAFC_VERBOSE", &options.verbose },
	{ "MAFC_REQUIRE", &options.require },
	{ "MAFC_COMPACT", &options.compact },
	{ "MAFC_STATS", &options.stats },
	{ "MAFC_DEBUG", &options.debug },
	{ "MAFC_CACHE_KIB", &options.cache_kib },
	{ "MAFC_RESERVE_GIB", &options.reserve_gib },
	{ "MAFC_SITES", &options.sites },
};

static size_t to_number(const char *s)
{
	size_t v = 0;

	for (; *s >= '0' && *s <= '9' && v < SIZE_MAX / 32; s++)
		v = v * 10 + (*s - '0');
	return v;
}

/*
 * The dynamic loader may call malloc before libc knows its environment, which lies behind the
 * arguments, on the stack that the program was started on.
 */
extern long *__libc_stack_end __attribute__((weak));

void options_read(void)
{
	char **saved = environ;
	const char *value;
	size_t i;

	if (!environ && &__libc_stack_end)
		environ = (char **)&__libc_stack_end[*__libc_stack_end + 2];
	for (i = 0; i < ARRAY_SIZE(variables); i++) {
		value = secure_getenv(variables[i].name);
		if (value)
			*variables[i].value = to_number(value);
	}
	options.reserve_gib = MAX(options.reserve_gib, 1UL);
	value = secure_getenv("MAFC_ON_ERROR");
	options.go_on = value && !strcmp(value, "continue");
	environ = saved;
}

const char *report_number(char *digits, uint64_t v, unsigned base)
{
	char *d = digits + DIGITS;

	*--d = '\0';
	do
		*--d = "0123456789abcdef"[v % base];
	while (v /= base);
	return d;
}

void report_line(const char *s, ...)
{
	char line[240];
	size_t len = 0;
	int saved = errno;
	long done;
	va_list rest;

	va_start(rest, s);
	for (; s; s = va_arg(rest, const char *))
		while (*s && len < sizeof(line) - 1)
			line[len++] = *s++;
	va_end(rest);
	line[len++] = '\n';
	/* write() of libc is a cancellation point. */
	done = syscall(SYS_write, STDERR_FILENO, line, len);
	(void)done;	/* there is nobody left to tell */
	errno = saved;
}

void report_note(const char *what, const char *name)
{
	report_line("mafc: ", what, name ? " (" : NULL, name, ")", NULL);
}

void noinline report_misuse(const char *what, const void *p)
{
	char digits[DIGITS];

	report_line("mafc: ", what, ": 0x", report_number(digits, (uintptr_t)p, 16), NULL);
	if (!options.go_on)
		abort();
}

void debug_new(void *p, size_t size)
{
	memset(p, NEW_BYTE, MIN(size, FILL_MAX));
}

void *debug_keep(void *p, size_t size)
{
	struct kept old;
	bool twice = false;
	size_t i;

	lock_take(&debug_lock);
	for (i = 0; i < KEPT; i++)
		twice |= ring[i].p == p;
	old = ring[at];
	if (!twice) {
		memset(p, FREE_BYTE, MIN(size, FILL_MAX));
		ring[at] = (struct kept){ p, size };
		at = (at + 1) % KEPT;
	}
	lock_drop(&debug_lock);
	if (twice) {
		report_misuse("double free", p);
		return NULL;
	}
	for (i = 0; old.p && i < MIN(old.size, FILL_MAX); i++)
		if (old.p[i] != FREE_BYTE) {
			report_misuse("write after free", old.p + i);
			break;
		}
	return old.p;
}
