/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * markov.h - the predictive fragmentation model (PFM), see Documentation/prediction.rst
 * A Markov chain over bands of fragmentation and contexts; the forecast is a first passage to High
 * (W. Feller, "An Introduction to Probability Theory and Its Applications", vol. 1, chapter XV).
 * Fixed point: an update costs O(1), a forecast at most 30,000 multiplications. Nothing sleeps,
 * allocates or locks: the caller serialises.
 */
#ifndef MAFC_MARKOV_H
#define MAFC_MARKOV_H
#include "pure.h"

#define MAFC_PFM_ONE		65536u		/* 1 in Q16 */
#define MAFC_PFM_FRAG_MAX	10000u		/* 100 % */
#define MAFC_PFM_PAGES_MAX	0x10000000000ULL
#define MAFC_PFM_HORIZON	10		/* steps that are looked ahead */
#define MAFC_PFM_STEPS_MAX	1000		/* longest time that is told */
#define MAFC_PFM_MEANS		3
#define MAFC_PFM_BANDS		6
#define MAFC_PFM_CONTEXTS	16
#define MAFC_PFM_PLACES		(MAFC_PFM_BANDS * MAFC_PFM_CONTEXTS)

/* How fragmented a heap is; the values are those of struct mafc_stat. */
enum mafc_pfm_state { MAFC_PFM_LOW /* or not known */, MAFC_PFM_MEDIUM, MAFC_PFM_HIGH };

/* What is known about a heap after one step. */
struct mafc_pfm_sample {
	u32 frag;		/* (held - live) / held, in 1/100 of a per cent, 0 to 10,000 */
	u32 entropy_q16;	/* mafc_pfm_entropy() of the requests by size class, 0 to 1 */
	u32 free_rate_q16;	/* frees / (allocations + frees), 0 to 1; of nothing, 1/2 */
	u64 heap_pages;		/* held, 1 to MAFC_PFM_PAGES_MAX */
};

/* What the model expects. */
struct mafc_pfm_forecast {
	enum mafc_pfm_state state;	/* now */
	u32 high_ppm;	/* probability of High within MAFC_PFM_HORIZON steps, in 1/10^6 */
	u32 steps;	/* expected until High, at most MAFC_PFM_STEPS_MAX; 0: it is High now */
};

/* The model of one heap. */
struct mafc_pfm {
	u32 medium;		/* threshold between Low and Medium, 1/100 of a per cent */
	u32 high;		/* threshold between Medium and High */
	u8 place;		/* band and context now, valid if known */
	bool known;		/* the last sample was good */
	u8 pending;		/* valid entries of recent */
	u8 recent[MAFC_PFM_HORIZON];	/* places whose outcome is open, oldest first */
	s64 mean[MAFC_PFM_MEANS];	/* of entropy, free rate, pages, fading, in 1/256 */
	u16 moves[MAFC_PFM_PLACES][MAFC_PFM_BANDS];	/* counts by place and next band */
	u16 turns[MAFC_PFM_CONTEXTS][MAFC_PFM_CONTEXTS];	/* by context and next context */
	u16 trials[MAFC_PFM_PLACES];	/* outcomes known */
	u16 hits[MAFC_PFM_PLACES];	/* of these, High within MAFC_PFM_HORIZON steps */
	/* Scratch: rows of the chain and the contexts, Q15; where the heap may be, Q32. */
	u16 rows[MAFC_PFM_PLACES][MAFC_PFM_BANDS];
	u16 turn_rows[MAFC_PFM_CONTEXTS][MAFC_PFM_CONTEXTS];
	u64 mass[MAFC_PFM_PLACES];
	u64 moved[MAFC_PFM_PLACES];
};

void mafc_pfm_init(struct mafc_pfm *p, u32 medium, u32 high);
void mafc_pfm_set_thresholds(struct mafc_pfm *p, u32 medium, u32 high);
int mafc_pfm_update(struct mafc_pfm *p, const struct mafc_pfm_sample *sample);
void mafc_pfm_forecast(struct mafc_pfm *p, struct mafc_pfm_forecast *f);
u32 mafc_log2_q16(u64 x);
u32 mafc_pfm_entropy(const u64 counts[], unsigned int n);
#endif /* MAFC_MARKOV_H */
