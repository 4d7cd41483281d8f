// SPDX-License-Identifier: Apache-2.0
/* lock.c - the three-state mutex of U. Drepper, "Futexes Are Tricky": spin, then sleep */
#include "types.h"
#include <linux/futex.h>

/* Sections are a microsecond long; sleeping costs several. */
#define SPINS 200

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

void noinline lock_slow(struct lock *l)
{
	int saved = errno, i;

	for (i = 0; i < SPINS; i++) {
		cpu_relax();
		if (!load(&l->word) && lock_try(l))
			return;
	}
	while (__atomic_exchange_n(&l->word, 2, __ATOMIC_ACQUIRE))
		syscall(SYS_futex, &l->word, FUTEX_WAIT_PRIVATE, 2, NULL);
	errno = saved;
}

void noinline lock_wake(struct lock *l)
{
	int saved = errno;

	syscall(SYS_futex, &l->word, FUTEX_WAKE_PRIVATE, 1);
	errno = saved;
}
