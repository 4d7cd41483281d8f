// SPDX-License-Identifier: Apache-2.0
/* exporter_collect.c - asks the device about all processes, and rests to stay cheap */
#include "exporter.h"

#include <limits.h>

#define TICK		1	/* seconds between two rounds, at least */
#define SHARE		0.003	/* of CPU time for them */
#define SHARE_MAP	0.01	/* ... and for each heat map that was asked for ... */
#define WANTED		10.0	/* ... not longer ago than this, in seconds */

struct known known = { .top = 20, .slo = 15, .lock = PTHREAD_MUTEX_INITIALIZER };

static int64_t dead(const struct proc *p)
{
	return p->stat.held - p->stat.live;
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
		for (k = known.shown; k && dead(known.worst[k - 1]) < dead(p); k--)
			known.worst[k] = known.worst[k - 1];
		known.worst[k] = p;
		known.shown += known.shown < known.top;
	}
	sum->fragmentation = fragmentation(sum->held, sum->live);
}

/* Brings the list in line with /proc, where the processes are by pid, too. */
static void list(void)
{
	struct proc **at = &known.procs, *p;
	DIR *dir = opendir("/proc");
	struct dirent *e;
	pid_t pid;

	pthread_mutex_lock(&known.lock);
	do {
		e = dir ? readdir(dir) : NULL;
		pid = e ? atoi(e->d_name) : INT_MAX;
		while (pid && (p = *at) && p->pid < pid) {
			*at = p->next;
			free(p->map);
			free(p);
		}
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
	pthread_mutex_unlock(&known.lock);
}

/* Is the library in a process, and its heap not on the device? */
static bool without_device(pid_t pid)
{
	FILE *f = reader_file("re", "/proc/%d/maps", pid);
	bool library = false, device = false;
	char line[512];

	while (reader_line(f, line, sizeof(line))) {
		library |= !!strstr(line, "/libmafc.so");
		device |= !!strstr(line, MAFC_DEVICE "\n");
	}
	return library && !device;
}

static void ask(int fd, struct proc *p, double now)
{
	struct mafc_stat st;
	char comm[sizeof(p->comm)], *c;
	bool heap = fd >= 0 && !reader_stat(fd, p->pid, &st), fallback = false;

	if (!heap)	/* not at once: it may be about to exec; later seldom, not in all at once */
		fallback = p->asked == 1 || (p->asked + p->pid) % 64 == 63 ?
			   without_device(p->pid) : p->fallback;
	if (heap)
		reader_comm(p->pid, comm, sizeof(comm));
	pthread_mutex_lock(&known.lock);
	if (!heap || st.faults < p->stat.faults)	/* another program by now */
		p->history.n = 0;
	p->asked = heap ? 0 : p->asked + 1;
	p->heap = heap;
	p->fallback = fallback;
	if (heap) {
		p->stat = st;
		p->sampled = now;
		strcpy(p->comm, comm);
		for (c = p->comm; *c; c++)	/* it is a label, too */
			*c = *c < ' ' || *c > '~' || *c == '"' || *c == '\\' ? '?' : *c;
		snprintf(p->label, sizeof(p->label), "{pid=\"%d\",comm=\"%s\"", p->pid, p->comm);
	}
	pthread_mutex_unlock(&known.lock);
}

static void remember(struct history *h, const struct mafc_stat *st)
{
	h->percent[h->n++ % HISTORY] = st->fragmentation / 100.0;
}

/* The map under way; whenever its cells are used up, two become one. */
static struct map drawing;

static void draw_page(const struct heap_page *page)
{
	struct cell *c = drawing.cell, *a;
	int i;

	if (drawing.pages == drawing.per * MAP_CELLS) {
		for (i = 0, a = c; i < MAP_CELLS / 2; i++, a += 2) {
			c[i].own = a[0].own + a[1].own;
			c[i].meshed = a[0].meshed + a[1].meshed;
			c[i].live = a[0].live + a[1].live;
		}
		memset(&c[i], 0, sizeof(drawing.cell) / 2);
		drawing.per *= 2;
	}
	c += drawing.pages++ / drawing.per;
	c->own += page->held;
	c->meshed += page->meshed;
	c->live += page->held ? page->live : 0;
}

static void draw(struct proc *p, double now)
{
	double start = clock_s(CLOCK_THREAD_CPUTIME_ID);
	struct mafc_meta meta;

	drawing = (struct map){ .per = 1 };
	heap_walk(p->pid, &meta, draw_page);
	pthread_mutex_lock(&known.lock);
	p->map = p->map ? p->map : malloc(sizeof(*p->map));
	if (p->map)
		*p->map = drawing;
	p->map_due = now + (clock_s(CLOCK_THREAD_CPUTIME_ID) - start) / SHARE_MAP;
	pthread_mutex_unlock(&known.lock);
}

void *collect(void *unused)
{
	double now = clock_s(CLOCK_MONOTONIC), ask_due = now, remember_due = now, start;
	struct proc *p;
	int fd;

	for (;; now = clock_s(CLOCK_MONOTONIC)) {
		pthread_mutex_lock(&known.lock);
		for (; remember_due <= now; remember_due += HISTORY_STEP) {
			remember(&known.history, &known.sum);
			for (p = known.procs; p; p = p->next)
				if (p->heap)
					remember(&p->history, &p->stat);
		}
		pthread_mutex_unlock(&known.lock);
		if (now >= ask_due) {
			start = clock_s(CLOCK_THREAD_CPUTIME_ID);
			fd = reader_open();	/* not kept: that would keep the module loaded */
			list();
			for (p = known.procs; p; p = p->next)
				ask(fd, p, now);
			pthread_mutex_lock(&known.lock);
			known.device = fd < 0 ? fd : 0;
			rank();
			pthread_mutex_unlock(&known.lock);
			if (fd >= 0)
				close(fd);
			ask_due = now + (clock_s(CLOCK_THREAD_CPUTIME_ID) - start) / SHARE;
		}
		for (p = known.procs; p; p = p->next)
			if (p->heap && now < p->wanted + WANTED && now >= p->map_due)
				draw(p, now);
		sleep(TICK);
	}
	return unused;
}
