/* SPDX-License-Identifier: Apache-2.0
 * The cuts and the draw. Nothing sorts a vocabulary: a cut is an edge, a key such that the candidates above
 * it and the first few of those at it are kept, and an edge is found by histograms over ever smaller
 * ranges of keys. Candidates stay in id order throughout, which is also how ties go to the lower id.
 *
 * How candidates are gathered, so that few have to be looked at:
 *   top-k   the k-th greatest of the blocks' peaks is a floor: k logits reach it, and blocks whose peak
 *           does not are skipped
 *   top-p   the whole row's mass is needed, but then only tokens above a depth below which even a whole
 *           vocabulary holds less than 1 - p of it
 *   min-p   depth is at most -log(min_p)
 *   typical every token with a weight
 * With no cut at all the draw goes by sums of blocks, and only one block is walked. */
#include <math.h>
#include <string.h>

#include "engine/sample_internal.h"

enum { BINS = 256 };

/* ---- edges ---- */

typedef struct Edge {
    uint64_t key;
    int n_tie; /* of the candidates at key, so many are kept */
} Edge;

typedef struct Range {
    uint64_t lo, hi; /* lo > hi: empty */
} Range;

/* Order of floats as order of numbers; -0 equals 0. */
static uint64_t logit_key(float x) {
    uint32_t u;
    x += 0.0f;
    memcpy(&u, &x, sizeof u);
    return u >> 31 ? ~u : u | 0x80000000u;
}

/* Least and greatest of the keys within r. */
static Range tighten(const Cand *c, int m, Range r) {
    Range t = {UINT64_MAX, 0};
    for (int i = 0; i < m; i++) {
        uint64_t k = c[i].key;
        if (k < r.lo || k > r.hi) continue;
        t.lo = MIN(t.lo, k);
        t.hi = MAX(t.hi, k);
    }
    return t;
}

/* The part of r in which the sum from above reaches `want`; *above grows by what lies over that part. */
static Range narrow(const Cand *c, int m, Range r, uint64_t want, bool by_weight, uint64_t *above) {
    uint64_t bin[BINS] = {0}, width = r.hi - r.lo, b = BINS - 1;
    int shift = 0;
    while (width >> shift >= BINS) shift++;
    for (int i = 0; i < m; i++)
        if (c[i].key >= r.lo && c[i].key <= r.hi)
            bin[(c[i].key - r.lo) >> shift] += by_weight ? c[i].w : 1;
    while (b > 0 && *above + bin[b] < want) *above += bin[b--];
    uint64_t lo = r.lo + (b << shift), last = lo + ((UINT64_C(1) << shift) - 1);
    return (Range){lo, MIN(last, r.hi)};
}

/* Where candidates, best first, reach `want` of weight or, not by_weight, of number. 1 <= want <= their sum. */
static Edge find_edge(const Cand *c, int m, uint64_t want, bool by_weight) {
    Range r = tighten(c, m, (Range){0, UINT64_MAX});
    uint64_t above = 0;
    while (r.lo < r.hi) r = tighten(c, m, narrow(c, m, r, want, by_weight, &above));
    Edge edge = {.key = r.lo};
    for (int i = 0; i < m && above < want; i++) {
        if (c[i].key != r.lo) continue;
        above += by_weight ? c[i].w : 1;
        edge.n_tie++;
    }
    return edge;
}

/* Drop what is beyond the edge. */
static int keep_edge(Cand *c, int m, Edge edge) {
    int kept = 0, tie = 0;
    for (int i = 0; i < m; i++) {
        bool keep = c[i].key > edge.key || (c[i].key == edge.key && tie++ < edge.n_tie);
        if (keep) c[kept++] = c[i];
    }
    return kept;
}

/* ---- gathering ---- */

/* The logit so far below the best, in units of temperature. */
static double reaching(const Law *l, double depth) {
    return (double)l->best - depth / (double)l->per_temp;
}

/* Tokens with a logit of at least `least`. */
static int gather(Cand *c, const Row *r, double least) {
    int m = 0;
    for (int b = 0; b < r->n_block; b++) {
        if ((double)r->peak[b] < least) continue;
        int end = MIN(r->n, (b + 1) * SAMPLE_BLOCK);
        for (int i = b * SAMPLE_BLOCK; i < end; i++)
            if ((double)r->x[i] >= least)
                c[m++] = (Cand){.key = logit_key(r->x[i]), .logit = r->x[i], .id = i};
    }
    return m;
}

/* A logit that at least k of the row reach. */
static float floor_of(const Row *r, int k, Cand *c) {
    if (k > r->n_block) return -INFINITY;
    for (int b = 0; b < r->n_block; b++)
        c[b] = (Cand){.key = logit_key(r->peak[b]), .logit = r->peak[b], .id = b};
    Edge edge = find_edge(c, r->n_block, (uint64_t)k, false);
    for (int b = 0; b < r->n_block; b++)
        if (c[b].key == edge.key) return c[b].logit;
    return -INFINITY;
}

static int take_top_k(Cand *c, const Row *r, int k) {
    int m = gather(c, r, (double)floor_of(r, k, c));
    return keep_edge(c, m, find_edge(c, m, (uint64_t)k, false));
}

/* Number of mass units that hold `share` of total: at least one. */
static uint64_t part_of(double share, uint64_t total) {
    double want = ceil(share * (double)total);
    return want < 1 ? 1 : want < (double)total ? (uint64_t)want : total;
}

/* All that top-p can keep; *total is the mass of the whole row. */
static int gather_top_p(uint64_t *total, Cand *c, const Row *r, const SampleOpts *o, const Law *l,
                        uint64_t *sum) {
    *total = sample__sum_blocks(sum, r, l);
    uint64_t room = *total - part_of(o->top_p, *total);
    double depth = log(2 * l->one); /* no weight beyond */
    if (room > 0) depth = MIN(depth, log((double)r->n * l->one / (double)room));
    return gather(c, r, reaching(l, depth + 1));
}

/* ---- cuts ---- */

static uint64_t weigh_all(Cand *c, int m, const Law *l) {
    float x[SAMPLE_BLOCK];
    uint64_t w[SAMPLE_BLOCK], total = 0;
    for (int i = 0; i < m; i += SAMPLE_BLOCK) {
        int n = MIN(SAMPLE_BLOCK, m - i);
        for (int j = 0; j < n; j++) x[j] = c[i + j].logit;
        sample__weigh(w, x, n, l);
        for (int j = 0; j < n; j++) {
            c[i + j].w = w[j];
            total += w[j];
        }
    }
    return total;
}

static uint64_t weight_of(const Cand *c, int m) {
    uint64_t total = 0;
    for (int i = 0; i < m; i++) total += c[i].w;
    return total;
}

/* -log p - entropy = depth - mean depth; what is closest to 0 comes first. */
static int cut_typical(Cand *c, int m, double share, uint64_t total, const Law *l) {
    double sum = 0;
    for (int i = 0; i < m; i++)
        if (c[i].w > 0) sum += (double)c[i].w * sample__depth(l, c[i].logit);
    double mean = sum / (double)total;
    for (int i = 0; i < m; i++) {
        double far = fabs(sample__depth(l, c[i].logit) - mean);
        uint64_t bits;
        memcpy(&bits, &far, sizeof bits);
        c[i].key = ~bits;
    }
    m = keep_edge(c, m, find_edge(c, m, part_of(share, total), true));
    for (int i = 0; i < m; i++) c[i].key = logit_key(c[i].logit);
    return m;
}

static int cut_min_p(Cand *c, int m, double min_p, const Law *l) {
    double most = -log(min_p), nearest = HUGE_VAL;
    int kept = 0;
    for (int i = 0; i < m; i++) nearest = MIN(nearest, sample__depth(l, c[i].logit));
    for (int i = 0; i < m; i++)
        if (sample__depth(l, c[i].logit) - nearest <= most) c[kept++] = c[i];
    return kept;
}

/* ---- the draw ---- */

/* Which of `total` units the uniform number falls on. */
static uint64_t unit_of(double u, uint64_t total) {
    uint64_t at = (uint64_t)(u * (double)total);
    return at < total ? at : total - 1;
}

static int32_t walk(const Cand *c, int m, double u) {
    uint64_t at = unit_of(u, weight_of(c, m));
    int i = 0;
    while (i < m - 1 && at >= c[i].w) at -= c[i++].w;
    return c[i].id;
}

/* Every token is a candidate. */
static int32_t draw_any(const Row *r, const Law *l, double u, uint64_t *sum) {
    uint64_t w[SAMPLE_BLOCK], at = unit_of(u, sample__sum_blocks(sum, r, l));
    int b = 0, j = 0;
    while (at >= sum[b]) at -= sum[b++];
    int first = b * SAMPLE_BLOCK, n = MIN(SAMPLE_BLOCK, r->n - first);
    sample__weigh(w, r->x + first, n, l);
    while (at >= w[j]) at -= w[j++];
    return first + j;
}

static bool typical_is_on(const SampleOpts *o) { return o->typical > 0 && o->typical < 1; }

static int32_t draw_cut(const Row *r, const SampleOpts *o, const Law *l, double u,
                        const Sampler *s) {
    Cand *c = s->cand;
    uint64_t total = 0;
    int m;
    bool has_total = false;
    if (o->top_k > 0 && o->top_k < r->n) m = take_top_k(c, r, (int)o->top_k);
    else if (typical_is_on(o)) m = gather(c, r, reaching(l, log(2 * l->one) + 1));
    else if (o->top_p < 1) {
        m = gather_top_p(&total, c, r, o, l, s->sum);
        has_total = true;
    } else m = gather(c, r, reaching(l, 1 - log(o->min_p)));

    uint64_t gathered = weigh_all(c, m, l);
    if (!has_total) total = gathered;
    if (typical_is_on(o)) {
        m = cut_typical(c, m, o->typical, total, l);
        total = weight_of(c, m);
    }
    if (o->top_p < 1) m = keep_edge(c, m, find_edge(c, m, part_of(o->top_p, total), true));
    if (o->min_p > 0) m = cut_min_p(c, m, o->min_p, l);
    return walk(c, m, u);
}

int32_t sample__draw(const Row *r, const SampleOpts *o, double u, const Sampler *s) {
    Law l = sample__law(s->kern, r, o->temp);
    bool cuts =
        (o->top_k > 0 && o->top_k < r->n) || typical_is_on(o) || o->top_p < 1 || o->min_p > 0;
    return cuts ? draw_cut(r, o, &l, u, s) : draw_any(r, &l, u, s->sum);
}

/* Insertion sort: k is small. */
void sample__best(const Row *r, int k, const Sampler *s) {
    Cand *c = s->cand;
    int m = k < r->n ? take_top_k(c, r, k) : gather(c, r, -HUGE_VAL);
    for (int i = 1; i < m; i++) {
        Cand x = c[i];
        int j = i;
        for (; j > 0 && c[j - 1].key < x.key; j--) c[j] = c[j - 1];
        c[j] = x;
    }
}
