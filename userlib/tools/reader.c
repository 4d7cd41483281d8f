// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "reader.h"

#define PAGE	4096U
#define min(a, b)	((a) < (b) ? (a) : (b))
#define max(a, b)	((a) > (b) ? (a) : (b))

const struct sysfs_file reader_tunables[] = {
	{ "enable", "", "the compactor works", 0, 1 },
	{ "threshold_percent", "%", "fragmentation from which on a heap is meshed", 0, 100 },
	{ "budget_percent", "%", "CPU time of the compactor, of one CPU (0: off)", 0, 100 },
	{ "interval_ms", "ms", "time between visits to a heap", 1, 3600000 },
	{ "medium_percent", "%", "model: from here on a heap is Medium", 0, 100 },
	{ "high_percent", "%", "model: from here on a heap is High", 0, 100 },
	{ .name = NULL },
};

const struct sysfs_file reader_counters[] = {
	{ "counters/heaps", "", "heaps now", 0, 0 },
	{ "counters/faults", "", "page faults served", 0, 0 },
	{ "counters/cow_copies", "pages", "copied after fork", 0, 0 },
	{ "counters/pages_meshed", "pages", "put onto another page", 0, 0 },
	{ "counters/pages_moved", "pages", "moved to another frame", 0, 0 },
	{ "counters/pages_dropped", "pages", "freed because they held no live block", 0, 0 },
	{ "counters/pages_pinned", "", "times a page was left alone, as something held it", 0, 0 },
	{ "counters/compactions", "", "visits of the compactor that gained something", 0, 0 },
	{ "counters/waits", "", "times a thread waited for a page in motion", 0, 0 },
	{ "counters/longest_away_ns", "ns", "longest time a page was in motion", 0, 0 },
	{ "counters/compactor_cpu_ns", "ns", "CPU time of the compactor", 0, 0 },
	{ .name = NULL },
};

static int sys(int ret)
{
	return ret < 0 ? -errno : ret;
}

const char *reader_error(int err)
{
	switch (-err) {
	case ENOENT:
	case ENXIO:
		return "no " MAFC_DEVICE ": the module is not loaded, or the device is not in this container";
	case EACCES:
		return "permission denied: see the mode of " MAFC_DEVICE ", or be root";
	case EPROTO:
		return "the module is of another version than this tool";
	case ESRCH:
		return "no such process";
	case EPERM:
		return "not permitted: it is another user's process, or may not be traced";
	case ENODEV:
		return "the process has no heap on " MAFC_DEVICE " (start it with: mafc run)";
	default:
		return strerror(-err);
	}
}

int reader_open(void)
{
	struct mafc_info info = { .size = sizeof(info) };
	int fd = sys(open(MAFC_DEVICE, O_RDWR | O_CLOEXEC));
	int err;

	if (fd < 0)
		return fd;
	err = sys(ioctl(fd, MAFC_IOC_INFO, &info));
	if (!err && info.abi_version == MAFC_ABI_VERSION && info.page_size == PAGE)
		return fd;
	close(fd);
	return -EPROTO;
}

int reader_stat(int fd, pid_t pid, struct mafc_stat *st)
{
	*st = (struct mafc_stat){ .size = sizeof(*st), .pid = pid };
	return sys(ioctl(fd, MAFC_IOC_STAT, st));
}

static FILE *proc_open(pid_t pid, const char *what)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
	return fopen(path, "re");
}

void reader_comm(pid_t pid, char *comm, size_t size)
{
	FILE *f = proc_open(pid, "comm");

	if (!f || !fgets(comm, size, f))
		snprintf(comm, size, "?");
	comm[strcspn(comm, "\n")] = '\0';
	if (f)
		fclose(f);
}

static int by_pid(const void *a, const void *b)
{
	return ((const struct heap_info *)a)->pid - ((const struct heap_info *)b)->pid;
}

ssize_t reader_heaps(int fd, struct heap_info **list)
{
	struct heap_info *all = NULL, *bigger, one;
	DIR *dir = opendir("/proc");
	struct dirent *e;
	size_t n = 0;

	*list = NULL;
	if (!dir)
		return -errno;
	while ((e = readdir(dir))) {
		one.pid = isdigit(e->d_name[0]) ? atoi(e->d_name) : 0;
		if (one.pid <= 0 || reader_stat(fd, one.pid, &one.stat))
			continue;
		reader_comm(one.pid, one.comm, sizeof(one.comm));
		if (!(n & (n - 1))) {
			bigger = realloc(all, (n ? 2 * n : 1) * sizeof(*all));
			if (!bigger) {
				free(all);
				closedir(dir);
				return -ENOMEM;
			}
			all = bigger;
		}
		all[n++] = one;
	}
	closedir(dir);
	if (n)
		qsort(all, n, sizeof(*all), by_pid);
	*list = all;
	return n;
}

int reader_get(const char *name, uint64_t *value)
{
	char path[128];

	snprintf(path, sizeof(path), MAFC_SYSFS "/%s", name);
	return reader_number(path, value);
}

int reader_number(const char *path, uint64_t *value)
{
	FILE *f = fopen(path, "re");
	int n;

	if (!f)
		return -errno;
	n = fscanf(f, "%" SCNu64, value);
	fclose(f);
	return n == 1 ? 0 : -EIO;
}

int reader_set(const char *name, uint64_t value)
{
	char path[128], text[24];
	int fd, err, len = snprintf(text, sizeof(text), "%" PRIu64, value);

	snprintf(path, sizeof(path), MAFC_SYSFS "/%s", name);
	fd = sys(open(path, O_WRONLY | O_CLOEXEC));
	if (fd < 0)
		return fd;
	err = sys(write(fd, text, len));
	close(fd);
	return min(err, 0);
}

/* One line of /proc/PID/maps. A region may consist of several mappings, if somebody split it. */
static void heap_mapping(struct heap *h, uint64_t *meta_end, const char *line)
{
	uint64_t from, to, off, base;
	char path[64] = "";

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*s %*s %63s", &from, &to, &off, path) != 4 ||
	    strcmp(path, MAFC_DEVICE))
		return;
	base = off & ~(MAFC_OFF_SMALL - 1);
	off -= base;
	if (base == MAFC_OFF_META) {
		h->meta = from - off;
		*meta_end = max(*meta_end, to);
	} else if (base == MAFC_OFF_SMALL) {
		h->small = from - off;
		h->small_pages = max(h->small_pages, (off + to - from) / PAGE);
	} else {
		h->large = from - off;
		h->large_pages = max(h->large_pages, (off + to - from) / PAGE);
	}
}

/*
 * Reads the meta region. Pages that are not there read as zeros: touching them from outside
 * would make them. Those of the meta region never lose their entry in the page table.
 */
static int meta_read(struct heap *h, uint64_t off, void *buf, size_t len)
{
	uint64_t addr = h->meta + off, present;
	size_t done, part;
	ssize_t n;

	for (done = 0; done < len; done += part) {
		part = min(len - done, PAGE - (addr + done) % PAGE);
		n = pread(h->pagemap, &present, 8, (addr + done) / PAGE * 8);
		if (n != 8)
			return n < 0 ? -errno : -ESRCH;
		if (!(present >> 63)) {
			memset((char *)buf + done, 0, part);
			continue;
		}
		n = process_vm_readv(h->pid, &(struct iovec){ (char *)buf + done, part }, 1,
				     &(struct iovec){ (void *)(addr + done), part }, 1, 0);
		if (n != (ssize_t)part)
			return n < 0 ? -errno : -ESRCH;
	}
	return 0;
}

static uint64_t map_bytes(uint32_t pages)
{
	return (pages / 8 + PAGE - 1) / PAGE * PAGE;
}

static int heap_layout(struct heap *h, uint64_t meta_end)
{
	int err;

	h->small_map = (sizeof(struct mafc_meta) + PAGE - 1) / PAGE * PAGE;
	h->large_map = h->small_map + map_bytes(h->small_pages);
	h->spans = h->large_map + map_bytes(h->large_pages);
	if (!h->meta || !h->small || !h->large ||
	    h->meta + h->spans + h->small_pages * sizeof(struct mafc_span) > meta_end)
		return -ENODEV;
	err = meta_read(h, 0, &h->header, sizeof(h->header));
	if (!err && (h->header.magic != MAFC_META_MAGIC || h->header.nclasses > MAFC_CLASSES_MAX))
		err = -ENODEV;
	return err;
}

int heap_open(pid_t pid, struct heap *h)
{
	FILE *f = proc_open(pid, "maps");
	char line[512], path[64];
	uint64_t meta_end = 0;
	int err;

	*h = (struct heap){ .pid = pid };
	if (!f)
		return errno == ENOENT ? -ESRCH : errno == EACCES ? -EPERM : -errno;
	while (fgets(line, sizeof(line), f))
		heap_mapping(h, &meta_end, line);
	fclose(f);
	if (!meta_end)
		return -ENODEV;
	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	h->pagemap = sys(open(path, O_RDONLY | O_CLOEXEC));
	if (h->pagemap < 0)
		return h->pagemap == -ENOENT ? -ESRCH : h->pagemap == -EACCES ? -EPERM : h->pagemap;
	err = heap_layout(h, meta_end);
	if (err)
		close(h->pagemap);
	return err;
}

void heap_close(struct heap *h)
{
	close(h->pagemap);
}

/* Bytes of page @part of the span that are in allocated blocks. */
static unsigned int page_live(const struct mafc_span *s, unsigned int part)
{
	unsigned int from = part * PAGE, to = from + PAGE, b, live = 0;

	for (b = from / s->block_size; b < s->nblocks && b * s->block_size < to; b++)
		if (s->bitmap[b / 64] >> b % 64 & 1)
			live += min(to, (b + 1) * s->block_size) - max(from, b * s->block_size);
	return live;
}

static bool span_ok(const struct mafc_span *s)
{
	unsigned int state = MAFC_SPAN_STATE(s->state);

	return state >= MAFC_SPAN_ATTACHED && state <= MAFC_SPAN_MESHED && s->block_size &&
	       s->nblocks <= MAFC_SPAN_BLOCKS_MAX && s->npages && s->npages <= MAFC_SPAN_PAGES_MAX;
}

/**
 * struct walk - a walk through 64 pages, of which there are 64 descriptors in a page
 * @head: descriptor of the span last seen; its later pages follow it, maybe in the next 64
 * @head_page: its index
 */
struct walk {
	struct heap *h;
	heap_fn *fn;
	void *arg;
	struct mafc_span head;
	uint64_t head_page;
};

static void walk_small(struct walk *w, uint64_t index, const struct mafc_span *s, struct heap_page *page)
{
	if (span_ok(s)) {
		w->head = *s;
		w->head_page = index;
	}
	page->part = index - w->head_page;
	if (page->part >= w->head.npages || (page->part && MAFC_SPAN_STATE(s->state) != MAFC_SPAN_TAIL))
		return;
	page->span = &w->head;
	page->meshed = MAFC_SPAN_STATE(w->head.state) == MAFC_SPAN_MESHED;
	if (!page->meshed)
		page->live = page_live(&w->head, page->part);
}

static int walk_word(struct walk *w, uint64_t first, uint64_t bits, bool large)
{
	uint64_t base = (large ? w->h->large : w->h->small) + first * PAGE, present[64];
	struct mafc_span spans[64];
	unsigned int i;
	int err = 0;

	if (pread(w->h->pagemap, present, sizeof(present), base / PAGE * 8) != sizeof(present))
		return -ESRCH;
	if (!large)
		err = meta_read(w->h, w->h->spans + first * sizeof(*spans), spans, sizeof(spans));
	for (i = 0; i < 64 && !err; i++) {
		struct heap_page page = {
			.addr = base + i * PAGE, .large = large, .mapped = present[i] >> 63,
			.live = large ? PAGE : 0,
		};

		if (!(bits >> i & 1))
			continue;
		if (!large)
			walk_small(w, first + i, &spans[i], &page);
		w->fn(w->arg, &page);
	}
	return err;
}

static int walk_region(struct walk *w, uint64_t map, uint32_t pages, bool large)
{
	uint64_t first, words[PAGE / 8];
	unsigned int i;
	int err = 0;

	for (first = 0; first < pages && !err; first += PAGE * 8) {
		err = meta_read(w->h, map + first / 8, words, sizeof(words));
		for (i = 0; i < PAGE / 8 && !err; i++)
			if (words[i])
				err = walk_word(w, first + i * 64, words[i], large);
	}
	return err;
}

int heap_walk(struct heap *h, heap_fn *fn, void *arg)
{
	struct walk w = { .h = h, .fn = fn, .arg = arg, .head_page = UINT64_MAX };
	int err = walk_region(&w, h->small_map, h->small_pages, false);

	return err ? err : walk_region(&w, h->large_map, h->large_pages, true);
}
