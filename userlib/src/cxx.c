// SPDX-License-Identifier: Apache-2.0
/*
 * cxx.c - operator new and delete, by their mangled names
 *
 * Built with -fexceptions: bad_alloc passes through these frames.  The C++
 * library is not linked; a program in C may load it later, with a module, out of
 * our sight.  A program that has none, but brings the operators, is ended.
 *
 * The nothrow forms of new are left to the C++ library: they call the others
 * and catch what these, or a new_handler, may throw.  C cannot.
 */
#include <dlfcn.h>
#include <stdlib.h>

#include "malloc.h"

#ifndef MAFC_PREFIX

typedef void (*new_handler)(void);

extern void throw_bad_alloc(void)
	__asm__("_ZSt17__throw_bad_allocv") __attribute__((weak));
extern new_handler get_new_handler(void)
	__asm__("_ZSt15get_new_handlerv") __attribute__((weak));
#pragma weak dlopen	/* not in libmafc.a: static programs have none */

static void *find(void *linked, const char *name)
{
	void *lib = linked || !dlopen ? NULL :
		    dlopen("libstdc++.so.6", RTLD_LAZY | RTLD_NOLOAD);

	return lib ? dlsym(lib, name) : linked;
}

static void *try_once(size_t size, size_t align)
{
	return align ? alloc_aligned(align, size) : API(malloc)(size);
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

#define NEW(name, args, size, align)					\
	MAFC_EXPORT void *name args;					\
	void *name args { return new(size, align); }

#define DELETE(name, args)						\
	MAFC_EXPORT void name args;					\
	void name args { API(free)(p); }

/* The sized and aligned forms need no second look: pages know their class. */
#define UNUSED __attribute__((unused))

NEW(_Znwm, (size_t n), n, 0)
NEW(_Znam, (size_t n), n, 0)
NEW(_ZnwmSt11align_val_t, (size_t n, size_t a), n, a)
NEW(_ZnamSt11align_val_t, (size_t n, size_t a), n, a)

DELETE(_ZdlPv, (void *p))
DELETE(_ZdaPv, (void *p))
DELETE(_ZdlPvm, (void *p, size_t n UNUSED))
DELETE(_ZdaPvm, (void *p, size_t n UNUSED))
DELETE(_ZdlPvRKSt9nothrow_t, (void *p, const void *t UNUSED))
DELETE(_ZdaPvRKSt9nothrow_t, (void *p, const void *t UNUSED))
DELETE(_ZdlPvSt11align_val_t, (void *p, size_t a UNUSED))
DELETE(_ZdaPvSt11align_val_t, (void *p, size_t a UNUSED))
DELETE(_ZdlPvmSt11align_val_t, (void *p, size_t n UNUSED, size_t a UNUSED))
DELETE(_ZdaPvmSt11align_val_t, (void *p, size_t n UNUSED, size_t a UNUSED))
DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t,
       (void *p, size_t a UNUSED, const void *t UNUSED))
DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t,
       (void *p, size_t a UNUSED, const void *t UNUSED))

#endif
