/* SPDX-License-Identifier: Apache-2.0
 * The sampler against its definition: a full sort, double precision, the maths library's exp. Given the
 * uniform number the token has to be the same one, unless a sum ends so close to where it is cut that rounding
 * decides; how often that may be is checked too. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "engine/sample.h"
#include "sampler.h"
#include "test.h"

enum { BIG_V = 151936, MAX_HIST = 300 };
#define CLOSE 4e-6 /* share of the mass within which rounding may decide */

typedef struct Dice {
    uint64_t seed, n;
} Dice;

/* splitmix64: rows of a large vocabulary take many of them. */
static uint64_t next(Dice *d) {
    uint64_t z = d->seed + ++d->n * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static uint32_t roll(Dice *d, uint32_t sides) { return (uint32_t)((next(d) >> 32) * sides >> 32); }

static double unit(Dice *d) { return (double)(next(d) >> 11) * 0x1p-53; }

/* ---- the definition ---- */

typedef struct Item {
    double logit, w, key;
    int32_t id;
} Item;

typedef struct Naive {
    Item *item; /* [n] */
    int n;
    bool close; /* rounding may decide somewhere */
    bool exact; /* all weights are 1: sums are whole numbers and nothing may be close */
} Naive;

typedef struct Case {
    SampleIn in;
    SampleOpts o;
    int32_t hist[MAX_HIST];
    int n_hist, n_prompt;
} Case;

static double as_float(double y) {
    if (isinf(y)) return y;
    return (double)(float)fmax(fmin(y, (double)FLT_MAX), -(double)FLT_MAX);
}

static void adjust(double *y, const Case *c) {
    const SampleIn *in = &c->in;
    const SampleOpts *o = &c->o;
    int n = in->n_vocab;
    for (int i = 0; i < n; i++) {
        y[i] = (double)in->logits[i];
        if (in->mask && !(in->mask[i / 32] >> (i % 32) & 1)) y[i] = -HUGE_VAL;
        for (int k = 0; k < in->n_ban; k++)
            if (in->ban[k] == i) y[i] = -HUGE_VAL;
        for (int k = 0; k < in->n_end_ids; k++)
            if (in->end_ids[k] == i && in->n_out < o->min_tokens) y[i] = -HUGE_VAL;
        for (int k = 0; k < o->n_stop_ids; k++)
            if (o->stop_ids[k] == i && in->n_out < o->min_tokens) y[i] = -HUGE_VAL;
    }
    for (int k = 0; k < o->n_bias; k++)
        y[o->bias[k].id] = as_float(y[o->bias[k].id] + (double)o->bias[k].bias);
    int from = o->repeat_last_n ? MAX(0, c->n_hist - (int)o->repeat_last_n) : 0;
    for (int k = 0; k < c->n_hist; k++) {
        int32_t id = c->hist[k];
        int n_out = 0;
        bool is_first = true, in_window = false;
        if (!in->hist || id >= n) continue;
        for (int j = 0; j < c->n_hist; j++) {
            if (c->hist[j] != id) continue;
            is_first &= j >= k;
            in_window |= j >= from;
            n_out += j >= c->n_prompt;
        }
        if (!is_first) continue;
        if (in_window && o->repetition > 0)
            y[id] = y[id] <= 0 ? y[id] * o->repetition : y[id] / o->repetition;
        if (n_out > 0) y[id] -= o->frequency * n_out + o->presence;
        y[id] = as_float(y[id]);
    }
}

static int by_logit(const void *a, const void *b) {
    const Item *x = a, *y = b;
    return x->logit != y->logit ? (x->logit < y->logit) - (x->logit > y->logit) : x->id - y->id;
}

static int by_key(const void *a, const void *b) {
    const Item *x = a, *y = b;
    return x->key != y->key ? (x->key > y->key) - (x->key < y->key) : x->id - y->id;
}

static int by_id(const void *a, const void *b) {
    return ((const Item *)a)->id - ((const Item *)b)->id;
}

static double mass(const Naive *v) {
    double sum = 0;
    for (int i = 0; i < v->n; i++) sum += v->item[i].w;
    return sum;
}

/* Keep the first that reach `share`. */
static void keep_share(Naive *v, double share) {
    double total = mass(v), sum = 0;
    int n = 0;
    while (n < v->n && sum < share * total) {
        sum += v->item[n++].w;
        v->close |= fabs(sum - share * total) < CLOSE * total;
    }
    v->n = MAX(n, 1);
}

static void typical(Naive *v, double share) {
    double total = mass(v), entropy = 0;
    for (int i = 0; i < v->n; i++) {
        double p = v->item[i].w / total;
        if (p > 0) entropy -= p * log(p);
    }
    for (int i = 0; i < v->n; i++) v->item[i].key = fabs(-log(v->item[i].w / total) - entropy);
    if (!v->exact) {
        qsort(v->item, (size_t)v->n, sizeof(Item), by_key);
        /* tokens as far above as others are below: rounding decides which comes first */
        for (int i = 1; i < v->n; i++)
            v->close |= v->item[i].logit != v->item[i - 1].logit &&
                        fabs(v->item[i].key - v->item[i - 1].key) < 1e-6;
    }
    if (!v->exact)
        for (int i = 0; i < v->n;) { /* equal logits have equal keys, whatever rounding says */
            int j = i;
            while (++j < v->n && v->item[j].logit == v->item[i].logit)
                v->item[j].key = v->item[i].key;
            i = j;
        }
    qsort(v->item, (size_t)v->n, sizeof(Item), by_key);
    keep_share(v, share);
    qsort(v->item, (size_t)v->n, sizeof(Item), by_logit);
}

static void min_p(Naive *v, double least) {
    int n = 0;
    while (n < v->n) {
        double ratio = v->item[n].w / v->item[0].w;
        v->close |= fabs(ratio / least - 1) < 1e-9 && ratio != 1;
        if (ratio < least) break;
        n++;
    }
    v->n = MAX(n, 1);
}

static int32_t naive(Naive *v, double *y, const Case *c, double u) {
    const SampleOpts *o = &c->o;
    v->close = false;
    v->exact = true;
    v->n = c->in.n_vocab;
    adjust(y, c);
    for (int i = 0; i < v->n; i++) v->item[i] = (Item){.logit = y[i], .id = i};
    qsort(v->item, (size_t)v->n, sizeof(Item), by_logit);
    if (isinf(v->item[0].logit)) return -1;
    if (o->temp == 0) return v->item[0].id;
    if (o->top_k > 0) v->n = MIN(v->n, (int)o->top_k);
    while (isinf(v->item[v->n - 1].logit)) v->n--;
    for (int i = 0; i < v->n; i++) {
        v->item[i].w = exp((v->item[i].logit - v->item[0].logit) / o->temp);
        v->exact &= v->item[i].logit == v->item[0].logit;
    }
    if (o->typical > 0 && o->typical < 1) typical(v, o->typical);
    if (o->top_p < 1) keep_share(v, o->top_p);
    if (o->min_p > 0) min_p(v, o->min_p);
    qsort(v->item, (size_t)v->n, sizeof(Item), by_id);
    double total = mass(v), at = u * total, sum = 0;
    for (int i = 0; i < v->n; i++) {
        sum += v->item[i].w;
        v->close |= fabs(sum - at) < CLOSE * total || u < CLOSE;
        if (sum > at) return v->item[i].id;
    }
    return v->item[v->n - 1].id;
}

/* ---- cases ---- */

static float *logits;
static uint32_t *mask;
static SampleBias bias[8];
static int32_t lists[3][4];
static double *shifted;
static Sampler *sampler;
static void *hist_mem;
static Naive def;

static void set_up(int n_vocab) {
    logits = mem_new_n(float, (size_t)n_vocab);
    mask = mem_new_n(uint32_t, (size_t)n_vocab / 32 + 1);
    shifted = mem_new_n(double, (size_t)n_vocab);
    sampler = sampler_for(n_vocab);
    hist_mem = mem_alloc_n(1, sample_hist_bytes(MAX_HIST));
    def.item = mem_new_n(Item, (size_t)n_vocab);
    TRUE_(logits && mask && shifted && sampler && hist_mem && def.item);
}

static void tear_down(void) {
    mem_free(logits);
    mem_free(mask);
    mem_free(shifted);
    mem_free(sampler);
    mem_free(hist_mem);
    mem_free(def.item);
}

/* Rows of many kinds: smooth, full of ties, flat, with -inf, of extreme size, like a language model's. */
static void random_row(Dice *d, int n) {
    uint32_t kind = roll(d, 8);
    double spread = (double)(1 + roll(d, 12));
    for (int i = 0; i < n; i++) {
        double z = unit(d) + unit(d) + unit(d) - 1.5, y = spread * z;
        if (kind == 1) y = 0.5 * round(2 * y);
        if (kind == 2) y = 3;
        if (kind == 3 && roll(d, 3)) y = -HUGE_VAL;
        if (kind == 4) y = roll(d, 40) ? -HUGE_VAL : y;
        if (kind == 5) y *= 1e37;
        if (kind == 6) y = roll(d, 200) ? 2 * z : 6 + 6 * unit(d);
        if (kind == 7) y = roll(d, 2) ? -0.0 : 0.0;
        logits[i] = (float)y;
    }
    logits[roll(d, (uint32_t)n)] = (float)spread;
}

static double one_of(Dice *d, const double *v, size_t n) { return v[roll(d, (uint32_t)n)]; }
#define ONE_OF(...) \
    one_of(d, (const double[]){__VA_ARGS__}, COUNT_OF(((const double[]){__VA_ARGS__})))

static void random_opts(Dice *d, SampleOpts *o, int n) {
    *o = (SampleOpts){.temp = ONE_OF(0, 0.05, 0.7, 0.8, 1, 1, 1.5, 100), .top_p = 1, .seed = d->n};
    if (roll(d, 2)) o->top_k = 1 + roll(d, (uint32_t)(roll(d, 2) ? n + 1 : MIN(n, 50)));
    if (roll(d, 2))
        o->top_p = roll(d, 2) ? 1e-6 + 0.999998 * unit(d) : ONE_OF(1e-9, 0.5, 0.9, 0.999);
    if (roll(d, 3) == 0) o->min_p = roll(d, 2) ? unit(d) : ONE_OF(1e-9, 0.05, 0.1, 1);
    if (roll(d, 3) == 0) o->typical = roll(d, 2) ? unit(d) : ONE_OF(0.01, 0.5, 0.95, 1);
    if (roll(d, 3) == 0) o->repetition = ONE_OF(0.01, 0.9, 1, 1.1, 1.3, 100);
    if (roll(d, 2)) o->repeat_last_n = 1 + roll(d, MAX_HIST);
    if (roll(d, 3) == 0) o->presence = ONE_OF(-2, -0.3, 0.5, 2);
    if (roll(d, 3) == 0) o->frequency = ONE_OF(-2, -0.1, 0.7, 2);
}

static void random_ids(Dice *d, int32_t *ids, int n_ids, int n) {
    for (int i = 0; i < n_ids; i++) ids[i] = (int32_t)roll(d, (uint32_t)n + 1); /* n: passed over */
}

static void random_lists(Dice *d, Case *c, int n) {
    SampleIn *in = &c->in;
    if (roll(d, 3) == 0) {
        for (int i = 0; i <= n / 32; i++)
            mask[i] = roll(d, 3) ? roll(d, UINT32_MAX) : 0 - roll(d, 2);
        in->mask = mask;
    }
    if (roll(d, 3) == 0) {
        c->o.bias = bias;
        c->o.n_bias = MIN(n, 8);
        for (int i = 0; i < c->o.n_bias; i++)
            bias[i] = (SampleBias){i * (n / c->o.n_bias), (float)ONE_OF(-100, -1.5, 0.25, 4, 100)};
    }
    for (int i = 0; i < 3; i++) random_ids(d, lists[i], 4, n);
    if (roll(d, 3) == 0) {
        c->o.min_tokens = roll(d, 10);
        in->n_out = roll(d, 10);
        in->end_ids = lists[0];
        in->n_end_ids = (int)roll(d, 3);
        c->o.stop_ids = lists[1];
        c->o.n_stop_ids = (int)roll(d, 3);
    }
    if (roll(d, 4) == 0) {
        in->ban = lists[2];
        in->n_ban = 1 + (int)roll(d, 3);
    }
}

static void random_hist(Dice *d, Case *c, int n) {
    uint32_t among = 1 + roll(d, 2 * (uint32_t)MIN(n, 60));
    c->n_hist = (int)roll(d, MAX_HIST + 1);
    c->n_prompt = (int)roll(d, (uint32_t)c->n_hist + 1);
    SampleHist *h = sample_hist_init(hist_mem, MAX_HIST, c->o.repeat_last_n);
    for (int i = 0; i < c->n_hist; i++) {
        c->hist[i] = (int32_t)roll(d, among);
        sample_hist_push(h, c->hist[i], i >= c->n_prompt);
    }
    c->in.hist = h;
}

typedef struct Tally {
    int n, n_close, n_none;
} Tally;

/* `draws` tokens of one random case. */
static void check_case(Tally *t, Dice *d, int n, int draws) {
    Case c = {.in = {.logits = logits, .n_vocab = n}};
    random_row(d, n);
    random_opts(d, &c.o, n);
    random_lists(d, &c, n);
    random_hist(d, &c, n);
    c.in.o = &c.o;
    OK_(sample_check(&c.o, TERR));
    for (int i = 0; i < draws; i++, t->n++) {
        SampleOut out = {0};
        c.in.pos = (uint64_t)i;
        double u = rng_uniform(rng_key(c.o.seed, "sample"), 0, c.in.pos);
        int32_t want = naive(&def, shifted, &c, u);
        if (want < 0) {
            FAILS(ERR_ARG, sample_pick(&out, &c.in, sampler, TERR));
            t->n_none++;
            return;
        }
        OK_(sample_pick(&out, &c.in, sampler, TERR));
        bool close = def.close && !def.exact;
        t->n_close += close;
        if (out.id != want && !close)
            FAIL("case %d of seed %d, %d tokens: %d instead of %d (temp %g top_k %d top_p %.17g "
                 "min_p "
                 "%.17g typical %.17g u %.17g)",
                 t->n, (int)d->seed, n, out.id, want, c.o.temp, (int)c.o.top_k, c.o.top_p,
                 c.o.min_p, c.o.typical, u);
    }
}

TEST(random_cases_match_the_definition) {
    static const int sizes[] = {1, 2, 3, 7, 31, 32, 33, 127, 128, 129, 300, 1000};
    Tally t = {0};
    set_up(1000);
    for (size_t k = 0; k < COUNT_OF(sizes); k++) {
        Dice d = {.seed = k + 1};
        for (int i = 0; i < 500; i++) check_case(&t, &d, sizes[k], 4);
    }
    tear_down();
    TRUE_(t.n > 15000);
    TRUE_(t.n_close < t.n / 10);
    TRUE_(t.n_none > 10 && t.n_none < t.n / 10);
}

TEST(large_vocabularies_match_the_definition) {
    Tally t = {0};
    Dice d = {.seed = 99};
    set_up(BIG_V);
    for (int i = 0; i < 24; i++) check_case(&t, &d, BIG_V - (int)roll(&d, 2) * 77, 1);
    tear_down();
    TRUE_(t.n_close < t.n / 3);
}

/* The same tokens from every compiler and at every level of optimisation. */
TEST(choices_are_the_same_everywhere) {
    Dice d = {.seed = 4711};
    uint64_t sum = 0;
    set_up(3000);
    for (int i = 0; i < 400; i++) {
        SampleOpts o;
        int32_t id = 0;
        for (int k = 0; k < 3000; k++) logits[k] = (float)((int)roll(&d, 4000) - 2000) * 0x1p-8f;
        random_opts(&d, &o, 3000);
        OK_(sample_next(&id, logits, 3000, &o, (uint64_t)i, sampler, TERR));
        sum = sum * 31 + (uint64_t)id;
    }
    tear_down();
    EQ(sum, 6035941969672994333);
}
