// SPDX-License-Identifier: Apache-2.0
/* json.c - a JSON document piece by piece; commas and escapes are its business */
#include "reader.h"

static void quoted(FILE *f, const char *s)
{
	unsigned char c;

	putc('"', f);
	while ((c = *s++))
		if (c < 0x20 || c >= 0x7f)
			fprintf(f, "\\u%04x", c);
		else
			fprintf(f, c == '"' || c == '\\' ? "\\%c" : "%c", c);
	putc('"', f);
}

/* What precedes a value; returns where that goes. */
static FILE *name(struct json *j, const char *key)
{
	if (j->more)
		putc(',', j->f);
	j->more = true;
	if (key) {
		quoted(j->f, key);
		putc(':', j->f);
	}
	return j->f;
}

void json_open(struct json *j, const char *key, char kind)
{
	putc(kind, name(j, key));
	j->more = false;
}

void json_close(struct json *j, char kind)
{
	putc(kind == '{' ? '}' : ']', j->f);
	j->more = true;
}

void json_number(struct json *j, const char *key, double v, int digits)
{
	fprintf(name(j, key), "%.*f", digits, v);
}

void json_bool(struct json *j, const char *key, bool v)
{
	fputs(v ? "true" : "false", name(j, key));
}

void json_str(struct json *j, const char *key, const char *s)
{
	if (s)
		quoted(name(j, key), s);
	else
		fputs("null", name(j, key));
}

void json_array(struct json *j, const char *key, const __u64 *v, size_t n)
{
	json_open(j, key, '[');
	while (n--)
		json_number(j, NULL, *v++, 0);
	json_close(j, '[');
}
