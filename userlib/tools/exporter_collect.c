// SPDX-License-Identifier: Apache-2.0
/* exporter_collect.c - asks the device about all processes, and then rests as long as it must to stay cheap */
#define _GNU_SOURCE
#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "exporter.h"

#define TICK		1	/* seconds between two rounds, at least */
#define SHARE		0.003	/* of CPU time for them */
#define SHARE_MAP	0.01	/* ... and for each heat map that somebody looks at: asked for it not ... */
#define WANTED		10.0	/* ... longer ago than this */
#define IDLE		60.0	/* seconds, about, between two looks at a process that has no heap ... */
#define LOOKS		4	/* ... after the first */

struct known known = { .lock = PTHREAD_MUTEX_INITIALIZER };

double clock_s(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static uint64_t dead(const struct mafc_stat *st)
{
	return st->held > st->live ? st->held - st->live : 0;
}

/* Sums, and who has most memory in no live block. */
static void rank(void)
{
	struct mafc_stat *sum = &known.sum;
	struct proc *p;
	size_t k;

	*sum = (struct mafc_stat){ 0 };
	known.heaps = known.fallbacks = known.shown = 0;
	for (p = known.procs; p; p = p->next) {
		known.fallbacks += p->fallback;
		if (!p->heap)
			continue;
		known.heaps++;
		sum->held += p->stat.held;
		sum->live += p->stat.live;
		for (k = known.shown; k && dead(&known.worst[k - 1]->stat) < dead(&p->stat); k--)
			known.worst[k] = known.worst[k - 1];
		known.worst[k] = p;
		known.shown += known.shown < known.top;
	}
	sum->fragmentation = fragmentation(sum->held, sum->live);
}

static void proc_unlink(struct proc **at)
{
	struct proc *p = *at;

	*at = p->next;
	free(p->map);
	free(p);
}

/* Brings the list in line with /proc, where the processes are by pid, too. */
static void list(void)
{
	struct proc **at = &known.procs, *p;
	DIR *dir = opendir("/proc");
	struct dirent *e;
	pid_t pid;

	do {
		e = dir ? readdir(dir) : NULL;
		pid = e ? atoi(e->d_name) : INT_MAX;
		while (pid && *at && (*at)->pid < pid)
			proc_unlink(at);
		if (e && pid && (!*at || (*at)->pid > pid) && (p = calloc(1, sizeof(*p)))) {
			p->pid = pid;
			p->next = *at;
			*at = p;
		}
		if (*at && (*at)->pid == pid)
			at = &(*at)->next;
	} while (e);
	if (dir)
		closedir(dir);
	rank();
}

/* Is the library in a process, and its heap not on the device? */
static bool without_device(pid_t pid)
{
	char line[512];
	bool library = false, device = false;
	FILE *f;

	snprintf(line, sizeof(line), "/proc/%d/maps", (int)pid);
	f = fopen(line, "re");
	while (f && !device && fgets(line, sizeof(line), f)) {
		library |= !!strstr(line, "/libmafc.so");
		device = strstr(line, MAFC_DEVICE "\n");
	}
	if (f)
		fclose(f);
	return library && !device;
}

static void ask(int fd, struct proc *p, double now)
{
	struct mafc_stat st;
	char comm[sizeof(p->comm)], *c;
	bool heap = fd >= 0 && !reader_stat(fd, p->pid, &st), fallback = false;

	if (!heap)	/* not at once: it may be about to exec */
		fallback = p->asked == 1 || p->asked >= LOOKS ? without_device(p->pid) : p->fallback;
	if (heap)
		reader_comm(p->pid, comm, sizeof(comm));
	pthread_mutex_lock(&known.lock);
	if (!heap || st.faults < p->stat.faults)	/* another program by now */
		p->history.n = 0;
	p->asked = heap ? 0 : p->asked + 1;
	p->due = p->asked < LOOKS ? 0 : now + IDLE * (0.5 + p->pid % 64 / 64.0);	/* not all at once */
	p->heap = heap;
	p->fallback = fallback;
	if (heap) {
		p->stat = st;
		p->sampled = now;
		strcpy(p->comm, comm);
		for (c = p->comm; *c; c++)	/* it is a label, too */
			*c = *c < ' ' || *c > '~' || *c == '"' || *c == '\\' ? '?' : *c;
		snprintf(p->label, sizeof(p->label), "{pid=\"%d\",comm=\"%s\"", (int)p->pid, p->comm);
	}
	pthread_mutex_unlock(&known.lock);
}

static void remember(void)
{
	struct history *h = &known.history;
	struct proc *p;

	h->percent[h->n++ % HISTORY] = known.sum.fragmentation / 100.0;
	for (p = known.procs; p; p = p->next)
		if (p->heap)
			p->history.percent[p->history.n++ % HISTORY] = p->stat.fragmentation / 100.0;
}

/* Pages so far; whenever the cells are used up, two become one. */
static struct drawing {
	unsigned long pages, per;
	struct cell {
		uint64_t own, meshed, live;
	} cell[MAP_CELLS];
} drawing;

static void draw_page(void *arg, const struct heap_page *page)
{
	struct drawing *d = arg;
	struct cell *c = d->cell, *a;
	int i;

	if (d->pages == d->per * MAP_CELLS) {
		for (i = 0, a = c; i < MAP_CELLS / 2; i++, a += 2)
			c[i] = (struct cell){ a->own + a[1].own, a->meshed + a[1].meshed, a->live + a[1].live };
		memset(&c[i], 0, sizeof(d->cell) / 2);
		d->per *= 2;
	}
	c += d->pages++ / d->per;
	c->own += page->held;
	c->meshed += page->meshed;
	c->live += page->held ? page->live : 0;
}

static void draw(struct proc *p, double now)
{
	double start = clock_s(CLOCK_THREAD_CPUTIME_ID);
	struct drawing *d = &drawing;
	const struct cell *c = d->cell;
	struct heap heap;
	int8_t *to;

	*d = (struct drawing){ .per = 1 };
	if (!heap_open(p->pid, &heap)) {
		heap_walk(&heap, draw_page, d);
		heap_close(&heap);
	}
	pthread_mutex_lock(&known.lock);
	p->map = p->map ? p->map : calloc(1, sizeof(*p->map));
	if (p->map) {
		*p->map = (struct map){ d->pages, d->per, (d->pages + d->per - 1) / d->per, { 0 } };
		for (to = p->map->cell; c < d->cell + p->map->cells; c++)
			*to++ = c->own ? (int)(c->live * 100 / (4096 * c->own)) : c->meshed ? -2 : -1;
	}
	p->map_due = now + (clock_s(CLOCK_THREAD_CPUTIME_ID) - start) / SHARE_MAP;
	pthread_mutex_unlock(&known.lock);
}

static void ask_all(double now)
{
	int fd = reader_open();	/* not kept: an open descriptor would keep the module loaded */
	struct proc *p;

	pthread_mutex_lock(&known.lock);
	list();
	pthread_mutex_unlock(&known.lock);
	for (p = known.procs; p; p = p->next)
		if (now >= p->due)
			ask(fd, p, now);
	if (fd >= 0)
		close(fd);
	pthread_mutex_lock(&known.lock);
	known.device = fd < 0 ? fd : 0;
	rank();
	pthread_mutex_unlock(&known.lock);
}

static void draw_all(double now)
{
	struct proc *p;

	for (p = known.procs; p; p = p->next)
		if (p->heap && now < p->wanted + WANTED && now >= p->map_due)
			draw(p, now);
}

void *collect(void *unused)
{
	double now = clock_s(CLOCK_MONOTONIC), ask_due = now, remember_due = now, start;

	for (;; now = clock_s(CLOCK_MONOTONIC)) {
		if (now >= ask_due) {
			start = clock_s(CLOCK_THREAD_CPUTIME_ID);
			ask_all(now);
			ask_due = now + (clock_s(CLOCK_THREAD_CPUTIME_ID) - start) / SHARE;
		}
		pthread_mutex_lock(&known.lock);
		for (; remember_due <= now; remember_due += HISTORY_STEP)
			remember();
		pthread_mutex_unlock(&known.lock);
		draw_all(now);
		sleep(TICK);
	}
	return unused;
}
