// SPDX-License-Identifier: GPL-2.0-only
/*
 * uapi.c - the contract of uapi/mafc.h: structures, errors, mappings
 */
#include <limits.h>

#include "test.h"

/* Any of the structures, with room for a newer and longer one. */
union any {
	struct {
		__u32 size;
		__u32 flags;
	};
	struct mafc_info info;
	struct mafc_setup setup;
	struct mafc_stat stat;
	struct mafc_compact compact;
	struct mafc_release release;
	struct mafc_remap remap;
	struct mafc_policy policy;
	unsigned char bytes[8192];
};

struct call {
	const char *name;
	unsigned int cmd;
	size_t size;
};

#define CALL(cmd, type) { #cmd, cmd, sizeof(struct type) }

static const struct call calls[] = {
	CALL(MAFC_IOC_INFO, mafc_info),
	CALL(MAFC_IOC_SETUP, mafc_setup),
	CALL(MAFC_IOC_STAT, mafc_stat),
	CALL(MAFC_IOC_COMPACT, mafc_compact),
	CALL(MAFC_IOC_RELEASE, mafc_release),
	CALL(MAFC_IOC_REMAP, mafc_remap),
	CALL(MAFC_IOC_POLICY, mafc_policy),
};

#define CALLS (sizeof(calls) / sizeof(calls[0]))

/* A call that works on a heap of the least size; SETUP fails with EEXIST. */
static void fill(union any *a, const struct call *c)
{
	memset(a, 0, sizeof(*a));
	a->size = c->size;
	switch (c->cmd) {
	case MAFC_IOC_SETUP:
		a->setup.small_pages = MAFC_REGION_ALIGN;
		a->setup.large_pages = MAFC_REGION_ALIGN;
		break;
	case MAFC_IOC_RELEASE:
		a->release.length = PAGE;
		break;
	case MAFC_IOC_REMAP:
		a->remap.to = PAGE;
		a->remap.length = PAGE;
		break;
	}
}

static int call(int fd, const struct call *c, union any *a)
{
	return ioctl(fd, c->cmd, a) ? errno : 0;
}

/* What the call returns when nothing is wrong with the structure. */
static int right(const struct call *c)
{
	return c->cmd == MAFC_IOC_SETUP ? EEXIST : 0;
}

HEAP_FIXTURE(uapi)

TEST_F(uapi, unknown_ioctls)
{
	union any a = { .size = 64 };
	int fd = self->h.fd;
	unsigned int nr;

	for (nr = CALLS; nr < 256; nr++) {
		EXPECT_EQ(-1, ioctl(fd, _IO(MAFC_IOC_MAGIC, nr), &a));
		EXPECT_EQ(ENOTTY, errno);
	}
	EXPECT_EQ(-1, ioctl(fd, _IO('T', 0), &a));
	EXPECT_EQ(ENOTTY, errno);
	EXPECT_EQ(-1, ioctl(fd, _IOWR(MAFC_IOC_MAGIC, 0, struct mafc_info), &a));
	EXPECT_EQ(ENOTTY, errno);
	EXPECT_EQ(-1, ioctl(fd, _IOR(MAFC_IOC_MAGIC, 0, struct mafc_info), &a));
	EXPECT_EQ(ENOTTY, errno);
	EXPECT_EQ(-1, ioctl(fd, _IOC(0, MAFC_IOC_MAGIC, 0, 8), &a));
	EXPECT_EQ(ENOTTY, errno);
}

TEST_F(uapi, right_calls)
{
	union any a;
	unsigned int i;

	for (i = 0; i < CALLS; i++) {
		fill(&a, &calls[i]);
		EXPECT_EQ(right(&calls[i]), call(self->h.fd, &calls[i], &a))
			TH_LOG("%s", calls[i].name);
	}
}

TEST_F(uapi, sizes)
{
	int fd = self->h.fd;
	size_t longer;
	unsigned int i;
	union any a;

	for (i = 0; i < CALLS; i++) {
		const struct call *c = &calls[i];
		const size_t shorter[] = { 0, 1, 4, 8, c->size - 1 };
		unsigned int k;

		for (k = 0; k < sizeof(shorter) / sizeof(shorter[0]); k++) {
			fill(&a, c);
			a.size = shorter[k];
			EXPECT_EQ(EINVAL, call(fd, c, &a))
				TH_LOG("%s of %zu bytes", c->name, shorter[k]);
		}
		for (longer = c->size + 1; longer <= 4096; longer += 507) {
			fill(&a, c);
			a.size = longer;
			EXPECT_EQ(right(c), call(fd, c, &a))
				TH_LOG("%s of %zu bytes", c->name, longer);
			/* The kernel knows of no byte that far out. */
			EXPECT_EQ(longer, a.size);
			fill(&a, c);
			a.size = longer;
			a.bytes[longer - 1] = 1;
			EXPECT_EQ(E2BIG, call(fd, c, &a))
				TH_LOG("%s of %zu bytes", c->name, longer);
			EXPECT_EQ(1, a.bytes[longer - 1]);
		}
		fill(&a, c);
		a.size = UINT_MAX;
		EXPECT_EQ(E2BIG, call(fd, c, &a)) TH_LOG("%s", c->name);
	}
}

TEST_F(uapi, flags_and_padding)
{
	int fd = self->h.fd;
	unsigned int i, bit;
	union any a;

	for (i = 0; i < CALLS; i++)
		for (bit = 0; bit < 32; bit++) {
			fill(&a, &calls[i]);
			a.flags = 1U << bit;
			if (calls[i].cmd == MAFC_IOC_COMPACT &&
			    a.flags == MAFC_COMPACT_SHUFFLE)
				continue;
			EXPECT_EQ(EINVAL, call(fd, &calls[i], &a))
				TH_LOG("%s flag %u", calls[i].name, bit);
		}
	memset(&a, 0, sizeof(a));
	a.stat.size = sizeof(a.stat);
	a.stat.pad = 1;
	EXPECT_EQ(EINVAL, ioctl(fd, MAFC_IOC_STAT, &a) ? errno : 0);
}

TEST_F(uapi, values_out_of_range)
{
	const uint32_t pages[] = { 0, 1, MAFC_REGION_ALIGN - 1,
		MAFC_REGION_ALIGN + 1, MAFC_REGION_MAX + MAFC_REGION_ALIGN,
		UINT32_MAX };
	union any a;
	unsigned int i;

	for (i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		fill(&a, &calls[1]);
		a.setup.small_pages = pages[i];
		EXPECT_EQ(EINVAL, call(self->h.fd, &calls[1], &a))
			TH_LOG("%u small pages", pages[i]);
		fill(&a, &calls[1]);
		a.setup.large_pages = pages[i];
		EXPECT_EQ(EINVAL, call(self->h.fd, &calls[1], &a))
			TH_LOG("%u large pages", pages[i]);
	}
	memset(&a, 0, sizeof(a));
	a.stat = (struct mafc_stat){ .size = sizeof(a.stat), .pid = -1 };
	EXPECT_EQ(EINVAL, ioctl(self->h.fd, MAFC_IOC_STAT, &a) ? errno : 0);
	memset(&a, 0, sizeof(a));
	a.policy = (struct mafc_policy){ .size = sizeof(a.policy), .set = 4 };
	EXPECT_EQ(EINVAL, ioctl(self->h.fd, MAFC_IOC_POLICY, &a) ? errno : 0);
	a.policy = (struct mafc_policy){ .size = sizeof(a.policy),
		.set = MAFC_POLICY_COMPACT, .compact = 2 };
	EXPECT_EQ(EINVAL, ioctl(self->h.fd, MAFC_IOC_POLICY, &a) ? errno : 0);
	memset(&a, 0, sizeof(a));
	a.compact = (struct mafc_compact){ .size = sizeof(a.compact),
		.budget_us = UINT64_MAX };
	EXPECT_EQ(EINVAL, ioctl(self->h.fd, MAFC_IOC_COMPACT, &a) ? errno : 0);
}

/* Structures that cannot be read, or not written: nothing is done. */
TEST_F(uapi, bad_addresses)
{
	struct heap *h = &self->h;
	union any *ro, *edge;
	unsigned int i;
	char *two;

	two = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, two);
	ASSERT_EQ(0, munmap(two + 2 * PAGE, 2 * PAGE));
	map_set(h->large_map, 0, 2);
	strcpy(h->large, "stays");
	for (i = 0; i < CALLS; i++) {
		const struct call *c = &calls[i];

		EXPECT_EQ(EFAULT, call(h->fd, c, NULL)) TH_LOG("%s", c->name);
		EXPECT_EQ(EFAULT, call(h->fd, c, (void *)-4096L));
		EXPECT_EQ(EFAULT, call(h->fd, c, (void *)(two + 2 * PAGE)));
		/* The last byte is beyond the mapping. */
		edge = (void *)(two + 2 * PAGE - c->size + 1);
		edge->size = c->size;
		EXPECT_EQ(EFAULT, call(h->fd, c, edge)) TH_LOG("%s", c->name);

		ro = (void *)two;
		fill(ro, c);
		ASSERT_EQ(0, mprotect(two, PAGE, PROT_READ));
		EXPECT_EQ(EFAULT, call(h->fd, c, ro)) TH_LOG("%s", c->name);
		ASSERT_EQ(0, mprotect(two, PAGE, PROT_READ | PROT_WRITE));
	}
	/* RELEASE and REMAP were among them. */
	EXPECT_STREQ("stays", h->large);
}

TEST_F(uapi, no_effect_on_error)
{
	struct heap *h = &self->h;
	struct mafc_release r = { .size = sizeof(r), .length = PAGE, .flags = 1 };
	struct mafc_policy p = { .size = sizeof(p), .set = MAFC_POLICY_COMPACT | 8,
		.compact = 1 };
	struct mafc_remap m = { .size = sizeof(m), .to = PAGE, .length = PAGE,
		.flags = 1 };

	map_set(h->large_map, 0, 2);
	strcpy(h->large, "first");
	strcpy(h->large + PAGE, "second");
	EXPECT_EQ(-1, ioctl(h->fd, MAFC_IOC_RELEASE, &r));
	EXPECT_EQ(-1, ioctl(h->fd, MAFC_IOC_REMAP, &m));
	EXPECT_STREQ("first", h->large);
	EXPECT_STREQ("second", h->large + PAGE);
	EXPECT_EQ(-1, ioctl(h->fd, MAFC_IOC_POLICY, &p));
	p = (struct mafc_policy){ .size = sizeof(p) };
	EXPECT_EQ(0, ioctl(h->fd, MAFC_IOC_POLICY, &p));
	EXPECT_EQ(0, p.compact);	/* as the fixture set it */
}

TEST_F(uapi, info)
{
	struct mafc_info info = { .size = sizeof(info) };

	ASSERT_EQ(0, ioctl(self->h.fd, MAFC_IOC_INFO, &info));
	EXPECT_EQ(MAFC_ABI_VERSION, info.abi_version);
	EXPECT_EQ(sysconf(_SC_PAGESIZE), info.page_size);
	EXPECT_EQ(MAFC_REGION_ALIGN, info.region_align);
	EXPECT_EQ(MAFC_REGION_MAX, info.region_max);
	EXPECT_EQ(MAFC_FEATURE_MESH | MAFC_FEATURE_MOVE | MAFC_FEATURE_DROP |
		  MAFC_FEATURE_FORK_COW | MAFC_FEATURE_REMAP, info.features & 31);
}

TEST_F(uapi, setup_layout)
{
	const struct mafc_setup *s = &self->h.setup;

	EXPECT_EQ(0, s->meta_bytes % PAGE);
	EXPECT_LE(sizeof(struct mafc_meta), s->small_map);
	EXPECT_EQ(s->small_map + s->small_pages / 8, s->large_map);
	EXPECT_EQ(s->large_map + s->large_pages / 8, s->spans);
	EXPECT_EQ(s->spans + s->small_pages * sizeof(struct mafc_span),
		  s->meta_bytes);
	EXPECT_EQ(64, sizeof(struct mafc_span));
}

TEST_F(uapi, policy)
{
	struct mafc_policy p = { .size = sizeof(p) };
	struct mafc_stat st;

	EXPECT_EQ(0, ioctl(self->h.fd, MAFC_IOC_POLICY, &p));
	EXPECT_EQ(0, p.compact);
	EXPECT_EQ(0, heap_policy(&self->h, true));
	EXPECT_EQ(0, ioctl(self->h.fd, MAFC_IOC_POLICY, &p));
	EXPECT_EQ(1, p.compact);
	EXPECT_EQ(0, heap_policy(&self->h, false));

	/* A move takes some time. */
	map_set(self->h.small_map, 0, 1);
	self->h.small[0] = 1;
	ASSERT_EQ(0, heap_compact(&self->h, MAFC_COMPACT_SHUFFLE, NULL));
	ASSERT_EQ(0, heap_stat(&self->h, &st));
	EXPECT_LT(0, st.away_max_ns);
}

/* Statistics that can be told beforehand. */
TEST_F(uapi, stat)
{
	struct heap *h = &self->h;
	struct mafc_stat st;
	unsigned int i;

	span_make(h, 0, 512, 8, 1);
	span_make(h, 1, 1024, 16, 4);
	for (i = 0; i < 3; i++)
		memset(block_alloc(h, 0, i), 1, 512);
	memset(block_alloc(h, 1, 0), 1, 1024);
	memset(block_alloc(h, 1, 15), 1, 1024);
	map_set(h->large_map, 7, 2);
	memset(h->large + 7 * PAGE, 1, 2 * PAGE);

	ASSERT_TRUE(WAIT_FOR(3000, !heap_stat(h, &st) &&
			     st.live == 3 * 512 + 2 * 1024 + 2 * PAGE))
		TH_LOG("live %llu", (unsigned long long)st.live);
	EXPECT_EQ(sizeof(st), st.size);
	EXPECT_EQ(0, st.pid);
	/* Span 0, first and last page of span 1, the large pages; META aside. */
	EXPECT_LE(5 * PAGE, st.mapped);
	EXPECT_LE(st.mapped, st.held);
	EXPECT_EQ(0, st.held % PAGE);
	EXPECT_LT(st.cached, st.held);
	EXPECT_EQ((st.held - st.live) * 10000 / st.held, st.fragmentation);
	EXPECT_LE(st.largest_free, st.cached);
	EXPECT_LE(5, st.faults);
	EXPECT_LE(st.high_ppm, 1000000);
	EXPECT_LE(st.state, 2);
	for (i = 0; i < 10; i++)
		st.cached -= st.free_blocks[i] * (PAGE << i);
	EXPECT_EQ(0, st.cached);
}

static int stat_of(int fd, pid_t pid)
{
	struct mafc_stat st = { .size = sizeof(st), .pid = pid };

	return ioctl(fd, MAFC_IOC_STAT, &st) ? errno : 0;
}

struct other {
	int fd;
	pid_t pid;
	uid_t uid;
};

static int stat_as_other(void *arg)
{
	struct other *o = arg;

	if (setresgid(o->uid, o->uid, o->uid) || setresuid(o->uid, o->uid, o->uid))
		return 255;
	return stat_of(o->fd, o->pid);
}

static int wait_for_kill(void *arg)
{
	pause();
	return 0;
}

/* A process whose ids are those of nobody, and which has no heap. */
static int nobody_waits(void *arg)
{
	if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
		return 255;
	pause();
	return 0;
}

TEST_F(uapi, stat_of_others)
{
	struct other o = { .fd = self->h.fd, .pid = getpid(), .uid = 65534 };
	pid_t pid;

	EXPECT_EQ(0, stat_of(o.fd, getpid()));
	EXPECT_EQ(ESRCH, stat_of(o.fd, INT_MAX));
	EXPECT_EQ(ENODEV, stat_of(o.fd, 1));

	/* A child has a heap by fork; a dead one has no memory. */
	pid = spawn(wait_for_kill, NULL);
	EXPECT_EQ(0, stat_of(o.fd, pid));
	kill(pid, SIGKILL);
	EXPECT_TRUE(WAIT_FOR(5000, stat_of(o.fd, pid) == ENODEV));
	child_status(pid);
	EXPECT_EQ(ESRCH, stat_of(o.fd, pid));

	if (geteuid())
		SKIP(return, "not root: cannot become somebody else");
	EXPECT_EQ(EPERM, child_status(spawn(stat_as_other, &o)));
	pid = spawn(nobody_waits, NULL);
	EXPECT_TRUE(WAIT_FOR(5000, ({
		char path[64];
		struct stat sb;

		snprintf(path, sizeof(path), "/proc/%d", pid);
		!stat(path, &sb) && sb.st_uid == 65534;
	})));
	o.pid = pid;
	EXPECT_EQ(0, stat_of(o.fd, pid));	/* root may */
	EXPECT_EQ(0, child_status(spawn(stat_as_other, &o)));
	kill(pid, SIGKILL);
	child_status(pid);
}

TEST_F(uapi, one_heap_for_a_process)
{
	struct mafc_setup s = self->h.setup;
	struct mafc_stat st = { .size = sizeof(st) };
	int fd = open("/dev/mafc", O_RDWR | O_CLOEXEC);

	ASSERT_LE(0, fd);
	EXPECT_EQ(-1, ioctl(self->h.fd, MAFC_IOC_SETUP, &s));
	EXPECT_EQ(EEXIST, errno);
	EXPECT_EQ(-1, ioctl(fd, MAFC_IOC_SETUP, &s));
	EXPECT_EQ(EEXIST, errno);

	/* Ioctls on any descriptor mean the caller's heap. */
	map_set(self->h.small_map, 3, 1);
	self->h.small[3 * PAGE] = 1;
	EXPECT_EQ(0, ioctl(fd, MAFC_IOC_STAT, &st));
	EXPECT_LT(0, st.held);
	/* The pages are not to be had through it. */
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd,
				   MAFC_OFF_SMALL));
	EXPECT_EQ(EINVAL, errno);
	close(fd);
	EXPECT_EQ(1, self->h.small[3 * PAGE]);
}

TEST_F(uapi, descriptor_closed)
{
	struct heap *h = &self->h;
	int fd;

	map_set(h->small_map, 0, 2);
	h->small[0] = 'a';
	close(h->fd);
	EXPECT_EQ('a', h->small[0]);
	h->small[PAGE] = 'b';
	h->fd = open("/dev/mafc", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, h->fd);
	EXPECT_EQ(0, heap_compact(h, MAFC_COMPACT_SHUFFLE, NULL));
	EXPECT_EQ('a', h->small[0]);
	EXPECT_EQ('b', h->small[PAGE]);
	fd = h->fd;
	close_range(3, ~0U, 0);
	EXPECT_EQ(-1, fcntl(fd, F_GETFD));
	EXPECT_EQ('b', h->small[PAGE]);
}

/* A touch of a page whose bit is clear is SIGBUS, of any other it works. */
TEST_F(uapi, page_maps)
{
	struct heap *h = &self->h;
	int p[2];

	EXPECT_EQ(SIGBUS, touch_signal(h->small, false));
	EXPECT_EQ(SIGBUS, touch_signal(h->small, true));
	EXPECT_EQ(SIGBUS, touch_signal(h->large, true));
	map_set(h->small_map, 5, 1);
	map_set(h->large_map, MAFC_REGION_ALIGN - 1, 1);
	EXPECT_EQ(SIGBUS, touch_signal(h->small + 4 * PAGE, true));
	EXPECT_EQ(SIGBUS, touch_signal(h->small + 6 * PAGE, true));
	EXPECT_EQ(0, touch_signal(h->small + 5 * PAGE, true));
	EXPECT_EQ(SIGBUS, touch_signal(h->large + 5 * PAGE, true));
	EXPECT_EQ(0, touch_signal(h->large + (MAFC_REGION_ALIGN - 1) * PAGE, true));
	EXPECT_EQ(SIGBUS, touch_signal(h->large + (MAFC_REGION_ALIGN - 2) * PAGE, true));
	/* In the kernel's own accesses it is EFAULT. */
	ASSERT_EQ(0, pipe(p));
	EXPECT_EQ(-1, write(p[1], h->small + 7 * PAGE, 1));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(1, write(p[1], h->small + 5 * PAGE, 1));
	EXPECT_EQ(-1, read(p[0], h->small + 7 * PAGE, 1));
	EXPECT_EQ(EFAULT, errno);
}

/* Fresh pages are zeros, in both regions and whichever page map bit. */
TEST_F(uapi, fresh_pages_are_zero)
{
	struct heap *h = &self->h;
	unsigned int i;

	map_set(h->small_map, 0, 200);
	map_set(h->large_map, 0, 200);
	for (i = 0; i < 200 * PAGE; i++)
		if (h->small[i] || h->large[i])
			break;
	EXPECT_EQ(200 * PAGE, i);
	for (i = 0; i < h->setup.meta_bytes; i += 64)
		if (h->meta[i] && (i < h->setup.small_map || i >= h->setup.spans))
			break;
	EXPECT_LE(h->setup.meta_bytes, i);
}

FIXTURE(device) { int fd; };

FIXTURE_SETUP(device)
{
	self->fd = open("/dev/mafc", O_RDWR | O_CLOEXEC);
	if (self->fd < 0 && errno == ENOENT)
		SKIP(return, "no /dev/mafc");
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(device) { close(self->fd); }

TEST_F(device, without_a_heap)
{
	unsigned int i;
	union any a;

	for (i = 2; i < CALLS; i++) {
		fill(&a, &calls[i]);
		EXPECT_EQ(ENODEV, call(self->fd, &calls[i], &a))
			TH_LOG("%s", calls[i].name);
	}
	fill(&a, &calls[0]);
	EXPECT_EQ(0, call(self->fd, &calls[0], &a));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, self->fd, 0));
	EXPECT_EQ(ENODEV, errno);
	EXPECT_EQ(-1, read(self->fd, &a, 8));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, write(self->fd, &a, 8));
	EXPECT_EQ(EINVAL, errno);
}

static int map_err(int fd, size_t length, int flags, off_t offset)
{
	void *p = mmap(NULL, length, PROT_READ | PROT_WRITE, flags, fd, offset);

	if (p == MAP_FAILED)
		return errno;
	munmap(p, length);
	return 0;
}

TEST_F(device, mappings)
{
	struct mafc_setup s = { .size = sizeof(s),
		.small_pages = MAFC_REGION_ALIGN,
		.large_pages = 2 * MAFC_REGION_ALIGN };
	const size_t small = s.small_pages * PAGE, large = s.large_pages * PAGE;
	int fd = self->fd;
	void *keep;

	ASSERT_EQ(0, ioctl(fd, MAFC_IOC_SETUP, &s));
	EXPECT_EQ(EINVAL, map_err(fd, PAGE, MAP_PRIVATE, 0));
	keep = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, keep);
	EXPECT_EQ(EINVAL, map_err(fd, PAGE, MAP_PRIVATE, MAFC_OFF_SMALL));
	EXPECT_EQ(EINVAL, map_err(fd, s.meta_bytes + PAGE, MAP_SHARED, 0));
	EXPECT_EQ(0, map_err(fd, s.meta_bytes, MAP_SHARED, 0));
	EXPECT_EQ(EINVAL, map_err(fd, PAGE, MAP_SHARED, s.meta_bytes));
	EXPECT_EQ(0, map_err(fd, small, MAP_SHARED, MAFC_OFF_SMALL));
	EXPECT_EQ(0, map_err(fd, PAGE, MAP_SHARED, MAFC_OFF_SMALL + small - PAGE));
	EXPECT_EQ(EINVAL, map_err(fd, small + PAGE, MAP_SHARED, MAFC_OFF_SMALL));
	EXPECT_EQ(EINVAL, map_err(fd, 2 * PAGE, MAP_SHARED,
				  MAFC_OFF_SMALL + small - PAGE));
	EXPECT_EQ(EINVAL, map_err(fd, PAGE, MAP_SHARED, MAFC_OFF_SMALL - PAGE));
	EXPECT_EQ(0, map_err(fd, large, MAP_SHARED, MAFC_OFF_LARGE));
	EXPECT_EQ(EINVAL, map_err(fd, PAGE, MAP_SHARED, MAFC_OFF_LARGE + large));
	EXPECT_EQ(EINVAL, map_err(fd, PAGE, MAP_SHARED, 3 * MAFC_OFF_SMALL));
	EXPECT_EQ(EINVAL, map_err(fd, PAGE, MAP_SHARED, 0x7ffffffff000ULL));

	/* With its last mapping the heap ends; then another may be made. */
	ASSERT_EQ(0, munmap(keep, PAGE));
	EXPECT_EQ(ENODEV, map_err(fd, PAGE, MAP_SHARED, 0));
	EXPECT_EQ(0, ioctl(fd, MAFC_IOC_SETUP, &s));
}

TEST_F(device, read_only)
{
	struct mafc_setup s = { .size = sizeof(s),
		.small_pages = MAFC_REGION_ALIGN,
		.large_pages = MAFC_REGION_ALIGN };
	int fd = open("/dev/mafc", O_RDONLY | O_CLOEXEC);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ioctl(fd, MAFC_IOC_SETUP, &s));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
				   MAP_SHARED, fd, 0));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0));
	EXPECT_EQ(EINVAL, errno);
	close(fd);
}

/* Set up and never mapped: gone with the file, and with the process. */
TEST_F(device, setup_without_mapping)
{
	struct mafc_setup s = { .size = sizeof(s),
		.small_pages = MAFC_REGION_ALIGN,
		.large_pages = MAFC_REGION_ALIGN };
	uint64_t heaps = counter("heaps");
	int i, fd;

	for (i = 0; i < 20; i++) {
		fd = open("/dev/mafc", O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, fd);
		ASSERT_EQ(0, ioctl(fd, MAFC_IOC_SETUP, &s));
		EXPECT_EQ(heaps + 1, counter("heaps"));
		close(fd);
		EXPECT_TRUE(WAIT_FOR(3000, counter("heaps") == heaps));
	}
}

TEST_HARNESS_MAIN
