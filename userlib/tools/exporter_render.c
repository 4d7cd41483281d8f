// SPDX-License-Identifier: Apache-2.0
/* exporter_render.c - what is known, as Prometheus' text format and as JSON */
#include "exporter.h"

#include <math.h>

/* What is published of processes, by place in struct mafc_stat. */
#define P(member, name, digits, help) \
	{ "mafc_" name, help, digits, .at = offsetof(struct mafc_stat, member), \
	  .size = sizeof(((struct mafc_stat *)0)->member) }
static const struct figure figures[] = {
	P(fragmentation, "fragmentation_percent", 2, "Held memory that is in no live block."),
	P(held, "held_bytes", 0, "Physical memory charged to the heap."),
	P(live, "live_bytes", 0, "Memory in allocated blocks, at the last scan."),
	P(state, "state", 0, "State of the model: 0 Low, 1 Medium, 2 High."),
	P(high_ppm, "predicted_high_ratio", 6, "Probability of High within 10 steps."),
	P(compactions, "compactions_total", 0, "Visits of the compactor that gained something."),
	P(cached, "cached_bytes", 0, "Held memory in no page of the heap."),
	P(mapped, "mapped_bytes", 0, "Virtual pages that have a physical page."),
	P(largest_free, "largest_free_bytes", 0, "Largest contiguous free run."),
	P(away_max_ns, "longest_away_seconds", 9, "Longest time a page was in motion."),
	P(meshed, "pages_meshed_total", 0, "Virtual pages meshed."),
	P(moved, "pages_moved_total", 0, "Physical pages moved."),
	P(dropped, "pages_dropped_total", 0, "Pages dropped."),
	P(pinned, "pages_pinned_total", 0, "Times a page was left alone, being held."),
	P(chunks_returned, "chunks_returned_total", 0, "Whole chunks given back to the system."),
	P(faults, "faults_total", 0, "Page faults served."),
	P(cow_copies, "cow_copies_total", 0, "Pages copied after fork."),
};
#define FIGURES_SUM	3	/* those that are known of all together come first, ... */
#define FIGURES_PAGE	6	/* ... then others that the page shows */

static double value(const struct figure *g, const struct mafc_stat *st)
{
	const char *at = (const char *)st + g->at;
	double v = g->size == 4 ? *(const uint32_t *)at : *(const uint64_t *)at;

	return v / pow(10, g->digits);
}

static void head(FILE *f, const char *name, const char *type, const char *help)
{
	fprintf(f, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type ? type :
		strstr(name, "_total") ? "counter" : "gauge");
}

static void single(FILE *f, const char *name, unsigned int digits, double v, const char *help)
{
	head(f, name, NULL, help);
	fprintf(f, "%s %.*f\n", name, digits, v);
}

/*
 * Free blocks, and waits for pages in motion. The kernel's bucket i is waits under 2^i ns, its last
 * one longer ones, too; here: 2^10, 2^12, ... 2^22.
 */
static void histograms(FILE *f)
{
	static const char bucket[] = "mafc_stall_seconds_bucket";
	const struct proc *p;
	unsigned long long n;
	size_t i;
	int k;

	head(f, "mafc_free_blocks", NULL, "Free runs of 2^order pages.");
	for (i = 0; i < known.shown; i++) {
		p = known.worst[i];
		for (k = 0; k < 10; k++)
			fprintf(f, "mafc_free_blocks%s,order=\"%d\"} %llu\n", p->label, k,
				p->stat.free_blocks[k]);
	}
	head(f, "mafc_stall_seconds", "histogram",
	     "Waits of threads for pages in motion; their sum is not known.");
	for (i = 0; i < known.shown; i++) {
		p = known.worst[i];
		for (k = 0, n = 0; k < MAFC_STALL_BUCKETS; k++) {
			n += p->stat.stall[k];
			if (k >= 10 && k % 2 == 0)
				fprintf(f, "%s%s,le=\"0.%09u\"} %llu\n", bucket, p->label,
					1U << k, n);
		}
		fprintf(f, "%s%s,le=\"+Inf\"} %llu\n", bucket, p->label, n);
		fprintf(f, "mafc_stall_seconds_count%s} %llu\n", p->label, n);
	}
}

char *render_metrics(void)
{
	const struct figure *g;
	char *text = NULL;
	double oldest = 0;
	size_t i, len;
	uint64_t v;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	pthread_mutex_lock(&known.lock);
	for (i = 0; i < known.shown; i++)
		oldest = fmax(oldest, clock_s(CLOCK_MONOTONIC) - known.worst[i]->sampled);
	single(f, "mafc_device_up", 0, !known.device, "Whether the device can be asked.");
	for (g = device_figures; g->file; g++)
		if (!reader_get(g->file, &v))
			single(f, g->name, g->digits, v / pow(10, g->digits), g->help);
	single(f, "mafc_heaps", 0, known.heaps, "Heaps that the exporter may look at.");
	single(f, "mafc_heaps_shown", 0, known.shown, "Those with figures of their own.");
	single(f, "mafc_heaps_held_bytes", 0, known.sum.held, "Physical memory of all these.");
	single(f, "mafc_heaps_live_bytes", 0, known.sum.live, "Memory in their allocated blocks.");
	single(f, "mafc_heaps_fragmentation_percent", 2, known.sum.fragmentation / 100.0,
	       "Of all of them together.");
	single(f, "mafc_fallback_processes", 0, known.fallbacks,
	       "Those with the library, not on the device.");
	single(f, "mafc_slo_percent", 0, known.slo, "Fragmentation that is within the objective.");
	single(f, "mafc_oldest_sample_seconds", 3, oldest, "Age of the oldest figures shown.");
	single(f, "process_cpu_seconds_total", 6, clock_s(CLOCK_PROCESS_CPUTIME_ID),
	       "CPU time of the exporter.");
	for (g = figures; g < figures + LENGTH(figures); g++) {
		head(f, g->name, NULL, g->help);
		for (i = 0; i < known.shown; i++)
			fprintf(f, "%s%s} %.*f\n", g->name, known.worst[i]->label, g->digits,
				value(g, &known.worst[i]->stat));
	}
	histograms(f);
	pthread_mutex_unlock(&known.lock);
	fclose(f);
	return text;
}

/* Names as in the metrics, without the prefix. */
static void json_figures(struct json *j, const struct mafc_stat *st, size_t n)
{
	for (const struct figure *g = figures; g < figures + n; g++)
		json_number(j, g->name + strlen("mafc_"), value(g, st), g->digits);
}

/* The part of it that is within the objective; and if @all, itself. */
static void json_history(struct json *j, const struct history *h, bool all)
{
	unsigned long first = h->n > HISTORY ? h->n - HISTORY : 0, good = 0, i;

	for (i = first; i < h->n; i++)
		good += h->percent[i % HISTORY] <= known.slo;
	json_number(j, "within_slo_ratio", h->n ? (double)good / (h->n - first) : 1, 4);
	if (!all)
		return;
	json_open(j, "history", '[');
	for (i = first; i < h->n; i++)
		json_number(j, NULL, h->percent[i % HISTORY], 2);
	json_close(j, '[');
}

static void json_proc(struct json *j, const struct proc *p, bool all)
{
	json_open(j, NULL, '{');
	json_number(j, "pid", p->pid, 0);
	json_str(j, "comm", p->comm);
	json_number(j, "age_seconds", clock_s(CLOCK_MONOTONIC) - p->sampled, 1);
	json_figures(j, &p->stat, all ? LENGTH(figures) : FIGURES_PAGE);
	json_history(j, &p->history, false);
	if (all) {
		json_array(j, "free_blocks", p->stat.free_blocks, 10);
		json_array(j, "stall", p->stat.stall, MAFC_STALL_BUCKETS);
	}
	json_close(j, '{');
}

/* A cell: per cent live; -1: its pages have no memory, -2: they were meshed away. */
static void json_selected(struct json *j, const struct proc *p)
{
	static const struct map none = { .per = 1 };
	const struct map *m = p->map ? p->map : &none;
	const struct cell *c = m->cell, *end = c + (m->pages + m->per - 1) / m->per;

	json_open(j, "selected", '{');
	json_number(j, "pid", p->pid, 0);
	json_history(j, &p->history, true);
	json_number(j, "pages", m->pages, 0);
	json_number(j, "pages_per_cell", p->map ? m->per : 0, 0);
	json_open(j, "cells", '[');
	for (; c < end; c++)
		json_number(j, NULL, c->own ? c->live * 100 / (PAGE * c->own) :
			    c->meshed ? -2.0 : -1.0, 0);
	json_close(j, '[');
	json_close(j, '{');
}

char *render_json(bool all, pid_t pid)
{
	struct json js = { 0 }, *j = &js;
	char *text = NULL;
	struct proc *p;
	size_t i, len;
	uint64_t v;

	j->f = open_memstream(&text, &len);
	if (!j->f)
		return NULL;
	pthread_mutex_lock(&known.lock);
	json_open(j, NULL, '{');
	json_str(j, "error", known.device ? reader_error(known.device) : NULL);
	json_number(j, "heaps", known.heaps, 0);
	json_number(j, "fallback_processes", known.fallbacks, 0);
	json_number(j, "slo_percent", known.slo, 0);
	json_number(j, "history_step_seconds", HISTORY_STEP, 0);
	for (const struct figure *g = device_figures; all && g->file; g++)
		if (!reader_get(g->file, &v))
			json_number(j, g->file, v, 0);
	json_open(j, "total", '{');
	json_figures(j, &known.sum, FIGURES_SUM);
	json_history(j, &known.history, true);
	json_close(j, '{');
	json_open(j, "processes", '[');
	for (i = 0; i < known.shown; i++)
		json_proc(j, known.worst[i], all);
	json_close(j, '[');
	for (p = known.procs; p && pid; p = p->next)
		if (p->pid == pid && p->heap) {
			p->wanted = clock_s(CLOCK_MONOTONIC);
			json_selected(j, p);
		}
	json_close(j, '{');
	pthread_mutex_unlock(&known.lock);
	fclose(j->f);
	return text;
}
