// SPDX-License-Identifier: Apache-2.0
/* sites.c - mafc sites: who has what is live and keeps sparse pages, by call stack (MAFC_SITES) */
#include "cli.h"
#include "../src/sites.h"

#include <elfutils/libdwfl.h>
#include <search.h>

/* The small pages: bytes that are live, or where the blocks of a meshed one live. */
static struct page { uint32_t root, live; } *pages;
static uint64_t npages, small, sparse;

static void note_page(const struct heap_page *p)
{
	if (!p->span)
		return;
	small = p->addr - (uint64_t)PAGE * p->index;
	for (; npages <= p->index; pages[npages++] = (struct page){ 0 })
		if (!(npages & (npages - 1)))
			pages = grow(pages, (2 * npages + 1) * sizeof(*pages));
	pages[p->index] = (struct page){ p->meshed ? p->span->canonical + p->part : 0, p->live };
	sparse += p->live && p->live < PAGE / 2 ? PAGE : 0;
}

/* Live bytes of the page, of whatever was meshed into it, too; PAGE if not known. */
static unsigned int live_at(uint64_t addr)
{
	uint64_t i = (addr - small) / PAGE;

	for (int hops = 0; i < npages && pages[i].root && hops < 64; hops++)
		i = pages[i].root;
	return i < npages && pages[i].live ? pages[i].live : PAGE;
}

/* What the samples with one stack stand for: bytes that they keep, that are live, and so on. */
enum { PINNED, LIVE, BLOCKS, ON_SPARSE, FIGURES };
static struct place {
	uint64_t frames[SITES_FRAMES];	/* up to a 0 */
	double of[FIGURES];
} places[SITES_MAX], total;
static size_t nplaces, nsamples;
static struct sites table, again;
static Dwfl *dwfl;

/* The file that an address lies in, and its offset there. */
static const char *module(uint64_t pc, uint64_t *offset)
{
	Dwfl_Module *m = dwfl_addrmodule(dwfl, pc);
	Dwarf_Addr start = 0;
	const char *name = dwfl_module_info(m, NULL, &start, NULL, NULL, NULL, NULL, NULL);

	*offset = pc - start;
	return name ? name : "?";
}

static int by_stack(const void *a, const void *b)
{
	return memcmp(a, b, offsetof(struct place, of));
}

/* A page less than half of which is live is sparse. Each block keeps its part of what is live. */
static void add_sample(const struct site *s)
{
	double blocks = (double)s->weight / s->size;
	double of[FIGURES] = { [LIVE] = s->weight, [BLOCKS] = blocks };
	struct place stack = { 0 }, *p;
	uint64_t at, to, end = s->addr + s->size, own = 0;
	unsigned int live, part, i;

	while (own < s->nframes &&
	       !strncmp(basename(module(s->frames[own] - 1, &at)), "libmafc", 7))
		own++;
	memcpy(stack.frames, s->frames + own, (s->nframes - own) * sizeof(*s->frames));
	p = lsearch(&stack, places, &nplaces, sizeof(*places), by_stack);
	for (at = s->addr; at < end && s->size <= PAGE * MAFC_SPAN_PAGES_MAX; at = to) {
		to = (at / PAGE + 1) * PAGE < end ? (at / PAGE + 1) * PAGE : end;
		part = to - at;
		live = live_at(at);
		if (live < PAGE / 2) {
			of[ON_SPARSE] += blocks * part;
			of[PINNED] += blocks * part * PAGE / (live > part ? live : part);
		}
	}
	for (i = 0; i < FIGURES; i++) {
		p->of[i] += of[i];
		total.of[i] += of[i];
	}
	nsamples++;
}

static void copy(void *to, uint64_t addr, size_t len)
{
	struct iovec local = { to, len }, remote = { (void *)addr, len };
	ssize_t n = process_vm_readv(opt.pid, &local, 1, &remote, 1, 0);

	if (n != (ssize_t)len)
		die_if(n < 0 ? -errno : -EFAULT, opt.pid);
}

/* Twice, as nothing is stopped: what was the same both times, and is not being written, is true. */
static void read_samples(uint64_t addr)
{
	const size_t head = offsetof(struct sites, records);
	const struct site *s = table.records;

	copy(&table, addr, head);
	if (table.magic != SITES_MAGIC || table.used > SITES_MAX)
		errx(FAILED, "process %d: its library is of another version", opt.pid);
	copy(table.records, addr + head, table.used * sizeof(*s));
	copy(again.records, addr + head, table.used * sizeof(*s));
	for (; s < table.records + table.used; s++)
		if (s->nframes && s->nframes <= SITES_FRAMES && s->size && s->seq % 2 == 0 &&
		    !memcmp(s, again.records + (s - table.records), sizeof(*s)))
			add_sample(s);
}

static int by_pinned(const void *a, const void *b)
{
	const double *p = ((const struct place *)a)->of, *q = ((const struct place *)b)->of;
	int of = p[PINNED] == q[PINNED] ? LIVE : PINNED;

	return (p[of] < q[of]) - (p[of] > q[of]);
}

static void put_frame(uint64_t pc)
{
	int line = 0;
	uint64_t offset;
	const char *name = dwfl_module_addrname(dwfl_addrmodule(dwfl, pc), pc);
	const char *file = dwfl_lineinfo(dwfl_getsrc(dwfl, pc), NULL, &line, NULL, NULL, NULL);
	const char *in = module(pc, &offset);

	if (!opt.json) {
		offset = file ? (uint64_t)line : offset;
		printf("\n            %s ", name ? name : "?");
		printf(file ? "%s:%lu" : "%s+0x%lx", file ? file : in, offset);
		return;
	}
	begin(NULL, '{');
	put_text("function", name, 0);
	put_text("file", file, 0);
	put("line", 0, line);
	put_text("module", in, 0);
	put("offset", 0, offset);
	end('{');
}

static void put_place(size_t i)
{
	const struct place *p = &places[i];

	put("pinned", 'B', p->of[PINNED]);
	put("live", 'B', p->of[LIVE]);
	put("blocks", 0, p->of[BLOCKS] + .5);
	put("on_sparse", 'B', p->of[ON_SPARSE]);
	begin("stack", '[');
	for (i = 0; mode != HEADER && i < SITES_FRAMES && p->frames[i]; i++)
		put_frame(p->frames[i] - 1);
	if (opt.json)
		end('[');
}

int cmd_sites(void)
{
	static const Dwfl_Callbacks callbacks = { .find_elf = dwfl_linux_proc_find_elf,
						  .find_debuginfo = dwfl_standard_find_debuginfo };
	struct mafc_meta meta;

	die_if(heap_walk(opt.pid, &meta, note_page), opt.pid);
	if (!meta.sites)
		errx(FAILED, "process %d: no samples (start it with: mafc run --sites)", opt.pid);
	dwfl = dwfl_begin(&callbacks);
	if (!dwfl || dwfl_linux_proc_report(dwfl, opt.pid) || dwfl_report_end(dwfl, NULL, NULL))
		errx(FAILED, "process %d: its mappings cannot be read", opt.pid);
	read_samples(meta.sites);
	qsort(places, nplaces, sizeof(*places), by_pinned);
	begin(NULL, '{');
	put("interval", 'B', table.interval);
	put("samples", 0, nsamples);
	put("lost", 0, table.lost);
	put("live", 'B', total.of[LIVE]);
	put("pinned", 'B', total.of[PINNED]);
	put("sparse_pages", 'B', sparse);
	put_table("sites", opt.top && opt.top < nplaces ? opt.top : nplaces, put_place);
	end('{');
	return OK;
}
