// SPDX-License-Identifier: Apache-2.0
/*
 * os_device.c - the backend on /dev/mafc
 *
 * The descriptor is closed as soon as the regions are mapped: programs close
 * descriptors that they did not open, and reuse their numbers.  The rare ioctl
 * opens the device again, and does without where that is no longer possible
 * (chroot, seccomp, changed user).
 *
 * System calls are made by number: open() and close() of libc are cancellation
 * points, and a thread must not end in the middle of malloc.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "options.h"
#include "os.h"
#include "region.h"

#define DEVICE "/dev/mafc"

static int device_open(void)
{
	return syscall(SYS_openat, AT_FDCWD, DEVICE, O_RDWR | O_CLOEXEC);
}

static void device_close(int fd)
{
	int saved = errno;

	syscall(SYS_close, fd);
	errno = saved;
}

static bool device_ioctl(unsigned long request, void *arg)
{
	int saved = errno;
	int fd = device_open();
	bool ok = fd >= 0 && !ioctl(fd, request, arg);

	if (fd >= 0)
		device_close(fd);
	errno = saved;
	return ok;
}

static bool device_release(size_t off, size_t len)
{
	struct mafc_release arg = {
		.size = sizeof(arg), .offset = off, .length = len,
	};

	return device_ioctl(MAFC_IOC_RELEASE, &arg);
}

/* The kernel sees the cleared bits of the page map by itself. */
static void device_purge(size_t off, size_t len)
{
	(void)off, (void)len;
}

static bool device_remap(size_t from, size_t to, size_t len)
{
	struct mafc_remap arg = {
		.size = sizeof(arg), .from = from, .to = to, .length = len,
	};

	return device_ioctl(MAFC_IOC_REMAP, &arg);
}

static int device_fragmentation(void)
{
	struct mafc_stat arg = { .size = sizeof(arg) };

	return device_ioctl(MAFC_IOC_STAT, &arg) ?
	       (int)((arg.fragmentation + 50) / 100) : -1;
}

static const struct os device = {
	.compacts = true,
	.release_min = (size_t)8 << 20,
	.release = device_release,
	.purge = device_purge,
	.remap = device_remap,
	.fragmentation = device_fragmentation,
};

static void *device_map(int fd, void *at, size_t len, off_t offset)
{
	return mmap(at, len, PROT_READ | PROT_WRITE,
		    MAP_SHARED | (at ? MAP_FIXED : 0), fd, offset);
}

static bool map_region(int fd, enum reserve_id id, off_t offset)
{
	struct reserve *r = &reserves[id];

	r->usable = r->size;
	return device_map(fd, r->base, r->size, offset) != MAP_FAILED;
}

static bool map_all(int fd, const struct mafc_setup *setup)
{
	char *meta = device_map(fd, NULL, setup->meta_bytes, MAFC_OFF_META);
	size_t small_map = setup->small_pages / 8;
	size_t large_map = setup->large_pages / 8;
	size_t spans = setup->small_pages * sizeof(struct mafc_span);

	if (meta == MAP_FAILED)
		return false;
	heap.meta = (struct mafc_meta *)meta;
	reserves[RES_SMALL_MAP] = (struct reserve){
		meta + setup->small_map, small_map, small_map };
	reserves[RES_LARGE_MAP] = (struct reserve){
		meta + setup->large_map, large_map, large_map };
	reserves[RES_SPANS] = (struct reserve){
		meta + setup->spans, spans, spans };
	return map_region(fd, RES_SMALL, MAFC_OFF_SMALL) &&
	       map_region(fd, RES_LARGE, MAFC_OFF_LARGE);
}

/*
 * A heap cannot be set up twice, so all the address space that its mappings
 * need must be known to be there before.
 */
static bool room_for(const struct region_plan *plan)
{
	size_t meta = plan->small_pages * sizeof(struct mafc_span) +
		      ((size_t)plan->small_pages + plan->large_pages) / 8 +
		      16 * PAGE_SIZE;
	void *probe;

	if (!region_reserve(plan))
		return false;
	probe = mmap(NULL, meta, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (probe == MAP_FAILED) {
		region_unreserve();
		return false;
	}
	munmap(probe, meta);
	return true;
}

static bool device_plan(const struct mafc_info *info, struct region_plan *plan)
{
	region_plan_first(plan);
	do {
		plan->small_pages = MIN(plan->small_pages, info->region_max);
		plan->large_pages = MIN(plan->large_pages, info->region_max);
		plan->small_pages -= plan->small_pages % info->region_align;
		plan->large_pages -= plan->large_pages % info->region_align;
		if (!plan->small_pages || !plan->large_pages)
			break;
		if (room_for(plan))
			return true;
	} while (region_plan_smaller(plan));
	errno = ENOMEM;
	return false;
}

static bool device_setup(int fd)
{
	struct mafc_info info = { .size = sizeof(info) };
	struct mafc_setup setup = { .size = sizeof(setup) };
	struct region_plan plan;

	if (ioctl(fd, MAFC_IOC_INFO, &info))
		return false;
	if (info.abi_version != MAFC_ABI_VERSION ||
	    info.page_size != PAGE_SIZE || !info.region_align) {
		errno = EPROTO;
		return false;
	}
	if (!device_plan(&info, &plan))
		return false;
	setup.small_pages = plan.small_pages;
	setup.large_pages = plan.large_pages;
	if (ioctl(fd, MAFC_IOC_SETUP, &setup) || !map_all(fd, &setup)) {
		region_unreserve();
		return false;
	}
	return true;
}

static void device_policy(int fd)
{
	struct mafc_policy arg = {
		.size = sizeof(arg), .set = MAFC_POLICY_COMPACT,
	};

	if (!options.compact)
		ioctl(fd, MAFC_IOC_POLICY, &arg);
}

bool os_device_start(void)
{
	int fd = device_open();
	bool ok;

	if (fd < 0)
		return false;
	ok = device_setup(fd);
	if (ok) {
		device_policy(fd);
		heap.small_bytes = reserves[RES_SMALL].size;
		heap.large_bytes = reserves[RES_LARGE].size;
		heap.os = &device;
	}
	device_close(fd);
	return ok;
}
