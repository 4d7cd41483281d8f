// SPDX-License-Identifier: Apache-2.0
#include "reader.h"

#define min(a, b)	((a) < (b) ? (a) : (b))
#define max(a, b)	((a) > (b) ? (a) : (b))

#define D(at, name, digits, help, ...) \
	{ "mafc_device_" name, help, digits, .file = at, __VA_ARGS__ }
const struct figure device_figures[] = {
	D("enable", "enabled", 0, "Whether the compactor works.", "", 0, 1),
	D("threshold_percent", "threshold_ratio", 2, "From here on a heap is meshed.", "%", 0, 100),
	D("budget_percent", "budget_ratio", 2, "CPU time of compaction, 0: off.", "%", 0, 100),
	D("interval_ms", "interval_seconds", 3, "Time between visits to a heap.", "ms", 1, 3600000),
	D("medium_percent", "medium_ratio", 2, "Model: Medium from here on.", "%", 0, 100),
	D("high_percent", "high_ratio", 2, "Model: High from here on.", "%", 0, 100),
	D("counters/heaps", "heaps", 0, "Heaps there are, those of other users included."),
	D("counters/faults", "faults_total", 0, "Page faults served on heaps."),
	D("counters/cow_copies", "cow_copies_total", 0, "Pages copied after fork."),
	D("counters/pages_meshed", "pages_meshed_total", 0, "Pages put onto another page."),
	D("counters/pages_moved", "pages_moved_total", 0, "Pages moved to another frame."),
	D("counters/pages_dropped", "pages_dropped_total", 0, "Pages freed: no block was live."),
	D("counters/pages_pinned", "pages_pinned_total", 0, "Pages left alone as they were held."),
	D("counters/compactions", "compactions_total", 0, "Compactor visits that gained anything."),
	D("counters/waits", "waits_total", 0, "Times a thread waited for a page in motion."),
	D("counters/longest_away_ns", "longest_away_seconds", 9, "Longest time a page was moving."),
	D("counters/compactor_cpu_ns", "compactor_cpu_seconds_total", 9, "CPU time of compaction."),
	{ 0 }
};

static const struct { int err; const char *text; } errors[] = {
	{ ENOENT, "no " MAFC_DEVICE
	  ": the module is not loaded, or the device is not in this container" },
	{ ENXIO, "no " MAFC_DEVICE ": the module is not loaded" },
	{ EACCES, "permission denied: see the mode of " MAFC_DEVICE ", or be root" },
	{ EPROTO, "the module is of another version than this tool" },
	{ ESRCH, "no such process" },
	{ EFAULT, "the process started another program meanwhile" },
	{ EPERM, "not permitted: it is another user's process, or may not be traced" },
	{ ENODEV, "the process has no heap on " MAFC_DEVICE " (start it with: mafc run)" },
};

const char *reader_error(int err)
{
	for (size_t i = 0; i < LENGTH(errors); i++)
		if (errors[i].err == -err)
			return errors[i].text;
	return strerror(-err);
}

double clock_s(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

FILE *reader_file(const char *mode, const char *fmt, ...)
{
	char path[4400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(path, sizeof(path), fmt, ap);
	va_end(ap);
	return fopen(path, mode);
}

bool reader_line(FILE *f, char *line, int size)
{
	if (f && fgets(line, size, f))
		return true;
	if (f)
		fclose(f);
	return false;
}

int reader_number(FILE *f, uint64_t *value)
{
	int n;

	if (!f)
		return -errno;
	n = fscanf(f, "%" SCNu64, value);
	fclose(f);
	return n == 1 ? 0 : -EIO;
}

int reader_write(FILE *f, uint64_t value)
{
	if (!f)
		return -errno;
	fprintf(f, "%" PRIu64, value);
	return fclose(f) ? -errno : 0;
}

int reader_get(const char *name, uint64_t *value)
{
	return reader_number(reader_file("re", MAFC_SYSFS "/%s", name), value);
}

int reader_set(const char *name, uint64_t value)
{
	return reader_write(reader_file("r+e", MAFC_SYSFS "/%s", name), value);
}

int reader_open(void)
{
	struct mafc_info info = { .size = sizeof(info) };
	int fd = open(MAFC_DEVICE, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (!ioctl(fd, MAFC_IOC_INFO, &info) && info.abi_version == MAFC_ABI_VERSION &&
	    info.page_size == PAGE)
		return fd;
	close(fd);
	return -EPROTO;
}

int reader_stat(int fd, pid_t pid, struct mafc_stat *st)
{
	*st = (struct mafc_stat){ .size = sizeof(*st), .pid = pid };
	return ioctl(fd, MAFC_IOC_STAT, st) ? -errno : 0;
}

void reader_comm(pid_t pid, char *comm, int size)
{
	FILE *f = reader_file("re", "/proc/%d/comm", pid);

	*comm = '\0';
	while (reader_line(f, comm, size))
		;
	for (; *comm; comm++)
		if (*comm > 0 && *comm < ' ')
			*comm = *comm == '\n' ? '\0' : '?';
}

/*
 * Another process's heap: addresses there of the meta region, and of the small and the large one;
 * pages of these two; offsets of their page maps, and of the descriptors, in the meta region.
 */
struct heap {
	pid_t pid;
	uint64_t meta, addr[2], pages[2], map[2], spans;
	FILE *pagemap;
};

/* Why a file of a process cannot be opened. */
static int proc_error(void)
{
	return errno == ENOENT ? -ESRCH : errno == EACCES ? -EPERM : -errno;
}

/* Finds the regions. One may consist of several mappings, if somebody split it. */
static int find_regions(struct heap *h)
{
	FILE *f = reader_file("re", "/proc/%d/maps", h->pid);
	uint64_t from, to, off, end = 0;
	char line[512], path[64];
	unsigned int i;

	if (!f)
		return proc_error();
	while (reader_line(f, line, sizeof(line))) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*s %*s %63s",
			   &from, &to, &off, path) != 4 || strcmp(path, MAFC_DEVICE))
			continue;
		i = off / MAFC_OFF_SMALL;
		off %= MAFC_OFF_SMALL;
		if (!i) {
			h->meta = from - off;
			end = max(end, to);
		} else {
			h->addr[i - 1] = from - off;
			h->pages[i - 1] = max(h->pages[i - 1], (off + to - from) / PAGE);
		}
	}
	h->map[0] = (sizeof(struct mafc_meta) + PAGE - 1) / PAGE * PAGE;
	h->map[1] = h->map[0] + h->pages[0] / 8;
	h->spans = h->map[1] + h->pages[1] / 8;
	return end && h->pages[0] && h->pages[1] &&
	       h->meta + h->spans + h->pages[0] * sizeof(struct mafc_span) <= end ? 0 : -ENODEV;
}

/*
 * Reads from the meta region. Pages that are not there read as zeros: touching them from outside
 * would make them. Those of the meta region never lose their entry in the page table.
 */
static int meta_read(struct heap *h, uint64_t off, void *buf, size_t len)
{
	uint64_t addr = h->meta + off, present;
	struct iovec to = { buf, 0 }, from;
	ssize_t n;

	for (; len; len -= to.iov_len, addr += to.iov_len, to.iov_base += to.iov_len) {
		to.iov_len = min(len, PAGE);
		n = pread(fileno(h->pagemap), &present, 8, addr / PAGE * 8);
		if (n == 8 && present >> 63) {
			from = (struct iovec){ (void *)addr, to.iov_len };
			n = process_vm_readv(h->pid, &to, 1, &from, 1, 0);
		} else if (n == 8) {
			memset(to.iov_base, 0, to.iov_len);
			continue;
		}
		if (n != (ssize_t)to.iov_len)
			return n < 0 ? -errno : -ESRCH;
	}
	return 0;
}

static bool span_ok(const struct mafc_span *s)
{
	unsigned int state = MAFC_SPAN_STATE(s->state);

	return state >= MAFC_SPAN_ATTACHED && state <= MAFC_SPAN_MESHED && s->block_size &&
	       s->nblocks <= MAFC_SPAN_BLOCKS_MAX && s->npages && s->npages <= MAFC_SPAN_PAGES_MAX;
}

/*
 * Fills @p of a small page: its state, and how many bytes of it are in allocated blocks. @s: its
 * descriptor; @head: that of the last span, which began at @start.
 */
static void small_page(struct heap_page *p, const struct mafc_span *s, struct mafc_span *head,
		       uint64_t *start)
{
	unsigned int from, to, size, b;

	if (span_ok(s)) {
		*head = *s;
		*start = p->addr;
	}
	p->part = (p->addr - *start) / PAGE;
	if (p->part >= head->npages || (p->part && MAFC_SPAN_STATE(s->state) != MAFC_SPAN_TAIL))
		return;
	p->span = head;
	if (MAFC_SPAN_STATE(head->state) == MAFC_SPAN_MESHED) {
		p->meshed = true;
		p->held = false;
		return;
	}
	size = head->block_size;
	from = p->part * PAGE;
	to = from + PAGE;
	for (b = from / size; b < head->nblocks && b * size < to; b++)
		if (head->bitmap[b / 64] >> b % 64 & 1)
			p->live += min(to, (b + 1) * size) - max(from, b * size);
	p->held = p->mapped || p->live;
}

/* 64 pages at a time, as there are 64 bits in a word and 64 descriptors in a page. */
static int walk_region(struct heap *h, bool large, void (*fn)(const struct heap_page *page))
{
	struct mafc_span span[64], head = { .npages = 0 };
	uint64_t words[PAGE / 8], word, present[64], at, from, start = 0;
	struct heap_page p;
	int err = 0, i;

	for (at = 0; at < h->pages[large] && !err; at += 64) {
		if (at % (PAGE * 8) == 0)
			err = meta_read(h, h->map[large] + at / 8, words, PAGE);
		word = words[at / 64 % LENGTH(words)];
		if (err || !word)
			continue;
		from = h->addr[large] + at * PAGE;
		if (pread(fileno(h->pagemap), present, 512, from / PAGE * 8) != 512)
			return -ESRCH;
		if (!large)
			err = meta_read(h, h->spans + at * sizeof(*span), span, sizeof(span));
		for (i = 0; i < 64 && !err; i++) {
			if (!(word >> i & 1))
				continue;
			p = (struct heap_page){ from + i * PAGE, at + i, .large = large };
			p.mapped = p.held = present[i] >> 63;
			if (large)
				p.live = PAGE;
			else
				small_page(&p, &span[i], &head, &start);
			fn(&p);
		}
	}
	return err;
}

int heap_walk(pid_t pid, struct mafc_meta *header, void (*fn)(const struct heap_page *page))
{
	struct heap h = { .pid = pid, .pagemap = reader_file("re", "/proc/%d/pagemap", pid) };
	int err = h.pagemap ? find_regions(&h) : proc_error();

	if (!err)
		err = meta_read(&h, 0, header, sizeof(*header));
	if (!err && (header->magic != MAFC_META_MAGIC || header->nclasses > MAFC_CLASSES_MAX))
		err = -ENODEV;
	for (int large = 0; large < 2 && !err; large++)
		err = walk_region(&h, large, fn);
	if (h.pagemap)
		fclose(h.pagemap);
	return err;
}
