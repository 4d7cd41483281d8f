/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * move.pml - a frame moves under two threads that write
 *
 * Each thread has a word of its own in the page.  With PIN, a third one does
 * direct I/O.  With FORK the second one forks, and goes on as the child; with
 * both, it is the first that does direct I/O.  FORKED: the page is shared with
 * an earlier child at first, which does nothing.
 */
#ifdef FORK
#define HEAPS	2
#else
#define HEAPS	1
#endif
#define SLOTS	1
#ifdef PIN
#define WORDS	3
byte pinned;
#else
#define WORDS	2
#endif
/* Less of everything where there are more tasks. */
#ifdef FORK
#define MOVES	1
#ifdef FORKED
#define FRAMES	9
#endif
#define OWN_FRAMES
#define fork_meta	skip
#else
#define MOVES	2
#endif

#ifndef FRAMES
#define FRAMES	6
#endif
#include "heap.pml"

/* mafc_relocate() */
inline relocate(h)
{
	lock_motion(h);
	if
	:: exclusive(h, 0) ->
		d_step {
			l = leaf_of[h];
			old = entry[E(l, 0)]
		};
		zap(0);
		motion_mark(l, old, ring);
		freeze(old);
		if
		:: err -> moving[E(l, 0)] = false
		:: else ->
#ifdef PUBLISH_BEFORE_COPY
			d_step { entry[E(l, 0)] = n; moving[E(l, 0)] = false; owners[n] = 1 };
			copy_page(n, old);
#else
			copy_page(n, old);
			d_step { entry[E(l, 0)] = n; moving[E(l, 0)] = false; owners[n] = 1 };
#endif
			unfreeze(old);
			frame_put(old, 1);
			n = 0
		fi;
		d_step { err = false; old = 0; ring = 0 }
	:: else
	fi;
	unlock_motion(h)
}

proctype writer_twice()
{
	TASK;
#ifndef FORKED
	access(0, 0, 1, data[W(seen, 0)] = 1);
	access(0, 0, 0, assert(data[W(seen, 0)] == 1));
#endif
	access(0, 0, 1, data[W(seen, 0)] = 2);
	done++
}

proctype reader_then_writer()
{
	TASK;
	access(0, 0, 0, skip);
	access(0, 0, 1, data[W(seen, 1)] = 1);
	done++
}

proctype compactor()
{
	TASK;
	byte i;
	do
	:: i < MOVES ->
		if
		:: relocate(0)
#ifdef FORK
		:: leaf_of[1] != LEAVES -> relocate(1)
#endif
		fi;
		i++
	:: else -> break
	od;
	done++
}

#ifdef FORK
proctype forker()
{
	TASK;
	byte was;

	access(0, 0, 1, data[W(seen, 1)] = 1);
	do_fork();
	/* From here on it is the child. */
	was = data[W(entry[E(leaf_of[1], 0)], 0)];
	access(1, 0, 1, assert(data[W(seen, 0)] == was); data[W(seen, 1)] = 9);
	access(1, 0, 0, assert(data[W(seen, 0)] == was && data[W(seen, 1)] == 9));
	done++
}
#endif

#ifdef PIN
proctype direct_io()
{
	TASK;

	gup(0, 0, 1, ref[seen]++; pinned = seen);
#ifdef FORK
	access(0, 0, 1, data[W(seen, 0)] = 2);
#endif
	data[W(pinned, 2)] = 1;
	atomic { ref[pinned]--; pinned = 0 }
	access(0, 0, 0, assert(data[W(seen, 2)] == 1));
	done++
}
#endif

#if defined(PIN) && !defined(FORK)
#define TASKS	4
#else
#define TASKS	3
#endif

#define wrong	(pte_wrong(0, 0) FORK_WRONG PIN_WRONG)
#ifdef FORK
#define FORK_WRONG	|| (leaf_of[1] != LEAVES && pte_wrong(1, 0))
#else
#define FORK_WRONG
#endif
#ifdef PIN
#define PIN_WRONG	|| (pinned && entry[E(leaf_of[0], 0)] != pinned)
#else
#define PIN_WRONG
#endif

active proctype monitor()
{
	if
	:: atomic { wrong -> assert(false) }
	:: atomic {
		done == TASKS ->
#if !defined(FORK) || !defined(PIN)
		assert(data[W(entry[E(leaf_of[0], 0)], 0)] == 2);
#endif
		assert(data[W(entry[E(leaf_of[0], 0)], 1)] == 1)
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
		leaves = 1
#ifdef FORKED
		; owners[1] = 2; cow[0] = true
#endif
#ifdef FORK
		; leaf_of[1] = LEAVES
#endif
	};
	atomic {
#ifdef FORK
		run forker();
#ifdef PIN
		run direct_io();
#else
		run writer_twice();
#endif
#else
		run writer_twice();
		run reader_then_writer();
#ifdef PIN
		run direct_io();
#endif
#endif
		run compactor()
	}
}
