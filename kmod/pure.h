/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * pure.h - what the pure cores need from their surroundings
 *
 * buddy, matcher and markov compile unchanged into the module, into KUnit and
 * into user-space tests.  This header gives them the same few names in each
 * place; whatever is not named here they must not use.
 */
#ifndef MAFC_PURE_H
#define MAFC_PURE_H

#ifdef __KERNEL__

#include <linux/bitops.h>
#include <linux/errno.h>
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/string.h>
#include <linux/types.h>

#else /* user space */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;

#define min_t(type, a, b) ({		\
	type _min_a = (a);		\
	type _min_b = (b);		\
	_min_a < _min_b ? _min_a : _min_b; })
#define max_t(type, a, b) ({		\
	type _max_a = (a);		\
	type _max_b = (b);		\
	_max_a > _max_b ? _max_a : _max_b; })

static inline unsigned int hweight32(u32 x)
{
	return __builtin_popcount(x);
}

static inline unsigned int hweight64(u64 x)
{
	return __builtin_popcountll(x);
}

/* Index of the lowest set bit; undefined for 0. */
static inline unsigned int __ffs64(u64 x)
{
	return __builtin_ctzll(x);
}

/* One more than the index of the highest set bit; 0 for 0. */
static inline int fls(u32 x)
{
	return x ? 32 - __builtin_clz(x) : 0;
}

static inline int fls64(u64 x)
{
	return x ? 64 - __builtin_clzll(x) : 0;
}

static inline u64 div64_u64(u64 dividend, u64 divisor)
{
	return dividend / divisor;
}

#endif /* __KERNEL__ */

#endif /* MAFC_PURE_H */
