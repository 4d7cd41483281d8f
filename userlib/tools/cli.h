/* SPDX-License-Identifier: Apache-2.0 */
/* cli.h - what the parts of mafc(1) share */
#ifndef MAFC_CLI_H
#define MAFC_CLI_H

#include "reader.h"

#include <ctype.h>
#include <numa.h>
#include <sys/wait.h>

enum status { OK, FAILED, USAGE, OVER_SLO };

/* The command line; bytes, ms, and for @slo 1/100 of a per cent. @args ends with NULL. */
extern struct options {
	bool json, no_compact, fallback, judge;		/* by the SLO: check */
	char **args;
	pid_t pid;					/* the first of @args, or 0 */
	const char *svg;
	char sort;					/* one of SORT_KEYS */
	uint64_t interval, count, after, lasting, at_least, memory_max, slo, top;
} opt;

#define SORT_KEYS	"hlfnmp"	/* held, live, fragmentation, next, meshed, pid */

extern volatile int stopped;		/* by a signal */

/* Returns @err, unless it is a failure, of the reader; about a process if @pid is not 0. */
int die_if(int err, pid_t pid);
int open_device(void);
void *grow(void *p, size_t size);
#define now_ms()	((uint64_t)(1e3 * clock_s(CLOCK_MONOTONIC)))

/*
 * Results. The same calls write JSON, or text: in LIST a line for each value, in TABLE a row for
 * each object, and in HEADER the heads of the columns. Units: B bytes, t ns, % 1/100 of a per cent,
 * 0 none; the JSON key ends with it. Columns of text are flush left and have a @width < 0.
 */
extern struct json js;
extern enum mode { LIST, TABLE, HEADER } mode;
void put(const char *key, char unit, uint64_t v);
void put_text(const char *key, const char *s, int width);
void begin(const char *key, char kind);
void end(char kind);
/* Heads of columns, and @n rows; @row puts one. There must be a row 0 in any case. */
void put_table(const char *key, size_t n, void (*row)(size_t i));
/* A number in words; good for the next 7 calls. */
const char *text(char unit, uint64_t v);

/* The heaps of the processes of which @only holds (NULL: all), to @heaps; how many they are. */
extern struct heap_info {
	pid_t pid;
	char comm[64];
	struct mafc_stat stat;
} *heaps;
size_t find_heaps(int fd, bool (*only)(pid_t pid), struct mafc_stat *sum);

/* The directory of the cgroup of a process (version 2). */
void cgroup_of(pid_t pid, char path[4200]);
/* Where libmafc.so is, or NULL. */
const char *library_path(void);
/* Becomes the program opt.args, with the library. */
void start(void) __attribute__((noreturn));

int cmd_stat(void), cmd_top(void), cmd_heatmap(void), cmd_classes(void), cmd_sites(void);
int cmd_run(void), cmd_compact(void), cmd_tune(void), cmd_doctor(void);

#endif
