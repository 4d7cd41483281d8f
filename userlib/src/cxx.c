// SPDX-License-Identifier: Apache-2.0
/*
 * cxx.c - operator new and delete, by their mangled names
 * Built with -fexceptions, as bad_alloc passes through.  The C++ library is not linked, and may be
 * loaded later, out of our sight.  A program that has none, but brings the operators, is ended.
 * The nothrow forms of new are the C++ library's: they call these, and catch; C cannot.
 */
#include "program.h"
#include <dlfcn.h>
#include <stdlib.h>

#ifndef MAFC_PREFIX

typedef void (*new_handler)(void);

extern void throw_bad_alloc(void) __asm__("_ZSt17__throw_bad_allocv") __attribute__((weak));
extern new_handler get_new_handler(void) __asm__("_ZSt15get_new_handlerv") __attribute__((weak));
#pragma weak dlopen	/* not in libmafc.a: static programs have none */

static void *find(void *linked, const char *name)
{
	void *lib = linked || !dlopen ? NULL : dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_NOLOAD);

	return lib ? dlsym(lib, name) : linked;
}

static void *try_once(size_t size, size_t align)
{
	return align ? alloc_aligned(align, size) : malloc(size);
}

/* Ask the handler to find memory, as long as there is one. */
static void noinline *new_slow(size_t size, size_t align)
{
	new_handler (*get)(void) = find(get_new_handler, "_ZSt15get_new_handlerv");
	void (*fail)(void) = find(throw_bad_alloc, "_ZSt17__throw_bad_allocv");
	new_handler handler;
	void *p;

	do {
		handler = get ? get() : NULL;
		(handler ? handler : fail ? fail : abort)();
		p = try_once(size, align);
	} while (!p);
	return p;
}

static inline void *new(size_t size, size_t align)
{
	void *p = try_once(size, align);

	return likely(p) ? p : new_slow(size, align);
}

#define NEW(name, args, size, align) \
	MAFC_EXPORT void *name args { return new(size, align); }
/* The sized and aligned forms need no second look: pages know their class. */
#define DELETE(name, ...) \
	MAFC_EXPORT void name(void *p, ##__VA_ARGS__) { free(p); }

NEW(_Znwm, (size_t n), n, 0)
NEW(_Znam, (size_t n), n, 0)
NEW(_ZnwmSt11align_val_t, (size_t n, size_t a), n, a)
NEW(_ZnamSt11align_val_t, (size_t n, size_t a), n, a)
DELETE(_ZdlPv)
DELETE(_ZdaPv)
DELETE(_ZdlPvm, size_t n UNUSED)
DELETE(_ZdaPvm, size_t n UNUSED)
DELETE(_ZdlPvRKSt9nothrow_t, const void *t UNUSED)
DELETE(_ZdaPvRKSt9nothrow_t, const void *t UNUSED)
DELETE(_ZdlPvSt11align_val_t, size_t a UNUSED)
DELETE(_ZdaPvSt11align_val_t, size_t a UNUSED)
DELETE(_ZdlPvmSt11align_val_t, size_t n UNUSED, size_t a UNUSED)
DELETE(_ZdaPvmSt11align_val_t, size_t n UNUSED, size_t a UNUSED)
DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, size_t a UNUSED, const void *t UNUSED)
DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, size_t a UNUSED, const void *t UNUSED)

#endif
