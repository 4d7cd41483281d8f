/* SPDX-License-Identifier: Apache-2.0 */
/* options.h - the environment variables, read once; see options.c */
#ifndef MAFC_OPTIONS_H
#define MAFC_OPTIONS_H

#include "types.h"

enum on_error { ON_ERROR_ABORT, ON_ERROR_CONTINUE };

struct options {
	bool verbose;
	bool require;
	bool compact;
	bool stats;
	bool debug;
	enum on_error on_error;
	size_t cache_kib;
	size_t reserve_gib;
};

extern INTERNAL struct options options;

void options_read(void);

#endif
