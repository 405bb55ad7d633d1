/* SPDX-License-Identifier: Apache-2.0
 * A harder search for the numbers of a block, in the same format. The reference's rule looks at one group at a
 * time and rounds scales afterwards; here what is minimised is the error of the block as it will be decoded,
 * with its scales rounded: sum w (x - x')^2, w the importance of the column or 1.
 *
 * Starting from the better of the rules with and without weights, integers and scales are improved in turn:
 * for fixed integers the best scales are the solution of normal equations; for fixed f16 scales each group
 * tries its neighbours' integer scales and mins; elements are rounded to the nearest. What comes out is
 * decoded and measured, and replaces the reference's block only if its error is lower. */
#include <math.h>

#include "kernel/quant_pack.h"
#include "quant/internal.h"
#include "tensor/half.h"

enum { ROUNDS = 3, STARTS = 3, MAX_GROUPS = 16 };

/* A block of any type: groups of n elements, x' = d sc l - dmin m, l in lo .. hi. Types of one group have no
 * sc and m: they are 1, and dmin is minus the block's m. */
typedef struct Form {
    int groups, n, lo, hi;
    bool affine;      /* there is a min */
    int sc_lo, sc_hi; /* range of sc; equal: fixed */
} Form;

typedef struct Grid {
    float d, dmin;
    int sc[MAX_GROUPS], m[MAX_GROUPS];
} Grid;

static Form form_of(DType t) {
    switch (t) {
    case DT_Q4_0: return (Form){1, 32, -8, 7, false, 1, 1};
    case DT_Q5_0: return (Form){1, 32, -16, 15, false, 1, 1};
    case DT_Q8_0: return (Form){1, 32, -127, 127, false, 1, 1};
    case DT_Q4_1: return (Form){1, 32, 0, 15, true, 1, 1};
    case DT_Q5_1: return (Form){1, 32, 0, 31, true, 1, 1};
    case DT_Q4_K: return (Form){8, 32, 0, 15, true, 0, 63};
    case DT_Q5_K: return (Form){8, 32, 0, 31, true, 0, 63};
    default: return (Form){16, 16, -32, 31, false, -128, 127};
    }
}

/* ---- blocks to grids and back ---- */

static float f16_at(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return half_f16_to_f32(h);
}

static void read_grid(Grid *g, DType t, const uint8_t *y) {
    const BlockQ6_K *b6 = (const BlockQ6_K *)(const void *)y;
    *g = (Grid){.sc = {1}, .m = {1}};
    if (t == DT_Q6_K) {
        g->d = half_f16_to_f32(b6->d);
        for (int j = 0; j < GROUPS6; j++) g->sc[j] = b6->scales[j];
        return;
    }
    g->d = f16_at(y);
    if (t == DT_Q4_1 || t == DT_Q5_1) g->dmin = -f16_at(y + 2);
    if (t != DT_Q4_K && t != DT_Q5_K) return;
    g->dmin = f16_at(y + 2);
    for (int j = 0; j < GROUPS; j++) {
        g->sc[j] = block_scale(y + 4, j);
        g->m[j] = block_min(y + 4, j);
    }
}

/* l of an element, its scale and min being s and min. */
static int nearest_level(const Form *f, float x, float s, float min) {
    float v = s != 0.0f ? (x + min) / s : 0.0f;
    return fit_nearest(fmaxf((float)f->lo, fminf((float)f->hi, v)));
}

static void levels(uint8_t *q, const Form *f, const Grid *g, const float *x) {
    for (int i = 0; i < f->groups * f->n; i++) {
        int j = i / f->n;
        int l = nearest_level(f, x[i], g->d * (float)g->sc[j], g->dmin * (float)g->m[j]);
        q[i] = (uint8_t)(f->lo == -127 ? l : l - f->lo);
    }
}

static void write_small(uint8_t *y, const Form *f, const Grid *g, const uint8_t *q) {
    uint16_t h[2] = {half_f32_to_f16(g->d), half_f32_to_f16(-g->dmin)};
    size_t head = f->affine ? 4 : 2;
    memcpy(y, h, head);
    if (f->lo == -127) {
        memcpy(y + head, q, QK);
        return;
    }
    if (f->hi - f->lo == 31) {
        pack_fifths(y + head, q);
        head += 4;
    }
    pack_nibbles(y + head, q);
}

static void write_super(uint8_t *y, const Form *f, const Grid *g, const uint8_t *q) {
    uint16_t h[2] = {half_f32_to_f16(g->d), half_f32_to_f16(g->dmin)};
    uint8_t ls[GROUPS], lm[GROUPS];
    for (int j = 0; j < GROUPS; j++) {
        ls[j] = (uint8_t)g->sc[j];
        lm[j] = (uint8_t)g->m[j];
    }
    memcpy(y, h, 4);
    pack_scales(y + 4, ls, lm);
    if (f->hi == 31) pack_k_fifths(y + 16, q);
    pack_k_nibbles(y + (f->hi == 31 ? 16 + GROUP : 16), q);
}

static void write_grid(uint8_t *y, DType t, const Form *f, const Grid *g, const float *x) {
    uint8_t q[QK_K];
    levels(q, f, g, x);
    if (f->groups == 1) write_small(y, f, g, q);
    else if (t != DT_Q6_K) write_super(y, f, g, q);
    else {
        BlockQ6_K *b = (BlockQ6_K *)(void *)y;
        b->d = half_f32_to_f16(g->d);
        for (int j = 0; j < GROUPS6; j++) b->scales[j] = (int8_t)g->sc[j];
        pack_q6(b, q);
    }
}

/* ---- improving ---- */

/* One block in work. */
typedef struct Work {
    const Kern *k;
    Form f;
    const float *x, *w;
} Work;

static float group_error(const Work *p, int j, float s, float min) {
    const Form *f = &p->f;
    return p->k->level_error(p->x + j * f->n, p->w + j * f->n, f->n, s, min, f->lo, f->hi);
}

static float grid_error(const Work *p, const Grid *g) {
    float sum = 0.0f;
    for (int j = 0; j < p->f.groups; j++)
        sum += group_error(p, j, g->d * (float)g->sc[j], g->dmin * (float)g->m[j]);
    return sum;
}

/* Group j to the best of its scale's and min's neighbours; its error. */
static float improve_group(const Work *p, Grid *g, int j) {
    int sc = g->sc[j], m = g->m[j], reach = p->f.affine ? 1 : 0;
    float best = INFINITY;
    for (int a = sc - 1; a <= sc + 1; a++) {
        for (int b = m - reach; b <= m + reach; b++) {
            if (a < p->f.sc_lo || a > p->f.sc_hi || b < 0 || b > 63) continue;
            float error = group_error(p, j, g->d * (float)a, g->dmin * (float)b);
            if (!(error < best)) continue;
            best = error;
            g->sc[j] = a;
            g->m[j] = b;
        }
    }
    return best;
}

static float improve_groups(const Work *p, Grid *g) {
    float sum = 0.0f;
    if (p->f.groups == 1) return grid_error(p, g);
    for (int j = 0; j < p->f.groups; j++) sum += improve_group(p, g, j);
    return sum;
}

typedef struct Normal {
    double aa, ab, bb, xa, xb;
} Normal;

/* Sums over the block for x' = d a - dmin b, with a = sc l, b = m. */
static Normal normal_sums(const Work *p, const Grid *g) {
    const Form *f = &p->f;
    Normal s = {0};
    for (int j = 0; j < f->groups; j++) {
        float t[5];
        double sc = g->sc[j], m = g->m[j];
        p->k->level_sums(t, p->x + j * f->n, p->w + j * f->n, f->n, g->d * (float)g->sc[j],
                         g->dmin * (float)g->m[j], f->lo, f->hi);
        s.aa += sc * sc * (double)t[1];
        s.ab += sc * m * (double)t[0];
        s.bb += m * m * (double)t[4];
        s.xa += sc * (double)t[2];
        s.xb += m * (double)t[3];
    }
    return s;
}

static float to_f16_and_back(double v) { return half_f16_to_f32(half_f32_to_f16((float)v)); }

/* The best d and dmin for the integers there are, rounded to f16; false if there are none. */
static bool solve(const Work *p, Grid *g) {
    Normal s = normal_sums(p, g);
    double det = s.aa * s.bb - s.ab * s.ab;
    if (!p->f.affine) {
        if (!(s.aa > 0)) return false;
        g->d = to_f16_and_back(s.xa / s.aa);
        return isfinite(g->d);
    }
    if (!(det > 1e-12 * s.aa * s.bb)) return false;
    g->d = to_f16_and_back((s.xa * s.bb - s.xb * s.ab) / det);
    g->dmin = to_f16_and_back((s.xa * s.ab - s.xb * s.aa) / det);
    return isfinite(g->d) && isfinite(g->dmin);
}

/* Scales of groups, then of the block, as long as it helps; the error that is left. */
static float descend(const Work *p, Grid *g) {
    float best = INFINITY;
    for (int r = 0; r < ROUNDS; r++) {
        Grid t = *g, u;
        float error = improve_groups(p, &t);
        u = t;
        if (solve(p, &u)) {
            float solved = grid_error(p, &u);
            if (solved < error) t = u;
            error = solved < error ? solved : error;
        }
        if (!(error < best)) break;
        best = error;
        *g = t;
    }
    return best;
}

/* Types of one group: also from scales around the start, of both signs where integers have one side more. With
 * 8 bits the steps are a tenth as long. */
static void descend_from_many(const Work *p, Grid *g) {
    Grid start = *g;
    bool two_sided = !p->f.affine && p->f.lo != -p->f.hi;
    double step = p->f.lo == -127 ? 0.003 : 0.03;
    float best = descend(p, g);
    for (int i = -STARTS; i <= STARTS; i++) {
        for (int sign = 1; sign >= (two_sided ? -1 : 1); sign -= 2) {
            Grid t = start;
            t.d = to_f16_and_back((double)start.d * (1.0 + step * i) * sign);
            float error = descend(p, &t);
            if (!(error < best)) continue;
            best = error;
            *g = t;
        }
    }
}

/* ---- blocks ---- */

static double decoded_error(const float *y, const float *x, const float *w, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
        double diff = (double)y[i] - (double)x[i];
        sum += (double)w[i] * diff * diff;
    }
    return sum;
}

typedef struct Improve {
    const Kern *k;
    DType type;
    Form form;
    int n;        /* elements of a block */
    size_t bytes; /* of a block */
} Improve;

static double block_error(const Improve *p, const uint8_t *y, const float *x, const float *w) {
    float decoded[QK_K];
    p->k->to_f32[p->type](decoded, y, (size_t)p->n);
    return decoded_error(decoded, x, w, p->n);
}

/* y, and `other`, which may be better, to the best block found. */
static void improve_block(const Improve *p, uint8_t *y, const uint8_t *other, const float *x,
                          const float *w, QuantError *e) {
    uint8_t block[sizeof(BlockQ6_K)];
    Grid g;
    double ref = block_error(p, y, x, w), best = ref, error = block_error(p, other, x, w);
    if (error < best) memcpy(y, other, p->bytes);
    best = fmin(best, error);
    read_grid(&g, p->type, y);
    Work work = {p->k, p->form, x, w};
    if (p->form.groups == 1) descend_from_many(&work, &g);
    else descend(&work, &g);
    write_grid(block, p->type, &p->form, &g, x);
    error = block_error(p, block, x, w);
    if (error < best) memcpy(y, block, p->bytes);
    e->ref += ref;
    e->best += fmin(best, error);
    for (int i = 0; i < p->n; i++) e->square += (double)w[i] * (double)x[i] * (double)x[i];
}

void quant__improve(const Kern *k, DType type, uint8_t *y, uint8_t *other, const float *x,
                    const float *w, size_t rows, size_t cols, QuantError *e) {
    const DTypeInfo *info = dtype_info(type);
    Improve p = {k, type, form_of(type), info->block, (size_t)info->block_bytes};
    float ones[QK_K];
    for (int i = 0; i < QK_K; i++) ones[i] = 1.0f;
    if (w) k->from_f32[type](other, x, rows * cols);
    else
        for (size_t i = 0; i < rows * cols; i += (size_t)info->block)
            k->quant[type](other + dtype_bytes(type, i), x + i, ones, 1, (size_t)info->block);
    for (size_t i = 0; i < rows * cols; i += (size_t)info->block) {
        size_t at = dtype_bytes(type, i);
        improve_block(&p, y + at, other + at, x + i, w ? w + i % cols : ones, e);
    }
}
