// SPDX-License-Identifier: Apache-2.0
/* show.c - mafc stat, top, heatmap, classes: what there is to see */
#include "cli.h"

#include <poll.h>
#include <termios.h>

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
	else if (unit == '%')
		snprintf(s, 32, "%.2f %%", d / 100);
	else if (unit == 't')
		snprintf(s, 32, "%.1f us", d / 1000);
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
	const char *ends = unit == 'B' ? "_bytes" : unit == 't' ? "_ns" : "";
	char name[40];

	snprintf(name, sizeof(name), "%s%s", key, unit == '%' ? "_percent" : ends);
	if (!opt.json)
		put_text(key, text(unit, v), 9);
	else
		json_number(&js, name, unit == '%' ? v / 100.0 : v, unit == '%' ? 2 : 0);
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

void put_table(const char *key, size_t n, void (*row)(size_t i))
{
	begin(key, '[');
	for (size_t i = opt.json ? 1 : 0; i <= n; i++) {
		mode = i ? TABLE : HEADER;
		begin(NULL, '{');
		row(i ? i - 1 : 0);
		end('{');
	}
	mode = LIST;
	end('[');
}

struct heap_info *heaps;

size_t find_heaps(int fd, bool (*only)(pid_t pid), struct mafc_stat *sum)
{
	DIR *dir = opendir("/proc");
	struct dirent *e;
	struct heap_info *h;
	size_t n = 0;
	pid_t pid;

	*sum = (struct mafc_stat){ .size = sizeof(*sum) };
	heaps = grow(heaps, sizeof(*heaps));
	while (dir && (e = readdir(dir))) {
		pid = atoi(e->d_name);
		h = &heaps[n];
		if (pid <= 0 || (only && !only(pid)) || reader_stat(fd, pid, &h->stat))
			continue;
		h->pid = pid;
		reader_comm(pid, h->comm, sizeof(h->comm));
		sum->held += h->stat.held;
		sum->live += h->stat.live;
		sum->meshed += h->stat.meshed;
		heaps = grow(heaps, (++n + 1) * sizeof(*heaps));
	}
	if (dir)
		closedir(dir);
	sum->fragmentation = fragmentation(sum->held, sum->live);
	return n;
}

static void put_heap(size_t i)
{
	static const char *const states[] = { "Low", "Medium", "High" };
	const struct heap_info *h = &heaps[i];
	const struct mafc_stat *st = &h->stat;

	put("pid", 0, h->pid);
	put_text("comm", h->comm, -15);
	put("held", 'B', st->held);
	put("live", 'B', st->live);
	put("frag", '%', st->fragmentation);
	put("high_next", '%', st->high_ppm / 100);
	put("meshed", 0, st->meshed);
	put_text("state", st->state > 2 ? "?" : states[st->state], -6);
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
	if (opt.json) {
		json_array(&js, "free_blocks", st->free_blocks, LENGTH(st->free_blocks));
		json_array(&js, "stall", st->stall, MAFC_STALL_BUCKETS);
	}
}

/* Pages of the heap whose node libnuma is to tell, and how many are on each. */
static struct { unsigned long n; void *page[512]; uint64_t on[64]; } nodes;

static void count_nodes(void)
{
	int node[LENGTH(nodes.page)];

	if (!numa_move_pages(opt.pid, nodes.n, nodes.page, NULL, node, 0))
		for (size_t i = 0; i < nodes.n; i++)
			if (node[i] >= 0 && node[i] < 64)
				nodes.on[node[i]]++;
	nodes.n = 0;
}

static void nodes_page(const struct heap_page *p)
{
	if (p->mapped && !p->meshed)
		nodes.page[nodes.n++] = (void *)p->addr;
	if (nodes.n == LENGTH(nodes.page))
		count_nodes();
}

static void put_nodes(void)
{
	struct mafc_meta meta;
	char name[32];

	if (numa_available() < 0 || heap_walk(opt.pid, &meta, nodes_page))
		return;
	count_nodes();
	for (int i = 0; i <= numa_max_node() && i < 64; i++) {
		snprintf(name, sizeof(name), "on_node_%d", i);
		put(name, 'B', nodes.on[i] * PAGE);
	}
}

static uint64_t sort_value(const struct heap_info *h)
{
	return opt.sort == 'l' ? h->stat.live :
	       opt.sort == 'f' ? h->stat.fragmentation :
	       opt.sort == 'n' ? h->stat.high_ppm :
	       opt.sort == 'm' ? h->stat.meshed :
	       opt.sort == 'p' ? -(uint64_t)h->pid : h->stat.held;
}

static int by_key(const void *a, const void *b)
{
	return (sort_value(a) < sort_value(b)) - (sort_value(a) > sort_value(b));
}

/* All heaps in order, but at most @rows. */
static void put_heaps(int fd, size_t rows)
{
	struct mafc_stat sum;
	size_t n = find_heaps(fd, NULL, &sum);

	qsort(heaps, n, sizeof(*heaps), by_key);
	put_table("heaps", n < rows ? n : rows, put_heap);
}

int cmd_stat(void)
{
	struct heap_info one = { .pid = opt.pid };
	int fd = open_device();
	uint64_t v;

	if (opt.pid)
		die_if(reader_stat(fd, opt.pid, &one.stat), opt.pid);
	begin(NULL, '{');
	if (opt.pid) {
		reader_comm(opt.pid, one.comm, sizeof(one.comm));
		heaps = &one;
		put_heap(0);
		put_nodes();
	} else {
		put_heaps(fd, SIZE_MAX);
		begin("counters", '{');
		for (const struct figure *g = device_figures; g->file; g++)
			if (strchr(g->file, '/') && !reader_get(g->file, &v))
				put(strchr(g->file, '/') + 1, 0, v);
		end('{');
	}
	end('{');
	return OK;
}

static void top_once(int fd, bool screen)
{
	static uint64_t last, before;
	uint64_t cpu = 0, now = now_ms(), used;
	struct winsize size;

	reader_get("counters/compactor_cpu_ns", &cpu);
	used = before && now > before ? (cpu - last) / 100 / (now - before) : 0;
	last = cpu;
	before = now;
	if (ioctl(1, TIOCGWINSZ, &size) || size.ws_row < 4)
		size.ws_row = 25;
	if (screen)
		printf("\033[H");
	begin(NULL, '{');
	put("compactor_cpu", '%', used);
	put_heaps(fd, screen ? size.ws_row - 3U : SIZE_MAX);
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

int cmd_top(void)
{
	bool screen = isatty(0) && isatty(1) && !opt.json;
	struct pollfd in = { .fd = screen ? 0 : -1, .events = POLLIN };
	struct termios raw;
	int fd = open_device();
	char key = 0;

	if (screen) {
		tcgetattr(0, &cooked);
		raw = cooked;
		raw.c_lflag &= ~(ICANON | ECHO);
		tcsetattr(0, TCSANOW, &raw);
		printf("\033[?1049h");
		eol = "\033[K\n";
		atexit(leave_screen);
	}
	while (!stopped && key != 'q') {
		top_once(fd, screen);
		if (opt.count && !--opt.count)
			break;
		if (poll(&in, 1, opt.interval) == 1 && read(0, &key, 1) != 1)
			break;
		if (key && strchr(SORT_KEYS, key))
			opt.sort = key;
	}
	return OK;
}

/* A page's place in the heatmap: 0 to 9 by how many tenths of it are live, or one of these. */
enum { LARGE = 10, MESHED, EMPTY, KINDS };

static const char sign[KINDS] = "0123456789Lm.";
static const int ansi[KINDS] = { 160, 166, 208, 214, 220, 191, 149, 113, 71, 28, 25, 97, 240 };
static const char *const rgb[KINDS] = {
	"d73027", "ea5739", "f67f4b", "fca55d", "fec877", "d9ef8b", "b7e075", "8ccd67", "5ab760",
	"1a9850", "4575b4", "b89fd0", "e0e0e0",
};

static const char legend[] = "pages to a sign. 0 to 9: tenths that are live; L: large blocks; "
	"m: meshed, without memory of its own; .: without memory";

/* The kinds of all pages, and how many there are of each. */
static struct { uint8_t *page; size_t n; __u64 of[KINDS]; } map;

static void map_page(const struct heap_page *p)
{
	unsigned int kind = p->live * 10 / PAGE;

	if (!(map.n & (map.n - 1)))
		map.page = grow(map.page, 2 * map.n + 1);
	kind = p->meshed ? MESHED : !p->held ? EMPTY : p->large ? LARGE : kind > 9 ? 9 : kind;
	map.of[kind]++;
	map.page[map.n++] = kind;
}

/* How the @n pages of the cell look together: as most of them do, or as their mean. */
static unsigned int kind_of(size_t cell, size_t n)
{
	size_t of[KINDS] = { 0 }, small = 0, sum = 0, most = LARGE;

	for (size_t i = cell * n; i < (cell + 1) * n && i < map.n; i++)
		of[map.page[i]]++;
	for (size_t k = 0; k < KINDS; k++) {
		small += k < LARGE ? of[k] : 0;
		sum += k < LARGE ? of[k] * k : 0;
		most = k > LARGE && of[k] > of[most] ? k : most;
	}
	return small >= of[most] ? sum / small : most;
}

static void heatmap_svg(void)
{
	enum { COLUMNS = 128, SIDE = 6 };
	size_t per = map.n / 32768 + 1, cells = (map.n + per - 1) / per, i, run;
	FILE *f = fopen(opt.svg, "w");
	unsigned int k;

	if (!f)
		err(FAILED, "%s", opt.svg);
	fprintf(f, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 -12 %d %zu\" "
		"font-size=\"9\">\n<title>process %d: %zu pages, %zu %s</title>\n", COLUMNS * SIDE,
		(cells / COLUMNS + 1) * SIDE + 12, opt.pid, map.n, per, legend);
	for (k = 0; k < KINDS; k++)
		fprintf(f, "<rect x=\"%u\" y=\"-12\" width=\"40\" height=\"10\" fill=\"#%s\"/>"
			"<text x=\"%u\" y=\"-4\">%c</text>\n",
			k * 40, rgb[k], k * 40 + 16, sign[k]);
	for (i = 0; i < cells; i += run) {
		k = kind_of(i, per);
		for (run = 1; (i + run) % COLUMNS && i + run < cells && kind_of(i + run, per) == k;)
			run++;
		fprintf(f, "<rect x=\"%zu\" y=\"%zu\" width=\"%zu\" height=\"%d\" fill=\"#%s\"/>\n",
			i % COLUMNS * SIDE, i / COLUMNS * SIDE, run * SIDE, SIDE, rgb[k]);
	}
	fputs("</svg>\n", f);
	if (fclose(f))
		err(FAILED, "%s", opt.svg);
}

static void heatmap_text(void)
{
	enum { COLUMNS = 72, ROWS = 32 };
	size_t i, per = map.n / (COLUMNS * ROWS) + 1;
	unsigned int k;

	for (i = 0; i * per < map.n; i++) {
		k = kind_of(i, per);
		printf(isatty(1) ? "\033[48;5;%2$d;38;5;231m%1$c\033[0m" : "%c", sign[k], ansi[k]);
		if ((i + 1) % COLUMNS == 0 || (i + 1) * per >= map.n)
			putchar('\n');
	}
	printf("%zu %s\n", per, legend);
}

int cmd_heatmap(void)
{
	struct mafc_meta meta;

	die_if(heap_walk(opt.pid, &meta, map_page), opt.pid);
	if (opt.svg)
		heatmap_svg();
	else if (!opt.json)
		heatmap_text();
	begin(NULL, '{');
	put("pages", 0, map.n);
	put("large", 0, map.of[LARGE]);
	put("meshed", 0, map.of[MESHED]);
	put("without_memory", 0, map.of[EMPTY]);
	put("less_than_a_fifth_live", 0, map.of[0] + map.of[1]);
	if (opt.json)
		json_array(&js, "by_tenths_live", map.of, LARGE);
	end('{');
	return OK;
}

/* Sums by size class; the last is that of large blocks. */
static struct {
	struct mafc_meta meta;
	struct { uint64_t spans, live, held; } of[MAFC_CLASSES_MAX + 1];
	uint8_t row[MAFC_CLASSES_MAX + 1];	/* those that are shown */
} classes;

static void class_page(const struct heap_page *p)
{
	const struct mafc_meta *m = &classes.meta;
	unsigned int i = p->large ? MAFC_CLASSES_MAX : 0;

	while (p->span && i < m->nclasses && m->classes[i].block_size != p->span->block_size)
		i++;
	if (!p->held || (!p->large && (!p->span || i == m->nclasses)))
		return;
	classes.of[i].spans += p->span && !p->part;
	classes.of[i].live += p->live;
	classes.of[i].held += PAGE;
}

static void put_class(size_t row)
{
	const struct mafc_meta *m = &classes.meta;
	unsigned int i = classes.row[row];
	struct mafc_class_count n = i < MAFC_CLASSES_MAX ? m->classes[i] :
		(struct mafc_class_count){ .allocs = m->large_allocs, .frees = m->large_frees };
	uint64_t live = classes.of[i].live, held = classes.of[i].held, given, lost;

	given = n.allocs * n.block_size;
	/* By the requests since the start: the sizes of those that are live are not known. */
	lost = n.requested && n.requested < given ? 10000 - 1e4 * n.requested / given : 0;
	put("block_size", 0, n.block_size);
	put("spans", 0, classes.of[i].spans);
	put("live", 'B', live);
	put("held", 'B', held);
	put("external", '%', fragmentation(held, live));
	put("internal", '%', lost);
	put("allocs", 0, n.allocs);
	put("frees", 0, n.frees);
}

int cmd_classes(void)
{
	unsigned int i, n = 0;

	die_if(heap_walk(opt.pid, &classes.meta, class_page), opt.pid);
	for (i = 0; i <= MAFC_CLASSES_MAX; i++)
		if (classes.of[i].held)
			classes.row[n++] = i;
	put_table(NULL, n, put_class);
	return OK;
}
