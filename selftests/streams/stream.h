/* SPDX-License-Identifier: GPL-2.0-only */
/* stream.h - what recorder.so writes: a header, then a record for each event, in their order */
#ifndef MAFC_STREAM_H
#define MAFC_STREAM_H

#include <stdint.h>

#define STREAM_MAGIC	0x31736d616572746dULL

enum {
	STREAM_ALLOC = 1,
	STREAM_FREE,
	STREAM_OLD,	/* realloc is given this block, */
	STREAM_NEW,	/* and the same thread got that one for it */
};

struct stream_record {
	uint64_t block;	/* address; from bit 48: thread; from bit 56: what happened */
	uint32_t size;	/* asked for; at least the alignment */
	uint32_t ret;	/* hash of the caller's address */
	uint32_t depth;	/* low half of the stack pointer */
	uint32_t stack;	/* hash of up to STREAM_FRAMES callers */
};

#define STREAM_FRAMES	8

struct stream_header {
	uint64_t magic;
	uint64_t count;	/* of records */
	uint64_t limit;
};

#endif /* MAFC_STREAM_H */
