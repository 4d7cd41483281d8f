/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reader.h - what can be seen of the device and of other processes' heaps
 *
 * Shared by the tools. Functions return 0 (or a count) or a negative errno;
 * reader_error() puts it into words. Nothing here changes anything, and no read
 * makes a page of the process that is looked at.
 */
#ifndef MAFC_READER_H
#define MAFC_READER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include <linux/mafc.h>

#define MAFC_DEVICE	"/dev/mafc"
#define MAFC_SYSFS	"/sys/class/misc/mafc"

/* A descriptor of the device, whose ABI version is known to be ours; -EPROTO if it is not. */
int reader_open(void);

/* One line, without a newline, for what reader_* and heap_* return. */
const char *reader_error(int err);

/* -ESRCH, -EPERM, or -ENODEV where the process has no heap. */
int reader_stat(int fd, pid_t pid, struct mafc_stat *st);

/**
 * struct heap_info - a process with a heap
 * @comm: its name, as in /proc/PID/comm
 */
struct heap_info {
	pid_t pid;
	char comm[64];
	struct mafc_stat stat;
};

/*
 * All heaps that the caller may inspect, by pid; free() the list. Asks the device about every
 * process there is: the kernel scans those heaps whose last scan is older than 100 ms.
 */
ssize_t reader_heaps(int fd, struct heap_info **list);

void reader_comm(pid_t pid, char *comm, size_t size);

/**
 * struct sysfs_file - a tunable or counter
 * @name: relative to MAFC_SYSFS
 * @unit: "" for a plain number
 * @min, @max: what the kernel takes; 0, 0 for a counter
 */
struct sysfs_file {
	const char *name, *unit, *what;
	uint64_t min, max;
};

/* They end with a NULL name. */
extern const struct sysfs_file reader_tunables[], reader_counters[];

int reader_get(const char *name, uint64_t *value);
int reader_set(const char *name, uint64_t value);
/* From any file; -EIO if it does not begin with a number. */
int reader_number(const char *path, uint64_t *value);

/**
 * struct heap - the layout of another process's heap
 * @meta, @small, @large: addresses of the regions there
 * @small_pages, @large_pages: their lengths
 * @small_map, @large_map, @spans: offsets in the meta region, bytes
 * @header: a copy of the header: the counters of the size classes
 * @pagemap: /proc/PID/pagemap
 */
struct heap {
	pid_t pid;
	uint64_t meta, small, large;
	uint32_t small_pages, large_pages;
	uint64_t small_map, large_map, spans;
	struct mafc_meta header;
	int pagemap;
};

/* Needs the right to ptrace the process, else -EPERM. heap_close() only after success. */
int heap_open(pid_t pid, struct heap *h);
void heap_close(struct heap *h);

/**
 * struct heap_page - a page that is handed out
 * @addr: its address in the process
 * @span: descriptor of its span, as it was a moment ago; NULL for a large page and for a
 *	small one that is in no span
 * @part: which page of the span it is
 * @live: bytes of it in allocated blocks, 0 to the size of a page; those in thread caches included
 * @large: of the large region
 * @mapped: present in the page table of the process
 * @meshed: it has no page of its own: its blocks live in the span @span->canonical
 *
 * A page has memory for certain if it is mapped; a small one almost certainly if @live, too (the
 * kernel unmaps pages that it moves). Pages without either have been dropped or never touched.
 */
struct heap_page {
	uint64_t addr;
	const struct mafc_span *span;
	unsigned int part;
	unsigned int live;
	bool large, mapped, meshed;
};

typedef void heap_fn(void *arg, const struct heap_page *page);

/*
 * Calls @fn for each page that is handed out, by address. The heap changes meanwhile: each
 * descriptor is a consistent guess, their sum is not a snapshot.
 */
int heap_walk(struct heap *h, heap_fn *fn, void *arg);

#endif
