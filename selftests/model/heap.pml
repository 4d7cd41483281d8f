/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * heap.pml - what all models share: the table, the page tables, faults, motion
 *
 * Documentation/model.rst says which function each step stands for.  A model
 * defines HEAPS (2: it forks), SLOTS, FRAMES and WORDS (of data in a frame),
 * and includes this file; with HEAPS 2, fork_meta too, which copies what lies in
 * the meta region.  Frame 0 is none; a frame with reference count 0 is
 * frozen, or gone.  The processes are called tasks: a thread, or the compactor.
 */
#define LEAVES	(2 * HEAPS - 1)

#define E(l, s)	((l) * SLOTS + (s))	/* an entry */
#define P(h, s)	((h) * SLOTS + (s))	/* a page-table entry */
#define W(p, w)	((p) * WORDS + (w))	/* a word of a frame */

byte entry[LEAVES * SLOTS];
bool moving[LEAVES * SLOTS];		/* MAFC_E_MOVING */
bool meshed[LEAVES * SLOTS];		/* MAFC_E_MESHED: in the ring of all */
byte users[LEAVES];
byte readers[LEAVES];			/* mafc_leaf_make(): only fork lets a leaf be replaced before it is locked. */
#if HEAPS > 1
#define get_leaf(h)	l = leaf_of[h]
#else
#define get_leaf(h)	skip
#endif

/* leaf->sem */
bool writer[LEAVES];
byte leaf_of[HEAPS];
byte leaves;				/* allocated so far */

byte ref[FRAMES + 1];
byte owners[FRAMES + 1];
bool used[FRAMES + 1];			/* not in the pool's free lists */
bool page_lock[FRAMES + 1];
byte data[(FRAMES + 1) * WORDS];

byte pte[HEAPS * SLOTS];
bool pte_write[HEAPS * SLOTS];
byte tlb[SLOTS];			/* of the parent, while it forks: stale */

bool motion[HEAPS];			/* heap->motion */
bool cow[HEAPS];
byte in_fault[HEAPS];			/* readers of the VMA lock */
bool vma_write[HEAPS];			/* and its writer, also one who waits */
byte done;				/* tasks that ended */

#define LOCK(x)		atomic { !x -> x = true }
#define TASK	byte l, e, f, n, own, old, ring, need, seen; bool wp, err

/* mafc_leaf_make(): only fork lets a leaf be replaced before it is locked. */
#if HEAPS > 1
#define get_leaf(h)	l = leaf_of[h]
#else
#define get_leaf(h)	skip
#endif

/* leaf->sem */
#define down_read(l)	atomic { !writer[l] -> readers[l]++ }
#define down_write(l)	atomic { !writer[l] && !readers[l] -> writer[l] = true }

#define mapped(h, s, w)	(pte[P(h, s)] && (!(w) || pte_write[P(h, s)]))
#define fault_exclusive(l, s, e) \
	(own == e || (!meshed[E(l, s)] && users[l] == 1 && owners[e] == 1))

/* One of these is what a fault needs before it can go on. */
#define AGAIN	0
#define WAIT	1
#define LEAF	2
#define FRAME	3
#define COPY	4
#define MAP	5
#define WRITE	6
#define DONE	7

inline take(x)
{
	d_step {
#ifdef OWN_FRAMES
		/* Which one is all the same: fewer states. */
		x = _pid;
		if
		:: used[x] && x + 4 <= FRAMES -> x = x + 4
		:: else
		fi;
#else
		x = 1;
		do
		:: x < FRAMES && used[x] -> x++
		:: else -> break
		od;
#endif
		assert(!used[x]);
		used[x] = true
	}
}

inline untake(x)
{
	d_step {
		if
		:: x -> used[x] = false; x = 0
		:: else
		fi
	}
}

/* heap->motion, with a frame taken before. */
inline lock_motion(h)
{
	atomic { !motion[h] -> motion[h] = true; untake(n); take(n) }
}

inline unlock_motion(h)
{
	atomic { motion[h] = false; l = 0; untake(n) }
}

/* The last owner gives a frame back; not for use if it is pinned. */
inline frame_put(x, count)
{
	d_step {
		assert(owners[x] >= count);
		owners[x] = owners[x] - count;
		if
		:: owners[x] -> skip
		:: else ->
			if
			:: ref[x] == 1 ->
				used[x] = false;
				/* What it held is of no use: fewer states. */
				seen = 0;
				do
				:: seen < WORDS -> data[W(x, seen)] = 0; seen++
				:: else -> break
				od;
				seen = 0
			:: else -> ref[x]--
			fi
		fi
	}
}

inline get_page(x)
{
	assert(ref[x] > 0);	/* never from a frozen frame */
	ref[x]++
}

inline zap_one(h, s)
{
	d_step {
		if
		:: pte[P(h, s)] ->
			ref[pte[P(h, s)]]--;
			pte[P(h, s)] = 0;
			pte_write[P(h, s)] = false
		:: else
		fi;
		if
		:: h == 0 -> tlb[s] = 0
		:: else
		fi
	}
}

/* The parent's mapping comes before the child's in the reverse map. */
inline zap(s)
{
	zap_one(0, s);
#if HEAPS > 1
	zap_one(1, s)
#endif
}

/* mafc_leaf_own() */
inline leaf_own(h)
{
#if HEAPS > 1
	if
	:: atomic { users[leaf_of[h]] > 1 -> l = leaf_of[h] }
		atomic {
			down_write(l);
			if
			:: leaf_of[h] == l && users[l] > 1 ->
				seen = 0;
				do
				:: seen < SLOTS ->
					entry[E(leaves, seen)] = entry[E(l, seen)];
					moving[E(leaves, seen)] = moving[E(l, seen)];
					meshed[E(leaves, seen)] = meshed[E(l, seen)];
					if
					:: entry[E(l, seen)] ->
						owners[entry[E(l, seen)]]++
					:: else
					fi;
					seen++
				:: else -> break
				od;
				seen = 0;
				users[leaves] = 1;
				leaf_of[h] = leaves;
				leaves++;
				users[l]--
			:: else
			fi;
			writer[l] = false
		}
	:: else
	fi
#endif
	skip
}

/* Two words are not copied at once. */
inline copy_page(to, from)
{
	data[W(to, 0)] = data[W(from, 0)];
	d_step {
		seen = 1;
		do
		:: seen < WORDS ->
			data[W(to, seen)] = data[W(from, seen)];
			seen++
		:: else -> break
		od;
		seen = 0
	}
}

/*
 * motion_mark(): all slots of frame @x; how many they are goes to @count. With
 * leaf->sem for writing: faults that read the entries before are through.
 */
#ifndef NO_BARRIER
#define motion_mark(l, x, count) \
	atomic { !writer[l] && !readers[l] -> mark(l, x, count) }
#else
#define motion_mark(l, x, count)	mark(l, x, count)
#endif

inline mark(l, x, count)
{
	d_step {
		seen = 0;
		count = 0;
		do
		:: seen < SLOTS ->
			if
			:: entry[E(l, seen)] == x ->
				moving[E(l, seen)] = true;
				count++
			:: else
			fi;
			seen++
		:: else -> break
		od;
		seen = 0
	}
}

/* mafc_motion_set() and mafc_motion_end(): what was in motion gets frame @x. */
inline motion_end(l, x)
{
	d_step {
		do
		:: seen < SLOTS ->
			if
			:: moving[E(l, seen)] ->
				entry[E(l, seen)] = x;
				moving[E(l, seen)] = false
			:: else
			fi;
			seen++
		:: else -> break
		od;
		seen = 0
	}
}

/* motion_unmap(): all slots of frame @x */
#if SLOTS == 1
#define zap_ring(l, x)	zap(0)
#else
inline zap_ring(l, x)
{
	if
	:: entry[E(l, 0)] == x -> zap(0)
	:: else
	fi;
	if
	:: entry[E(l, 1)] == x -> zap(1)
	:: else
	fi
#if SLOTS > 2
	;
	if
	:: entry[E(l, 2)] == x -> zap(2)
	:: else
	fi
#endif
}
#endif

/* How many slots share the frame of this one? */
#define same(l, s, x)	(entry[E(l, s)] == entry[E(l, x)])
#if SLOTS == 1
#define ring_length(l, s)	1
#elif SLOTS == 2
#define ring_length(l, s)	(same(l, s, 0) + same(l, s, 1))
#else
#define ring_length(l, s)	(same(l, s, 0) + same(l, s, 1) + same(l, s, 2))
#endif

/*
 * cow_copy(), in heap->motion.  @n is a frame taken before; it is 0 after if it
 * was needed.
 */
inline cow_copy(h, s)
{
	if
	:: atomic {
		entry[E(leaf_of[h], s)] ->
		l = leaf_of[h];
		own = 0;
		old = entry[E(l, s)]
	   }
		if
		:: owners[old] == ring_length(l, s) -> own = old
		:: else ->
			motion_mark(l, old, ring);
#ifndef NO_WRITER_WAIT
			atomic { !page_lock[old] -> skip };
#endif
			zap_ring(l, old);
			copy_page(n, old);
			atomic {
				owners[n] = ring;
				motion_end(l, n);
				own = n;
				n = 0;
				frame_put(old, ring)
			}
		fi;
		d_step { old = 0; ring = 0 }
	:: else
	fi
}

/* fault_try(), with leaf->sem: says what to do next. */
inline fault_look(h, s, w)
{
	d_step {
		e = entry[E(l, s)];
		if
		:: leaf_of[h] != l -> need = AGAIN
		:: else ->
			if
			:: moving[E(l, s)] -> need = WAIT
			:: !moving[E(l, s)] && !e && users[l] != 1 -> need = LEAF
			:: !moving[E(l, s)] && !e && users[l] == 1 -> need = FRAME
			:: !moving[E(l, s)] && e && !(cow[h] && w) -> need = MAP
			:: !moving[E(l, s)] && e && cow[h] && w ->
				if
				:: fault_exclusive(l, s, e) -> need = WRITE
				:: else -> need = COPY
				fi
			fi
		fi
	}
}

inline up_read(l)
{
#ifndef NO_SEM
	readers[l]--
#else
	skip
#endif
}

/* One round of fault_serve(). */
inline fault_serve(h, s, w)
{
	get_leaf(h);
	atomic {
#ifndef NO_SEM
		down_read(l);
#endif
		fault_look(h, s, w)
	};
	if
	:: need == MAP ->	/* fault_map() */
		atomic {
			if
			:: !pte[P(h, s)] ->
				get_page(e);
				pte[P(h, s)] = e;
				pte_write[P(h, s)] = !cow[h]
			:: else
			fi;
			up_read(l);
			need = DONE
		}
	:: need == WRITE ->	/* fault_map_write() */
		atomic {
			get_page(e);
			up_read(l);
			if
			:: !page_lock[e] -> f = e; wp = false
			:: else -> !page_lock[e] -> ref[e]--
			fi;
			need = AGAIN
		}
	:: need == FRAME && n ->	/* fault_fill() */
		d_step {
			if
			:: !entry[E(l, s)] && !moving[E(l, s)] ->
				entry[E(l, s)] = n;
				meshed[E(l, s)] = false;
				owners[n] = 1;
				n = 0
			:: else
			fi;
			up_read(l);
			need = AGAIN
		}
	:: need == FRAME && !n ->
		atomic { up_read(l); take(n); need = AGAIN }
	:: else ->
		up_read(l)
	fi
}

/* mafc_vm_mkwrite() with page @f, and what the mm does after it. */
inline mkwrite(h, s)
{
	atomic { !page_lock[f] -> page_lock[f] = true; get_leaf(h) };
	atomic {
		!writer[l] ->
		e = entry[E(l, s)];
		if
		:: leaf_of[h] != l || moving[E(l, s)] || e != f -> need = AGAIN
		:: else ->
#ifndef NO_EXCLUSIVE_CHECK
			if
			:: fault_exclusive(l, s, e) -> need = WRITE
			:: else -> need = COPY
			fi
#else
			need = WRITE
#endif
		fi
	};
	if
	:: need == WRITE ->
		d_step {
			if
			:: wp && pte[P(h, s)] == f ->
				pte_write[P(h, s)] = true;
				ref[f]--
			:: !wp && !pte[P(h, s)] ->
				pte[P(h, s)] = f;
				pte_write[P(h, s)] = true
			:: else -> ref[f]--
			fi;
			need = DONE
		};
		/* fault_dirty_shared_page(), without a reference */
		d_step { assert(owners[f]); page_lock[f] = false; f = 0 }
	:: need == AGAIN ->
		page_lock[f] = false;
		zap(s);
		d_step { ref[f]--; f = 0; need = DONE }
	:: else -> page_lock[f] = false	/* copy, and look again */
	fi
}

/* A page fault, from the hardware's exception to the return to the program. */
inline fault(h, s, w)
{
	own = 0;
	do
	:: true ->
		if
		:: f -> mkwrite(h, s)
		:: else -> fault_serve(h, s, w)
		fi;
		if
		:: need == DONE -> break
#ifndef NO_WAIT
		:: need == WAIT -> atomic { !moving[E(l, s)] -> skip }
#endif
		:: need == LEAF -> leaf_own(h)
		:: need == COPY ->
			lock_motion(h);
			leaf_own(h);
			cow_copy(h, s);
			unlock_motion(h)
		:: else
		fi
	od;
	untake(n);
	d_step { own = 0; l = 0; e = 0; need = 0; wp = false; in_fault[h]-- }
}

/*
 * One instruction of a program in slot @s: @what, which finds the frame in
 * @seen, happens with a page-table entry that allows it.
 */
#define access(h, s, w, what)	reach(h, s, w, h == 0 && tlb[s], what)

/* get_user_pages() looks at the page tables, not into a TLB. */
#define gup(h, s, w, what)	reach(h, s, w, false, what)

#define reach(h, s, w, stale, what) \
	do \
	:: atomic { \
		mapped(h, s, w) || (stale) -> \
		if \
		:: mapped(h, s, w) -> seen = pte[P(h, s)] \
		:: else -> seen = tlb[s] \
		fi; \
		what; \
		seen = 0; \
		break \
	   } \
	:: atomic { \
		!mapped(h, s, w) && !vma_write[h] -> \
		in_fault[h]++; \
		f = pte[P(h, s)]; \
		if \
		:: f -> wp = true; get_page(f)	/* do_wp_page() */ \
		:: else \
		fi \
	   } \
	   fault(h, s, w) \
	od

/* mafc_motion_freeze(); the result is in @err. */
#ifdef NO_LOCK_CHECK
#define locked(x)	false
#else
#define locked(x)	page_lock[x]
#endif
inline freeze(x)
{
	d_step {
#ifdef NO_FREEZE
		ref[x] = 0; err = false
#else
		if
		:: ref[x] == 1 && !locked(x) -> ref[x] = 0; err = false
		:: else -> err = true
		fi
#endif
	}
}

inline unfreeze(x)
{
#ifdef NO_FREEZE
	ref[x]++
#else
	ref[x] = 1
#endif
}

#if HEAPS > 1
/* fork_heap(), and dup_mmap() around it. */
inline do_fork()
{
#ifdef MOTION_BEFORE_VMAS
	LOCK(motion[0]);
#endif
	vma_write[0] = true;
	!in_fault[0];
#if !defined(NO_FORK_MOTION) && !defined(MOTION_BEFORE_VMAS)
	LOCK(motion[0]);
#endif
	d_step {			/* heap_set_cow() */
		seen = 0;
		do
		:: seen < SLOTS ->
			if
			:: pte_write[P(0, seen)] -> tlb[seen] = pte[P(0, seen)]
			:: else
			fi;
#ifndef NO_WRPROTECT
			pte_write[P(0, seen)] = false;
#endif
			seen++
		:: else -> break
		od;
		seen = 0;
		cow[0] = true;
		cow[1] = true
	};
	l = leaf_of[0];
	atomic {
		down_write(l);		/* mafc_table_fork() */
		users[l]++;
		writer[l] = false;
		leaf_of[1] = l;
		fork_meta
	};
#ifndef NO_FORK_MOTION
	motion[0] = false;
#endif
#if defined(PIN) && !defined(NO_COPY_PINNED)
	n = 0;				/* copy_pinned() */
	if
	:: pinned && entry[E(leaf_of[0], 0)] == pinned ->
		lock_motion(1);
		leaf_own(1);
		cow_copy(1, 0);
		unlock_motion(1);
		own = 0
	:: else
	fi;
#endif
	d_step {			/* copy_page_range() */
		seen = 0;
		do
		:: seen < SLOTS ->
			pte[P(1, seen)] = pte[P(0, seen)];
			pte_write[P(1, seen)] = pte_write[P(0, seen)];
			if
			:: pte[P(1, seen)] -> ref[pte[P(1, seen)]]++
			:: else
			fi;
			seen++
		:: else -> break
		od;
		seen = 0
	};
	d_step {			/* flush_tlb_mm() */
		do
		:: seen < SLOTS -> tlb[seen] = 0; seen++
		:: else -> break
		od;
		seen = 0;
		l = 0;
		vma_write[0] = false
	}
}
#endif

/* Is the frame of this slot nobody else's?  For who has heap->motion. */
#define exclusive(h, s) \
	(users[leaf_of[h]] == 1 && entry[E(leaf_of[h], s)] && \
	 owners[entry[E(leaf_of[h], s)]] == ring_length(leaf_of[h], s))

/* Invariants 2 and 3 of kmod/mafc.h, for one page-table entry. */
#define pte_wrong(h, s)	(pte[P(h, s)] && \
	 ((!moving[E(leaf_of[h], s)] && entry[E(leaf_of[h], s)] != pte[P(h, s)]) || \
	  (pte_write[P(h, s)] && !moving[E(leaf_of[h], s)] && \
	   !exclusive(h, s))))
