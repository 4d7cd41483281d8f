// SPDX-License-Identifier: Apache-2.0
/* report.c - text without stdio, and what is said to the user */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "options.h"
#include "report.h"

void text_str(struct text *t, const char *s)
{
	while (*s && t->len < sizeof(t->buf))
		t->buf[t->len++] = *s++;
}

static void text_number(struct text *t, uint64_t v, unsigned base)
{
	char digits[24];
	int n = sizeof(digits);

	digits[--n] = '\0';
	do
		digits[--n] = "0123456789abcdef"[v % base];
	while (v /= base);
	text_str(t, digits + n);
}

void text_dec(struct text *t, uint64_t v)
{
	text_number(t, v, 10);
}

void text_hex(struct text *t, uint64_t v)
{
	text_str(t, "0x");
	text_number(t, v, 16);
}

void text_out(struct text *t)
{
	int saved = errno;
	long done;

	if (t->len == sizeof(t->buf))
		t->len--;
	t->buf[t->len++] = '\n';
	/* write() of libc is a cancellation point. */
	done = syscall(SYS_write, STDERR_FILENO, t->buf, t->len);
	(void)done;	/* there is nobody left to tell */
	t->len = 0;
	errno = saved;
}

void report_note(const char *what, const char *name)
{
	struct text t = { .len = 0 };

	text_str(&t, "mafc: ");
	text_str(&t, what);
	if (name) {
		text_str(&t, " (");
		text_str(&t, name);
		text_str(&t, ")");
	}
	text_out(&t);
}

void noinline report_misuse(const char *what, const void *p)
{
	struct text t = { .len = 0 };

	text_str(&t, "mafc: ");
	text_str(&t, what);
	text_str(&t, ": ");
	text_hex(&t, (uintptr_t)p);
	text_out(&t);
	if (options.on_error == ON_ERROR_ABORT)
		abort();
}
