/* SPDX-License-Identifier: Apache-2.0 */
/* cli.h - what the parts of mafc(1) share */
#ifndef MAFC_CLI_H
#define MAFC_CLI_H

#include "json.h"
#include "reader.h"

enum status { OK, FAILED, USAGE, OVER_SLO };

/**
 * struct options - the command line; sizes in bytes, times in ms
 * @args: what follows the options; ends with NULL
 * @pid: the first of them as a process id, 0 without one
 */
struct options {
	bool json, no_compact, fallback;
	char **args;
	pid_t pid;
	const char *svg, *sort;
	uint64_t interval, count, after, lasting, at_least, memory_max;
	double slo;
};

extern struct options opt;
extern struct json js;			/* to stdout */
extern volatile int stopped;		/* by a signal */

/* One line on stderr, and the end. */
void die(enum status status, const char *fmt, ...) __attribute__((noreturn, format(printf, 2, 3)));
/* If @err is what a function of the reader returned in failure; about a process if @pid is not 0. */
void die_if(int err, pid_t pid);
int open_device(void);
uint64_t now_ms(void);

/*
 * Results. The same calls write JSON, or text: in LIST a line for each value, in TABLE a row for each
 * object, and in HEADER the heads of the columns. Units: B bytes, t ns, % 1/100 of a per cent, 0 for a
 * plain number; the JSON key ends with it. Columns of text are flush left and have a @width < 0.
 */
extern enum mode { LIST, TABLE, HEADER } mode;
void put(const char *key, char unit, uint64_t v);
void put_text(const char *key, const char *s, int width);
void begin(const char *key, char kind);
void end(char kind);
/* A number in words; good for the next 7 calls. */
const char *text(char unit, uint64_t v);
/* Held, live, meshed, fragmentation of the heaps of which it holds (NULL: all); how many they are. */
ssize_t sum_heaps(int fd, bool (*only)(pid_t pid), struct mafc_stat *sum);

/* The directory of the cgroup of a process (version 2). */
void cgroup_of(pid_t pid, char path[4200]);
/* Where libmafc.so is, or NULL. */
const char *library_path(void);

int cmd_stat(void), cmd_top(void), cmd_heatmap(void), cmd_classes(void);
int cmd_run(void), cmd_check(void), cmd_compact(void), cmd_tune(void), cmd_doctor(void);

#endif
