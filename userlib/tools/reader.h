/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reader.h - what the tools share: the device and other processes' heaps are read, JSON is written
 *
 * To be included first. Functions that return an int return 0 or more, or a
 * negative errno. No read makes a page of the process that is looked at.
 */
#ifndef MAFC_READER_H
#define MAFC_READER_H

#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <linux/mafc.h>

#define MAFC_DEVICE	"/dev/mafc"
#define MAFC_SYSFS	"/sys/class/misc/mafc"
#define PAGE		4096U
#define LENGTH(a)	(sizeof(a) / sizeof(*(a)))

/* What such an errno means here. */
const char *reader_error(int err);

/* fopen() of the path that follows as of printf(). */
FILE *reader_file(const char *mode, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The next line of @f; without one, false, and @f is closed. @f may be NULL. */
bool reader_line(FILE *f, char *line, int size);
/* Read, write a number, and close @f, which may be what reader_file() could not open. */
int reader_number(FILE *f, uint64_t *value);
int reader_write(FILE *f, uint64_t value);
/* A tunable or counter in MAFC_SYSFS. */
int reader_get(const char *name, uint64_t *value);
int reader_set(const char *name, uint64_t value);

/*
 * What is to be told of the device, by file in MAFC_SYSFS, up to one without; or of a process, by
 * place in struct mafc_stat. @digits of the value are decimals. A counter's name ends in _total.
 * The first TUNABLES may be set, from @min to @max.
 */
extern const struct figure {
	const char *name, *help;
	unsigned int digits;
	const char *file, *unit;
	uint64_t min, max;
	size_t at, size;
} device_figures[];
#define TUNABLES	6

/* A descriptor of the device, whose ABI version is known to be ours; -EPROTO if it is not. */
int reader_open(void);
/* -ESRCH, -EPERM, or -ENODEV where the process has no heap. Not older than 100 ms. */
int reader_stat(int fd, pid_t pid, struct mafc_stat *st);
/* The name, as in /proc/PID/comm. */
void reader_comm(pid_t pid, char *comm, int size);

/* Seconds. */
double clock_s(clockid_t id);

/* In 1/100 of a per cent, as in struct mafc_stat. */
static inline uint64_t fragmentation(uint64_t held, uint64_t live)
{
	return held > live ? 10000 * (held - live) / held : 0;
}

/* A page that is handed out. */
struct heap_page {
	uint64_t addr, index;	/* in the process; its number in the small, or large, region */
	const struct mafc_span *span;	/* which has it as @part; NULL: a large one, or in none */
	unsigned int part, live;	/* bytes in allocated blocks; those in thread caches, too */
	bool large, mapped;	/* present in the page table of the process */
	bool meshed;		/* without a page of its own: its blocks live in @span->canonical */
	bool held;		/* mapped, or has blocks (the kernel unmaps pages that it moves) */
};

/*
 * Copies the header, with the counters of the size classes, and calls @fn for each page that is
 * handed out, by address. Needs the right to ptrace the process, else -EPERM. The heap changes
 * meanwhile: each descriptor is a consistent guess, their sum is not a snapshot.
 */
int heap_walk(pid_t pid, struct mafc_meta *header, void (*fn)(const struct heap_page *page));

/* A JSON document under way: set @f, where it goes. @more: something precedes at this level. */
struct json { FILE *f; bool more; };

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
