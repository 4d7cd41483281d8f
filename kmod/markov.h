/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * markov.h - the predictive fragmentation model (PFM)
 *
 * DOC: model
 *
 * A Markov chain over the fragmentation of one heap, learned while it runs.
 * The states Low, Medium and High are cut into bands, and the rows of the
 * chain depend on a context: whether sizes are more mixed than usual, whether
 * the program frees more than usual, whether the heap is larger than usual, and
 * whether it was High of late.  Contexts form a small chain of
 * their own.  Rows are counted, older counts fade by halves, and a row with few
 * counts leans on those of its band and, at first, on "it stays as it is".
 *
 * The forecast follows the chain from where the heap is now, with High as an
 * absorbing state (first passage: W. Feller, "An Introduction to Probability
 * Theory and Its Applications", vol. 1, chapter XV), and is then corrected by
 * how often High did follow from this place.
 *
 * Fixed point throughout.  An update costs O(1), a forecast about
 * 30,000 multiplications at most.  Nothing sleeps, allocates or locks: the caller serialises
 * all calls on one instance.
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

/**
 * enum mafc_pfm_state - how fragmented a heap is
 * @MAFC_PFM_LOW: below the first threshold, or not known
 * @MAFC_PFM_MEDIUM: between the thresholds
 * @MAFC_PFM_HIGH: at or over the second threshold
 *
 * The values are those of &struct mafc_stat.state.
 */
enum mafc_pfm_state {
	MAFC_PFM_LOW,
	MAFC_PFM_MEDIUM,
	MAFC_PFM_HIGH,
};

/**
 * struct mafc_pfm_sample - what is known about a heap after one step
 * @frag: (held - live) / held, in 1/100 of a per cent, 0 to 10,000
 * @entropy_q16: mafc_pfm_entropy() of the requests by size class, 0 to 1
 * @free_rate_q16: frees / (allocations + frees) during the step, 0 to 1; a
 *	half if there were none
 * @heap_pages: pages held, 1 to MAFC_PFM_PAGES_MAX
 */
struct mafc_pfm_sample {
	u32 frag;
	u32 entropy_q16;
	u32 free_rate_q16;
	u64 heap_pages;
};

/**
 * struct mafc_pfm_forecast - what the model expects
 * @state: now
 * @high_ppm: probability that the heap is High at one of the next
 *	MAFC_PFM_HORIZON steps, in 1/10^6
 * @steps: expected number of steps until it is High, at most
 *	MAFC_PFM_STEPS_MAX; 0 if it is High now
 */
struct mafc_pfm_forecast {
	enum mafc_pfm_state state;
	u32 high_ppm;
	u32 steps;
};

/**
 * struct mafc_pfm - the model of one heap
 * @medium: threshold between Low and Medium, 1/100 of a per cent
 * @high: threshold between Medium and High
 * @place: band and context now, valid if @known
 * @known: the last sample was good
 * @pending: number of valid entries of @recent
 * @recent: the last places, oldest first, whose outcome is still open
 * @mean: of entropy, free rate and pages, fading, in 1/256
 * @moves: by place and next band: how often it was seen
 * @turns: by context and next context: how often it was seen
 * @trials: by place: outcomes known
 * @hits: by place: High within MAFC_PFM_HORIZON steps
 * @rows: scratch: the chain's rows, Q15
 * @turn_rows: scratch: those of the contexts
 * @mass: scratch: where the heap may be, Q32
 * @moved: scratch: likewise, half way through a step
 */
struct mafc_pfm {
	u32 medium;
	u32 high;
	u8 place;
	bool known;
	u8 pending;
	u8 recent[MAFC_PFM_HORIZON];
	s64 mean[MAFC_PFM_MEANS];
	u16 moves[MAFC_PFM_PLACES][MAFC_PFM_BANDS];
	u16 turns[MAFC_PFM_CONTEXTS][MAFC_PFM_CONTEXTS];
	u16 trials[MAFC_PFM_PLACES];
	u16 hits[MAFC_PFM_PLACES];
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
