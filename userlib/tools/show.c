// SPDX-License-Identifier: Apache-2.0
/* show.c - mafc stat, top, heatmap, classes: what there is to see */
#define _GNU_SOURCE
#include <ctype.h>
#include <numa.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "cli.h"

#define PAGE	4096U
#define LENGTH(a)	(sizeof(a) / sizeof(*(a)))

enum mode mode;
const char *eol = "\n";

const char *text(char unit, uint64_t v)
{
	static char buf[8][32];
	static unsigned int next;
	char *s = buf[next++ % 8];
	unsigned int i = 0;
	double d = v;

	if (unit == 'B' && v >= 1024) {
		while (d >= 1024)
			d /= 1024, i++;
		snprintf(s, 32, "%.1f %ciB", d, "KKMGTPE"[i]);
	} else if (unit == 'B' || !unit) {
		snprintf(s, 32, "%llu%s", (unsigned long long)v, unit ? " B" : "");
	} else {
		snprintf(s, 32, unit == '%' ? "%.2f %%" : "%.1f us", d / (unit == '%' ? 100 : 1000));
	}
	return s;
}

/* Keys are names of columns and lines, too. */
static void label(const char *key, int width)
{
	char name[40], *c = name;

	for (snprintf(name, sizeof(name), "%s", key); *c; c++)
		*c = *c == '_' ? ' ' : mode == HEADER ? toupper(*c) : *c;
	printf("%*s", width, name);
}

void put_text(const char *key, const char *s)
{
	if (opt.json)
		json_str(&js, key, s);
	else if (mode == TABLE)
		printf(" %-15.15s", s);
	else if (mode == HEADER)
		putchar(' '), label(key, -15);
	else
		label(key, -28), printf("%14s%s", s, eol);
}

void put(const char *key, char unit, uint64_t v)
{
	char name[40];

	if (opt.json) {
		snprintf(name, sizeof(name), "%s%s", key ? key : "", unit == 'B' ? "_bytes" :
			 unit == 't' ? "_ns" : unit == '%' ? "_percent" : "");
		if (unit == '%')
			json_real(&js, name, v / 100.0, 2);
		else
			json_u64(&js, key ? name : NULL, v);
	} else if (mode == TABLE) {
		printf(" %10s", text(unit, v));
	} else if (mode == HEADER) {
		label(key, 11);
	} else if (key) {
		put_text(key, text(unit, v));
	}
}

void begin(const char *key, char kind)
{
	if (opt.json)
		json_open(&js, key, kind);
}

void end(char kind)
{
	if (opt.json)
		json_close(&js, kind);
	else if (mode != LIST && kind == '{')
		fputs(eol, stdout);
}

static void put_array(const char *key, const __u64 *v, size_t n)
{
	begin(key, '[');
	while (n--)
		put(NULL, 0, *v++);
	end('[');
}

void put_members(const struct heap_info *h)
{
	const struct mafc_stat *st = &h->stat;

	put("pid", 0, h->pid);
	put_text("comm", h->comm);
	put("held", 'B', st->held);
	put("live", 'B', st->live);
	put("frag", '%', st->fragmentation);
	put("high_next", '%', st->high_ppm / 100);
	put("meshed", 0, st->meshed);
	put_text("state", st->state > 2 ? "?" : (const char *[]){ "Low", "Medium", "High" }[st->state]);
	if (!opt.json && mode != LIST)
		return;
	put("cached", 'B', st->cached);
	put("mapped", 'B', st->mapped);
	put("largest_free", 'B', st->largest_free);
	put("moved", 0, st->moved);
	put("dropped", 0, st->dropped);
	put("pinned", 0, st->pinned);
	put("chunks_returned", 0, st->chunks_returned);
	put("faults", 0, st->faults);
	put("cow_copies", 0, st->cow_copies);
	put("compactions", 0, st->compactions);
	put("away_max", 't', st->away_max_ns);
	put_array("free_blocks", st->free_blocks, LENGTH(st->free_blocks));
	put_array("stall", st->stall, MAFC_STALL_BUCKETS);
}

void put_heap(const struct heap_info *h)
{
	begin(NULL, '{');
	put_members(h);
	end('{');
}

/* The pages of a heap on each node, as libnuma tells. */
struct nodes {
	pid_t pid;
	unsigned long n;
	void *page[512];
	uint64_t count[64];
};

static void nodes_flush(struct nodes *at)
{
	int node[LENGTH(at->page)];

	if (at->n && numa_move_pages(at->pid, at->n, at->page, NULL, node, 0))
		at->n = 0;
	while (at->n--)
		if (node[at->n] >= 0 && node[at->n] < 64)
			at->count[node[at->n]]++;
	at->n = 0;
}

static void nodes_page(void *arg, const struct heap_page *p)
{
	struct nodes *at = arg;

	if (p->mapped && !p->meshed)
		at->page[at->n++] = (void *)p->addr;
	if (at->n == LENGTH(at->page))
		nodes_flush(at);
}

static void put_nodes(pid_t pid)
{
	struct nodes at = { .pid = pid };
	struct heap h;
	char name[32];
	int i;

	if (numa_available() < 0 || heap_open(pid, &h))
		return;
	heap_walk(&h, nodes_page, &at);
	nodes_flush(&at);
	heap_close(&h);
	for (i = 0; i <= numa_max_node() && i < 64; i++) {
		snprintf(name, sizeof(name), "on_node_%d", i);
		put(name, 'B', at.count[i] * PAGE);
	}
}

static char sort_by;

static int by_key(const void *a, const void *b)
{
	const struct heap_info *h[2] = { a, b };
	uint64_t v[2];
	int i;

	for (i = 0; i < 2; i++)
		v[i] = sort_by == 'p' ? -(uint64_t)h[i]->pid : sort_by == 'l' ? h[i]->stat.live :
		       sort_by == 'f' ? h[i]->stat.fragmentation : sort_by == 'n' ? h[i]->stat.high_ppm :
		       sort_by == 'm' ? h[i]->stat.meshed : h[i]->stat.held;
	return v[0] < v[1] ? 1 : v[0] > v[1] ? -1 : 0;
}

/* At most @rows heaps, in order. */
static void put_list(struct heap_info *h, ssize_t n, ssize_t rows)
{
	ssize_t i;

	sort_by = sort_by ? sort_by : opt.sort;
	if (n)
		qsort(h, n, sizeof(*h), by_key);
	begin("heaps", '[');
	mode = HEADER;
	if (!opt.json)
		put_heap(&(struct heap_info){ .pid = 0 });
	mode = TABLE;
	for (i = 0; i < n && i < rows; i++)
		put_heap(&h[i]);
	mode = LIST;
	end('[');
}

static void put_counters(void)
{
	const struct sysfs_file *f;
	uint64_t v;

	begin("counters", '{');
	for (f = reader_counters; f->name; f++)
		if (!reader_get(f->name, &v))
			put(strchr(f->name, '/') + 1, 0, v);
	end('{');
}

int cmd_stat(void)
{
	struct heap_info one = { .pid = opt.pid }, *list;
	int fd = open_device();
	ssize_t n = opt.pid ? reader_stat(fd, opt.pid, &one.stat) : reader_heaps(fd, &list);

	if (n < 0)
		die_of(n, opt.pid);
	begin(NULL, '{');
	if (opt.pid) {
		reader_comm(opt.pid, one.comm, sizeof(one.comm));
		put_members(&one);
		put_nodes(opt.pid);
	} else {
		put_list(list, n, n);
		put_counters();
	}
	end('{');
	return OK;
}

static void top_once(int fd, bool screen, uint64_t ms)
{
	static uint64_t last;
	uint64_t cpu = 0, held = 0, live = 0, percent;
	struct winsize size = { .ws_row = 25 };
	struct heap_info *list;
	ssize_t i, n = reader_heaps(fd, &list);

	if (n < 0)
		die_of(n, 0);
	reader_get("counters/compactor_cpu_ns", &cpu);
	percent = ms ? (cpu - last) / 100 / ms : 0;
	last = cpu;
	for (i = 0; i < n; i++)
		held += list[i].stat.held, live += list[i].stat.live;
	begin(NULL, '{');
	if (opt.json)
		put("compactor_cpu", '%', percent);
	else
		printf("%s%zd heaps hold %s, live %s; the compactor takes %s of a CPU%s", screen ? "\033[H" : "",
		       n, text('B', held), text('B', live), text('%', percent), eol);
	if (screen)
		ioctl(1, TIOCGWINSZ, &size);
	put_list(list, n, screen ? size.ws_row - 3 : n);
	if (screen)
		printf("\033[J sort by h(eld l(ive f(rag high n(ext m(eshed p(id; q(uit");
	end('{');
	if (opt.json)
		puts("");
	js.more = false;
	fflush(stdout);
	free(list);
}

/* Waits for a key, at most so long; 0 is none. */
static char wait_key(bool screen)
{
	struct pollfd in = { .fd = screen ? 0 : -1, .events = POLLIN };
	char c = 0;

	return poll(&in, 1, opt.interval) == 1 && read(0, &c, 1) != 1 ? 'q' : c;
}

static struct termios cooked;

static void leave_screen(void)
{
	printf("\033[?1049l");
	fflush(stdout);
	tcsetattr(0, TCSANOW, &cooked);
}

static void enter_screen(void)
{
	struct termios raw;

	tcgetattr(0, &cooked);
	raw = cooked;
	raw.c_lflag &= ~(ICANON | ECHO);
	tcsetattr(0, TCSANOW, &raw);
	printf("\033[?1049h");
	eol = "\033[K\n";
	at_die = leave_screen;
}

int cmd_top(void)
{
	bool screen = isatty(0) && isatty(1) && !opt.json;
	int fd = open_device();
	uint64_t now, before = 0;
	char key = 0;

	if (screen)
		enter_screen();
	while (!stopped && key != 'q') {
		now = now_ms();
		top_once(fd, screen, before ? now - before : 0);
		before = now;
		if (opt.count && !--opt.count)
			break;
		key = wait_key(screen);
		if (key && strchr("hlfnmp", key))
			sort_by = key;
	}
	if (screen)
		leave_screen();
	return OK;
}

/* A page's place in the heatmap: 0 to 9 by how many tenths of it are live, or one of these. */
enum { LARGE = 10, MESHED, EMPTY, KINDS };

static const struct {
	char sign;
	uint8_t ansi;
	const char *rgb;
} look[KINDS] = {
	{ '0', 160, "d73027" }, { '1', 166, "ea5739" }, { '2', 208, "f67f4b" }, { '3', 214, "fca55d" },
	{ '4', 220, "fec877" }, { '5', 191, "d9ef8b" }, { '6', 149, "b7e075" }, { '7', 113, "8ccd67" },
	{ '8', 71, "5ab760" }, { '9', 28, "1a9850" }, { 'L', 25, "4575b4" }, { 'm', 97, "b89fd0" },
	{ '.', 240, "e0e0e0" },
};

struct map {
	uint8_t *page;
	size_t n;
	uint64_t of[KINDS];
};

static void map_page(void *arg, const struct heap_page *p)
{
	struct map *m = arg;
	unsigned int tenth = p->live * 10 / PAGE;

	if (!(m->n & (m->n - 1)))
		m->page = realloc(m->page, m->n ? 2 * m->n : 1);
	if (!m->page)
		die(FAILED, "out of memory");
	tenth = p->meshed ? MESHED : !p->mapped && (p->large || !p->live) ? EMPTY :
		p->large ? LARGE : tenth > 9 ? 9 : tenth;
	m->of[tenth]++;
	m->page[m->n++] = tenth;
}

/* How the @n pages from the cell's first on look together: as most of them do, or as their mean. */
static unsigned int kind_of(const struct map *m, size_t cell, size_t n)
{
	size_t of[KINDS] = { 0 }, small = 0, sum = 0, i, most = LARGE;

	for (i = cell * n; i < (cell + 1) * n && i < m->n; i++) {
		of[m->page[i]]++;
		if (m->page[i] < LARGE)
			small++, sum += m->page[i];
	}
	for (i = LARGE; i < KINDS; i++)
		most = of[i] > of[most] ? i : most;
	return small >= of[most] ? sum / small : most;
}

static void heatmap_svg(const struct map *m)
{
	enum { COLUMNS = 128, SIDE = 6 };
	size_t per = m->n / 32768 + 1, cells = (m->n + per - 1) / per, i, run;
	FILE *f = fopen(opt.svg, "w");
	unsigned int k;

	if (!f)
		die(FAILED, "%s: %m", opt.svg);
	fprintf(f, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 -12 %d %zu\" font-size=\"9\">\n"
		"<title>process %d: %zu pages, %zu to a cell. 0 to 9: tenths that are live; L: large blocks; "
		"m: meshed, without memory of its own; .: without memory</title>\n", COLUMNS * SIDE,
		(cells / COLUMNS + 1) * SIDE + 12, opt.pid, m->n, per);
	for (k = 0; k < KINDS; k++)
		fprintf(f, "<rect x=\"%u\" y=\"-12\" width=\"40\" height=\"10\" fill=\"#%s\"/>"
			"<text x=\"%u\" y=\"-4\">%c</text>\n", k * 40, look[k].rgb, k * 40 + 16, look[k].sign);
	for (i = 0; i < cells; i += run) {
		k = kind_of(m, i, per);
		for (run = 1; (i + run) % COLUMNS && i + run < cells && kind_of(m, i + run, per) == k;)
			run++;
		fprintf(f, "<rect x=\"%zu\" y=\"%zu\" width=\"%zu\" height=\"%d\" fill=\"#%s\"/>\n",
			i % COLUMNS * SIDE, i / COLUMNS * SIDE, run * SIDE, SIDE, look[k].rgb);
	}
	fputs("</svg>\n", f);
	if (fclose(f))
		die(FAILED, "%s: %m", opt.svg);
}

static void heatmap_text(const struct map *m)
{
	struct winsize size = { .ws_col = 80, .ws_row = 50 };
	bool tty = isatty(1) && !ioctl(1, TIOCGWINSZ, &size);
	size_t i, per = m->n / (size.ws_col * (size.ws_row / 2 + 1U)) + 1;

	for (i = 0; i * per < m->n; i++) {
		unsigned int k = kind_of(m, i, per);

		if (tty)
			printf("\033[48;5;%d;38;5;231m%c\033[0m", look[k].ansi, look[k].sign);
		else
			putchar(look[k].sign);
		if ((i + 1) % size.ws_col == 0 || (i + 1) * per >= m->n)
			putchar('\n');
	}
	printf("%zu pages to a sign. 0 to 9: tenths that are live; L: large blocks; m: meshed, without "
	       "memory of its own; .: without memory\n", per);
}

int cmd_heatmap(void)
{
	struct map m = { .page = NULL };
	struct heap h;
	int err = heap_open(opt.pid, &h);

	if (!err)
		err = heap_walk(&h, map_page, &m);
	if (err)
		die_of(err, opt.pid);
	if (opt.svg)
		heatmap_svg(&m);
	else if (!opt.json)
		heatmap_text(&m);
	begin(NULL, '{');
	put("pages", 0, m.n);
	put("large", 0, m.of[LARGE]);
	put("meshed", 0, m.of[MESHED]);
	put("without_memory", 0, m.of[EMPTY]);
	put("less_than_a_fifth_live", 0, m.of[0] + m.of[1]);
	put_array("by_tenths_live", (__u64 *)m.of, LARGE);
	end('{');
	return OK;
}

/* Sums by size class; the last is that of large blocks. */
struct classes {
	const struct mafc_meta *header;
	struct { uint64_t spans, live, held; } of[MAFC_CLASSES_MAX + 1];
};

static void class_page(void *arg, const struct heap_page *p)
{
	struct classes *c = arg;
	unsigned int i = MAFC_CLASSES_MAX;

	if (p->meshed || (!p->mapped && (p->large || !p->live)) || (!p->large && !p->span))
		return;
	if (!p->large)
		for (i = 0; i < c->header->nclasses; i++)
			if (c->header->classes[i].block_size == p->span->block_size)
				break;
	c->of[i].spans += !p->part;
	c->of[i].live += p->live;
	c->of[i].held += PAGE;
}

static void put_class(const struct classes *c, unsigned int i)
{
	struct mafc_class_count n = { .allocs = c->header->large_allocs, .frees = c->header->large_frees };
	uint64_t live = c->of[i].live, held = c->of[i].held;

	if (i < MAFC_CLASSES_MAX)
		n = c->header->classes[i];
	begin(NULL, '{');
	put("block_size", 0, n.block_size);
	put("spans", 0, c->of[i].spans);
	put("live", 'B', live);
	put("held", 'B', held);
	put("external", '%', held > live ? 10000 * (held - live) / held : 0);
	/* By the requests since the start: the sizes of those that are live are not known. */
	put("internal", '%', n.requested && n.requested < n.allocs * n.block_size ?
	    10000 - 10000 * (double)n.requested / (n.allocs * n.block_size) : 0);
	put("allocs", 0, n.allocs);
	put("frees", 0, n.frees);
	end('{');
}

int cmd_classes(void)
{
	static struct classes c;
	struct heap h;
	unsigned int i;
	int err = heap_open(opt.pid, &h);

	c.header = &h.header;
	if (!err)
		err = heap_walk(&h, class_page, &c);
	if (err)
		die_of(err, opt.pid);
	begin(NULL, '[');
	mode = HEADER;
	if (!opt.json)
		put_class(&c, 0);
	mode = TABLE;
	for (i = 0; i <= MAFC_CLASSES_MAX; i++)
		if (c.of[i].held)
			put_class(&c, i);
	end('[');
	return OK;
}
