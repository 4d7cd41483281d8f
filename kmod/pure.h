/* SPDX-License-Identifier: GPL-2.0-only */
/* pure.h - what the pure cores use of their surroundings: module, KUnit, user-space tests */
#ifndef MAFC_PURE_H
#define MAFC_PURE_H
#ifdef __KERNEL__
#include <linux/bitops.h>
#include <linux/errno.h>
#include <linux/math64.h>
#include <linux/minmax.h>
#include <linux/string.h>
#include <linux/types.h>
#else
#include "pure_user.h"	/* with the tests: selftests/host */
#endif /* __KERNEL__ */
#endif /* MAFC_PURE_H */
