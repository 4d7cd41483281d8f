/* SPDX-License-Identifier: GPL-2.0-only */
/* pure_user.h - what kmod/pure.h takes from the kernel, for user space */
#ifndef MAFC_PURE_USER_H
#define MAFC_PURE_USER_H

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

#endif /* MAFC_PURE_USER_H */
