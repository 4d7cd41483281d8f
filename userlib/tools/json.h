/* SPDX-License-Identifier: Apache-2.0 */
/* json.h - writes a JSON document piece by piece; commas and escapes are its business */
#ifndef MAFC_JSON_H
#define MAFC_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/**
 * struct json - a document under way; set @f, and the rest to zero
 * @f: where it goes
 * @more: something precedes at this level
 */
struct json {
	FILE *f;
	bool more;
};

/* @key is NULL in arrays and at the top. @kind is '{' or '['. */
void json_open(struct json *j, const char *key, char kind);
void json_close(struct json *j, char kind);
void json_u64(struct json *j, const char *key, uint64_t v);
/* With @digits after the point; NaN and infinities become null. */
void json_real(struct json *j, const char *key, double v, int digits);
void json_bool(struct json *j, const char *key, bool v);
/* NULL becomes null; bytes over 0x7f are taken for Latin-1. */
void json_str(struct json *j, const char *key, const char *s);

#endif
