/* SPDX-License-Identifier: Apache-2.0
 * Rotations on the way back. linear and yarn are keys in both worlds. What a folder calls llama3 is in a GGUF file
 * nothing but its result, one divisor a frequency: here the parameters are found again. They are defined up to a
 * common factor of the context and both frequency factors, so low_freq_factor is taken to be 1, as it is in all
 * models there are; then the divisors between the two ends are a straight line in the number of turns, and two of
 * them give it. */
#include <math.h>
#include <stdio.h>

#include "format/hf_out_internal.h"

/* ---- llama3 ---- */

enum { MAX_CTX = 1 << 24 };

/* 2: the divisors to the bit, 1: close enough for rounding in other programs, 0: others. */
static int compare(const HfConfig *c, const float *d, int n) {
    int grade = 2;
    for (int i = 0; i < n; i++) {
        float got = hf__llama3_divisor(c, i);
        if (memcmp(&got, &d[i], sizeof got) == 0) continue;
        grade = 1;
        if (!(fabsf(got - d[i]) <= 1e-4f * d[i])) return 0;
    }
    return grade;
}

static int try(HfConfig *c, HfRope *best, int grade, double high, int64_t ctx, const float *d,
               int n) {
    c->rope.low = 1;
    c->rope.high = high;
    c->rope.ctx = ctx;
    if (grade == 2 || !(high > 1) || ctx < 1 || ctx > MAX_CTX) return grade;
    int now = compare(c, d, n);
    if (now <= grade) return grade;
    *best = c->rope;
    return now;
}

/* The line through the first and the last divisor that lies between the ends; false: there are no two. */
static bool fit(const HfConfig *c, const float *d, int n, double *high, double *ctx) {
    double F = c->rope.factor, u[2] = {0}, s[2] = {0};
    int found = 0;
    for (int i = 0; i < n; i++) {
        if (!(d[i] > 1.0f && (double)d[i] < F)) continue;
        int k = found++ > 0;
        u[k] = pow(c->rope.base, -2.0 * i / c->hd) / (2.0 * 3.14159265358979323846);
        s[k] = (1.0 / (double)d[i] - 1.0 / F) / (1.0 - 1.0 / F);
    }
    if (found < 2) return false;
    double a = (s[1] - s[0]) / (u[1] - u[0]), b = s[0] - a * u[0];
    if (!(a > 0 && b < 0)) return false;
    *high = 1.0 - 1.0 / b;
    *ctx = a * (*high - 1.0);
    return *ctx < MAX_CTX && *high < 1e6;
}

int hf__deduce_llama3(HfConfig *c, const float *d, int n) {
    HfRope best = c->rope;
    double high, ctx;
    int grade = 0;
    float most = 1.0f;
    for (int i = 0; i < n; i++) {
        if (!(d[i] >= 1.0f && d[i] <= 1e6f)) return 0;
        most = MAX(most, d[i]);
    }
    c->rope.kind = HF_ROPE_LLAMA3;
    c->rope.factor = (double)most;
    grade = try(c, &best, grade, 4, 8192, d, n);
    for (int64_t k = 1; k <= MAX_CTX; k *= 2) grade = try(c, &best, grade, 4, k, d, n);
    if (fit(c, d, n, &high, &ctx)) {
        grade = try(c, &best, grade, round(high), llround(ctx), d, n);
        grade = try(c, &best, grade, round(high * 1e3) / 1e3, llround(ctx), d, n);
    }
    if (grade > 0) c->rope = best;
    return grade;
}

static Status read_freqs(HfOut *o, const GgufTensor *t, Err *e) {
    HfConfig *c = &o->cfg;
    if (t->type != DT_F32 || t->n_elem != (uint64_t)c->hd / 2)
        return err_set(e, ERR_FORMAT, "rope_freqs.weight: %llu numbers of %s, want %d of f32",
                       (unsigned long long)t->n_elem, dtype_name(t->type), c->hd / 2);
    int grade = hf__deduce_llama3(c, t->data, c->hd / 2);
    if (grade == 0)
        return err_set(e, ERR_UNSUPPORTED,
                       "rope_freqs.weight: its divisors are not those of a rope_scaling of kind "
                       "llama3, and config.json has no other word for them");
    if (grade == 1)
        snprintf(o->note, sizeof o->note,
                 "rope_freqs.weight is rope_scaling llama3 up to rounding: its last bits may "
                 "change on the way back");
    return OK;
}

/* ---- all kinds ---- */

static Status refuse(const char *what, double value, Err *e) {
    return err_set(e, ERR_UNSUPPORTED, "%s %g has no word in config.json", what, value);
}

Status hf__out_rope(HfOut *o, const HfSpec *s, Err *e) {
    HfRope *r = &o->cfg.rope;
    const GgufTensor *freqs = gguf_find_tensor(o->g, "rope_freqs.weight");
    double scale = (double)s->rope_scale, attn = s->rope_attn != 0.0f ? (double)s->rope_attn : 1.0;
    bool scaled = s->yarn_ctx > 0 || scale < 1.0 || scale > 1.0;
    *r = (HfRope){.base = (double)s->rope_base, .factor = scale, .attn = attn};
    if (o->cfg.arch->family == HF_GPT2) return OK;
    if (2 * s->n_rot != s->hd) return refuse("rope.dimension_count", 2 * s->n_rot, e);
    if (freqs && scaled) return refuse("rope_freqs.weight with rope.scaling.factor", scale, e);
    if (scaled && scale < 1.0) return refuse("rope.scaling.factor", scale, e);
    if (s->yarn_ctx == 0 && (attn < 1.0 || attn > 1.0))
        return refuse("rope.scaling.attn_factor", attn, e);
    if (s->yarn_odd) return refuse("yarn with other betas or a multiplier: factor", scale, e);
    if (freqs) return read_freqs(o, freqs, e);
    r->kind = s->yarn_ctx > 0 ? HF_ROPE_YARN : scaled ? HF_ROPE_LINEAR : HF_ROPE_NONE;
    r->ctx = s->yarn_ctx;
    return OK;
}
