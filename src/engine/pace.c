/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/pace.h"

#include "base/platform.h"

#define KEEP 0.9      /* of older samples, at each new one */
#define ATTN_COST 2.0 /* an operation of attention takes about twice as long as one of a product */

void pace_init(Pace *p, double row_ops, double ctx_ops) {
    *p = (Pace){.attn = ATTN_COST * ctx_ops / row_ops};
}

double pace_work(const Pace *p, int n, int from) { return n * (1.0 + p->attn * (from + 0.5 * n)); }

double pace_predict(const Pace *p, double work) { return p->fixed + p->per_work * work; }

#define DENSE_KEEP 0.999 /* of the size that counts as large, at each step */
#define DENSE_ROWS \
    32 /* work of a step that tells what a row costs; in smaller ones the fixed part rules */
#define DENSE_SHARE 0.7 /* of the cost in large steps: what is surely not fixed */

/* Slope by least squares where the samples differ enough, else through the origin. */
static void fit(Pace *p) {
    double var = p->n * p->xx - p->x * p->x, cov = p->n * p->xy - p->x * p->y;
    p->per_work = p->y / p->x;
    p->fixed = 0.0;
    p->vague = var <= 0.01 * p->x * p->x || cov <= 0.0;
    if (p->vague) return;
    double least = p->dense_at >= DENSE_ROWS ? DENSE_SHARE * p->dense : 0.0;
    double slope = MAX(cov / var, least), fixed = (p->y - slope * p->x) / p->n;
    if (fixed <= 0.0) return;
    p->per_work = slope;
    p->fixed = fixed;
}

static void observe_dense(Pace *p, double work, double cost) {
    p->dense_at *= DENSE_KEEP;
    if (work < 0.9 * p->dense_at) return;
    bool larger = work > 1.5 * p->dense_at; /* tells more than all before */
    p->dense = larger ? cost : 0.8 * p->dense + 0.2 * cost;
    p->dense_at = MAX(p->dense_at, work);
}

void pace_observe(Pace *p, double work, double seconds) {
    if (!(work > 0.0) || !(seconds > 0.0)) return;
    if (p->per_work > 0.0) seconds = MIN(seconds, 3.0 * pace_predict(p, work));
    p->n = KEEP * p->n + 1.0;
    p->x = KEEP * p->x + work;
    p->y = KEEP * p->y + seconds;
    p->xx = KEEP * p->xx + work * work;
    p->xy = KEEP * p->xy + work * seconds;
    observe_dense(p, work, seconds / work);
    fit(p);
}

int pace_rows(const Pace *p, double work, int from, double limit, int most) {
    int lo = 1, hi = MAX(most, 1), probe = MIN(hi, (int)MIN(work, 1e6) + 1);
    if (p->per_work <= 0.0) return MIN(hi, 32); /* nothing known: a small step to learn from */
    limit = MAX(limit, 1.5 * pace_predict(p, work));
    while (lo < hi) {
        int mid = lo + (hi - lo + 1) / 2;
        if (pace_predict(p, work + pace_work(p, mid, from)) <= limit) lo = mid;
        else hi = mid - 1;
    }
    return p->vague ? MAX(lo, probe) : lo;
}
