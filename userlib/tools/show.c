// SPDX-License-Identifier: Apache-2.0
/* show.c - mafc stat, top, heatmap, classes: what there is to see */
#define _GNU_SOURCE
#include <ctype.h>
#include <limits.h>
#include <numa.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "cli.h"

#define PAGE	4096U

enum mode mode;
static const char *eol = "\n";

const char *text(char unit, uint64_t v)
{
	static char buf[8][32];
	static unsigned int next, i;
	char *s = buf[next++ % 8];
	double d = v;

	for (i = 0; unit == 'B' && d >= 1024; i++)
		d /= 1024;
	if (i)
		snprintf(s, 32, "%.1f %ciB", d, "?KMGTPE"[i]);
	else if (unit == '%' || unit == 't')
		snprintf(s, 32, unit == '%' ? "%.2f %%" : "%.1f us", d / (unit == '%' ? 100 : 1000));
	else
		snprintf(s, 32, "%.0f%s", d, unit ? " B" : "");
	return s;
}

void put_text(const char *key, const char *s, int width)
{
	char name[40], *c = name;

	for (snprintf(name, sizeof(name), "%s", key); *c; c++)
		*c = *c == '_' ? ' ' : mode == HEADER ? toupper(*c) : *c;
	if (opt.json)
		json_str(&js, key, s);
	else if (mode == LIST)
		printf("%-26s%16s%s", name, s, eol);
	else
		printf("%*s ", width, mode == HEADER ? name : s ? s : "");
}

void put(const char *key, char unit, uint64_t v)
{
	const char *ends = unit == 'B' ? "_bytes" : unit == 't' ? "_ns" : unit == '%' ? "_percent" : "";
	char name[40];

	snprintf(name, sizeof(name), "%s%s", key, ends);
	if (!opt.json)
		put_text(key, text(unit, v), 9);
	else if (unit == '%')
		json_real(&js, name, v / 100.0, 2);
	else
		json_u64(&js, name, v);
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
	while (opt.json && n--)
		json_u64(&js, NULL, *v++);
	end('[');
}

static void put_members(const struct heap_info *h)
{
	const struct mafc_stat *st = &h->stat;

	put("pid", 0, h->pid);
	put_text("comm", h->comm, -15);
	put("held", 'B', st->held);
	put("live", 'B', st->live);
	put("frag", '%', st->fragmentation);
	put("high_next", '%', st->high_ppm / 100);
	put("meshed", 0, st->meshed);
	put_text("state", st->state > 2 ? "?" : (const char *[]){ "Low", "Medium", "High" }[st->state], -6);
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

/* The pages of a heap on each node, as libnuma tells. */
struct nodes {
	pid_t pid;
	unsigned long n;
	void *page[512];
	uint64_t count[64];
};

static void nodes_page(void *arg, const struct heap_page *p)
{
	struct nodes *at = arg;
	int node[LENGTH(at->page)];

	if (p && p->mapped && !p->meshed)
		at->page[at->n++] = (void *)p->addr;
	if (p && at->n < LENGTH(at->page))
		return;
	if (numa_move_pages(at->pid, at->n, at->page, NULL, node, 0))
		at->n = 0;
	while (at->n--)
		if (node[at->n] >= 0 && node[at->n] < 64)
			at->count[node[at->n]]++;
	at->n = 0;
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
	nodes_page(&at, NULL);
	heap_close(&h);
	for (i = 0; i <= numa_max_node() && i < 64; i++) {
		snprintf(name, sizeof(name), "on_node_%d", i);
		put(name, 'B', at.count[i] * PAGE);
	}
}

ssize_t sum_heaps(int fd, bool (*only)(pid_t pid), struct mafc_stat *sum)
{
	struct heap_info *list;
	ssize_t i, n = reader_heaps(fd, only, &list);

	*sum = (struct mafc_stat){ .size = sizeof(*sum) };
	for (i = 0; i < n; i++) {
		sum->held += list[i].stat.held;
		sum->live += list[i].stat.live;
		sum->meshed += list[i].stat.meshed;
	}
	sum->fragmentation = fragmentation(sum->held, sum->live);
	free(list);
	return n;
}

static const char sort_keys[] = "hlfnmp";
static char sort_by;

static uint64_t sort_value(const struct heap_info *h)
{
	const struct mafc_stat *s = &h->stat;

	return sort_by == 'p' ? -(uint64_t)h->pid : sort_by == 'l' ? s->live : sort_by == 'f' ? s->fragmentation :
	       sort_by == 'n' ? s->high_ppm : sort_by == 'm' ? s->meshed : s->held;
}

static int by_key(const void *a, const void *b)
{
	return sort_value(a) < sort_value(b) ? 1 : sort_value(a) > sort_value(b) ? -1 : 0;
}

static void put_heap(const struct heap_info *h)
{
	begin(NULL, '{');
	put_members(h);
	end('{');
}

/* All heaps in order, but at most @rows. */
static void put_heaps(int fd, ssize_t rows)
{
	struct heap_info *list;
	ssize_t i, n = reader_heaps(fd, NULL, &list);

	if (n)
		qsort(list, n, sizeof(*list), by_key);
	begin("heaps", '[');
	mode = HEADER;
	if (!opt.json)
		put_heap(&(struct heap_info){ .pid = 0 });
	mode = TABLE;
	for (i = 0; i < n && i < rows; i++)
		put_heap(&list[i]);
	mode = LIST;
	end('[');
	free(list);
}

/* The device, and how to sort. */
static int start(void)
{
	sort_by = *opt.sort;
	if (!sort_by || !strchr(sort_keys, sort_by) || opt.sort[1])
		die(USAGE, "%s: sort by h, l, f, n, m or p", opt.sort);
	return open_device();
}

int cmd_stat(void)
{
	struct heap_info one = { .pid = opt.pid };
	const struct sysfs_file *f;
	int fd = start();
	uint64_t v;

	if (opt.pid)
		die_if(reader_stat(fd, opt.pid, &one.stat), opt.pid);
	begin(NULL, '{');
	if (opt.pid) {
		reader_comm(opt.pid, one.comm, sizeof(one.comm));
		put_members(&one);
		put_nodes(opt.pid);
	} else {
		put_heaps(fd, SSIZE_MAX);
		begin("counters", '{');
		for (f = reader_counters; f->name; f++)
			if (!reader_get(f->name, &v))
				put(strchr(f->name, '/') + 1, 0, v);
		end('{');
	}
	end('{');
	return OK;
}

static void top_once(int fd, bool screen, uint64_t ms)
{
	static uint64_t last;
	uint64_t cpu = 0, used;
	struct winsize size;

	reader_get("counters/compactor_cpu_ns", &cpu);
	used = ms ? (cpu - last) / 100 / ms : 0;
	last = cpu;
	if (ioctl(1, TIOCGWINSZ, &size) || size.ws_row < 4)
		size.ws_row = 25;
	if (screen)
		printf("\033[H");
	begin(NULL, '{');
	put("compactor_cpu", '%', used);
	put_heaps(fd, screen ? size.ws_row - 3 : SSIZE_MAX);
	end('{');
	if (screen)
		printf("\033[J sort by h(eld l(ive f(rag n(ext high m(eshed p(id; q(uit");
	if (opt.json)
		putchar('\n');
	js.more = false;
	fflush(stdout);
}

static struct termios cooked;

static void leave_screen(void)
{
	tcsetattr(0, TCSANOW, &cooked);
	printf("\033[?1049l");
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
	atexit(leave_screen);
}

int cmd_top(void)
{
	bool screen = isatty(0) && isatty(1) && !opt.json;
	struct pollfd in = { .fd = screen ? 0 : -1, .events = POLLIN };
	uint64_t now, before = 0;
	int fd = start();
	char key = 0;

	if (screen)
		enter_screen();
	while (!stopped && key != 'q') {
		now = now_ms();
		top_once(fd, screen, before ? now - before : 0);
		before = now;
		if (opt.count && !--opt.count)
			break;
		if (poll(&in, 1, opt.interval) == 1 && read(0, &key, 1) != 1)
			break;
		if (key && strchr(sort_keys, key))
			sort_by = key;
	}
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

static const char legend[] = "pages to a sign. 0 to 9: tenths that are live; L: large blocks; "
	"m: meshed, without memory of its own; .: without memory";

struct map {
	uint8_t *page;
	size_t n;
	__u64 of[KINDS];
};

static void map_page(void *arg, const struct heap_page *p)
{
	struct map *m = arg;
	unsigned int tenth = p->live * 10 / PAGE;

	if (!(m->n & (m->n - 1)))
		m->page = realloc(m->page, m->n ? 2 * m->n : 1);
	if (!m->page)
		die(FAILED, "out of memory");
	tenth = p->meshed ? MESHED : !p->held ? EMPTY : p->large ? LARGE : tenth > 9 ? 9 : tenth;
	m->of[tenth]++;
	m->page[m->n++] = tenth;
}

/* How the @n pages of the cell look together: as most of them do, or as their mean. */
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
		"<title>process %d: %zu pages, %zu %s</title>\n", COLUMNS * SIDE,
		(cells / COLUMNS + 1) * SIDE + 12, opt.pid, m->n, per, legend);
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
	enum { COLUMNS = 72, ROWS = 32 };
	size_t i, per = m->n / (COLUMNS * ROWS) + 1;
	unsigned int k;

	for (i = 0; i * per < m->n; i++) {
		k = kind_of(m, i, per);
		if (isatty(1))
			printf("\033[48;5;%d;38;5;231m%c\033[0m", look[k].ansi, look[k].sign);
		else
			putchar(look[k].sign);
		if ((i + 1) % COLUMNS == 0 || (i + 1) * per >= m->n)
			putchar('\n');
	}
	printf("%zu %s\n", per, legend);
}

static void walk(struct heap *h, void (*fn)(void *arg, const struct heap_page *page), void *arg)
{
	die_if(heap_open(opt.pid, h), opt.pid);
	die_if(heap_walk(h, fn, arg), opt.pid);
}

int cmd_heatmap(void)
{
	struct map m = { .page = NULL };
	struct heap h;

	walk(&h, map_page, &m);
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
	put_array("by_tenths_live", m.of, LARGE);
	end('{');
	return OK;
}

/* Sums by size class; the last is that of large blocks. */
struct classes {
	struct heap h;
	struct { uint64_t spans, live, held; } of[MAFC_CLASSES_MAX + 1];
};

static void class_page(void *arg, const struct heap_page *p)
{
	struct classes *c = arg;
	unsigned int i = 0, n = c->h.header.nclasses;

	while (p->span && i < n && c->h.header.classes[i].block_size != p->span->block_size)
		i++;
	if (!p->held || (!p->large && (!p->span || i == n)))
		return;
	i = p->large ? MAFC_CLASSES_MAX : i;
	c->of[i].spans += !p->part;
	c->of[i].live += p->live;
	c->of[i].held += PAGE;
}

static void put_class(const struct classes *c, unsigned int i)
{
	const struct mafc_meta *m = &c->h.header;
	struct mafc_class_count n = { .allocs = m->large_allocs, .frees = m->large_frees };
	uint64_t live = c->of[i].live, held = c->of[i].held, given;

	if (i < MAFC_CLASSES_MAX)
		n = m->classes[i];
	given = n.allocs * n.block_size;
	begin(NULL, '{');
	put("block_size", 0, n.block_size);
	put("spans", 0, c->of[i].spans);
	put("live", 'B', live);
	put("held", 'B', held);
	put("external", '%', fragmentation(held, live));
	/* By the requests since the start: the sizes of those that are live are not known. */
	put("internal", '%', n.requested && n.requested < given ? 10000 - 1e4 * n.requested / given : 0);
	put("allocs", 0, n.allocs);
	put("frees", 0, n.frees);
	end('{');
}

int cmd_classes(void)
{
	static struct classes c;
	unsigned int i;

	walk(&c.h, class_page, &c);
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
