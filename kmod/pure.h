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

#include "pure_user.h"	/* with the tests: selftests/host */

#endif /* __KERNEL__ */

#endif /* MAFC_PURE_H */
