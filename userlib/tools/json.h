/* SPDX-License-Identifier: Apache-2.0 */
/* json.h - writes a JSON document piece by piece; commas and escapes are its business */
#ifndef MAFC_JSON_H
#define MAFC_JSON_H

#include <stdbool.h>
#include <stdio.h>
#include <linux/types.h>

/* A document under way: set @f, where it goes. @more: something precedes at this level. */
struct json {
	FILE *f;
	bool more;
};

/* @key is NULL in arrays and at the top. @kind is '{' or '['. */
void json_open(struct json *j, const char *key, char kind);
void json_close(struct json *j, char kind);
/* With @digits after the point. Integers are exact up to 2^53. */
void json_number(struct json *j, const char *key, double v, int digits);
void json_bool(struct json *j, const char *key, bool v);
/* NULL becomes null; bytes over 0x7f are taken for Latin-1. */
void json_str(struct json *j, const char *key, const char *s);
void json_array(struct json *j, const char *key, const __u64 *v, size_t n);

#endif
