// SPDX-License-Identifier: GPL-2.0-only
/*
 * predict.c - the fragmentation model inside the module: what it is told, and
 * that the compactor acts on what it says
 *
 * Between two kicks, which a write to a tunable is, nobody visits the heap: each
 * kick is one step of the model, and the tracepoint tells what it made of it.
 */
#include "test.h"

#define TRACING "/sys/kernel/tracing/instances/mafc_predict"

#define SPANS 1000

static const struct {
	const char *name, *value;
} settings[] = {
	{ "medium_percent", "10" }, { "high_percent", "25" },
	{ "threshold_percent", "60" }, { "budget_percent", "100" },
	{ "interval_ms", "3600000" }, { "enable", "1" },
};

#define SETTINGS (sizeof(settings) / sizeof(settings[0]))

struct told {
	unsigned int state, frag, entropy, free_rate, high_ppm, steps;
	unsigned long long pages;
};

FIXTURE(predict) {
	struct heap h;
	uint64_t was[SETTINGS];
	int pipe;
	struct told t;
};

FIXTURE_SETUP(predict)
{
	unsigned int i;

	if (access("/dev/mafc", F_OK))
		SKIP(return, "no /dev/mafc");
	if (mkdir(TRACING, 0700) && errno != EEXIST)
		SKIP(return, "no tracefs, or not root");
	ASSERT_EQ(0, file_write(TRACING "/events/mafc/mafc_predict/enable", "1"));
	self->pipe = open(TRACING "/trace_pipe", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ASSERT_LE(0, self->pipe);
	for (i = 0; i < SETTINGS; i++) {
		self->was[i] = tunable(settings[i].name);
		ASSERT_EQ(0, tunable_set(settings[i].name, settings[i].value));
	}
	ASSERT_EQ(0, heap_open(&self->h, 0));
}

FIXTURE_TEARDOWN(predict)
{
	unsigned int i;

	for (i = 0; i < SETTINGS; i++)
		tunable_set_u64(settings[i].name, self->was[i]);
	heap_close(&self->h);
	close(self->pipe);
	rmdir(TRACING);
}

/* What there is of events about this process; the last one counts. */
static bool told(int pipe, struct told *t)
{
	char buf[8192], pid[32], *line;
	bool found = false;
	int n;

	snprintf(pid, sizeof(pid), " pid=%d ", getpid());
	while ((n = read(pipe, buf, sizeof(buf) - 1)) > 0) {
		buf[n] = 0;
		for (line = strtok(buf, "\n"); line; line = strtok(NULL, "\n")) {
			line = strstr(line, pid);
			found |= line && sscanf(line + strlen(pid),
				"state=%u fragmentation=%u entropy=%u free_rate=%u pages=%llu high_ppm=%u steps=%u",
				&t->state, &t->frag, &t->entropy, &t->free_rate,
				&t->pages, &t->high_ppm, &t->steps) == 7;
		}
	}
	return found;
}

/* One visit of the compactor. */
#define STEP() ({							\
	told(self->pipe, &self->t);					\
	ASSERT_EQ(0, tunable_set("interval_ms", "3600000"));		\
	ASSERT_TRUE(WAIT_FOR(10000, told(self->pipe, &self->t)));	\
})

static uint64_t meshed(struct heap *h)
{
	struct mafc_stat st;

	return heap_stat(h, &st) ? UINT64_MAX : st.meshed;
}

static void counters_publish(struct heap *h)
{
	h->header->nclasses = 4;
	h->header->magic = MAFC_META_MAGIC;
}

/* 16 blocks in each span; the bits of a full one, and of one with two blocks. */
static void spans_fill(struct heap *h)
{
	unsigned int i;

	for (i = 0; i < SPANS; i++) {
		span_make(h, i, 256, 16, 1);
		block_fill(block_at(h, i, 2 * (i % 8)), 256, i, 1);
		h->span[i].bitmap[0] = 0xffff;
	}
}

/* Of 20 spans @sparse hold two blocks, the others are full. */
static void spans_set(struct heap *h, unsigned int sparse)
{
	unsigned int i;

	for (i = 0; i < SPANS; i++)
		h->span[i].bitmap[0] = i % 20 < sparse ? 3U << 2 * (i % 8) : 0xffff;
}

#define LOW	0
#define MEDIUM	3	/* 13 % of the heap is free blocks */
#define HIGH	10	/* 43 % */
#define MESHES	(SPANS * MEDIUM / 20 / 2)

#define STAY(sparse, steps) ({						\
	unsigned int _i;						\
									\
	for (_i = 0; _i < (steps); _i++) {				\
		spans_set(&self->h, sparse);				\
		STEP();							\
	}								\
})

/*
 * Medium leads to High again and again, or never.  As the spans are attached,
 * there is nothing to mesh.  At the end the heap is Low, and its spans are idle.
 */
#define LEARN(top) ({							\
	unsigned int _k;						\
									\
	counters_publish(&self->h);					\
	spans_fill(&self->h);						\
	for (_k = 0; _k < 20; _k++) {					\
		STAY(LOW, 3);						\
		EXPECT_EQ(0, self->t.state);				\
		STAY(MEDIUM, 3);					\
		EXPECT_EQ(1, self->t.state);				\
		STAY(top, 3);						\
		EXPECT_EQ((top) == HIGH ? 2 : (top) == MEDIUM, self->t.state);	\
	}								\
	STAY(LOW, 3);							\
	for (_k = 0; _k < SPANS; _k++)					\
		span_detach(&self->h, _k);				\
	ASSERT_EQ(0, meshed(&self->h));					\
})

static unsigned int wrong_blocks(struct heap *h)
{
	unsigned int bad = 0, i;

	for (i = 0; i < SPANS; i++)
		bad += block_check(block_at(h, i, 2 * (i % 8)), 256, i, 1) >= 0;
	return bad;
}

/* Under the threshold, and not yet High: but High is what always came next. */
TEST_F_TIMEOUT(predict, acts_before_the_threshold, 120)
{
	LEARN(HIGH);
	STAY(MEDIUM, 1);
	TH_LOG("fragmentation %u, High with %u ppm, in %u steps", self->t.frag,
	       self->t.high_ppm, self->t.steps);
	EXPECT_EQ(1, self->t.state);
	EXPECT_GT(2500, self->t.frag);
	EXPECT_LT(500000, self->t.high_ppm);
	EXPECT_GE(10, self->t.steps);
	EXPECT_LT(0, self->t.steps);
	EXPECT_TRUE(WAIT_FOR(10000, meshed(&self->h) >= MESHES));
	EXPECT_EQ(0, wrong_blocks(&self->h));
	STEP();		/* what was freed is given back after the next visit */
	STEP();
	TH_LOG("afterwards: fragmentation %u", self->t.frag);
	EXPECT_GT(1000, self->t.frag);
}

/* The same heap, where High never came: it is left alone up to the threshold. */
TEST_F_TIMEOUT(predict, waits_for_the_threshold, 120)
{
	LEARN(LOW);
	STAY(MEDIUM, 1);
	EXPECT_EQ(1, self->t.state);
	EXPECT_GT(500000, self->t.high_ppm);
	STEP();		/* now the visit before is over */
	EXPECT_EQ(0, meshed(&self->h));
	ASSERT_EQ(0, tunable_set("threshold_percent", "5"));
	EXPECT_TRUE(WAIT_FOR(10000, meshed(&self->h) >= MESHES));
	EXPECT_EQ(0, wrong_blocks(&self->h));
}

FIXTURE(counters) {
	struct heap h;
	uint64_t was[SETTINGS];
	int pipe;
	struct told t;
};

enum damage { NO_MAGIC, NO_CLASSES, MANY_CLASSES, WENT_BACK, FREES_WENT_BACK, RACED };

FIXTURE_VARIANT(counters) {
	enum damage damage;
};

FIXTURE_VARIANT_ADD(counters, no_magic) { NO_MAGIC };
FIXTURE_VARIANT_ADD(counters, no_classes) { NO_CLASSES };
FIXTURE_VARIANT_ADD(counters, too_many_classes) { MANY_CLASSES };
FIXTURE_VARIANT_ADD(counters, allocs_went_back) { WENT_BACK };
FIXTURE_VARIANT_ADD(counters, frees_went_back) { FREES_WENT_BACK };
FIXTURE_VARIANT_ADD(counters, allocs_raced_ahead) { RACED };

FIXTURE_SETUP(counters) { predict_setup(_metadata, (void *)self, NULL); }
FIXTURE_TEARDOWN(counters) { predict_teardown(_metadata, (void *)self, NULL); }

/* To be done before each visit: what a counter was is known only once. */
static void damage(struct mafc_meta *m, enum damage damage)
{
	switch (damage) {
	case NO_MAGIC:
		m->magic = MAFC_META_MAGIC ^ 0x100;
		break;
	case NO_CLASSES:
		m->nclasses = 0;
		break;
	case MANY_CLASSES:
		m->nclasses = MAFC_CLASSES_MAX + 1;
		break;
	case WENT_BACK:
		m->classes[3].allocs--;
		break;
	case FREES_WENT_BACK:
		m->classes[2].frees--;
		break;
	case RACED:
		m->classes[1].allocs += 1ULL << 40;
		break;
	}
}

/* Without counters that make sense it is Low, and there is the threshold. */
TEST_F_TIMEOUT(counters, damaged, 120)
{
	struct mafc_meta *m = self->h.header;

	m->classes[3].allocs = m->classes[2].frees = 1000;
	LEARN(HIGH);
	damage(m, variant->damage);
	STAY(MEDIUM, 1);
	EXPECT_EQ(0, self->t.pages);
	EXPECT_EQ(0, self->t.state);
	EXPECT_EQ(0, self->t.high_ppm);
	EXPECT_LT(1000, self->t.frag);
	damage(m, variant->damage);
	STEP();		/* now the visit before is over */
	EXPECT_EQ(0, meshed(&self->h));
	damage(m, variant->damage);
	ASSERT_EQ(0, tunable_set("threshold_percent", "5"));
	EXPECT_TRUE(WAIT_FOR(10000, meshed(&self->h) >= MESHES));
	EXPECT_EQ(0, wrong_blocks(&self->h));
	/* And when they are sane again, so is the model. */
	counters_publish(&self->h);
	STEP();
	STEP();
	EXPECT_LT(SPANS / 2, self->t.pages);
}

/* A heap that never had any; and one whose counters are known. */
TEST_F(predict, is_told_the_truth)
{
	struct mafc_class_count *c = self->h.header->classes;
	struct mafc_stat st;
	unsigned int i;

	STEP();
	EXPECT_EQ(0, self->t.pages);
	EXPECT_EQ(0, self->t.high_ppm);
	counters_publish(&self->h);
	spans_fill(&self->h);
	STAY(MEDIUM, 5);
	EXPECT_EQ(0, self->t.entropy);
	EXPECT_EQ(32768, self->t.free_rate);
	ASSERT_EQ(0, heap_stat(&self->h, &st));
	EXPECT_EQ(st.held / 4096, self->t.pages);
	EXPECT_EQ(st.fragmentation, self->t.frag);
	EXPECT_EQ(st.state, self->t.state);
	EXPECT_EQ(st.high_ppm, self->t.high_ppm);
	for (i = 0; i < 4; i++)
		c[i].allocs += 256;
	c[2].frees += 3072;
	STEP();
	EXPECT_EQ(65536, self->t.entropy);
	EXPECT_EQ(49152, self->t.free_rate);
	c[0].allocs += 64;
	c[3].allocs += 64;
	c[1].frees += 896;
	STEP();
	EXPECT_EQ(32768, self->t.entropy);
	EXPECT_EQ(57344, self->t.free_rate);
}

TEST_HARNESS_MAIN
