// SPDX-License-Identifier: Apache-2.0
/*
 * os_device.c - the backend on /dev/mafc
 * The device is closed once the regions are mapped, as programs close what they did not open.  The
 * rare ioctl opens it again, and does without where that fails.  System calls are made by number:
 * those of libc are cancellation points.
 */
#include "os.h"
#include "program.h"
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

static int device_open(void)
{
	return syscall(SYS_openat, AT_FDCWD, "/dev/mafc", O_RDWR | O_CLOEXEC);
}

static bool device_ioctl(unsigned long request, void *arg)
{
	int saved = errno, fd = device_open();
	bool ok = fd >= 0 && !ioctl(fd, request, arg);

	if (fd >= 0)
		syscall(SYS_close, fd);
	errno = saved;
	return ok;
}

static bool device_release(void *at, size_t len)
{
	struct mafc_release arg = { .size = sizeof(arg), .length = len };

	arg.offset = (uintptr_t)at - heap.large;
	return device_ioctl(MAFC_IOC_RELEASE, &arg);
}

static bool device_remap(size_t from, size_t to, size_t len)
{
	struct mafc_remap arg = { .size = sizeof(arg), .from = from, .to = to, .length = len };

	return device_ioctl(MAFC_IOC_REMAP, &arg);
}

static int device_fragmentation(void)
{
	struct mafc_stat arg = { .size = sizeof(arg) };

	return device_ioctl(MAFC_IOC_STAT, &arg) ? (int)((arg.fragmentation + 50) / 100) : -1;
}

static const struct os device = {
	.compacts = true,
	.release_min = (size_t)8 << 20,
	.release = device_release,
	.remap = device_remap,
	.fragmentation = device_fragmentation,
};

static char *device_map(int fd, void *at, size_t len, off_t offset)
{
	return mmap(at, len, PROT_READ | PROT_WRITE, MAP_SHARED | (at ? MAP_FIXED : 0), fd, offset);
}

static bool map_all(int fd, const struct mafc_setup *setup)
{
	struct reserve *r = reserves;
	enum reserve_id id;
	char *meta;

	region_drop_meta();
	meta = device_map(fd, NULL, setup->meta_bytes, MAFC_OFF_META);
	if (meta == MAP_FAILED)
		return false;
	heap.meta = (struct mafc_meta *)meta;
	r[RES_SMALL_MAP].base = meta + setup->small_map;
	r[RES_LARGE_MAP].base = meta + setup->large_map;
	r[RES_SPANS].base = meta + setup->spans;
	for (id = 0; id < RES_COUNT; id++)
		if (id <= RES_SPANS || id >= RES_SMALL)
			r[id].usable = r[id].size;
	return device_map(fd, r[RES_SMALL].base, r[RES_SMALL].size, MAFC_OFF_SMALL) != MAP_FAILED &&
	       device_map(fd, r[RES_LARGE].base, r[RES_LARGE].size, MAFC_OFF_LARGE) != MAP_FAILED;
}

static bool device_setup(int fd)
{
	struct mafc_policy policy = { .size = sizeof(policy), .set = MAFC_POLICY_COMPACT };
	struct mafc_setup setup = { .size = sizeof(setup) };
	struct mafc_info info = { .size = sizeof(info) };

	if (ioctl(fd, MAFC_IOC_INFO, &info))
		return false;
	if (info.abi_version != MAFC_ABI_VERSION || info.page_size != PAGE_SIZE ||
	    !info.region_align) {
		errno = EPROTO;
		return false;
	}
	/* A heap cannot be set up twice: all address space must be known to be there before. */
	if (!region_reserve(info.region_max, info.region_align))
		return false;
	setup.small_pages = reserves[RES_SMALL].size >> PAGE_SHIFT;
	setup.large_pages = reserves[RES_LARGE].size >> PAGE_SHIFT;
	if (ioctl(fd, MAFC_IOC_SETUP, &setup) || !map_all(fd, &setup)) {
		region_unreserve();
		return false;
	}
	if (!options.compact)
		ioctl(fd, MAFC_IOC_POLICY, &policy);
	heap.os = &device;
	return true;
}

bool os_device_start(void)
{
	int fd = device_open(), why;
	bool ok;

	if (fd < 0)
		return false;
	ok = device_setup(fd);
	why = errno;
	syscall(SYS_close, fd);
	errno = why;
	return ok;
}
