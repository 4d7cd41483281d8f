// SPDX-License-Identifier: GPL-2.0-only
/*
 * pfm_score.c - how good the forecasts of the PFM are, on recorded traces
 *
 *	pfm_score [-m MEDIUM] [-h HIGH] [-v] TRACE...
 *	PFM_TRACES=DIR pfm_score
 *
 * A result for each trace, and for the mean of all; with PFM_TRACES, which is
 * what "check" uses, there must be five programs, and the means at other
 * thresholds are results too.  selftests/pfm/record makes traces.
 *
 * A trace is a text file with one sample per line, as four decimal numbers:
 *
 *	fragmentation in 1/100 %, entropy in Q16, free rate in Q16, heap pages
 *
 * that is, the members of struct mafc_pfm_sample.  "-" stands for a sample that
 * could not be taken; a line that begins with "#" is a comment.
 *
 * The event is "High at one of the next 10 steps".  Forecasts are made online:
 * the model starts empty with each trace and knows only what is behind it.
 * They are compared by the Brier score, the mean of (forecast - outcome)^2 (G. W.
 * Brier, Monthly Weather Review 78, 1950): a proper score, lower is better.
 *
 *   pfm          mafc_pfm_forecast()
 *   persistence  1 if the heap is High now, else 0
 *   entropy      1 if the entropy is over 0.7 (High), 0 otherwise; "soft" gives
 *                1/2 for Medium, over 0.4
 *   base rate    the share of steps with the event in the whole trace: knows
 *                the future, for orientation only
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <unistd.h>

#include "ktap.h"
#include "markov.h"

#define STEPS_MAX	1000000

/*
 * On one program the model may be so much worse than the best of the others:
 * where High is very rare, what it costs to learn is not made good again.
 */
#define SLACK		0.005

enum { PFM, PERSISTENCE, ENTROPY, ENTROPY_SOFT, BASE_RATE, FORECASTERS };

static const char *const names[FORECASTERS] = {
	"pfm", "persistence", "entropy", "soft", "base rate",
};

struct trace {
	struct mafc_pfm_sample *sample;
	bool *valid;
	unsigned int n;
};

struct score {
	double sum[FORECASTERS];
	unsigned int n;
	unsigned int events;	/* High is ahead, or stays */
	unsigned int rises;	/* High is ahead, but not yet there */
};

/* The module's defaults. */
static u32 medium = 1000, high = 2500;
static bool verbose;

static bool load(const char *path, struct trace *t)
{
	FILE *f = fopen(path, "r");
	char line[256];

	if (!f) {
		perror(path);
		return false;
	}
	t->sample = calloc(STEPS_MAX, sizeof(*t->sample));
	t->valid = calloc(STEPS_MAX, sizeof(*t->valid));
	t->n = 0;
	while (fgets(line, sizeof(line), f) && t->n < STEPS_MAX) {
		struct mafc_pfm_sample *s = &t->sample[t->n];

		if (*line == '#')
			continue;
		t->valid[t->n] = *line != '-';
		if (t->valid[t->n] &&
		    sscanf(line, "%u %u %u %llu", &s->frag, &s->entropy_q16,
			   &s->free_rate_q16, &s->heap_pages) != 4) {
			fprintf(stderr, "%s: bad sample: %s", path, line);
			fclose(f);
			return false;
		}
		t->n++;
	}
	fclose(f);
	return true;
}

static bool is_high(const struct trace *t, unsigned int i)
{
	return t->valid[i] && t->sample[i].frag >= high;
}

static void forecast(struct mafc_pfm *p, const struct trace *t, unsigned int i,
		     double f[])
{
	struct mafc_pfm_forecast told;
	double entropy = (double)t->sample[i].entropy_q16 / MAFC_PFM_ONE;

	mafc_pfm_update(p, t->valid[i] ? &t->sample[i] : NULL);
	mafc_pfm_forecast(p, &told);
	f[PFM] = told.high_ppm / 1e6;
	f[PERSISTENCE] = is_high(t, i);
	f[ENTROPY] = entropy > 0.7;
	f[ENTROPY_SOFT] = entropy > 0.7 ? 1 : entropy > 0.4 ? 0.5 : 0;
}

static struct score score(const struct trace *t)
{
	struct mafc_pfm *p = memory(sizeof(*p));
	struct score s = { 0 };
	double f[FORECASTERS], rate;
	unsigned int i, k;

	mafc_pfm_init(p, medium, high);
	/* the last steps have no known outcome */
	for (i = 0; i + MAFC_PFM_HORIZON < t->n; i++) {
		bool event = false;

		for (k = 1; k <= MAFC_PFM_HORIZON; k++)
			event |= is_high(t, i + k);
		forecast(p, t, i, f);
		for (k = 0; k < BASE_RATE; k++)
			s.sum[k] += (f[k] - event) * (f[k] - event);
		s.n++;
		s.events += event;
		s.rises += event && !is_high(t, i);
		if (verbose)
			printf("# %u: frag %u: %.3f, %d\n", i,
			       t->sample[i].frag, f[PFM], event);
	}
	rate = s.n ? (double)s.events / s.n : 0;
	s.sum[BASE_RATE] = rate * (1 - rate) * s.n;
	free(p);
	return s;
}

static void print(const char *name, const struct score *s)
{
	unsigned int k;

	printf("# %-16.16s %6u %6u %6u ", name, s->n, s->events, s->rises);
	for (k = 0; k < FORECASTERS; k++)
		printf(" %11.4f", s->n ? s->sum[k] / s->n : 0);
	printf("\n");
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static unsigned int results, failures;

static void result(bool good, const char *what, const char *name)
{
	failures += !good;
	printf("%sok %u %s%s\n", good ? "" : "not ", ++results, what, name);
}

/*
 * Better, by @margin, than each of the forecasters that do not know the future.
 */
static bool better(const struct score *s, double margin)
{
	bool good = s->n > 0;
	int k;

	for (k = PERSISTENCE; k <= ENTROPY_SOFT; k++)
		good &= s->sum[PFM] < s->sum[k] - margin * s->n;
	return good;
}

/* All traces count alike, however long they are. */
static void score_all(char *const path[], const struct trace t[], int n,
		      bool each)
{
	struct score all = { .n = n }, s;
	char text[64];
	int i, k;

	printf("# High from %.2f %%, Medium from %.2f %%: Brier scores\n# %-16s %6s %6s %6s ",
	       high / 100., medium / 100., "trace", "steps", "events", "rises");
	for (k = 0; k < FORECASTERS; k++)
		printf(" %11s", names[k]);
	printf("\n");
	for (i = 0; i < n; i++) {
		s = score(&t[i]);
		print(base_name(path[i]), &s);
		for (k = 0; k < FORECASTERS && s.n; k++)
			all.sum[k] += s.sum[k] / s.n;
		all.events += s.events;
		all.rises += s.rises;
		if (each)
			result(better(&s, -SLACK), "pfm is best, or close to it, on ",
			       base_name(path[i]));
	}
	print("mean of traces", &all);
	snprintf(text, sizeof(text), "with High from %u %%", high / 100);
	result(better(&all, 0), "pfm is best on the mean of traces ", text);
}

static int is_trace(const struct dirent *d)
{
	const char *dot = strrchr(d->d_name, '.');

	return dot && !strcmp(dot, ".trace");
}

/* The traces of a directory; how many they are. */
static int list(const char *dir, char ***path)
{
	struct dirent **entry;
	int i, n = scandir(dir, &entry, is_trace, alphasort);

	if (n <= 0)
		return 0;
	*path = calloc(n, sizeof(**path));
	for (i = 0; i < n; i++) {
		if (asprintf(&(*path)[i], "%s/%s", dir, entry[i]->d_name) < 0)
			return 0;
		free(entry[i]);
	}
	free(entry);
	return n;
}

int main(int argc, char *argv[])
{
	/* per cent; Medium is 2/5 of it, as in the module's defaults */
	static const u32 others[] = { 15, 20, 30, 40 };
	const char *dir = getenv("PFM_TRACES");
	struct trace *t;
	char **path = argv;
	unsigned int k;
	int n, c, i;

	while ((c = getopt(argc, argv, "m:h:v")) != -1) {
		if (c == 'm')
			medium = atoi(optarg);
		else if (c == 'h')
			high = atoi(optarg);
		else if (c == 'v')
			verbose = true;
		else
			return 2;
	}
	path += optind;
	n = argc - optind;
	if (n)
		dir = NULL;
	else if (dir)
		n = list(dir, &path);
	t = calloc(n + 1, sizeof(*t));
	for (i = 0; i < n; i++)
		if (!load(path[i], &t[i]))
			return 1;
	printf("KTAP version 1\n1..%zu\n",
	       n + 1 + (dir ? 1 + sizeof(others) / sizeof(*others) : 0));
	score_all(path, t, n, true);
	if (dir) {
		result(n >= 5, "traces of five programs are there", "");
		for (k = 0; k < sizeof(others) / sizeof(*others); k++) {
			high = 100 * others[k];
			medium = high * 2 / 5;
			score_all(path, t, n, false);
		}
	}
	return failures != 0;
}
