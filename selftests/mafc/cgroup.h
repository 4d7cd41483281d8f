/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * cgroup.h - a memory cgroup for a test
 */
#ifndef MAFC_SELFTEST_CGROUP_H
#define MAFC_SELFTEST_CGROUP_H

#include "test.h"

struct cgroup { char path[96]; };

static inline void cgroup_file(const struct cgroup *cg, const char *name,
			       char path[160])
{
	snprintf(path, 160, "%s/%s", cg->path, name);
}

static inline int cgroup_set(const struct cgroup *cg, const char *name,
			     const char *value)
{
	char path[160];

	cgroup_file(cg, name, path);
	return file_write(path, value);
}

static inline uint64_t cgroup_get(const struct cgroup *cg, const char *name)
{
	char path[160];

	cgroup_file(cg, name, path);
	return file_u64(path);
}

static inline uint64_t cgroup_key(const struct cgroup *cg, const char *name,
				  const char *key)
{
	char path[160];

	cgroup_file(cg, name, path);
	return file_key(path, key);
}

/* Returns 0 or an errno value: there may be no cgroup v2, or not for us. */
static inline int cgroup_make(struct cgroup *cg, const char *name)
{
	int err = file_write(CGROUP "cgroup.subtree_control", "+memory");

	if (err)
		return err;
	snprintf(cg->path, sizeof(cg->path), CGROUP "mafc-%s-%d", name, getpid());
	if (mkdir(cg->path, 0755))
		return errno;
	return 0;
}

static inline int cgroup_enter(const struct cgroup *cg)
{
	return cgroup_set(cg, "cgroup.procs", "0");
}

/* What the kernel holds for the group: the heap's pages are among it. */
static inline uint64_t cgroup_kernel_bytes(const struct cgroup *cg)
{
	return cgroup_key(cg, "memory.stat", "kernel");
}

static inline void cgroup_remove(struct cgroup *cg)
{
	cgroup_set(cg, "cgroup.kill", "1");
	WAIT_FOR(5000, !rmdir(cg->path) || errno != EBUSY);
}

#endif /* MAFC_SELFTEST_CGROUP_H */
