// SPDX-License-Identifier: GPL-2.0-only
/* markov.c - the predictive fragmentation model (PFM); a place is a band and a context */
#include "markov.h"

#define ONE		MAFC_PFM_ONE
#define BANDS		MAFC_PFM_BANDS
#define CONTEXTS	MAFC_PFM_CONTEXTS
#define PLACES		MAFC_PFM_PLACES
#define BAND_HIGH	(BANDS - 1)	/* of the others, 0 and 1 are Low, 2 to 4 Medium */

#define ROW_ONE		32768u		/* 1 in the chain's rows: in Q15 it fits into 16 bits */
#define ROW_MAX		512		/* a row is halved when it has so many counts */
#define ROW_PRIOR	4		/* weight, in counts, of its band in the row of a place, */
#define STAY_PRIOR	4		/* and of "it stays as it is" in a band's row, */
#define STAY_LEAK	(ROW_ONE / 16)	/* of which each neighbour gets so much */
#define CHAIN_PRIOR	8		/* weight of the chain against the record of outcomes */
#define MEAN_PART	16		/* of a new sample in the means; and well over them */

static unsigned int band_of(const struct mafc_pfm *p, u32 frag)
{
	if (frag >= p->high)
		return BAND_HIGH;
	if (frag >= p->medium)
		return 2 + (frag - p->medium) * 3 / (p->high - p->medium);
	return frag * 2 >= p->medium;
}

static unsigned int place_at(unsigned int band, unsigned int context)
{
	return band * CONTEXTS + context;
}

/* Bits: entropy, free rate, size well over their means; no High of late. Moves the means. */
static unsigned int context_of(struct mafc_pfm *p, const struct mafc_pfm_sample *s)
{
	const s64 now[] = { s->entropy_q16, s->free_rate_q16, s->heap_pages };
	unsigned int i, context = 0;

	for (i = 0; i < MAFC_PFM_MEANS; i++) {
		s64 seen = now[i] * 256, over = p->known ? seen - p->mean[i] : 0;

		context |= (over > seen / MEAN_PART) << i;
		p->mean[i] = seen - over + over / MEAN_PART;
	}
	return context | (p->pending == MAFC_PFM_HORIZON) << i;
}

/* Counts in a row, older counts fading. */
static void count(u16 row[], unsigned int n, unsigned int i)
{
	unsigned int k, sum = 0;

	row[i]++;
	for (k = 0; k < n; k++)
		sum += row[k];
	for (k = 0; k < n && sum >= ROW_MAX; k++)
		row[k] /= 2;
}

static void settle(struct mafc_pfm *p, unsigned int place, bool high)
{
	if (++p->trials[place] >= ROW_MAX) {
		p->trials[place] /= 2;
		p->hits[place] /= 2;
	}
	p->hits[place] += high;
}

/* Outcomes: High settles all that is open, else the oldest place missed. */
static void record(struct mafc_pfm *p, unsigned int place)
{
	unsigned int i;

	if (place / CONTEXTS == BAND_HIGH) {
		for (i = 0; i < p->pending; i++)
			settle(p, p->recent[i], true);
		p->pending = 0;
	} else if (p->pending == MAFC_PFM_HORIZON) {
		settle(p, p->recent[0], false);
		memmove(p->recent, p->recent + 1, --p->pending);
	}
	p->recent[p->pending++] = place;
}

static bool sane(const struct mafc_pfm_sample *s)
{
	return s && s->frag <= MAFC_PFM_FRAG_MAX && s->entropy_q16 <= ONE &&
	       s->free_rate_q16 <= ONE && s->heap_pages && s->heap_pages <= MAFC_PFM_PAGES_MAX;
}

static void make_row(u16 row[], const u16 counts[], unsigned int n, const u16 prior[], u32 weight)
{
	u32 sum = weight;
	unsigned int i;

	for (i = 0; i < n; i++)
		sum += counts[i];
	for (i = 0; i < n; i++)
		row[i] = (counts[i] * ROW_ONE + prior[i] * weight) / sum;
}

/* A band's row with all contexts together, leaning on "it stays". */
static void band_row(const struct mafc_pfm *p, unsigned int band, u16 row[])
{
	u16 counts[BANDS] = { 0 }, stay[BANDS] = { 0 };
	unsigned int c, b;

	for (c = 0; c < CONTEXTS; c++)
		for (b = 0; b < BANDS; b++)
			counts[b] += p->moves[place_at(band, c)][b];
	stay[band] = ROW_ONE;
	for (b = 0; b < BANDS; b++) {
		if (b + 1 == band || b == band + 1) {
			stay[b] = STAY_LEAK;
			stay[band] -= STAY_LEAK;
		}
	}
	make_row(row, counts, BANDS, stay, STAY_PRIOR);
}

static void make_rows(struct mafc_pfm *p)
{
	unsigned int band, c;

	for (band = 0; band < BANDS; band++) {
		u16 prior[BANDS];

		band_row(p, band, prior);
		for (c = 0; c < CONTEXTS; c++)
			make_row(p->rows[place_at(band, c)], p->moves[place_at(band, c)], BANDS,
				 prior, ROW_PRIOR);
	}
	for (c = 0; c < CONTEXTS; c++) {
		u16 stay[CONTEXTS] = { 0 };

		stay[c] = ROW_ONE;
		make_row(p->turn_rows[c], p->turns[c], CONTEXTS, stay, STAY_PRIOR);
	}
}

/* One step of the chain; takes out what arrives at High and returns it, Q32. */
static u64 advance(struct mafc_pfm *p)
{
	u64 high = 0;
	unsigned int at, b, c;

	memset(p->moved, 0, sizeof(p->moved));
	for (at = 0; at < PLACES; at++) {
		u64 mass = p->mass[at];

		if (!mass)
			continue;
		high += mass * p->rows[at][BAND_HIGH];
		for (b = 0; b < BAND_HIGH; b++)
			p->moved[place_at(b, at % CONTEXTS)] += mass * p->rows[at][b] / ROW_ONE;
	}
	memset(p->mass, 0, sizeof(p->mass));
	for (at = 0; at < PLACES; at++) {
		u64 mass = p->moved[at];

		for (c = 0; mass && c < CONTEXTS; c++)
			p->mass[at - at % CONTEXTS + c] +=
				mass * p->turn_rows[at % CONTEXTS][c] / ROW_ONE;
	}
	return high / ROW_ONE;
}

/* A new model; bounds in 1/100 of a per cent, moved into 1 to 9,999, and over it to 10,000. */
void mafc_pfm_init(struct mafc_pfm *p, u32 medium, u32 high)
{
	p->high = 0;	/* none yet */
	mafc_pfm_set_thresholds(p, medium, high);
}

/* What was learned refers to the old thresholds and is forgotten if they differ. */
void mafc_pfm_set_thresholds(struct mafc_pfm *p, u32 medium, u32 high)
{
	high = min_t(u32, max_t(u32, high, 2), MAFC_PFM_FRAG_MAX);
	medium = min_t(u32, max_t(u32, medium, 1), high - 1);
	if (medium == p->medium && high == p->high)
		return;
	memset(p, 0, sizeof(*p));
	p->medium = medium;
	p->high = high;
}

/* A step. -EINVAL: absent or out of range; Low until the next good one, nothing is learned. */
int mafc_pfm_update(struct mafc_pfm *p, const struct mafc_pfm_sample *sample)
{
	unsigned int band, context;

	if (!sane(sample)) {
		p->known = false;
		p->pending = 0;
		return -EINVAL;
	}
	band = band_of(p, sample->frag);
	context = context_of(p, sample);
	if (p->known) {
		count(p->moves[p->place], BANDS, band);
		count(p->turns[p->place % CONTEXTS], CONTEXTS, context);
	}
	p->known = true;
	p->place = place_at(band, context);
	record(p, p->place);
	return 0;
}

/* What is expected of the heap; all zeros (Low) if the last sample was bad. Changes scratch. */
void mafc_pfm_forecast(struct mafc_pfm *p, struct mafc_pfm_forecast *f)
{
	u64 left = 1ULL << 32, arrived = 0, steps = 0, high;
	unsigned int band = p->place / CONTEXTS;
	int i;

	memset(f, 0, sizeof(*f));
	if (!p->known)
		return;
	f->state = band == BAND_HIGH ? MAFC_PFM_HIGH : band >= 2 ? MAFC_PFM_MEDIUM : MAFC_PFM_LOW;
	make_rows(p);
	memset(p->mass, 0, sizeof(p->mass));
	p->mass[p->place] = left;
	for (i = 0; i < MAFC_PFM_HORIZON; i++) {
		steps += left;
		arrived = min_t(u64, advance(p), left);
		left -= arrived;
	}
	high = (((u64)p->hits[p->place] << 32) + ((1ULL << 32) - left) * CHAIN_PRIOR) /
	       (p->trials[p->place] + CHAIN_PRIOR);
	f->high_ppm = high * 1000000 >> 32;
	if (band == BAND_HIGH)
		return;
	/* Beyond the horizon: at the rate of its last step. */
	if (arrived)
		steps += div64_u64(left, arrived) * left;
	else
		steps += left * MAFC_PFM_STEPS_MAX;
	f->steps = min_t(u64, steps >> 32, MAFC_PFM_STEPS_MAX);
}

/* log2(@x) in Q16, at most 2 units too low; of 0: 0. A digit for each squaring, as in textbooks. */
u32 mafc_log2_q16(u64 x)
{
	unsigned int whole = x ? fls64(x) - 1 : 0;
	u64 m = whole > 31 ? x >> (whole - 31) : (x ? x : 1) << (31 - whole);
	u32 log = whole;
	int i;

	/* m is x / 2^whole in Q31, 1 <= m < 2 */
	for (i = 0; i < 16; i++) {
		m = m * m >> 31;
		log = log << 1 | m >> 32;
		m >>= m >> 32;
	}
	return log;
}

/* Shannon's entropy of up to 1024 @counts by the largest there can be: Q16, 0 (one class) to 1. */
u32 mafc_pfm_entropy(const u64 counts[], unsigned int n)
{
	u64 most = 0, sum = 0, weighted = 0, entropy;
	unsigned int i, shift;

	for (i = 0; i < n; i++)
		most |= counts[i];
	shift = max_t(int, fls64(most) - 31, 0);
	for (i = 0; i < n; i++) {
		u64 c = counts[i] >> shift;

		sum += c;
		weighted += c * mafc_log2_q16(c);
	}
	if (!sum || n < 2)
		return 0;
	entropy = mafc_log2_q16(sum);
	entropy -= min_t(u64, entropy, div64_u64(weighted, sum));
	return min_t(u64, entropy * ONE / mafc_log2_q16(n), ONE);
}
