// SPDX-License-Identifier: Apache-2.0
#include <inttypes.h>
#include <math.h>

#include "json.h"

static void quoted(FILE *f, const char *s)
{
	unsigned char c;

	putc('"', f);
	while ((c = *s++)) {
		if (c < 0x20 || c >= 0x7f)
			fprintf(f, "\\u%04x", c);
		else
			fprintf(f, c == '"' || c == '\\' ? "\\%c" : "%c", c);
	}
	putc('"', f);
}

static void name(struct json *j, const char *key)
{
	if (j->more)
		putc(',', j->f);
	j->more = true;
	if (key) {
		quoted(j->f, key);
		putc(':', j->f);
	}
}

void json_open(struct json *j, const char *key, char kind)
{
	name(j, key);
	putc(kind, j->f);
	j->more = false;
}

void json_close(struct json *j, char kind)
{
	putc(kind == '{' ? '}' : ']', j->f);
	j->more = true;
}

void json_u64(struct json *j, const char *key, uint64_t v)
{
	name(j, key);
	fprintf(j->f, "%" PRIu64, v);
}

void json_real(struct json *j, const char *key, double v, int digits)
{
	name(j, key);
	fprintf(j->f, isfinite(v) ? "%.*f" : "null", digits, v);
}

void json_bool(struct json *j, const char *key, bool v)
{
	name(j, key);
	fputs(v ? "true" : "false", j->f);
}

void json_str(struct json *j, const char *key, const char *s)
{
	name(j, key);
	if (s)
		quoted(j->f, s);
	else
		fputs("null", j->f);
}
