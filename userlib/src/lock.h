/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lock.h - a mutex of one word
 *
 * pthread_mutex_t would do, but not in the child of a fork: there the locks are
 * simply set to 0, whoever held them in the parent.  A process without a second
 * thread does without atomic instructions, which take most of an empty section.
 */
#ifndef MAFC_LOCK_H
#define MAFC_LOCK_H

#include <sys/single_threaded.h>

#include "types.h"

/* 0 free, 1 held, 2 held and somebody may be asleep on it */
struct lock {
	uint32_t word;
};

void lock_slow(struct lock *l);
void lock_wake(struct lock *l);

static inline bool lock_try(struct lock *l)
{
	uint32_t free = 0;

	if (__libc_single_threaded)
		return !l->word && (l->word = 1);
	return __atomic_compare_exchange_n(&l->word, &free, 1, false,
					   __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static inline void lock_take(struct lock *l)
{
	if (unlikely(!lock_try(l)))
		lock_slow(l);
}

static inline void lock_drop(struct lock *l)
{
	if (__libc_single_threaded)
		l->word = 0;
	else if (unlikely(__atomic_exchange_n(&l->word, 0, __ATOMIC_RELEASE) == 2))
		lock_wake(l);
}

/* In the child of a fork: the threads that may have waited do not exist. */
static inline void lock_reset(struct lock *l)
{
	store(&l->word, 0);
}

#endif
