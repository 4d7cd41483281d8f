/* SPDX-License-Identifier: Apache-2.0 */
/*
 * os.h - the operating system, as the allocator sees it
 *
 * Two backends: /dev/mafc (os_device.c) and anonymous memory (os_anon.c).  The
 * start function of a backend fills in &heap and the reserves (region.h).
 */
#ifndef MAFC_OS_H
#define MAFC_OS_H

#include "types.h"

/**
 * struct os - a backend
 * @compacts: the kernel drops free pages and clears page-map bits by itself
 * @release_min: free extents of so many bytes are released at once
 * @release: drop large pages, from offset @off; the next touch finds zeros.
 *	False when they may still hold their contents.
 * @purge: give the memory of free small pages back to the system
 * @remap: move pages to another place of the large region; false: cannot
 * @fragmentation: external fragmentation in per cent, -1 when not known
 */
struct os {
	bool compacts;
	size_t release_min;
	bool (*release)(size_t off, size_t len);
	void (*purge)(size_t off, size_t len);
	bool (*remap)(size_t from, size_t to, size_t len);
	int (*fragmentation)(void);
};

/* False, with errno set: there is no usable device. */
bool os_device_start(void);
bool os_anon_start(void);

#endif
