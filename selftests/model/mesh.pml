/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * mesh.pml - spans are meshed while two threads allocate, write and free
 *
 * Spans 0, 1 and 2 have a page of three blocks each.  The first thread has a
 * block in span 0, the second in span 1.  Span 0 is meshed into span 1, and the
 * result into span 2, which holds a block that nobody touches.  With PIN, the
 * second thread is somebody who pins span 0's page.  With FORK there are two
 * spans only, and the second thread forks and goes on as the child.
 */
#ifdef FORK
#define HEAPS	2
#define SLOTS	2
#define OWN_FRAMES
#define fork_meta \
	bitmap[2] = bitmap[0]; bitmap[3] = bitmap[1]; \
	canonical[2] = canonical[0]; canonical[3] = canonical[1]; \
	state[2] = state[0]; state[3] = state[1]
#else
#define HEAPS	1
#define SLOTS	3
#endif
#define WORDS	3
#define FRAMES	(6 + SLOTS)
#ifdef PIN
byte pinned;
#endif

#define ATTACHED	0
#define IDLE		1
#define BUSY		2
#define MESHED		3

/* The descriptors, in the meta region of each heap. */
byte bitmap[HEAPS * SLOTS];
byte canonical[HEAPS * SLOTS];
byte state[HEAPS * SLOTS];

#include "heap.pml"

#ifdef FORK
#define forking(h)	(h == 0 && vma_write[0] && leaf_of[1] != LEAVES)
#else
#define forking(h)	false
#endif

/* span_root() */
inline find_root(h, s, root)
{
	root = s;
	do
	:: atomic { canonical[P(h, root)] != root -> root = canonical[P(h, root)] }
	:: atomic { canonical[P(h, root)] == root -> break }
	od
}

/* Clears a bit; was it set?  Until the TLBs are flushed, in the child as well. */
inline fetch_and_clear(h, s, b, was)
{
	atomic {
		was = (bitmap[P(h, s)] >> b) & 1;
		bitmap[P(h, s)] = bitmap[P(h, s)] & ~(1 << b);
#ifdef FORK
		if
		:: forking(h) -> bitmap[P(1, s)] = bitmap[P(1, s)] & ~(1 << b)
		:: else
		fi
#endif
	}
}

/* span_clear(): nobody here frees twice, so nobody must be told that he did. */
inline free_block(h, s, b)
{
	find_root(h, s, root);
	do
	:: true ->
		fetch_and_clear(h, root, b, was);
		if
		:: was -> break
		:: else ->
			find_root(h, s, now);
			assert(now != root);
			root = now
		fi
	od;
	atomic { root = 0; now = 0; was = 0 }
}

/* central_take() of one block, if span @s can be had; @b is 3 if not. */
inline alloc_block(h, s, b)
{
	b = 3;
	if
#ifndef NO_STATE_CHECK
	:: atomic { state[P(h, s)] == IDLE -> state[P(h, s)] = ATTACHED }
#else
	:: true
#endif
		atomic {	/* which place does not matter */
			if
			:: !(bitmap[P(h, s)] & 1) -> b = 0
			:: else ->
				if
				:: !(bitmap[P(h, s)] & 2) -> b = 1
				:: else ->
					if
					:: !(bitmap[P(h, s)] & 4) -> b = 2
					:: else
					fi
				fi
			fi
		};
		if
		:: b < 3 ->	/* __atomic_fetch_or() */
			atomic {
				if
				:: bitmap[P(h, s)] & (1 << b) -> b = 3
				:: else -> bitmap[P(h, s)] = bitmap[P(h, s)] | (1 << b)
				fi
			}
		:: else
		fi;
#ifndef NO_STATE_CHECK
		state[P(h, s)] = IDLE
#endif
	:: else
	fi
}

/* Steps 2 to 5 of kmod/mesh.c; @bits and @live are masks of blocks. */
inline mesh_do(h, d, s)
{
	atomic {
		bits = bitmap[P(h, s)]
	};
	atomic {
		live = bitmap[P(h, d)] & bits;
		bitmap[P(h, d)] = bitmap[P(h, d)] | bits
	};
#ifdef NO_CONFLICT_CHECK
	live = 0;
#endif
	if
	:: live ->
		bitmap[P(h, d)] = bitmap[P(h, d)] & ~(bits & ~live);
		err = true
	:: else ->
		atomic {
			l = leaf_of[h];
			old = entry[E(l, s)]
		};
		zap_ring(l, old);
		motion_mark(l, old, ring);
		freeze(old);
		if
		:: err ->
			motion_end(l, old);
#ifndef NO_UNMERGE
			bitmap[P(h, d)] = bitmap[P(h, d)] & ~bits
#endif
		:: else ->
#ifndef CANONICAL_AFTER_EXCHANGE
			canonical[P(h, s)] = d;
#endif
			atomic { live = bitmap[P(h, s)] & bits; bitmap[P(h, s)] = 0 };
#ifdef CANONICAL_AFTER_EXCHANGE
			canonical[P(h, s)] = d;
#endif
#ifndef NO_CLEAR_VANISHED
			bitmap[P(h, d)] = bitmap[P(h, d)] & ~(bits & ~live);
#endif
			if	/* what had been meshed into @s before */
#ifndef FORK
			:: s == 1 && moving[E(l, 0)] -> canonical[P(h, 0)] = d
#endif
			:: else
			fi;
			copy_block(d, 0);
			copy_block(d, 1);
			copy_block(d, 2);
			atomic {
				owners[entry[E(l, d)]] = owners[entry[E(l, d)]] + ring;
				motion_end(l, entry[E(l, d)]);
				meshed[E(l, d)] = true;
				meshed[E(l, s)] = true;
				unfreeze(old);
				frame_put(old, ring)
			}
		fi
	fi;
	d_step { bits = 0; live = 0; old = 0; ring = 0; l = 0 }
}

inline copy_block(d, b)
{
	if
	:: live & (1 << b) ->
		data[W(entry[E(l, d)], b)] = data[W(old, b)]
	:: else
	fi
}

#define is_root(h, s)	(canonical[P(h, s)] == s)

/* mafc_mesh() */
inline mesh(h, d, s)
{
	atomic { !motion[h] -> motion[h] = true };
	if
	:: exclusive(h, d) && exclusive(h, s) && is_root(h, d) && is_root(h, s) ->
		if
		:: atomic { state[P(h, d)] == IDLE -> state[P(h, d)] = BUSY }
			if
			:: atomic { state[P(h, s)] == IDLE -> state[P(h, s)] = BUSY }
				mesh_do(h, d, s);
				if
				:: err -> state[P(h, s)] = IDLE
				:: else -> state[P(h, s)] = MESHED
				fi;
				state[P(h, d)] = IDLE;
				err = false
			:: else -> state[P(h, d)] = IDLE
			fi
		:: else
		fi
	:: else
	fi;
	motion[h] = false
}

#define BLOCK	byte root, now, b, s; bool was

proctype first()
{
	TASK;
	BLOCK;

	access(0, 0, 1, data[W(seen, 0)] = 1);
	access(0, 0, 0, assert(data[W(seen, 0)] == 1));
	free_block(0, 0, 0);
#ifndef FORK
	if
	:: s = 0
	:: s = 1
	:: s = 2
	fi;
	alloc_block(0, s, b);
	if
	:: b < 3 ->
		access(0, s, 1, data[W(seen, b)] = 3);
		access(0, s, 0, assert(data[W(seen, b)] == 3));
		free_block(0, s, b)
	:: else
	fi;
#endif
	atomic { done++; b = 0; s = 0 }
}

proctype second()
{
	TASK;
	BLOCK;

#if defined(PIN)
	gup(0, 0, 1, ref[seen]++; pinned = seen);
	atomic { ref[pinned]--; pinned = 0 };
	access(0, 1, 1, data[W(seen, 1)] = 2);
#elif defined(FORK)
	access(0, 1, 1, data[W(seen, 1)] = 2);
	do_fork();
	access(1, 1, 0, assert(data[W(seen, 1)] == 2));
	access(1, 1, 1, data[W(seen, 1)] = 9);
	assert(state[P(1, 0)] != BUSY && state[P(1, 1)] != BUSY);
	/* Its own block, and the first thread's unless that was free by then. */
	assert(bitmap[P(1, 1)] == 2 && !(bitmap[P(1, 0)] & ~1) ||
	       bitmap[P(1, 1)] == 3 && !bitmap[P(1, 0)] && !is_root(1, 0));
	free_block(1, 1, 1);
#else
	access(0, 1, 1, data[W(seen, 1)] = 2);
	access(0, 1, 0, assert(data[W(seen, 1)] == 2));
	free_block(0, 1, 1);
	if
	:: s = 0
	:: s = 1
	:: s = 2
	fi;
	alloc_block(0, s, b);
	if
	:: b < 3 ->
		access(0, s, 1, data[W(seen, b)] = 4);
		access(0, s, 0, assert(data[W(seen, b)] == 4));
		free_block(0, s, b)
	:: else
	fi;
#endif
	atomic { done++; b = 0; s = 0 }
}

proctype compactor()
{
	TASK;
	byte bits, live;

	mesh(0, 1, 0);
#ifndef FORK
	mesh(0, 2, 1);
#endif
	done++
}

#ifdef FORK
#define FORK_WRONG \
	|| (leaf_of[1] != LEAVES && (pte_wrong(1, 0) || pte_wrong(1, 1)))
#define lost	(bitmap[0] || bitmap[1] != 2)
#elif defined(PIN)
#define FORK_WRONG	|| pte_wrong(0, 2) || \
	(pinned && entry[E(leaf_of[0], 0)] != pinned && !moving[E(leaf_of[0], 0)])
#define lost \
	((is_root(0, 1) && (bitmap[1] != 2 || bitmap[2] != 4)) || \
	 (!is_root(0, 1) && (bitmap[1] || bitmap[2] != 6)) || bitmap[0] || \
	 data[W(entry[1], 1)] != 2)
#else
#define FORK_WRONG	|| pte_wrong(0, 2)
/* All is free again but for the block that nobody touched. */
#define lost	(bitmap[0] || bitmap[1] || bitmap[2] != 4 || \
		 data[W(entry[2], 2)] != 7)
#endif

active proctype monitor()
{
	if
	:: atomic {
		pte_wrong(0, 0) || pte_wrong(0, 1) FORK_WRONG -> assert(false)
	   }
	:: atomic {
		done == 3 ->
		assert(!lost)
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
		do
		:: f < SLOTS ->
			entry[f] = FRAMES - SLOTS + f + 1;
			used[entry[f]] = true;
			owners[entry[f]] = 1;
			canonical[f] = f;
			state[f] = IDLE;
			f++
		:: else -> break
		od;
		f = 0;
		bitmap[0] = 1;
		bitmap[1] = 2;
#ifdef FORK
		leaf_of[1] = LEAVES;
#else
		bitmap[2] = 4;
		data[W(entry[2], 2)] = 7;
#endif
		users[0] = 1;
		leaves = 1
	};
	atomic {
		run first();
		run second();
		run compactor()
	}
}
