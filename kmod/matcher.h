/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * matcher.h - which spans to mesh
 *
 * DOC: matcher
 *
 * Two spans mesh if no block is live in both.  The matcher is given the bitmaps
 * of spans of one block size and proposes pairs.  Meshing is due to B. Powers,
 * D. Tench, E. D. Berger and A. McGregor, "Mesh: Compacting Memory Management
 * for C/C++ Applications" (PLDI 2019), which probes random pairs; here spans
 * are indexed by their pattern and by their number of live blocks.
 *
 * The fullest span is served first, with the fullest partner that fits, until
 * nothing fits any more (why: Documentation/design.rst, Matcher).  The partner
 * never has more live blocks than the span taken first had, so the side with
 * fewer live blocks is the one that is copied.
 *
 * A round: mafc_matcher_reset(), mafc_matcher_add() for each span, then
 * mafc_matcher_next() and mafc_matcher_done() in turns until there are no more
 * proposals or no more time.  Near-linear: a bounded number of steps per span.
 * A single call is bounded too; it says @paused where it gave up for now.
 *
 * Nothing sleeps, allocates or locks: the caller serialises.
 */
#ifndef MAFC_MATCHER_H
#define MAFC_MATCHER_H

#include "pure.h"

#define MAFC_MATCHER_SPANS_MAX	65534
#define MAFC_MATCHER_BLOCKS_MAX	256

/**
 * struct mafc_matcher - one matcher; lies in mafc_matcher_size() bytes
 * @steps: patterns looked up and spans compared since the reset
 * @max_spans: as given to mafc_matcher_init()
 * @capacity: spans that a round with this number of blocks can hold
 * @count: spans added since the reset
 * @nblocks: blocks per span
 * @words: 64-bit words of a bitmap that are stored apart from the signature
 * @dst: span that is looking for partners, MAFC_MATCHER_NONE: none
 * @src: proposed partner, MAFC_MATCHER_NONE: no proposal is open
 * @dst_live: live blocks of @dst, with all that was meshed into it
 * @dst_sig: signature of @dst, likewise
 * @fails: proposals for @dst that failed in a row
 * @sealed: proposing has begun, no more spans can be added
 * @paused: mafc_matcher_next() returned false though there may be more
 * @dst_bits: bitmap of @dst, with all that was meshed into it
 * @levels: bit k: there are unmatched spans with k live blocks
 * @start: first place of level k in the order by live blocks
 * @left: number of unmatched spans at level k
 * @cursor: where in level k the next probing begins
 * @filled: bit s: @head[s] is a span
 * @head: by signature, a list of unmatched spans
 * @mem: the spans, then their bitmaps
 */
struct mafc_matcher {
	u64 steps;
	u32 max_spans;
	u32 capacity;
	u32 count;
	u16 nblocks;
	u16 words;
	u16 dst;
	u16 src;
	u16 dst_live;
	u16 dst_sig;
	u16 fails;
	bool sealed;
	bool paused;
	u64 dst_bits[4];
	u64 levels[4];
	u16 start[MAFC_MATCHER_BLOCKS_MAX];
	u16 left[MAFC_MATCHER_BLOCKS_MAX];
	u16 cursor[MAFC_MATCHER_BLOCKS_MAX];
	u64 filled[1024];
	u16 head[65536];
	u64 mem[];
};

#define MAFC_MATCHER_NONE	0xffff

size_t mafc_matcher_size(u32 max_spans);
void mafc_matcher_init(struct mafc_matcher *m, u32 max_spans);
int mafc_matcher_reset(struct mafc_matcher *m, unsigned int nblocks);
int mafc_matcher_add(struct mafc_matcher *m, u32 id, const u64 bits[4]);
bool mafc_matcher_next(struct mafc_matcher *m, u32 *dst, u32 *src);
void mafc_matcher_done(struct mafc_matcher *m, bool meshed);

#endif /* MAFC_MATCHER_H */
