/* SPDX-License-Identifier: Apache-2.0
 * The searches of kernel/quant_fit.h. What they minimise is sum w (x - x')^2.
 *
 * For fixed integers the best scale is a quotient of two sums (with an offset: of determinants), and the
 * error it leaves can be compared through those sums alone. So each search rounds with a trial scale,
 * computes the best scale for the integers this gave, and keeps the integers if that pair is better. */
#include "kernel/quant_fit.h"

#include <math.h>

#include "kernel/internal.h"

static void zero(uint8_t *q, int n) {
    for (int i = 0; i < n; i++) q[i] = 0;
}

/* ---- symmetric: x ~ scale * l, l in -half .. half - 1 ---- */

typedef struct Sums {
    float xl, l2; /* sum w x l, sum w l^2 */
} Sums;

static int clamp(int l, int lo, int hi) { return MAX(lo, MIN(hi, l)); }

static float weight(const float *x, const float *w, int i) { return w ? w[i] : x[i] * x[i]; }

static Sums symmetric_sums(const float *x, const float *w, int n, int half, float inverse) {
    Sums s = {0, 0};
    for (int i = 0; i < n; i++) {
        float l = (float)clamp(fit_nearest(inverse * x[i]), -half, half - 1), wi = weight(x, w, i);
        s.xl += wi * x[i] * l;
        s.l2 += wi * l * l;
    }
    return s;
}

static float first_greatest(const float *x, int n) {
    float amax = 0.0f, max = 0.0f;
    for (int i = 0; i < n; i++) {
        if (fabsf(x[i]) <= amax) continue;
        amax = fabsf(x[i]);
        max = x[i];
    }
    return max;
}

float kern_ref_fit_symmetric(uint8_t *q, const float *x, const float *w, int n, int half) {
    float max = first_greatest(x, n);
    zero(q, n);
    if (fabsf(max) < FIT_TINY) return 0.0f;
    float inverse = -(float)half / max;
    Sums s = symmetric_sums(x, w, n, half, inverse);
    float scale = s.l2 != 0.0f ? s.xl / s.l2 : 0.0f, best = scale * s.xl;
    for (int i = -9; i <= 9; i++) {
        if (i == 0) continue;
        float trial = -((float)half + 0.1f * (float)i) / max;
        s = symmetric_sums(x, w, n, half, trial);
        if (!(s.l2 > 0.0f && s.xl * s.xl > best * s.l2)) continue;
        scale = s.xl / s.l2;
        best = scale * s.xl;
        inverse = trial;
    }
    for (int i = 0; i < n; i++)
        q[i] = (uint8_t)(half + clamp(fit_nearest(inverse * x[i]), -half, half - 1));
    return scale;
}

/* ---- affine: x ~ scale * l + min, l in 0 .. top, min <= 0 ---- */

typedef struct Affine {
    float scale, min;
} Affine;

static void affine_round(uint8_t *q, const float *x, int n, int top, float inverse, float min) {
    for (int i = 0; i < n; i++) q[i] = (uint8_t)clamp(fit_nearest(inverse * (x[i] - min)), 0, top);
}

static float affine_error(const uint8_t *q, const float *x, const float *w, int n, Affine a) {
    float error = 0.0f;
    for (int i = 0; i < n; i++) {
        float diff = a.scale * (float)q[i] + a.min - x[i];
        error += w[i] * (diff * diff);
    }
    return error;
}

/* The best scale and min for given integers, min held to <= 0; false where the integers are all equal. */
static bool affine_solve(Affine *a, const uint8_t *q, const float *x, const float *w, int n,
                         float sum_w, float sum_x) {
    float l1 = 0.0f, l2 = 0.0f, xl = 0.0f;
    for (int i = 0; i < n; i++) {
        float l = (float)q[i];
        l1 += w[i] * l;
        l2 += w[i] * l * l;
        xl += w[i] * l * x[i];
    }
    float det = sum_w * l2 - l1 * l1;
    if (!(det > 0.0f)) return false;
    a->scale = (sum_w * xl - sum_x * l1) / det;
    a->min = (l2 * sum_x - l1 * xl) / det;
    if (a->min > 0.0f) *a = (Affine){.scale = xl / l2, .min = 0.0f};
    return true;
}

/* Least and greatest of x in range[0], range[1]; sums of w and w x. */
static void affine_start(float range[2], float sums[2], const float *x, const float *w, int n) {
    range[0] = range[1] = x[0];
    sums[0] = w[0];
    sums[1] = w[0] * x[0];
    for (int i = 1; i < n; i++) {
        if (x[i] < range[0]) range[0] = x[i];
        if (x[i] > range[1]) range[1] = x[i];
        sums[0] += w[i];
        sums[1] += w[i] * x[i];
    }
    if (range[0] > 0.0f) range[0] = 0.0f;
}

float kern_ref_fit_affine(uint8_t *q, float *min, const float *x, const float *w, int n, int top,
                          const FitSteps *s) {
    float range[2], sums[2];
    uint8_t trial[32];
    affine_start(range, sums, x, w, n);
    zero(q, n);
    *min = -range[0];
    if (range[1] <= range[0]) return 0.0f;
    float max = range[1], inverse = (float)top / (max - range[0]);
    Affine best = {.scale = 1.0f / inverse, .min = range[0]};
    affine_round(q, x, n, top, inverse, best.min);
    float best_error = affine_error(q, x, w, n, best);
    for (int i = 0; i <= s->last; i++) {
        Affine a;
        inverse = (s->first + s->step * (float)i + (float)top) / (max - best.min);
        affine_round(trial, x, n, top, inverse, best.min);
        if (!affine_solve(&a, trial, x, w, n, sums[0], sums[1])) continue;
        float error = affine_error(trial, x, w, n, a);
        if (!(error < best_error)) continue;
        for (int k = 0; k < n; k++) q[k] = trial[k];
        best_error = error;
        best = a;
    }
    *min = -best.min;
    return best.scale;
}

/* ---- scales of groups: x ~ scale * l, l in 0 .. 63 ---- */

enum { TOP = 63, PASSES = 5 };

static float scales_error(const float *x, const float *w, int n, float inverse, float scale,
                          bool hold) {
    float error = 0.0f;
    for (int i = 0; i < n; i++) {
        int l = fit_nearest(inverse * x[i]);
        float diff = x[i] - scale * (float)(hold ? MIN(TOP, l) : (uint8_t)l);
        error += w[i] * diff * diff;
    }
    return error;
}

/* The inverse scale with the least error among nine. */
static float scales_inverse(const float *x, const float *w, int n, float max) {
    float inverse = (float)TOP / max;
    float best = scales_error(x, w, n, inverse, 1.0f / inverse, false);
    for (int i = -4; i <= 4; i++) {
        if (i == 0) continue;
        float trial = (0.1f * (float)i + (float)TOP) / max;
        float error = scales_error(x, w, n, trial, 1.0f / trial, true);
        if (!(error < best)) continue;
        best = error;
        inverse = trial;
    }
    return inverse;
}

/* Move one integer after the other to where it is best with the others fixed; whether any moved. */
static bool scales_descend(uint8_t *q, Sums *s, const float *x, const float *w, int n) {
    bool moved = false;
    for (int i = 0; i < n; i++) {
        float l = (float)q[i], xl = s->xl - w[i] * x[i] * l, l2 = s->l2 - w[i] * l * l;
        if (!(xl > 0.0f && l2 > 0.0f)) continue;
        int to = MIN(TOP, fit_nearest(x[i] * l2 / xl));
        if (to == q[i]) continue;
        xl += w[i] * x[i] * (float)to;
        l2 += w[i] * (float)to * (float)to;
        if (!(xl * xl * s->l2 > s->xl * s->xl * l2)) continue;
        q[i] = (uint8_t)to;
        *s = (Sums){xl, l2};
        moved = true;
    }
    return moved;
}

float kern_ref_fit_scales(uint8_t *q, const float *x, const float *w, int n) {
    float max = 0.0f;
    Sums s = {0, 0};
    for (int i = 0; i < n; i++) max = max > x[i] ? max : x[i];
    zero(q, n);
    if (max < FIT_TINY) return 0.0f;
    float inverse = scales_inverse(x, w, n, max);
    for (int i = 0; i < n; i++) {
        int l = MIN(TOP, fit_nearest(inverse * x[i]));
        q[i] = (uint8_t)l;
        s.xl += w[i] * x[i] * (float)l;
        s.l2 += w[i] * (float)l * (float)l;
    }
    for (int i = 0; i < PASSES && scales_descend(q, &s, x, w, n); i++) {}
    return s.l2 > 0.0f ? s.xl / s.l2 : 0.0f;
}

/* ---- integers for given scales ---- */

enum { PLACES = 16 };

static float add_places(float t[PLACES]) {
    for (int half = PLACES / 2; half > 0; half /= 2)
        for (int k = 0; k < half; k++) t[k] += t[k + half];
    return t[0];
}

static float nearest_level(float x, float inverse, float min, int lo, int hi) {
    float v = (x + min) * inverse;
    v = v > (float)lo ? v : (float)lo;
    v = v < (float)hi ? v : (float)hi;
    return (float)fit_nearest(v);
}

static float level_error(const float *x, const float *w, int n, float s, float min, int lo,
                         int hi) {
    float t[PLACES] = {0}, inverse = s != 0.0f ? 1.0f / s : 0.0f;
    for (int i = 0; i < n; i++) {
        float diff = s * nearest_level(x[i], inverse, min, lo, hi) - min - x[i];
        t[i % PLACES] += w[i] * diff * diff;
    }
    return add_places(t);
}

static void level_sums(float sums[5], const float *x, const float *w, int n, float s, float min,
                       int lo, int hi) {
    float t[5][PLACES] = {{0}}, inverse = s != 0.0f ? 1.0f / s : 0.0f;
    for (int i = 0; i < n; i++) {
        float l = nearest_level(x[i], inverse, min, lo, hi), wl = w[i] * l;
        t[0][i % PLACES] += wl;
        t[1][i % PLACES] += wl * l;
        t[2][i % PLACES] += wl * x[i];
        t[3][i % PLACES] += w[i] * x[i];
        t[4][i % PLACES] += w[i];
    }
    for (int k = 0; k < 5; k++) sums[k] = add_places(t[k]);
}

void kern_ref_quant_fit(Kern *k) {
    k->level_error = level_error;
    k->level_sums = level_sums;
}
