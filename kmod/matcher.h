/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * matcher.h - which spans to mesh
 * Two spans mesh if no block is live in both. The matcher is given the bitmaps of spans of one
 * block size and proposes pairs; see Matcher in Documentation/design.rst. A round:
 * mafc_matcher_reset(), mafc_matcher_add() for each span, then mafc_matcher_next() and
 * mafc_matcher_done() in turns until there are no more proposals or no more time. The steps per
 * span and per call are bounded. Nothing sleeps, allocates or locks: the caller serialises.
 */
#ifndef MAFC_MATCHER_H
#define MAFC_MATCHER_H
#include "pure.h"

#define MAFC_MATCHER_SPANS_MAX	65534
#define MAFC_MATCHER_BLOCKS_MAX	256

/* One matcher, in mafc_matcher_size() bytes. */
struct mafc_matcher {
	u64 steps;		/* words of @filled read, spans compared, since the reset */
	u32 max_spans;		/* as given to mafc_matcher_init() */
	u32 capacity;		/* spans that a round with this number of blocks can hold */
	u32 count;		/* spans added since the reset */
	u16 nblocks;		/* per span */
	u16 words;		/* of a bitmap that are stored apart from the signature */
	u16 dst;		/* span that is looking for partners, or NONE */
	u16 src;		/* proposed partner, NONE: no proposal is open */
	u16 dst_live;		/* live blocks of dst, with all that was meshed into it */
	u16 dst_sig;		/* its signature, likewise; beyond its end all is taken */
	u16 fails;		/* proposals for dst that failed in a row */
	bool sealed;		/* proposing has begun, no more spans can be added */
	bool paused;		/* mafc_matcher_next() returned false, but there may be more */
	u64 dst_bits[4];	/* bitmap of dst, with all that was meshed into it */
	u64 levels[4];		/* bit k: there are unmatched spans with k live blocks */
	u16 start[MAFC_MATCHER_BLOCKS_MAX];	/* of level k in the order by live blocks */
	u16 left[MAFC_MATCHER_BLOCKS_MAX];	/* unmatched spans at level k */
	u16 cursor[MAFC_MATCHER_BLOCKS_MAX];	/* where in level k the next probing begins */
	u64 filled[1024];	/* bit s: head[s] is a span */
	u16 head[65536];	/* by signature, a list of unmatched spans */
	u64 mem[];		/* the spans, then their bitmaps */
};

#define MAFC_MATCHER_NONE	0xffff

size_t mafc_matcher_size(u32 max_spans);
void mafc_matcher_init(struct mafc_matcher *m, u32 max_spans);
int mafc_matcher_reset(struct mafc_matcher *m, unsigned int nblocks);
int mafc_matcher_add(struct mafc_matcher *m, u32 id, const u64 bits[4]);
bool mafc_matcher_next(struct mafc_matcher *m, u32 *dst, u32 *src);
void mafc_matcher_done(struct mafc_matcher *m, bool meshed);
#endif /* MAFC_MATCHER_H */
