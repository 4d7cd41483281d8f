/* SPDX-License-Identifier: Apache-2.0 */
/* cli.h - what the parts of mafc(1) share */
#ifndef MAFC_CLI_H
#define MAFC_CLI_H

#include <signal.h>

#include "json.h"
#include "reader.h"

enum status { OK, FAILED, USAGE, OVER_SLO };

/**
 * struct options - the command line; sizes in bytes, times in ms
 * @args: what follows the options; ends with NULL
 * @pid: the first of them as a process id, 0 without one
 * @count: times that top repeats itself, 0: until it is told to stop
 * @limit: memory.high and memory.max of a cgroup of its own
 */
struct options {
	bool json;
	char **args, sort;
	pid_t pid;
	const char *svg;
	uint64_t interval, count, after, lasting, at_least, limit[2];
	double slo;
};

extern struct options opt;
extern struct json js;			/* to stdout */
extern volatile sig_atomic_t stopped;	/* by a signal */
extern void (*at_die)(void);		/* what to put right before the end */

/* One line on stderr, and the end. */
void die(enum status status, const char *fmt, ...) __attribute__((noreturn, format(printf, 2, 3)));
/* die() with what a function of the reader returned; about a process if @pid is not 0. */
void die_of(int err, pid_t pid) __attribute__((noreturn));
int open_device(void);
uint64_t now_ms(void);

/*
 * Results. The same calls write JSON, or text: in LIST a line for each value, in TABLE a row for
 * each object, and in HEADER the heads of the columns. Units: B bytes, t ns, % 1/100 of a per cent,
 * 0 for a plain number; the JSON key ends with it.
 */
enum mode { LIST, TABLE, HEADER };
extern enum mode mode;
extern const char *eol;
void put(const char *key, char unit, uint64_t v);
void put_text(const char *key, const char *s);
void begin(const char *key, char kind);
void end(char kind);
void put_heap(const struct heap_info *h);	/* as an object of its own */
void put_members(const struct heap_info *h);
/* In words; good for the next 7 calls. */
const char *text(char unit, uint64_t v);

/* Where libmafc.so is, or NULL. */
const char *library_path(void);

int cmd_stat(void), cmd_top(void), cmd_heatmap(void), cmd_classes(void);
int cmd_run(void), cmd_check(void), cmd_compact(void), cmd_tune(void), cmd_doctor(void);

#endif
