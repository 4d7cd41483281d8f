/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exporter.h - what mafc-exporter knows. One thread collects, within a share of CPU time, and
 * libmicrohttpd's shows what there is: a heap that is slow to ask delays figures, never answers.
 */
#ifndef MAFC_EXPORTER_H
#define MAFC_EXPORTER_H

#include "reader.h"

#include <pthread.h>

#define HISTORY		360	/* samples of fragmentation: half an hour */
#define HISTORY_STEP	5	/* seconds between two of them */
#define MAP_CELLS	2048	/* of a heat map, at most */
#define TOP_MAX		200

/* Sample i is at i % HISTORY. */
struct history { float percent[HISTORY]; unsigned long n; };

/* Cells of @per pages: those that have memory, those that were meshed away, bytes live. */
struct map {
	unsigned long pages, per;
	struct cell { uint64_t own, meshed, live; } cell[MAP_CELLS];
};

struct proc {
	struct proc *next;
	pid_t pid;
	char comm[64], label[100];	/* {pid="1",comm="init" */
	bool heap, fallback;		/* it has one; or it has the library, and no device */
	unsigned int asked;		/* times, without a heap */
	double sampled;			/* @stat is of then */
	_Atomic double wanted;		/* its map was last asked for */
	double map_due;			/* it is to be drawn */
	struct mafc_stat stat;
	struct history history;
	struct map *map;		/* or NULL */
};

/* @lock protects what follows it. Only the collector writes, @wanted excepted. */
extern struct known {
	unsigned int top, slo;		/* heaps shown one by one; per cent */
	pthread_mutex_t lock;
	struct proc *procs, *worst[TOP_MAX + 1];
	size_t heaps, fallbacks, shown;
	int device;			/* 0, or why it cannot be asked */
	struct mafc_stat sum;
	struct history history;		/* of the sum */
} known;

void *collect(void *unused);

/* Answers, to be freed; NULL without memory. @all: every figure; @pid: with history and map. */
char *render_metrics(void);
char *render_json(bool all, pid_t pid);

#endif
