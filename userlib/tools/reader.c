// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
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

static const struct {
	int err;
	const char *text;
} errors[] = {
	{ ENOENT, "no " MAFC_DEVICE ": the module is not loaded, or the device is not in this container" },
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
	size_t i;

	for (i = 0; i < LENGTH(errors); i++)
		if (errors[i].err == -err)
			return errors[i].text;
	return strerror(-err);
}

static int sys(int ret)
{
	return ret < 0 ? -errno : ret;
}

int reader_open(void)
{
	struct mafc_info info = { .size = sizeof(info) };
	int fd = sys(open(MAFC_DEVICE, O_RDWR | O_CLOEXEC));

	if (fd < 0 || (!ioctl(fd, MAFC_IOC_INFO, &info) && info.abi_version == MAFC_ABI_VERSION &&
		       info.page_size == PAGE))
		return fd;
	close(fd);
	return -EPROTO;
}

int reader_stat(int fd, pid_t pid, struct mafc_stat *st)
{
	*st = (struct mafc_stat){ .size = sizeof(*st), .pid = pid };
	return sys(ioctl(fd, MAFC_IOC_STAT, st));
}

/* What is not there, or not for us, of a process. */
static int proc_open(pid_t pid, const char *what)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
	fd = sys(open(path, O_RDONLY | O_CLOEXEC));
	return fd == -ENOENT ? -ESRCH : fd == -EACCES ? -EPERM : fd;
}

void reader_comm(pid_t pid, char *comm, size_t size)
{
	int fd = proc_open(pid, "comm");
	ssize_t n = fd < 0 ? 0 : read(fd, comm, size - 1);

	comm[max(n, 0)] = '\0';
	comm[strcspn(comm, "\n")] = '\0';
	for (; *comm; comm++)
		*comm = *comm > 0 && *comm < ' ' ? '?' : *comm;
	if (fd >= 0)
		close(fd);
}

ssize_t reader_heaps(int fd, bool (*only)(pid_t pid), struct heap_info **list)
{
	DIR *dir = opendir("/proc");
	struct heap_info *all = NULL, *more, one;
	struct dirent *e;
	ssize_t n = 0;

	while (dir && (e = readdir(dir))) {
		one.pid = atoi(e->d_name);
		if (one.pid <= 0 || (only && !only(one.pid)) || reader_stat(fd, one.pid, &one.stat))
			continue;
		reader_comm(one.pid, one.comm, sizeof(one.comm));
		more = realloc(all, (n + 1) * sizeof(*all));
		if (!more)
			break;
		all = more;
		all[n++] = one;
	}
	if (dir)
		closedir(dir);
	*list = all;
	return n;
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

int reader_get(const char *name, uint64_t *value)
{
	char path[128];

	snprintf(path, sizeof(path), MAFC_SYSFS "/%s", name);
	return reader_number(path, value);
}

int reader_set(const char *name, uint64_t value)
{
	char path[128];
	int fd, err;

	snprintf(path, sizeof(path), MAFC_SYSFS "/%s", name);
	fd = sys(open(path, O_WRONLY | O_CLOEXEC));
	if (fd < 0)
		return fd;
	err = sys(dprintf(fd, "%" PRIu64, value));
	close(fd);
	return min(err, 0);
}

/* Finds the regions. One may consist of several mappings, if somebody split it. */
static int find_regions(struct heap *h)
{
	int fd = proc_open(h->pid, "maps"), region;
	uint64_t from, to, off, end = 0;
	char line[512], path[64];
	FILE *f;

	if (fd < 0)
		return fd;
	f = fdopen(fd, "r");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*s %*s %63s", &from, &to, &off,
			   path) != 4 || strcmp(path, MAFC_DEVICE))
			continue;
		region = off / MAFC_OFF_SMALL;
		off %= MAFC_OFF_SMALL;
		if (!region)
			h->meta = from - off, end = max(end, to);
		else
			h->addr[region - 1] = from - off,
			h->pages[region - 1] = max(h->pages[region - 1], (off + to - from) / PAGE);
	}
	if (f)
		fclose(f);
	h->map[0] = (sizeof(h->header) + PAGE - 1) / PAGE * PAGE;
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
	size_t done, part;
	ssize_t n;

	for (done = 0; done < len; done += part) {
		part = min(len - done, PAGE);
		n = pread(h->pagemap, &present, 8, (addr + done) / PAGE * 8);
		if (n == 8 && !(present >> 63)) {
			memset((char *)buf + done, 0, part);
			continue;
		}
		if (n == 8)
			n = process_vm_readv(h->pid, &(struct iovec){ (char *)buf + done, part }, 1,
					     &(struct iovec){ (char *)addr + done, part }, 1, 0);
		if (n <= 0 || (size_t)n != part)
			return n < 0 ? -errno : -ESRCH;
	}
	return 0;
}

int heap_open(pid_t pid, struct heap *h)
{
	int err;

	*h = (struct heap){ .pid = pid };
	err = find_regions(h);
	if (err)
		return err;
	h->pagemap = proc_open(pid, "pagemap");
	if (h->pagemap < 0)
		return h->pagemap;
	err = meta_read(h, 0, &h->header, sizeof(h->header));
	if (!err && (h->header.magic != MAFC_META_MAGIC || h->header.nclasses > MAFC_CLASSES_MAX))
		err = -ENODEV;
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

/* 64 pages at a time, as there are 64 bits in a word and 64 descriptors in a page. */
int heap_walk(struct heap *h, void (*fn)(void *arg, const struct heap_page *page), void *arg)
{
	struct mafc_span span[64], head = { .npages = 0 };
	uint64_t words[PAGE / 8], present[64], at, head_at = 0;
	struct heap_page p;
	int err = 0, large;

	for (large = 0; large < 2; large++) {
		for (at = 0; at < h->pages[large]; at++) {
			unsigned int i = at % 64;

			if (at % (PAGE * 8) == 0)
				err = meta_read(h, h->map[large] + at / 8, words, PAGE);
			if (err)
				return err;
			if (!words[at / 64 % LENGTH(words)]) {
				at |= 63;
				continue;
			}
			p = (struct heap_page){ .addr = h->addr[large] + at * PAGE, .large = large };
			if (!i && pread(h->pagemap, present, 512, p.addr / PAGE * 8) != 512)
				return -ESRCH;
			if (!i && !large)
				err = meta_read(h, h->spans + at * sizeof(*span), span, sizeof(span));
			if (err || !(words[at / 64 % LENGTH(words)] >> i & 1))
				continue;
			p.mapped = present[i] >> 63;
			p.live = large ? PAGE : 0;
			if (!large && span_ok(&span[i]))
				head = span[i], head_at = at;
			p.part = at - head_at;
			if (!large && p.part < head.npages &&
			    (!p.part || MAFC_SPAN_STATE(span[i].state) == MAFC_SPAN_TAIL)) {
				p.span = &head;
				p.meshed = MAFC_SPAN_STATE(head.state) == MAFC_SPAN_MESHED;
				p.live = p.meshed ? 0 : page_live(&head, p.part);
			}
			p.held = !p.meshed && (p.mapped || (!large && p.live));
			fn(arg, &p);
		}
	}
	return 0;
}
