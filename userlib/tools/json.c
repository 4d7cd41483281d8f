// SPDX-License-Identifier: Apache-2.0
#include <inttypes.h>
#include <math.h>

#include "json.h"

/* Length of the UTF-8 character at @s, 0 if it is none. */
static int utf8(const unsigned char *s)
{
	int i, n = *s < 0x80 ? 1 : *s < 0xc2 ? 0 : *s < 0xe0 ? 2 : *s < 0xf0 ? 3 : *s < 0xf5 ? 4 : 0;

	for (i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((*s == 0xe0 && s[1] < 0xa0) || (*s == 0xed && s[1] > 0x9f) ||
	    (*s == 0xf0 && s[1] < 0x90) || (*s == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

static void quoted(FILE *f, const char *s)
{
	const unsigned char *c = (const unsigned char *)s;
	int n;

	putc('"', f);
	for (; *c; c += n ? n : 1) {
		n = utf8(c);
		if (!n)
			fputs("\\ufffd", f);
		else if (*c < 0x20 || *c == 0x7f)
			fprintf(f, "\\u%04x", *c);
		else
			fprintf(f, "%s%.*s", *c == '"' || *c == '\\' ? "\\" : "", n, (const char *)c);
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
	if (isfinite(v))
		fprintf(j->f, "%.*f", digits, v);
	else
		fputs("null", j->f);
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
