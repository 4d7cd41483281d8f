/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reader.h - what can be seen of the device and of other processes' heaps
 *
 * Shared by the tools. Functions return 0 (or a count) or a negative errno; reader_error() puts it
 * into words. No read makes a page of the process that is looked at.
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
#define LENGTH(a)	(sizeof(a) / sizeof(*(a)))

const char *reader_error(int err);

/* A descriptor of the device, whose ABI version is known to be ours; -EPROTO if it is not. */
int reader_open(void);

/* -ESRCH, -EPERM, or -ENODEV where the process has no heap. */
int reader_stat(int fd, pid_t pid, struct mafc_stat *st);

/* In 1/100 of a per cent, as in struct mafc_stat. */
static inline uint64_t fragmentation(uint64_t held, uint64_t live)
{
	return held > live ? 10000 * (held - live) / held : 0;
}

struct heap_info {
	pid_t pid;
	char comm[64];
	struct mafc_stat stat;
};

/*
 * The heaps that the caller may inspect, of the processes of which it holds (NULL: all); free() the
 * list. Asks the device about each: the kernel scans a heap whose last scan is older than 100 ms.
 */
ssize_t reader_heaps(int fd, bool (*only)(pid_t pid), struct heap_info **list);

/* The name, as in /proc/PID/comm. */
void reader_comm(pid_t pid, char *comm, size_t size);

/**
 * struct sysfs_file - a tunable or a counter
 * @name: relative to MAFC_SYSFS; NULL ends the list
 * @unit: "" for a plain number
 * @min, @max: what the kernel takes
 */
struct sysfs_file {
	const char *name, *unit, *what;
	uint64_t min, max;
};

extern const struct sysfs_file reader_tunables[], reader_counters[];

int reader_get(const char *name, uint64_t *value);
int reader_set(const char *name, uint64_t value);
/* From any file; -EIO if it does not begin with a number. */
int reader_number(const char *path, uint64_t *value);

/**
 * struct heap - the layout of another process's heap
 * @meta, @small, @large: addresses of the regions there
 * @pages: lengths of the small and the large region
 * @map: offsets of their page maps in the meta region, bytes
 * @spans: that of the descriptors
 * @header: a copy of the header, with the counters of the size classes
 * @pagemap: /proc/PID/pagemap
 */
struct heap {
	pid_t pid;
	uint64_t meta, addr[2], pages[2], map[2], spans;
	struct mafc_meta header;
	int pagemap;
};

/* Needs the right to ptrace the process, else -EPERM. heap_close() only after success. */
int heap_open(pid_t pid, struct heap *h);
void heap_close(struct heap *h);

/**
 * struct heap_page - a page that is handed out
 * @addr: its address in the process
 * @span: descriptor of its span, as it was a moment ago; NULL for a large page and for a small one
 *	that is in no span
 * @part: which page of the span it is
 * @live: bytes of it in allocated blocks; those in thread caches included
 * @large: of the large region
 * @mapped: present in the page table of the process
 * @meshed: it has no page of its own: its blocks live in the span @span->canonical
 * @held: it has a page: it is mapped, or has blocks (the kernel unmaps pages that it moves); an
 *	unmapped large page may have one, too
 */
struct heap_page {
	uint64_t addr;
	const struct mafc_span *span;
	unsigned int part, live;
	bool large, mapped, meshed, held;
};

/*
 * Calls @fn for each page that is handed out, by address. The heap changes meanwhile: each
 * descriptor is a consistent guess, their sum is not a snapshot.
 */
int heap_walk(struct heap *h, void (*fn)(void *arg, const struct heap_page *page), void *arg);

#endif
