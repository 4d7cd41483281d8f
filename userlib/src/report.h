/* SPDX-License-Identifier: Apache-2.0 */
/* report.h - text without stdio, and what is said to the user */
#ifndef MAFC_REPORT_H
#define MAFC_REPORT_H

#include "types.h"

/* A line being put together; what does not fit is left out. */
struct text {
	char buf[240];
	size_t len;
};

void text_str(struct text *t, const char *s);
void text_dec(struct text *t, uint64_t v);
void text_hex(struct text *t, uint64_t v);
/* Write the line to stderr and start over. */
void text_out(struct text *t);

/* "mafc: @what (@name)" on stderr. */
void report_note(const char *what, const char *name);
/* The program did something wrong with @p: one line, then abort by default. */
void report_misuse(const char *what, const void *p);

#endif
