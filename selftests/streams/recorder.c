// SPDX-License-Identifier: GPL-2.0-only
/*
 * recorder.c - preloaded: writes down each allocation and free, with where it was called from
 *
 * STREAM_DIR is the directory for the files, one a process, PROGRAM.PID; STREAM_LIMIT the number of
 * records after which a process is ended.  Blocks are glibc's.  A file is a shared mapping, so that
 * a program may end as it likes.  A free is written before it happens, an allocation after it: an
 * address is never handed out twice in the stream before it was freed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <unwind.h>

#include "stream.h"

#define EXPORT	__attribute__((visibility("default")))
#define CALLER	__builtin_return_address(0)
#define OWN_FRAMES	2	/* of this file, below its callers */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *p);

static struct stream_header *volatile stream;
static bool off = true;
static uint64_t limit;
static size_t (*usable)(void *p);
static unsigned int threads;
static __thread unsigned int thread;
static __thread bool inside;

static struct stream_header *stream_open(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct stream_header *h = NULL;
	char name[4096];
	size_t bytes = sizeof(*h) + limit * sizeof(struct stream_record);
	int fd;

	pthread_mutex_lock(&lock);
	if (stream || off)
		goto out;
	snprintf(name, sizeof(name), "%s/%s.%d", getenv("STREAM_DIR"),
		 program_invocation_short_name, (int)getpid());
	fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd >= 0 && !ftruncate(fd, bytes))
		h = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd >= 0)
		close(fd);
	if (h && h != MAP_FAILED) {
		h->magic = STREAM_MAGIC;
		h->limit = limit;
		stream = h;
	} else {
		off = true;
	}
out:
	pthread_mutex_unlock(&lock);
	return stream;
}

struct walk {
	unsigned int frames;
	uint64_t hash;
};

static uint64_t mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15ULL;
	return hash ^ hash >> 29;
}

static _Unwind_Reason_Code step(struct _Unwind_Context *context, void *arg)
{
	struct walk *w = arg;

	if (w->frames++ >= OWN_FRAMES)
		w->hash = mix(w->hash, _Unwind_GetIP(context));
	return w->frames < OWN_FRAMES + STREAM_FRAMES ? _URC_NO_REASON : _URC_END_OF_STACK;
}

static __attribute__((noinline)) void note(int what, void *p, size_t size, void *caller)
{
	struct stream_header *h = stream;
	struct walk w = { 0 };
	uint64_t at;

	if (off || !p || inside)
		return;
	inside = true;
	if (!h)
		h = stream_open();
	if (!h)
		goto out;
	if (!thread)
		thread = 1 + __atomic_fetch_add(&threads, 1, __ATOMIC_RELAXED) % 255;
	if (caller)
		_Unwind_Backtrace(step, &w);
	at = __atomic_fetch_add(&h->count, 1, __ATOMIC_RELAXED);
	if (at >= limit) {
		__atomic_store_n(&h->count, limit, __ATOMIC_RELAXED);
		_exit(0);
	}
	((struct stream_record *)(h + 1))[at] = (struct stream_record){
		.block = (uintptr_t)p | (uint64_t)thread << 48 | (uint64_t)what << 56,
		.size = size < UINT32_MAX ? size : UINT32_MAX,
		.ret = caller ? mix(1, (uintptr_t)caller) : 0,
		.depth = (uint32_t)(uintptr_t)__builtin_frame_address(0),
		.stack = w.hash ^ w.hash >> 32,
	};
out:
	inside = false;
}

/* The child's blocks go to a file of its own. */
static void forked(void)
{
	stream = NULL;
	inside = false;
}

static __attribute__((constructor)) void start(void)
{
	const char *s = getenv("STREAM_LIMIT");
	void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);

	usable = libc ? dlsym(libc, "malloc_usable_size") : NULL;
	limit = s ? strtoull(s, NULL, 10) : 1000000;
	pthread_atfork(NULL, NULL, forked);
	off = !getenv("STREAM_DIR");
}

EXPORT void *malloc(size_t size)
{
	void *p = __libc_malloc(size);

	note(STREAM_ALLOC, p, size, CALLER);
	return p;
}

EXPORT void *calloc(size_t n, size_t size)
{
	void *p = __libc_calloc(n, size);

	note(STREAM_ALLOC, p, n * size, CALLER);
	return p;
}

EXPORT void free(void *p)
{
	int saved = errno;

	note(STREAM_FREE, p, 0, NULL);
	__libc_free(p);
	errno = saved;
}

static void *resize(void *p, size_t size, void *caller)
{
	void *new;

	if (p)
		note(size ? STREAM_OLD : STREAM_FREE, p, 0, NULL);
	new = __libc_realloc(p, size);
	if (new)
		note(p ? STREAM_NEW : STREAM_ALLOC, new, size, caller);
	else if (size)
		note(STREAM_NEW, p, usable ? usable(p) : 0, caller);
	return new;
}

EXPORT void *realloc(void *p, size_t size)
{
	return resize(p, size, CALLER);
}

EXPORT void *reallocarray(void *p, size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes)) {
		errno = ENOMEM;
		return NULL;
	}
	return resize(p, bytes, CALLER);
}

static void *aligned(size_t align, size_t size, void *caller)
{
	void *p = __libc_memalign(align, size);

	note(STREAM_ALLOC, p, size > align ? size : align, caller);
	return p;
}

EXPORT void *memalign(size_t align, size_t size)
{
	return aligned(align, size, CALLER);
}

EXPORT void *aligned_alloc(size_t align, size_t size)
{
	return aligned(align, size, CALLER);
}

EXPORT int posix_memalign(void **p, size_t align, size_t size)
{
	void *new;

	if (align % sizeof(void *) || !align || align & (align - 1))
		return EINVAL;
	new = aligned(align, size, CALLER);
	if (!new)
		return ENOMEM;
	*p = new;
	return 0;
}

EXPORT void *valloc(size_t size)
{
	return aligned(4096, size, CALLER);
}

EXPORT void *pvalloc(size_t size)
{
	return aligned(4096, (size + 4095) & -4096UL, CALLER);
}

/* The program's own libjemalloc or the like knows nothing of these blocks. */
EXPORT size_t malloc_usable_size(void *p)
{
	return usable && p ? usable(p) : 0;
}
