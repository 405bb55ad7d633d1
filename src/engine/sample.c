/* SPDX-License-Identifier: Apache-2.0
 * The sampler. One pass checks the row and finds its best token, which is all that greedy needs. Then
 * candidates come in one of three ways, none of which sorts the vocabulary; a token's weight is
 * exp((logit - best) / temp):
 *   neither limit  every token is a candidate, in id order. Weights are added up by blocks; the draw falls
 *                  into a block, and only that one is walked
 *   top-k          a heap of the k best seen so far, its root the worst of them, sorted at the end
 *   top-p alone    weights are added up by whole units of (best - logit) / temp. The first units that reach
 *                  the mass hold all that can be kept: only their tokens go into a heap, its root the best,
 *                  and leave it until the mass is reached
 * Heaps hold (logit, id) and order equal logits by id, so every choice is defined. */
#include "engine/sample.h"

#include <float.h>
#include <math.h>
#include <stdint.h>

#include "base/rng.h"

enum { SAMPLE_MAX_TEMP = 100, BLOCK = 64, UNITS = 64 };

typedef struct Cand {
    float logit;
    int32_t id;
} Cand;

/* ---- options ---- */

Status sample_check(const SampleOpts *o, Err *e) {
    if (!(o->temp >= 0 && o->temp <= SAMPLE_MAX_TEMP))
        return err_set(e, ERR_ARG, "temperature %g is out of range: 0 to %d", o->temp,
                       SAMPLE_MAX_TEMP);
    if (o->top_k < 0 || o->top_k > INT32_MAX)
        return err_set(e, ERR_ARG, "top_k %lld is out of range: 0 (off) to %d", (long long)o->top_k,
                       INT32_MAX);
    if (!(o->top_p > 0 && o->top_p <= 1))
        return err_set(e, ERR_ARG, "top_p %g is out of range: above 0, at most 1", o->top_p);
    return OK;
}

size_t sample_scratch_bytes(int n_vocab) { return (size_t)n_vocab * sizeof(Cand); }

/* ---- heap: the root is the candidate that comes first in the order `before` ---- */

typedef bool (*Before)(Cand a, Cand b);

static bool better(Cand a, Cand b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static bool worse(Cand a, Cand b) { return better(b, a); }

static void sift_down(Cand *h, int n, int i, Before before) {
    Cand x = h[i];
    for (;;) {
        int c = 2 * i + 1;
        if (c >= n) break;
        if (c + 1 < n && before(h[c + 1], h[c])) c++;
        if (!before(h[c], x)) break;
        h[i] = h[c];
        i = c;
    }
    h[i] = x;
}

static void heapify(Cand *h, int n, Before before) {
    for (int i = n / 2 - 1; i >= 0; i--) sift_down(h, n, i, before);
}

/* Root to the end of h[n]; the heap has n - 1 left. */
static void pop(Cand *h, int n, Before before) {
    Cand root = h[0];
    h[0] = h[n - 1];
    h[n - 1] = root;
    sift_down(h, n - 1, 0, before);
}

/* ---- looking through a row, BLOCK logits at a time ---- */

/* The greatest of x[n], n <= BLOCK; *bad is set if one is NaN or +inf. Lanes, so that it compiles to vector
 * instructions. */
static float block_max(const float *x, int n, bool *bad) {
    enum { LANES = 8 };
    float m[LANES];
    int odd[LANES] = {0}, i = 0, j;
    for (j = 0; j < LANES; j++) m[j] = -INFINITY;
    for (; i + LANES <= n; i += LANES) {
        for (j = 0; j < LANES; j++) {
            m[j] = x[i + j] > m[j] ? x[i + j] : m[j];
            odd[j] |= !(x[i + j] <= FLT_MAX);
        }
    }
    for (; i < n; i++) {
        m[0] = x[i] > m[0] ? x[i] : m[0];
        odd[0] |= !(x[i] <= FLT_MAX);
    }
    for (j = 1; j < LANES; j++) {
        m[0] = m[j] > m[0] ? m[j] : m[0];
        odd[0] |= odd[j];
    }
    *bad |= odd[0] != 0;
    return m[0];
}

static Status bad_logit(const float *x, int n, Err *e) {
    int i = 0;
    while (i < n - 1 && x[i] <= FLT_MAX) i++;
    return err_set(e, ERR_INTERNAL, "logit of token %d is %g: the model's weights are broken", i,
                   (double)x[i]);
}

/* Lowest id of the greatest logit; ERR_INTERNAL if there is none to speak of. */
static Status find_best(int32_t *id, const float *x, int n, Err *e) {
    float best = -INFINITY;
    bool bad = false;
    int at = 0;
    for (int i = 0; i < n; i += BLOCK) {
        float m = block_max(x + i, MIN(BLOCK, n - i), &bad);
        if (m <= best) continue;
        best = m;
        at = i;
    }
    if (bad) return bad_logit(x, n, e);
    if (best == -INFINITY) return err_set(e, ERR_INTERNAL, "all %d logits are -inf", n);
    while (x[at] != best) at++;
    *id = at;
    return OK;
}

/* ---- candidates ---- */

/* The k best, best first, in c[k]. */
static void take_top_k(Cand *c, const float *x, int n, int k) {
    bool bad = false;
    for (int i = 0; i < k; i++) c[i] = (Cand){x[i], i};
    heapify(c, k, worse);
    for (int i = k, end; i < n; i = end) {
        end = MIN(i + BLOCK, n);
        if (block_max(x + i, end - i, &bad) <= c[0].logit) continue;
        for (; i < end; i++) {
            if (x[i] <= c[0].logit) continue; /* of equals the earlier stays */
            c[0] = (Cand){x[i], i};
            sift_down(c, k, 0, worse);
        }
    }
    for (int m = k; m > 1; m--) pop(c, m, worse);
}

static double weight(float logit, float best, double temp) {
    return exp(((double)logit - (double)best) / temp);
}

/* How many of c[n], best first, reach `want` of mass; *kept is what they hold. */
static int cut(double *kept, const Cand *c, int n, float best, double temp, double want) {
    double sum = 0;
    int m = 0;
    while (m < n && (m == 0 || sum < want)) sum += weight(c[m++].logit, best, temp);
    *kept = sum;
    return m;
}

/* Tokens that may be among the best that reach share top_p, in id order in c; *want is that mass. */
static int gather_top_p(double *want, Cand *c, const float *x, int n, float best,
                        const SampleOpts *o) {
    double unit[UNITS] = {0}, total = 0, sum = 0;
    int m = 0, last = -1;
    for (int i = 0; i < n; i++) {
        double d = ((double)best - (double)x[i]) / o->temp;
        unit[d < UNITS - 1 ? (int)d : UNITS - 1] += exp(-d);
    }
    for (int k = 0; k < UNITS; k++) total += unit[k];
    *want = o->top_p * total;
    while (last < UNITS - 1 && sum <= *want) sum += unit[++last];
    double least =
        last < UNITS - 1 ? (double)best - (last + 2) * o->temp : -HUGE_VAL; /* one to spare */
    for (int i = 0; i < n; i++)
        if ((double)x[i] >= least) c[m++] = (Cand){x[i], i};
    return m;
}

/* The best of c[n] that reach `want`, which then stand at the end of c, best last. */
static int heap_cut(double *kept, Cand *c, int n, float best, double temp, double want) {
    double sum = 0;
    int m = 0;
    heapify(c, n, better);
    while (m < n && (m == 0 || sum < want)) {
        sum += weight(c[0].logit, best, temp);
        pop(c, n - m, better);
        m++;
    }
    *kept = sum;
    return m;
}

/* ---- the draw ---- */

/* Walk c by `step` over m candidates to where `at` of the mass lies. One without mass is never chosen. */
static int32_t walk(const Cand *c, int step, int m, float best, double temp, double at) {
    int32_t id = c->id;
    double acc = 0;
    for (int j = 0; j < m; j++, c += step) {
        double w = weight(c->logit, best, temp);
        if (w > 0) id = c->id;
        acc += w;
        if (acc > at) break;
    }
    return id;
}

/* Every token is a candidate: sums of blocks in `sums`, then a walk through the block that u falls into. */
static int32_t draw_any(const float *x, int n, float best, double temp, double u, double *sums) {
    double total = 0, before = 0;
    int b = 0, last = 0, n_block = (n + BLOCK - 1) / BLOCK;
    for (int k = 0; k < n_block; k++) {
        sums[k] = 0;
        for (int i = k * BLOCK; i < MIN(n, (k + 1) * BLOCK); i++)
            sums[k] += weight(x[i], best, temp);
        total += sums[k];
        if (sums[k] > 0) last = k;
    }
    while (b < last && before + sums[b] <= u * total) before += sums[b++];
    int32_t id = b * BLOCK;
    for (int i = id; i < MIN(n, (b + 1) * BLOCK); i++) {
        double w = weight(x[i], best, temp);
        if (w > 0) id = i;
        before += w;
        if (before > u * total) break;
    }
    return id;
}

static int32_t draw_top_k(const float *x, int n, float best, const SampleOpts *o, double u,
                          Cand *c) {
    double sum = 0;
    int m = (int)o->top_k;
    take_top_k(c, x, n, m);
    cut(&sum, c, m, best, o->temp, (double)INFINITY);
    if (o->top_p < 1) m = cut(&sum, c, m, best, o->temp, o->top_p * sum);
    return walk(c, 1, m, best, o->temp, u * sum);
}

static int32_t draw_top_p(const float *x, int n, float best, const SampleOpts *o, double u,
                          Cand *c) {
    double want = 0, sum = 0;
    int m = gather_top_p(&want, c, x, n, best, o);
    int kept = heap_cut(&sum, c, m, best, o->temp, want);
    return walk(c + m - 1, -1, kept, best, o->temp, u * sum);
}

Status sample_next(int32_t *id, const float *logits, int n_vocab, const SampleOpts *o, uint64_t pos,
                   void *scratch, Err *e) {
    int32_t best = 0;
    TRY(find_best(&best, logits, n_vocab, e));
    if (o->temp > 0) {
        double u = rng_uniform(rng_key(o->seed, "sample"), 0, pos);
        float top = logits[best];
        if (o->top_k > 0 && o->top_k < n_vocab)
            best = draw_top_k(logits, n_vocab, top, o, u, scratch);
        else if (o->top_p < 1) best = draw_top_p(logits, n_vocab, top, o, u, scratch);
        else best = draw_any(logits, n_vocab, top, o->temp, u, scratch);
    }
    *id = best;
    return OK;
}
