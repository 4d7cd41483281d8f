/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * drop.pml - a page without live blocks goes while two threads allocate in it
 *
 * Each thread has a block of its own in the page.  With PIN, somebody pins the
 * page whether it holds blocks or not.  With FORK the second thread forks, and
 * goes on as the child.  With RELEASE the page is dropped whatever it holds, in
 * a process that has forked before.
 */
#ifdef FORK
#define HEAPS	2
#define DROPS	1
#define OWN_FRAMES
#define fork_meta	bitmap[1] = bitmap[0]
#else
#define HEAPS	1
#define DROPS	2
#endif
#define SLOTS	1
#define WORDS	2
#ifdef FORK
#define FRAMES	8
#else
#define FRAMES	6
#endif
#ifdef PIN
byte pinned;
#endif
byte bitmap[2];		/* the span's, in the meta region of each heap */

#include "heap.pml"

/*
 * span_claim() and what the program does then.  Until the TLBs are flushed, a
 * thread may still write to meta pages that fork has made the child's as well.
 */
inline set_bit(h, b)
{
	atomic {
		bitmap[h] = bitmap[h] | (1 << b);
#ifdef FORK
		if
		:: h == 0 && vma_write[0] && leaf_of[1] != LEAVES ->
			bitmap[1] = bitmap[1] | (1 << b)
		:: else
		fi
#endif
	}
}

inline clear_bit(h, b)
{
	atomic {
		bitmap[h] = bitmap[h] & ~(1 << b);
#ifdef FORK
		if
		:: h == 0 && vma_write[0] && leaf_of[1] != LEAVES ->
			bitmap[1] = bitmap[1] & ~(1 << b)
		:: else
		fi
#endif
	}
}

#ifdef RELEASE
/* release_some() with one page */
inline drop(h)
{
	atomic { !motion[h] -> motion[h] = true };
	if
	:: entry[E(0, 0)] ->
		old = entry[E(0, 0)];
		motion_mark(0, old, ring);
#ifndef NO_WRITER_WAIT
		!page_lock[old];
#endif
		zap(0);
		atomic { motion_end(0, 0); frame_put(old, 1); old = 0; ring = 0 }
	:: else
	fi;
	motion[h] = false
}
#define kept(x)	skip
#else
#define kept(x)	assert(x)

/* mafc_drop_flush() with one page */
inline drop(h)
{
	atomic { !motion[h] -> motion[h] = true };
	if
	:: exclusive(h, 0) && !bitmap[h] ->
		atomic {
			l = leaf_of[h];
			old = entry[E(l, 0)]
		};
		zap(0);
		motion_mark(l, old, ring);
#ifdef LOOK_BEFORE_FREEZE
		err = bitmap[h] != 0;
		if
		:: !err -> freeze(old)
		:: else
		fi;
#else
		freeze(old);
#ifndef NO_SECOND_LOOK
		if
		:: !err && bitmap[h] -> unfreeze(old); err = true
		:: else
		fi;
#endif
#endif
		if
		:: err -> motion_end(l, old)
		:: else ->
			motion_end(l, 0);
			unfreeze(old);
			frame_put(old, 1)
		fi;
		d_step { err = false; old = 0; ring = 0; l = 0 }
	:: else
	fi;
	motion[h] = false
}
#endif

#ifndef STORE_BEFORE_CLAIM
#define alloc_write(h, b, v) \
	set_bit(h, b); \
	access(h, 0, 1, data[W(seen, b)] = v)
#else
#define alloc_write(h, b, v) \
	access(h, 0, 1, data[W(seen, b)] = v); \
	set_bit(h, b)
#endif

proctype first()
{
	TASK;

	alloc_write(0, 0, 1);
	access(0, 0, 0, kept(data[W(seen, 0)] == 1));
	clear_bit(0, 0);
	alloc_write(0, 0, 2);
	done++
}

proctype second()
{
	TASK;
#ifdef FORK
	alloc_write(0, 1, 1);
	do_fork();
	clear_bit(0, 1);	/* the parent frees the block, the child does not */
	access(1, 0, 1, assert(data[W(seen, 1)] == 1); data[W(seen, 1)] = 9);
	access(1, 0, 0, assert(data[W(seen, 1)] == 9));
#else
	alloc_write(0, 1, 1);
#endif
	done++
}

proctype compactor()
{
	TASK;
	byte i;
	do
	:: i < DROPS ->
		if
		:: drop(0)
#ifdef FORK
		:: leaf_of[1] != LEAVES -> drop(1)
#endif
		fi;
		i++
	:: else -> break
	od;
	done++
}

#ifdef PIN
proctype pinner()
{
	TASK;

	gup(0, 0, 0, ref[seen]++; pinned = seen);
	atomic { ref[pinned]--; pinned = 0 }
	done++
}
#define TASKS	4
#define PIN_WRONG	|| (pinned && entry[E(leaf_of[0], 0)] != pinned)
#else
#define TASKS	3
#define PIN_WRONG
#endif
#ifdef FORK
#define FORK_WRONG	|| (leaf_of[1] != LEAVES && pte_wrong(1, 0))
#else
#define FORK_WRONG
#endif

active proctype monitor()
{
	if
	:: atomic {
		pte_wrong(0, 0) FORK_WRONG PIN_WRONG -> assert(false)
	   }
	:: atomic {
		done == TASKS ->
		kept(data[W(entry[E(leaf_of[0], 0)], 0)] == 2);
#ifdef FORK
		assert(data[W(entry[E(leaf_of[1], 0)], 1)] == 9)
#else
		kept(data[W(entry[E(leaf_of[0], 0)], 1)] == 1)
#endif
	   }
	fi
}

init {
	byte f;
	d_step {
		do
		:: f < FRAMES -> f++; ref[f] = 1
		:: else -> break
		od;
		f = 0;
		used[1] = true;
		owners[1] = 1;
		entry[0] = 1;
		users[0] = 1;
#ifdef RELEASE
		cow[0] = true;
#endif
		leaves = 1
#ifdef FORK
		; leaf_of[1] = LEAVES
#endif
	};
	atomic {
		run first();
		run second();
		run compactor();
#ifdef PIN
		run pinner()
#endif
	}
}
