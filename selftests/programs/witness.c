// SPDX-License-Identifier: GPL-2.0-only
/*
 * witness - preloaded beside libmafc.so, notes where a process's heap really lies
 *
 * Appends "COMMAND device|library|other" to the file $MAFC_WITNESS as each program starts: a block of its
 * heap lies in a mapping of /dev/mafc; or malloc is M-AFC's, but its memory is not the device's; or
 * neither. A library that could not be preloaded, or that quietly did without the device, thus cannot
 * pass for a good result.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Copies the path of the mapping around @addr; an empty string where it has none. */
static void mapping_of(const void *addr, char *path, size_t size)
{
	unsigned long at = (unsigned long)addr, start, end;
	char line[4352], *name;
	FILE *maps = fopen("/proc/self/maps", "re");

	*path = '\0';
	if (!maps)
		return;
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx", &start, &end) != 2 || at < start || at >= end)
			continue;
		name = strchr(line, '/');
		if (name)
			snprintf(path, size, "%.*s", (int)strcspn(name, "\n"), name);
		break;
	}
	fclose(maps);
}

__attribute__((constructor)) static void witness(void)
{
	const char *file = getenv("MAFC_WITNESS");
	/* Not malloc itself: an executable at a fixed address may have its address stand for an own stub. */
	size_t (*volatile usable)(void *) = malloc_usable_size;
	char heap[4096], code[4096], line[64];
	void *block;
	int fd, len;

	if (!file)
		return;
	fd = open(file, O_WRONLY | O_APPEND | O_CLOEXEC);
	if (fd < 0)
		return;
	block = malloc(100);
	mapping_of(block, heap, sizeof(heap));
	mapping_of((void *)usable, code, sizeof(code));
	free(block);
	len = snprintf(line, sizeof(line), "%s %s\n", program_invocation_short_name,
		       !strcmp(heap, "/dev/mafc") ? "device" : strstr(code, "/libmafc.so") ? "library" : "other");
	if (write(fd, line, (size_t)len) != len)
		abort();
	close(fd);
}
