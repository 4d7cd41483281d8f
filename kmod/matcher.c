// SPDX-License-Identifier: GPL-2.0-only
/*
 * matcher.c - which spans to mesh
 * A span's signature is its bitmap as far as the first 16 blocks. The unmatched spans are in two
 * orders: in lists by signature, to look up a pattern, and in levels by number of live blocks,
 * to take the fullest and to probe. The span that is looking for partners is in neither.
 */
#include "matcher.h"

#define ENUM_FIRST	9	/* with at most so many free places, look up all subsets first, */
#define ENUM_PLACES	10	/* with so many after probing; with any, if that is all there is; */
#define ENUM_CHAIN	2	/* and compare so many spans of each, if the bitmap is longer */
#define PROBES		4096	/* probing, compare so many spans: looking hard pays, */
#define PROBES_LEVEL	512	/* so many per level, */
#define PROBE_ODDS	1024	/* and none at levels where fewer than one in so many would fit */
#define PROBES_ANYWAY	64	/* of the emptiest: blocks are not always live at random */
#define FAILS_MAX	4	/* a span whose partners failed so often in a row gets no more */
#define STEPS_MAX	32768	/* a search that has found nothing pauses after so many */
#define NONE		MAFC_MATCHER_NONE

struct span {
	u32 id;		/* the caller's */
	u16 next;	/* in its signature's list, NONE at the end */
	u16 prev;	/* likewise, NONE at the head */
	u16 place;	/* in the order by live blocks */
	u16 at;		/* unrelated to the span: which one is at this index of that order */
	u16 sig;
	u8 live;	/* 1 to 255 */
};

static struct span *span(const struct mafc_matcher *m, unsigned int i)
{
	return (struct span *)m->mem + i;
}

static u64 *bitmap(const struct mafc_matcher *m, unsigned int i)
{
	return (u64 *)(span(m, m->capacity)) + i * m->words;
}

static bool disjoint(const struct mafc_matcher *m, unsigned int i)
{
	const u64 *bits = bitmap(m, i);
	unsigned int w;

	if (!m->words)
		return !(span(m, i)->sig & m->dst_sig);
	for (w = 0; w < m->words; w++)
		if (bits[w] & m->dst_bits[w])
			return false;
	return true;
}

static void list_push(struct mafc_matcher *m, u16 i)
{
	struct span *s = span(m, i);

	s->prev = NONE;
	s->next = m->filled[s->sig / 64] >> (s->sig % 64) & 1 ? m->head[s->sig] : NONE;
	if (s->next != NONE)
		span(m, s->next)->prev = i;
	m->head[s->sig] = i;
	m->filled[s->sig / 64] |= 1ULL << (s->sig % 64);
}

static void list_del(struct mafc_matcher *m, u16 i)
{
	struct span *s = span(m, i);

	if (s->next != NONE)
		span(m, s->next)->prev = s->prev;
	if (s->prev != NONE)
		span(m, s->prev)->next = s->next;
	else if (s->next != NONE)
		m->head[s->sig] = s->next;
	else
		m->filled[s->sig / 64] &= ~(1ULL << (s->sig % 64));
}

static void take(struct mafc_matcher *m, u16 i)
{
	struct span *s = span(m, i);
	unsigned int k = s->live, last = m->start[k] + --m->left[k];
	u16 other = span(m, last)->at;

	span(m, s->place)->at = other;
	span(m, other)->place = s->place;
	if (!m->left[k])
		m->levels[k / 64] &= ~(1ULL << (k % 64));
	list_del(m, i);
}

/* A counting sort by live blocks. */
static void seal(struct mafc_matcher *m)
{
	unsigned int k, sum = 0;
	u32 i;

	for (k = 0; k < MAFC_MATCHER_BLOCKS_MAX; k++) {
		m->start[k] = sum;
		sum += m->left[k];
		if (m->left[k])
			m->levels[k / 64] |= 1ULL << (k % 64);
		m->left[k] = 0;
	}
	for (i = 0; i < m->count; i++) {
		struct span *s = span(m, i);

		s->place = m->start[s->live] + m->left[s->live]++;
		span(m, s->place)->at = i;
	}
	m->sealed = true;
}

/* Highest level from @k down that has spans; 0: none. */
static unsigned int level_down(const struct mafc_matcher *m, unsigned int k)
{
	int w = k / 64;
	u64 bits = m->levels[w] & (~0ULL >> (63 - k % 64));

	while (!bits && w > 0)
		bits = m->levels[--w];
	return bits ? w * 64 + fls64(bits) - 1 : 0;
}

static bool pick_dst(struct mafc_matcher *m)
{
	unsigned int k = level_down(m, MAFC_MATCHER_BLOCKS_MAX - 1);

	if (!k)
		return false;
	m->dst = span(m, m->start[k] + m->left[k] - 1)->at;
	m->dst_live = k;
	m->dst_sig = span(m, m->dst)->sig | ~0u << min_t(u32, m->nblocks, 16);
	memcpy(m->dst_bits, bitmap(m, m->dst), m->words * sizeof(u64));
	m->fails = 0;
	take(m, m->dst);
	return true;
}

/* The fullest span, of @most blocks or less, whose signature lies within the free places. */
static u16 find_subset(struct mafc_matcher *m, u16 places, unsigned int most)
{
	static const u64 over[] = { ~1ULL, 0xfffffffefffefee8, 0xfffefee8fee8e880,
		0xfee8e880e8808000, 0xe880800080000000, 1ULL << 63, 0 }; /* [k]: hweight(n) > k */
	unsigned int others = m->nblocks - m->dst_live - hweight32(places), ones, live, bit, k;
	unsigned int best = 0, high = places / 64, first = m->dst & high, sub = first;
	u64 low = 1, word;		/* bit n: n lies within the lowest six places */
	u16 found = NONE, i;

	for (k = 0; k < 6; k++)
		low |= places >> k & 1 ? low << (1 << k) : 0;
	m->steps += 1u << hweight32(high);
	do {
		do {
			sub = (sub - 1) & high;
			word = m->filled[sub] & low;
		} while (!word && sub != first);
		ones = hweight32(sub) + others;	/* at most, in what fits, beside the lowest six */
		while ((word &= best < ones ? ~0ULL : over[min_t(u32, best - ones, 6)])) {
			bit = fls64(word) - 1;
			word ^= 1ULL << bit;
			i = m->head[sub * 64 + bit];
			for (k = 0; k < ENUM_CHAIN && i != NONE; k++, i = span(m, i)->next) {
				m->steps++;
				live = span(m, i)->live;
				if (live > best && live <= most && disjoint(m, i)) {
					best = live;
					found = i;
				}
			}
		}
	} while (sub != first && best < most);	/* of equals not always the same one */
	return found;
}

/*
 * The highest level at which a random span fits with odds of 1 to PROBE_ODDS: k random ones of n
 * blocks are among f free ones with probability f/n * (f-1)/(n-1) ..., k factors.
 */
static unsigned int probe_level(const struct mafc_matcher *m)
{
	unsigned int room = m->nblocks - m->dst_live, k;
	u32 odds = 1u << 16;

	for (k = 0; k < room; k++) {
		odds = odds * (room - k) / (m->nblocks - k);
		if (odds < (1u << 16) / PROBE_ODDS)
			break;
	}
	return max_t(unsigned int, k, 1);
}

/* A span that fits, by comparing some of each level, the fuller ones first. */
static u16 find_probe(struct mafc_matcher *m)
{
	unsigned int k = level_down(m, probe_level(m));
	unsigned int budget = k ? PROBES : PROBES_ANYWAY, w;

	for (w = 0; w < 4 && !k; w++)
		k = m->levels[w] ? w * 64 + __ffs64(m->levels[w]) : 0;
	for (; k && budget; k = level_down(m, k - 1)) {
		unsigned int n = min_t(unsigned int, m->left[k], PROBES_LEVEL);

		n = min_t(unsigned int, n, budget);
		for (budget -= n; n; n--) {
			unsigned int at = m->start[k] + m->cursor[k]++ % m->left[k];
			u16 i = span(m, at)->at;

			m->steps++;
			if (disjoint(m, i))
				return i;
		}
	}
	return NONE;
}

static u16 find_src(struct mafc_matcher *m)
{
	u16 places = ~m->dst_sig, src = NONE;
	unsigned int n = hweight32(places), most = level_down(m, m->nblocks - m->dst_live);

	if (!most)
		return NONE;
	if (n > ENUM_FIRST)
		src = find_probe(m);
	if (src == NONE && (n <= ENUM_PLACES || !m->words))
		src = find_subset(m, places, most);
	if (src == NONE && n <= ENUM_FIRST && m->words)
		src = find_probe(m);
	return src;
}

/* Bytes for 1 to MAFC_MATCHER_SPANS_MAX spans of up to 64 blocks: 138 KiB and 24 each. */
size_t mafc_matcher_size(u32 max_spans)
{
	return sizeof(struct mafc_matcher) + max_spans * (sizeof(struct span) + sizeof(u64));
}

/* Makes a matcher, in memory aligned to 8; mafc_matcher_reset() must follow. */
void mafc_matcher_init(struct mafc_matcher *m, u32 max_spans)
{
	m->max_spans = max_spans;
	mafc_matcher_reset(m, 0);	/* refused: a matcher of nothing */
}

/* Begins a round: spans of @nblocks, 2 to 256 (over 64 fewer fit in: capacity); else -EINVAL. */
int mafc_matcher_reset(struct mafc_matcher *m, unsigned int nblocks)
{
	bool valid = nblocks >= 2 && nblocks <= MAFC_MATCHER_BLOCKS_MAX;
	u32 max_spans = m->max_spans;
	size_t room = mafc_matcher_size(max_spans) - sizeof(*m);

	memset(m, 0, offsetof(struct mafc_matcher, head));
	m->max_spans = max_spans;
	m->nblocks = valid ? nblocks : 0;
	m->words = nblocks <= 16 || !valid ? 0 : (nblocks + 63) / 64;
	m->capacity = room / (sizeof(struct span) + m->words * sizeof(u64));
	m->capacity = valid ? min_t(u32, m->capacity, max_spans) : 0;
	m->dst = NONE;
	m->src = NONE;
	return valid ? 0 : -EINVAL;
}

/* 0; -EINVAL: a span that is empty, full, or has bits beyond its end; -ENOSPC; -EBUSY: sealed. */
int mafc_matcher_add(struct mafc_matcher *m, u32 id, const u64 bits[4])
{
	unsigned int live = 0, w;
	struct span *s;

	if (m->sealed)
		return -EBUSY;
	for (w = 0; w < 4; w++) {
		unsigned int valid = m->nblocks - min_t(unsigned int, m->nblocks, w * 64);

		if (valid < 64 && bits[w] >> valid)
			return -EINVAL;
		live += hweight64(bits[w]);
	}
	if (!live || live >= m->nblocks)
		return -EINVAL;
	if (m->count >= m->capacity)
		return -ENOSPC;
	s = span(m, m->count);
	s->id = id;
	s->sig = bits[0];
	s->live = live;
	memcpy(bitmap(m, m->count), bits, m->words * sizeof(u64));
	m->left[live]++;
	list_push(m, m->count);
	m->count++;
	return 0;
}

/*
 * The next pair; without mafc_matcher_done() after it, it counts as failed. False: no pair is
 * left or found; or, with @m->paused set, a fraction of a millisecond was too short: call again.
 */
bool mafc_matcher_next(struct mafc_matcher *m, u32 *dst, u32 *src)
{
	u64 stop = m->steps + STEPS_MAX;

	mafc_matcher_done(m, false);
	if (!m->sealed)
		seal(m);
	while (m->dst != NONE || pick_dst(m)) {
		m->paused = m->steps >= stop;
		if (m->paused)
			return false;
		m->src = find_src(m);
		if (m->src != NONE) {
			take(m, m->src);
			*dst = span(m, m->dst)->id;
			*src = span(m, m->src)->id;
			return true;
		}
		m->dst = NONE;
	}
	return false;
}

/* Verdict on the proposal: the source is in the destination, or out of the round; see FAILS_MAX. */
void mafc_matcher_done(struct mafc_matcher *m, bool meshed)
{
	unsigned int w;

	if (m->src == NONE)
		return;
	if (meshed) {
		m->dst_live += span(m, m->src)->live;
		m->dst_sig |= span(m, m->src)->sig;
		for (w = 0; w < m->words; w++)
			m->dst_bits[w] |= bitmap(m, m->src)[w];
	}
	m->fails = meshed ? 0 : m->fails + 1;
	m->src = NONE;
	if (m->dst_live >= m->nblocks || m->fails >= FAILS_MAX)
		m->dst = NONE;
}
